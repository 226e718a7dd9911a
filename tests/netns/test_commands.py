"""What the commands say and answer, and that `masq down` leaves nothing behind."""

import contextlib
import json
import os
import re
import shutil
import time

import pytest

from lab import (ADDRESS, BINARIES, GATEWAY_INNER, GATEWAY_OUTER, REPOSITORY, Lab, command,
                 wait_until)
from services import curl_argv, sha256
from traffic import pings, wait_until_it_flows

S2 = ADDRESS["S2"]


def one_sentence(text):
    """Is it one line, which begins with the program's name and ends as sentences do?"""
    lines = text.strip().splitlines()
    return len(lines) == 1 and lines[0].startswith("masq") and lines[0].rstrip().endswith(".")


def programs_on(lab, interface):
    return lab.programs(interface)


def maps_of(lab, programs):
    maps = set()
    for program in programs:
        shown = json.loads(lab.run("B", ["bpftool", "-j", "prog", "show", "id", program]).stdout)
        maps |= set(shown.get("map_ids", []))
    return maps


def all_maps():
    return {each["id"] for each in json.loads(command(["bpftool", "-j", "map", "show"]))}


def all_programs():
    return {each["id"] for each in json.loads(command(["bpftool", "-j", "prog", "show"]))}


def sysctls(lab):
    """Without those that say what is in use at the moment."""
    text = lab.run("B", ["sysctl", "-a", "-r", r"^net\."]).stdout
    return {line for line in text.splitlines() if "conntrack_count" not in line}


def world(lab):
    """All that a command may change on the gateway."""
    run = lambda *argv: lab.run("B", argv).stdout
    return {
        "sysctls": sysctls(lab),
        "links": re.sub(r"\bqlen \d+", "", run("ip", "-o", "link")),
        "addresses": run("ip", "-o", "addr"),
        "routes": run("ip", "route", "show", "table", "all"),
        "rules": run("ip", "rule"),
        "qdiscs": run("tc", "qdisc", "show"),
        "nftables": run("nft", "list", "ruleset"),
        "processes": sorted(lab.pids("B")),
        "programs": [lab.programs(dev) for dev in ("out0", "in0")],
        "filters": [run("tc", "filter", "show", "dev", dev, hook)
                    for dev in ("out0", "in0") for hook in ("ingress", "egress")],
    }


def test_down_removes_every_trace(lab):
    before = world(lab)
    assert lab.masq("up").returncode == 0
    wait_until_it_flows(lab)
    programs = programs_on(lab, "out0") | programs_on(lab, "in0")
    maps = maps_of(lab, programs)
    assert len(programs) >= 2 and len(maps) >= 2
    down = lab.masq("down")
    assert down.returncode == 0, down.stderr
    assert world(lab) == before
    # The kernel frees them a moment later.
    wait_until(lambda: not programs & all_programs(), "the programs are gone")
    wait_until(lambda: not maps & all_maps(), "the maps are gone")


def test_down_restores_what_the_administrator_had_set(lab):
    """Sysctls that masq may want otherwise, and a clsact qdisc with somebody else's filter."""
    lab.sysctl("B", {"net.ipv4.conf.lo.forwarding": 1, "net.ipv4.ip_local_reserved_ports": "8080"})
    lab.run("B", ["tc", "qdisc", "add", "dev", "out0", "clsact"], check=True)
    lab.run("B", ["tc", "filter", "add", "dev", "out0", "egress", "prio", "99", "protocol", "ip",
                  "bpf", "bytecode", "1,6 0 0 0,"], check=True)  # matches nothing
    before = world(lab)
    assert lab.masq("up").returncode == 0
    wait_until_it_flows(lab)
    assert lab.masq("down").returncode == 0
    assert world(lab) == before
    lab.run("B", ["tc", "qdisc", "del", "dev", "out0", "clsact"], check=True)
    lab.sysctl("B", {"net.ipv4.conf.lo.forwarding": 0, "net.ipv4.ip_local_reserved_ports": ""})


