"""The daemon's lock: who may hold it, who is ended for it, and who is waited for. And its log."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import time

import pytest

from lab import BINARIES, ADDRESS, wait_until
from traffic import pings, wait_until_it_flows

S2 = ADDRESS["S2"]
DATAPATHS = ["tc", "user"]


@pytest.fixture(autouse=True)
def taken_down(lab):
    yield
    lab.masq("down")


def up(lab):
    done = lab.masq("up")
    assert done.returncode == 0, done.stderr
    wait_until_it_flows(lab)


def masqd_argv(lab):
    config = lab.directory / "masqd.toml"
    config.write_text(f'datapath = "{lab.datapath}"\n')
    return [BINARIES / "masqd", "--config", config]


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def hold_lock(lab, seconds):
    """Somebody else has the lock for so long."""
    holder = lab.popen("B", ["flock", "-x", lab.run_folder() / "lock", "sleep", seconds])
    wait_until(lambda: subprocess.run(["flock", "-n", lab.run_folder() / "lock", "true"],
                                      check=False).returncode == 1, "the lock is held")
    return holder


def named(lab, host, name):
    """A process of this name that sleeps."""
    program = lab.directory / name
    if not program.exists():
        shutil.copy("/bin/sleep", program)
    sleeper = lab.popen(host, [program, "60"])
    wait_until(lambda: lab.processes(host, name), "it has its name")
    return sleeper


@contextlib.contextmanager
def down_in_the_middle(lab):
    """A `masq down` that has the lock and cannot go on; at the end it can, and does."""
    lab.kill_daemon()  # it would write the file anew
    state = lab.run_folder() / "state.json"
    text = state.read_text()
    state.unlink()
    os.mkfifo(state)
    down = lab.popen("B", [BINARIES / "masq", "down"])
    lock = lab.run_folder() / "lock"
    try:
        wait_until(lambda: lock.read_text().split() == [str(down.pid)], "down has the lock")
        yield down
        writer = os.open(state, os.O_WRONLY | os.O_NONBLOCK)
        os.write(writer, text.encode())
        os.close(writer)
    except BaseException:
        state.unlink(missing_ok=True)  # nobody else shall wait for it
        down.kill()
        raise


def test_the_run_folder_is_for_root_alone(lab):
    up(lab)
    lock = lab.run_folder() / "lock"
    lab.kill_daemon()
    for path in (lock, lock.parent, lock.parent.parent):
        path.chmod(0o755)  # of an older masq
    up(lab)
    assert mode_of(lock) == 0o600
    assert mode_of(lock.parent) == mode_of(lock.parent.parent) == 0o700
    lab.kill_daemon()
    held = lab.run("B", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                         "flock", "-x", lock, "true"])
    assert held.returncode != 0 and "Permission denied" in held.stderr


@pytest.mark.parametrize("host, name", [("B", "another"), ("S1", "masqd")])
def test_nobody_is_ended_whose_number_is_left_in_the_lock(lab, host, name):
    up(lab)
    lab.kill_daemon()
    bystander = named(lab, host, name)
    (lab.run_folder() / "lock").write_text(f"{bystander.pid}\nready\n")
    hold_lock(lab, 2)
    down = lab.masq("down")
    assert down.returncode == 0, down.stderr
    assert "every trace is removed" in down.stdout
    assert bystander.poll() is None
    bystander.terminate()
    bystander.wait()


def test_up_waits_for_whoever_holds_the_lock(lab):
    up(lab)
    lab.kill_daemon()
    hold_lock(lab, 1.5)
    done = lab.masq("up")
    assert done.returncode == 0, done.stderr
    assert "already" not in done.stdout
    assert len(lab.processes("B", "masqd")) == 1


def test_up_and_down_do_not_wait_for_ever(lab):
    up(lab)
    lab.kill_daemon()
    holder = hold_lock(lab, 60)
    for command in ("up", "down"):
        done = lab.masq(command)
        assert done.returncode == 1 and done.stdout == ""
        assert "not by masqd" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not json.loads(lab.masq("status", "--json").stdout)["daemon"]["alive"]
    os.killpg(holder.pid, signal.SIGKILL)
    holder.wait()


def test_a_second_down_waits_for_the_first(lab):
    up(lab)
    with down_in_the_middle(lab) as first:
        second = lab.popen("B", [BINARIES / "masq", "down"])
        time.sleep(0.7)
        assert first.poll() is None and second.poll() is None
    assert first.wait(timeout=10) == 0
    assert second.wait(timeout=10) == 0
    assert "masq was not running here." in second.stdout.read()
    assert not lab.run_folder().exists()


@pytest.mark.parametrize("program", ["masqd", "masq"])
def test_who_starts_while_masq_goes_down_waits_for_that(lab, program):
    up(lab)
    argv = {"masqd": masqd_argv(lab), "masq": [BINARIES / "masq", "up", "--filtering=eif"]}
    with down_in_the_middle(lab) as down:
        started = lab.popen("B", argv[program])
        time.sleep(0.7)
        assert started.poll() is None, started.stdout.read()
    assert down.wait(timeout=10) == 0
    wait_until_it_flows(lab)
    if program == "masq":
        assert started.wait(timeout=10) == 0
        assert lab.status()["filtering"] == "endpoint-independent"
        assert (lab.run_folder() / "log").exists()
    assert len(lab.processes("B", "masqd")) == 1


def test_down_ends_a_masqd_that_does_not_listen(lab):
    up(lab)
    (daemon,) = lab.processes("B", "masqd")
    os.kill(daemon, signal.SIGSTOP)
    down = lab.masq("down")
    assert down.returncode == 0, down.stderr
    assert lab.pids("B") == []
    assert not lab.run_folder().exists() and not pings(lab, "S6", S2, timeout_s=0.3)


def news(lab):
    """masqd looks at everything again, and is done with that."""
    lab.ip("B", "addr add 203.0.113.129/32 dev lo", "addr del 203.0.113.129/32 dev lo")
    time.sleep(0.5)


def test_what_is_wrong_is_logged_once_until_it_changes(lab):
    up(lab)
    log, in_the_way = lab.run_folder() / "log", lab.run_folder() / "state.json.new"
    try:
        for times in (1, 2):
            in_the_way.mkdir()
            for _ in range(3):
                news(lab)
            assert log.read_text().count("state.json.new cannot be written") == times
            in_the_way.rmdir()
            news(lab)
    finally:
        if in_the_way.exists():
            in_the_way.rmdir()


def test_the_log_is_bounded(lab):
    up(lab)
    log, in_the_way = lab.run_folder() / "log", lab.run_folder() / "state.json.new"
    with log.open("a") as file:
        file.write("x" * (1 << 20) + "\n")
    in_the_way.mkdir()
    try:
        news(lab)
        lines = log.read_text().splitlines()
        assert "it begins anew here" in lines[0] and len(lines) == 2, lines
        assert "cannot be written" in lines[1]
    finally:
        in_the_way.rmdir()


def test_a_masqd_that_cannot_wait_any_more_says_so(lab):
    daemon = lab.popen("B", masqd_argv(lab))
    wait_until_it_flows(lab)
    # The kernel refuses to wait for more files than a process may have.
    subprocess.run(["prlimit", f"--pid={daemon.pid}", "--nofile=2"], check=True)
    assert daemon.wait(timeout=5) == 1
    assert "waiting for news has failed" in daemon.stdout.read()
