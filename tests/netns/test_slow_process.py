"""The process of the slow path: its rights, its death, and who starts it anew."""

import os
import pathlib
import re
import signal
import threading
import time

import pytest

from fragments import datagram, fragments_of, raw, serves
from lab import ADDRESS, BINARIES, GATEWAY_OUTER, wait_until
from seccomp import calls_left_to
from traffic import pings, receive

S2 = ADDRESS["S2"]

pytestmark = pytest.mark.usefixtures("masq_up")


def process_of(lab):
    """The process numbers of the slow path."""
    return lab.processes("B", "masq-slow")


def test_the_gateways_own_socket_gets_fragments_in_any_order(lab):
    own = lab.udp("B", 99, address=GATEWAY_OUTER)
    sender = raw(lab, "S2")
    data = os.urandom(5000)
    for piece in reversed(fragments_of(S2, GATEWAY_OUTER, datagram(7102, 99, data), 300)):
        sender.sendto(piece, (GATEWAY_OUTER, 0))
    assert receive(own) == (data, (S2, 7102))


def test_the_process_has_no_rights(lab):
    (process,) = process_of(lab)
    status = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{process}/status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"][:0] + "0000000000000000"
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert [os.readlink(f"/proc/{process}/fd/{fd}")
            for fd in os.listdir(f"/proc/{process}/fd")] == ["/dev/net/tun"]
    assert "bpf-map" not in pathlib.Path(f"/proc/{process}/maps").read_text()


@pytest.mark.parametrize("name, needed", [
    ("masq-slow", {"read", "write", "ppoll", "clock_gettime", "brk", "mmap", "munmap", "mremap",
                   "madvise", "exit_group", "rt_sigreturn"}),
    ("masq-holder", {"ppoll", "exit_group", "rt_sigreturn"})])
def test_every_other_system_call_ends_the_process(lab, name, needed):
    (process,) = lab.processes("B", name)
    assert calls_left_to(process) == needed
    assert lab.processes("B", name) == [process]


def test_killed_it_is_started_anew(lab):
    (process,) = process_of(lab)
    os.kill(process, signal.SIGKILL)
    assert pings(lab, "S4", S2), "the rest goes on"
    wait_until(lambda: process_of(lab) not in ([], [process]), "another one", timeout_s=10)
    wait_until(lambda: serves(lab), "it serves again", timeout_s=10)


def test_hanging_it_is_replaced_and_refused_meanwhile(lab):
    wait_until(lambda: serves(lab), "it serves", timeout_s=10)
    (process,) = process_of(lab)
    before = lab.dropped("slow_path_down")
    os.kill(process, signal.SIGSTOP)
    time.sleep(1.3)
    assert not serves(lab)
    assert lab.dropped("slow_path_down") > before
    assert pings(lab, "S4", S2), "the rest goes on"
    wait_until(lambda: process_of(lab) not in ([], [process]), "another one", timeout_s=15)
    wait_until(lambda: serves(lab), "it serves again", timeout_s=10)


def test_hanging_it_is_replaced_while_there_is_news_without_a_pause(lab):
    wait_until(lambda: serves(lab), "it serves", timeout_s=10)
    (process,) = process_of(lab)
    ended = threading.Event()

    def news():
        while not ended.wait(0.4):
            lab.ip("B", "route replace 203.0.113.128/32 dev lo", "route del 203.0.113.128/32")

    teller = threading.Thread(target=news)
    teller.start()
    try:
        os.kill(process, signal.SIGSTOP)
        wait_until(lambda: process_of(lab) not in ([], [process]), "another one", timeout_s=10)
    finally:
        ended.set()
        teller.join()
    wait_until(lambda: serves(lab), "it serves again", timeout_s=10)


@pytest.mark.parametrize("change", ["down", "mtu 1500"])
def test_its_device_is_put_right(lab, change):
    wait_until(lambda: serves(lab), "it serves", timeout_s=10)
    before = process_of(lab)

    def is_right():
        shown = lab.ip("B", "link show masq-slow")
        return re.search(r"<[^>]*\bUP\b", shown) and " mtu 65521 " in shown

    assert is_right()
    lab.ip("B", f"link set masq-slow {change}")
    wait_until(is_right, "the device is as it was")
    wait_until(lambda: serves(lab), "it serves again")
    assert process_of(lab) == before


def test_without_it_up_works_and_says_what_is_refused(lab):
    assert lab.masq("down").returncode == 0
    # So little memory that the process does not start.
    up = lab.run("B", ["prlimit", "--data=63000000:63000000", "setpriv",
                       "--bounding-set=-sys_resource", BINARIES / "masq", "up"])
    try:
        assert up.returncode == 0, up.stderr
        assert "slow path cannot be started. So fragments" in up.stdout, up.stdout
        assert process_of(lab) == []
        wait_until(lambda: pings(lab, "S4", S2), "the rest goes on")
        assert not serves(lab)
    finally:
        lab.masq("down")
        assert lab.masq("up").returncode == 0
    wait_until(lambda: serves(lab), "it serves again", timeout_s=10)


def test_it_outlives_the_daemon(lab):
    wait_until(lambda: serves(lab), "it serves", timeout_s=10)
    (process,) = process_of(lab)
    lab.kill_daemon()
    assert serves(lab)
    os.kill(process, signal.SIGKILL)
    time.sleep(1.3)
    before = lab.dropped("slow_path_down")
    assert not serves(lab)
    assert lab.dropped("slow_path_down") > before
    assert pings(lab, "S4", S2), "the rest goes on"
    assert lab.masq("up").returncode == 0
    wait_until(lambda: serves(lab), "it serves again", timeout_s=10)