def test_down_twice_is_no_mistake(lab):
    assert lab.masq("up").returncode == 0
    assert lab.masq("down").returncode == 0
    again = lab.masq("down")
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""


def test_a_second_up_changes_nothing_and_says_so(lab):
    assert lab.masq("up").returncode == 0
    try:
        before = world(lab)
        again = lab.masq("up")
        assert again.returncode == 0
        assert "already" in again.stdout
        after = world(lab)
        assert after == before
    finally:
        lab.masq("down")


@pytest.mark.parametrize("first, other, name", [
    (["--filtering=eif"], ["--filtering=apdf"], "filtering"),
    (["--filtering-for=192.168.2.4=eif"], ["--filtering-for=192.168.2.4=adf"], "filtering_for"),
    ([], ["--external-address=192.168.1.99"], "external_addresses"),
    (["--external-address=192.168.1.99"], ["--external-address=192.168.1.98"],
     "external_addresses"),
])
def test_a_second_up_that_asks_for_something_else_is_told(lab, first, other, name):
    assert lab.masq("up", *first).returncode == 0
    try:
        assert lab.masq("up").returncode == 0
        assert lab.masq("up", *first).returncode == 0
        second = lab.masq("up", *other)
        assert second.returncode == 1 and f"to change {name}, " in second.stderr, second.stderr
    finally:
        lab.masq("down")


def test_up_says_what_was_chosen_and_why(lab):
    up = lab.masq("up")
    lab.masq("down")
    assert any("out0" in line and "default route" in line for line in up.stdout.splitlines())
    assert any("in0" in line and "internal" in line for line in up.stdout.splitlines())


def test_up_does_not_keep_its_callers_terminal(lab):
    """`masq up | cat` ends: the daemon holds none of the caller's files."""
    done = lab.run("B", ["sh", "-c", f"{BINARIES / 'masq'} up | cat"], timeout_s=10)
    lab.masq("down")
    assert "masq" in done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_up_starts_masqd_also_with_closed_streams(lab, closed):
    """As some start scripts call it."""
    try:
        up = lab.run("B", ["sh", "-c", f"exec {BINARIES / 'masq'} up {closed}"])
        assert up.returncode == 0, up.stdout + up.stderr
        [daemon] = lab.processes("B", "masqd")
        assert [os.readlink(f"/proc/{daemon}/fd/{fd}") for fd in (0, 1, 2)] == [
            "/dev/null", "/dev/null", str(lab.run_folder() / "log")]
        wait_until_it_flows(lab)
    finally:
        lab.masq("down")


def test_masqd_keeps_its_files_out_of_closed_streams(lab):
    lab.popen("B", ["sh", "-c", f"exec {BINARIES / 'masqd'} <&- >&- 2>&-"])
    try:
        wait_until_it_flows(lab)
        [daemon] = lab.processes("B", "masqd")
        assert [os.readlink(f"/proc/{daemon}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
    finally:
        lab.masq("down")


@pytest.mark.parametrize("arguments", [["--external", "nosuch0"], ["--internal", "nosuch0"],
                                       ["--external", "out0", "--internal", "out0"]])
def test_a_wrong_interface_is_refused_in_one_sentence(lab, arguments):
    before = world(lab)
    up = lab.masq("up", *arguments)
    assert up.returncode in (1, 2)
    assert one_sentence(up.stderr), up.stderr
    assert arguments[-1] in up.stderr
    assert world(lab) == before


@pytest.mark.parametrize("arguments", [["up", "--nonsense"], ["nonsense"], [], ["up", "extra"],
                                       ["up", "--filtering", "sieve"], ["flows", "--jsno"]])
def test_wrong_usage_answers_2(lab, arguments):
    done = lab.masq(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert one_sentence(done.stderr), done.stderr


@pytest.mark.parametrize("arguments", [["up"], ["down"], ["status"], ["flows"]])
def test_without_rights_one_sentence_and_1(lab, arguments):
    # A copy, since others may not be allowed into the folder of the build.
    copies = lab.directory / "bin"
    if not copies.exists():
        shutil.copytree(BINARIES, copies)
        for path in [copies, *copies.iterdir()]:
            path.chmod(0o755)
    done = lab.run("B", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                         copies / "masq", *arguments])
    assert done.returncode == 1
    assert one_sentence(done.stderr), done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("lacks", ["net_admin", "bpf,-sys_admin"])
def test_without_some_of_the_rights_nothing_is_changed(lab, lacks):
    def masq(*arguments):
        return lab.run("B", ["setpriv", f"--bounding-set=-{lacks}", f"--inh-caps=-{lacks}",
                             BINARIES / "masq", *arguments])

    assert lab.masq("up").returncode == 0
    try:
        wait_until_it_flows(lab)
        before = world(lab)
        for arguments in (["up"], ["status"], ["flows"], ["hosts"], ["down"]):
            done = masq(*arguments)
            assert done.returncode == 1 and done.stdout == "", arguments
            assert one_sentence(done.stderr) and "CAP_" in done.stderr, done.stderr
        assert world(lab) == before
        wait_until_it_flows(lab)
    finally:
        assert lab.masq("down").returncode == 0


@pytest.mark.parametrize("arguments", [["status"], ["flows"], ["mappings"]])
def test_looking_while_masq_is_not_running(lab, arguments):
    done = lab.masq(*arguments)
    assert done.returncode == 1
    assert one_sentence(done.stderr), done.stderr


def test_json_is_json(lab):
    assert lab.masq("up").returncode == 0
    try:
        assert pings(lab, "S6", S2)
        assert isinstance(json.loads(lab.masq("status", "--json").stdout), dict)
        for listing in ("flows", "mappings"):
            entries = json.loads(lab.masq(listing, "--json").stdout)
            assert isinstance(entries, list) and len(entries) == 1
    finally:
        lab.masq("down")


def test_rules_of_nftables_are_mentioned(lab):
    lab.run("B", ["nft", "add table inet office; add chain inet office f "
                  "{ type filter hook forward priority 0; policy drop; }"], check=True)
    try:
        up = lab.masq("up")
        assert up.returncode == 0, up.stderr
        [line] = [line for line in up.stdout.splitlines() if "office" in line]
        assert "do not go through it" in line
        wait_until_it_flows(lab)
    finally:
        lab.masq("down")
        lab.run("B", ["nft", "delete table inet office"], check=True)


@pytest.mark.parametrize("commands, words", [
    ("add table inet firewalld; add chain inet firewalld filter_FORWARD "
     "{ type filter hook forward priority 10; }", "inet firewalld (firewalld) hooks forward"),
    ("add table ip filter; add chain ip filter DOCKER-USER; add chain ip filter FORWARD "
     "{ type filter hook forward priority 0; }", "ip filter (docker) hooks forward"),
    ("add table netdev cards; add chain netdev cards in "
     "{ type filter hook ingress device out0 priority 0; }; add chain netdev cards out "
     "{ type filter hook egress device out0 priority 0; }",
     "netdev cards hooks egress, ingress"),
    ("add table ip filter; add chain ip filter ufw-user-input; add chain ip filter FORWARD "
     "{ type filter hook forward priority 0; }", "ip filter (ufw) hooks forward")])
def test_whose_rules_they_are_is_said(lab, commands, words):
    lab.run("B", ["nft", "add table inet office; add chain inet office f "
                  "{ type filter hook forward priority 0; }; add table bridge ports; "
                  "add chain bridge ports f { type filter hook forward priority 0; }; " + commands],
            check=True)
    try:
        up = lab.masq("up")
        assert up.returncode == 0, up.stderr
        # One sentence each.
        said = [line for line in up.stdout.splitlines() if line.startswith("nftables table")]
        assert len(said) == 2 and any(words in line for line in said), said
        assert all(line.endswith(".") for line in said)
    finally:
        lab.masq("down")
        lab.run("B", ["nft", "flush ruleset"], check=True)


def test_the_kernels_own_forwarding_stays_off_while_masq_is_up(lab):
    keys = [f"net.ipv4.conf.{dev}.forwarding" for dev in ("in0", "out0")] + ["net.ipv4.ip_forward"]
    assert lab.masq("up").returncode == 0
    try:
        wait_until_it_flows(lab)
        assert [lab.read_sysctl("B", key) for key in keys] == ["0", "0", "0"]
    finally:
        lab.masq("down")


TIMERS = {"tcp_established": 7440, "tcp_opening": 240, "tcp_closing": 240, "udp": 300, "dns": 30,
          "icmp": 60}


def test_the_timers_are_those_of_the_documentation_or_of_the_configuration(lab):
    def in_force():
        return json.loads(lab.masq("status", "--json").stdout)["timeouts_s"]
    pages = (REPOSITORY / "docs" / "configuration.md").read_text()
    config = lab.directory / "timers.toml"
    config.write_text("[timeouts]\n" + "".join(
        f"{name}_s = {seconds + 1}\n" for name, seconds in TIMERS.items()))
    try:
        assert lab.masq("up").returncode == 0
        assert in_force() == TIMERS
        for name, seconds in TIMERS.items():
            assert re.search(rf"^\| `{name}_s` \| {seconds} \|", pages, re.M), name
        lab.masq("down")
        assert lab.masq("up", "--config", config).returncode == 0
        assert in_force() == {name: seconds + 1 for name, seconds in TIMERS.items()}
    finally:
        lab.masq("down")


def test_the_table_is_sized_by_memory(lab):
    memory_kib = int(re.search(r"MemTotal: +(\d+)", open("/proc/meminfo").read())[1])
    steps = [(3 << 20, 262079), (1 << 20, 65471), (1 << 18, 16319), (0, 8127)]
    assert lab.masq("up").returncode == 0
    try:
        largest = json.loads(lab.masq("status", "--json").stdout)["flows"]["max"]
        assert largest == next(flows for least, flows in steps if memory_kib >= least)
    finally:
        lab.masq("down")


def test_up_over_a_damaged_state_is_refused_and_changes_nothing(lab):
    assert lab.masq("up").returncode == 0
    lab.kill_daemon()
    state = lab.run_folder() / "state.json"
    good = state.read_text()
    try:
        for bad in ("{", "[]", '{"sysctls": {"net/ipv4/../../evil": "1"}}'):
            state.write_text(bad)
            before = world(lab)
            again = lab.masq("up")
            assert again.returncode == 1 and one_sentence(again.stderr), again.stderr
            assert world(lab) == before and state.read_text() == bad
    finally:
        state.write_text(good)
        lab.masq("down")


def test_an_up_that_is_killed_at_any_moment_is_made_good_by_the_next(lab):
    before = world(lab)
    for wait_ms in (5, 20, 40, 80, 160, 320):
        starting = lab.popen("B", [BINARIES / "masq", "up"])
        time.sleep(wait_ms / 1000)
        for pid in [starting.pid, *lab.processes("B", "masqd"), *lab.processes("B", "masq")]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        starting.wait()
        up = lab.masq("up")
        assert up.returncode == 0, (wait_ms, up.stderr)
        wait_until_it_flows(lab)
        assert lab.masq("down").returncode == 0
        wait_until(lambda: world(lab) == before, f"all is as before, killed after {wait_ms} ms")


@pytest.mark.parametrize("datapath", ["tc", "user"])
def test_a_down_that_is_killed_at_any_moment_is_made_good_by_the_next(lab, datapath):
    before = world(lab)
    # The last two: nothing shows any more that masq was there, but what it has changed.
    for wait_ms in (5, 40, 120, 180, 210):
        assert lab.masq("up", "--datapath", datapath).returncode == 0
        ending = lab.popen("B", [BINARIES / "masq", "down"])
        time.sleep(wait_ms / 1000)
        for pid in lab.processes("B", "masq"):
            os.kill(pid, 9)
        ending.wait()
        assert lab.masq("down").returncode == 0
        wait_until(lambda: world(lab) == before, f"all is as before, killed after {wait_ms} ms")


def test_what_is_left_without_a_program_or_process_is_undone(lab):
    """As by a `masq down` that was killed just before it puts back the sysctls."""
    before = world(lab)
    assert lab.masq("up").returncode == 0
    lab.kill_daemon()
    for name in ("masq-holder", "masq-slow"):
        for pid in lab.processes("B", name):
            os.kill(pid, 9)
    lab.ip("B", "link del masq-slow")
    for interface in ("in0", "out0"):
        lab.take_programs_off(interface)
    assert lab.masq("up", "--external", "nosuch").returncode == 1
    down = lab.masq("down")
    assert down.returncode == 0 and "every trace" in down.stdout
    assert world(lab) == before


@pytest.mark.parametrize("datapath", ["tc", "user"])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_run_folder_is_removed(lab, datapath, at_once):
    before = world(lab)
    assert lab.masq("up", "--datapath", datapath).returncode == 0
    daemon = lab.processes("B", "masqd")
    shutil.rmtree(lab.run_folder(), ignore_errors=True)  # masqd may write there already
    if not at_once:
        wait_until(lambda: (lab.run_folder() / "lock").exists(), "masqd has put it back")
    second = lab.masq("up", "--datapath", datapath)
    assert lab.processes("B", "masqd") == daemon
    assert f"masqd is process {daemon[0]}" in second.stdout + second.stderr
    wait_until_it_flows(lab)
    assert lab.masq("down").returncode == 0
    wait_until(lambda: world(lab) == before, "all is as before")
    assert not lab.run_folder().exists()


def test_a_down_right_after_the_run_folder_was_removed(lab):
    before = world(lab)
    assert lab.masq("up").returncode == 0
    [daemon] = lab.processes("B", "masqd")
    os.kill(daemon, 19)  # it does not see it
    shutil.rmtree(lab.run_folder())
    ending = lab.popen("B", [BINARIES / "masq", "down"])
    time.sleep(0.3)
    os.kill(daemon, 18)
    assert ending.wait(timeout=10) == 0
    wait_until(lambda: world(lab)["processes"] == before["processes"], "masqd has ended")


def test_nobody_but_root_can_hold_the_lock(lab):
    assert lab.masq("up").returncode == 0
    try:
        held = lab.run("B", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                             "flock", "-s", lab.run_folder() / "lock", "true"])
        assert "ermission denied" in held.stderr
    finally:
        lab.masq("down")


def test_xdp_is_refused_as_long_as_it_is_not_there(lab):
    before = world(lab)
    up = lab.masq("up", "--datapath", "xdp")
    assert up.returncode == 1 and one_sentence(up.stderr), up.stderr
    assert world(lab) == before


def test_check_finds_every_mistake_with_its_line(lab):
    config = lab.directory / "wrong.toml"
    config.write_text('external = "out0"\nnonsense = 1\n\n[timeouts]\nudp_s = -1\nsctp_s = 3\n')
    done = lab.masq("check", config)
    assert done.returncode == 1
    for line in (2, 5, 6):
        assert f"{config}:{line}:" in done.stderr, done.stderr
    config.write_text('external = "out0"\ninternal = ["in0"]\n[timeouts]\nudp_s = 200\n')
    assert lab.masq("check", config).returncode == 0


def test_the_gateways_own_connections_survive_up_and_down(lab):
    """Whoever starts masq over ssh must not lose the line."""
    servers = {"S2": lab.tcp("S2", 2100, listen=True), "B": lab.tcp("B", 2022, listen=True)}
    outgoing = [lab.tcp("B", 20000), lab.tcp("B")]  # from a port of the pool, and from any
    for s in outgoing:
        s.connect((S2, 2100))
    ends = [servers["S2"].accept()[0] for _ in outgoing]
    incoming = [lab.tcp("S1"), lab.tcp("S6")]
    incoming[0].connect((GATEWAY_OUTER, 2022))
    incoming[1].connect((GATEWAY_INNER, 2022))
    ends += [servers["B"].accept()[0] for _ in incoming]
    connections = list(zip(outgoing + incoming, ends))

    def all_alive():
        for one, other in connections:
            for sender, receiver in ((one, other), (other, one)):
                sender.sendall(b"alive")
                receiver.settimeout(3)
                assert receiver.recv(100) == b"alive"

    all_alive()
    assert lab.masq("up").returncode == 0
    all_alive()
    assert lab.masq("down").returncode == 0
    all_alive()


def test_two_gateways_on_one_machine(lab):
    with Lab() as other:
        assert lab.masq("up").returncode == 0
        assert other.masq("up").returncode == 0
        assert pings(lab, "S6", S2) and pings(other, "S6", S2)
        assert other.masq("down").returncode == 0
        assert pings(lab, "S6", S2)
        assert not pings(other, "S6", S2, timeout_s=0.3)
        assert lab.masq("down").returncode == 0


def test_what_a_vanished_namespace_left_behind_harms_nobody(lab):
    """A container ends with masq in it; the kernel gives its namespace's number to the next one."""
    with Lab() as gone:
        assert gone.masq("up").returncode == 0
        files = [path for path in gone.run_folder().iterdir() if path.is_file()]
        left = {path.name: path.read_bytes() for path in files}
    assert left
    stale = lab.run_folder()
    stale.mkdir(parents=True, exist_ok=True)
    for name, data in left.items():
        (stale / name).write_bytes(data)
    before_ports = lab.read_sysctl("B", "net.ipv4.ip_local_reserved_ports")
    up = lab.masq("up")
    assert up.returncode == 0, up.stderr
    wait_until_it_flows(lab)
    assert lab.masq("down").returncode == 0
    assert not stale.exists()
    assert lab.read_sysctl("B", "net.ipv4.ip_local_reserved_ports") == before_ports


def test_masqd_runs_in_the_foreground_with_a_configuration(lab):
    config = lab.directory / "foreground.toml"
    config.write_text('external = ["out0"]\ninternal = ["in0"]\n')
    daemon = lab.popen("B", [BINARIES / "masqd", "--config", config])
    try:
        wait_until_it_flows(lab)
        assert daemon.poll() is None
    finally:
        daemon.terminate()
        daemon.wait(timeout=5)
        time.sleep(0.1)
        lab.masq("down")
    assert not pings(lab, "S6", S2, timeout_s=0.3)


@pytest.mark.parametrize("datapath", ["tc", "user"])
def test_a_second_masqd_leaves_the_first_alone(lab, datapath):
    """Whatever its configuration says."""
    texts = [f'external = "out0"\ninternal = "in0"\ndatapath = "{datapath}"\n',
             'external = "in0"\ninternal = "out0"\nipv6 = "leave"\n[timeouts]\nudp_s = 130\n']
    configs = [lab.directory / f"{name}-{datapath}.toml" for name in ("first", "other")]
    for config, text in zip(configs, texts):
        config.write_text(text)
    daemon = lab.popen("B", [BINARIES / "masqd", "--config", configs[0]])
    try:
        wait_until_it_flows(lab)
        time.sleep(0.5)  # until it has looked at what its own start has changed
        before = (world(lab), (lab.run_folder() / "config.toml").read_text())
        pinger = lab.popen("S5", ["ping", "-n", "-q", "-i0.01", "-c200", "-W1", S2])
        download = lab.popen("S6", curl_argv(f"http://{S2}/slow/5m", "-o", "5m"), cwd=lab.directory)
        for config in configs:
            second = lab.run("B", [BINARIES / "masqd", "--config", config])
            assert second.returncode == 1 and second.stdout == ""
            assert one_sentence(second.stderr), second.stderr
            assert f"already (masqd is process {lab.processes('B', 'masqd')[0]})" in second.stderr
        assert (world(lab), (lab.run_folder() / "config.toml").read_text()) == before
        assert [config.read_text() for config in configs] == texts
        assert download.wait(timeout=15) == 0
        assert " 0% packet loss" in pinger.communicate(timeout=10)[0]
        assert sha256(lab.directory / "5m") == lab.services.sha256_of("5m")
        assert daemon.poll() is None
    finally:
        daemon.terminate()
        daemon.wait(timeout=5)
        lab.masq("down")
