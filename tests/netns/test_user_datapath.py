"""The datapath in user space: what is special about it, and how masq comes to use it.

That it translates and keeps closed as the kernel programs do is tested beside them, in the modules
that run with both (DATAPATHS).
"""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from scapy.all import IP, TCP, UDP

from frames import assert_checksums_right
from lab import (ADDRESS, BINARIES, GATEWAY_INNER, GATEWAY_OUTER, REPOSITORY, WITHOUT_BPF, Lab,
                 command, mac_of, wait_until)
from services import curl_argv, sha256
from test_commands import one_sentence, world
from traffic import (external_of, from_inside, from_outside, pings, receive, receive_all,
                     wait_until_it_flows)

S2, S6 = ADDRESS["S2"], ADDRESS["S6"]


@pytest.fixture
def up(lab):
    """Runs in user space from the beginning to the end of one test."""
    def up_(*arguments):
        done = lab.masq("up", "--datapath", "user", *arguments)
        assert done.returncode == 0, done.stderr
        return done
    up_()
    wait_until_it_flows(lab)
    up_.again = up_
    yield up_
    assert lab.masq("down").returncode == 0


def flows(lab):
    return json.loads(lab.masq("flows", "--json").stdout)


# --- life ----------------------------------------------------------------------------------------


def test_status_says_which_datapath_it_is(lab, up):
    assert lab.status()["datapath"] == "user"
    assert re.search(r"datapath +user", lab.masq("status").stdout)
    assert not lab.programs("out0") and not lab.programs("in0")


def test_down_removes_every_trace(lab):
    before = world(lab)
    assert lab.masq("up", "--datapath", "user").returncode == 0
    wait_until_it_flows(lab)
    assert world(lab) != before
    assert lab.masq("down").returncode == 0
    assert world(lab) == before
    assert not lab.run_folder().exists()


def test_without_masqd_it_is_closed_and_says_so(lab, up):
    lab.kill_daemon()
    assert not pings(lab, "S6", S2)
    told = lab.status()
    assert (told["translating"], told["daemon"]["alive"]) == (False, False)
    assert "closed" in lab.masq("status").stdout
    up.again()


def test_flows_outlive_masqd(lab, up):
    listener, client = lab.tcp("S2", 9300, listen=True), lab.tcp("S6", 9300)
    client.connect((S2, 9300))
    connection, _ = listener.accept()
    connection.settimeout(5)
    mine = lambda: [f for f in flows(lab) if f["internal"] == f"{S6}:9300"]
    [before] = mine()
    out_before = lab.status()["traffic"]["translated_out"]
    lab.kill_daemon()
    [meanwhile] = mine()
    assert "Took over the running gateway" in up.again().stdout
    [after] = mine()
    for each in (meanwhile, after):
        assert (each["external"], each["remote"]) == (before["external"], before["remote"])
    assert lab.status()["traffic"]["translated_out"] >= out_before
    client.sendall(b"still here")
    assert connection.recv(100) == b"still here"


def test_damaged_tables_are_noticed_and_begun_anew(lab, up):
    """As if masqd had died between two steps: a flow that the tables count but do not have."""
    assert pings(lab, "S6", S2)
    lab.kill_daemon()
    path = lab.run_folder() / "tables"
    data = bytearray(path.read_bytes())
    header = 4096
    place = data.find(bytes(map(int, S6.split("."))), header)
    assert place > 0
    data[place:place + 4] = bytes(4)  # an internal address that leads nowhere
    path.write_bytes(data)
    assert "flows had to be given up" in up.again().stdout
    assert flows(lab) == []
    wait_until_it_flows(lab)


def test_what_another_namespace_left_is_not_taken_over(lab):
    """The kernel gives a vanished namespace's number to the next one."""
    with Lab(datapath="user") as gone:
        assert gone.masq("up").returncode == 0
        wait_until_it_flows(gone)
        left = (gone.run_folder() / "tables").read_bytes()
    folder = lab.run_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables").write_bytes(left)
    assert lab.masq("status").returncode == 1
    done = lab.masq("up", "--datapath", "user")
    assert done.returncode == 0 and "Took over" not in done.stdout, done.stderr
    assert lab.masq("down").returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize("first, second", [("user", "tc"), ("tc", "user")])
def test_a_running_gateway_is_not_taken_over_by_the_other_datapath(lab, first, second):
    assert lab.masq("up", "--datapath", first).returncode == 0
    try:
        lab.kill_daemon()
        other = lab.masq("up", "--datapath", second)
        assert other.returncode == 1
        assert one_sentence(other.stderr) and "masq down" in other.stderr, other.stderr
        assert lab.masq("up").returncode == 0  # as it was
        assert lab.status()["datapath"] == first
    finally:
        assert lab.masq("down").returncode == 0


def test_a_table_that_does_not_fit_is_refused_in_one_sentence(lab):
    before = world(lab)
    small = lab.directory / "small"
    script = (f"mkdir -p {small} && mount -t tmpfs -o size=4m none /run/masq && "
              f"exec {BINARIES / 'masq'} up --datapath user")
    folder_existed = os.path.exists("/run/masq")
    os.makedirs("/run/masq", exist_ok=True)
    try:
        done = lab.run("B", ["unshare", "--mount", "sh", "-c", script])
    finally:
        if not folder_existed:
            os.rmdir("/run/masq")
    assert done.returncode == 1
    assert one_sentence(done.stderr) and "--flows-max" in done.stderr, done.stderr
    assert world(lab) == before


def test_masqd_in_the_foreground_reads_it_from_its_configuration(lab):
    config = lab.directory / "user.toml"
    config.write_text('external = "out0"\ninternal = "in0"\ndatapath = "user"\n')
    assert lab.masq("check", config).returncode == 0
    daemon = lab.popen("B", [BINARIES / "masqd", "--config", config])
    try:
        wait_until_it_flows(lab)
        assert lab.status()["datapath"] == "user"
    finally:
        daemon.terminate()
        daemon.wait(timeout=5)
        assert not pings(lab, "S6", S2, timeout_s=0.3)
        assert lab.masq("down").returncode == 0


def test_up_without_options_goes_on_with_what_it_had(lab):
    assert lab.masq("up", "--datapath", "user", "--filtering", "eif", "--external", "out0",
                    "--internal", "in0").returncode == 0
    try:
        lab.kill_daemon()
        assert lab.masq("up").returncode == 0
        assert lab.status()["filtering"] == "endpoint-independent"
        other = lab.masq("up", "--datapath", "tc")
        assert other.returncode == 1
        assert one_sentence(other.stderr) and "to change datapath" in other.stderr, other.stderr
    finally:
        assert lab.masq("down").returncode == 0


def test_down_names_what_a_damaged_state_may_leave(lab):
    """And takes away the rules that keep the kernel silent, whatever the state says."""
    before = world(lab)
    assert lab.masq("up", "--datapath", "user").returncode == 0
    lab.kill_daemon()
    (lab.run_folder() / "state.json").write_text("{")
    refused = lab.masq("up")
    assert refused.returncode == 1 and (lab.run_folder() / "tables").exists()
    down = lab.masq("down")
    assert down.returncode == 0
    for word in ("net.ipv4.conf.out0.arp_announce", "net.ipv4.conf.in0.forwarding"):
        assert word in down.stdout, down.stdout
    assert "qdisc" not in down.stdout
    lab.sysctl("B", {"net.ipv4.conf.lo.forwarding": 0, "net.ipv4.conf.out0.arp_announce": 0})
    assert world(lab) == before


def test_explain_tells_of_the_last_refusals_and_of_packets_without_bpf(lab, up):
    lab.send_frame("S6", from_inside("S6") / IP(src=S6, dst=S2, proto=47) / (b"\0" * 8))
    told = lambda: lab.masq("explain", "--last", S6).stdout
    wait_until(lambda: f"inside in0: gre {S6} > {S2}" in told(), "the refusal is remembered")
    assert "refused (unsupported_protocol)" in told()
    asked = lab.run("B", [WITHOUT_BPF, BINARIES / "masq", "explain", "udp", f"{S6}:5000",
                          f"{S2}:53"])
    assert asked.returncode == 0, asked.stderr
    assert f"It is translated and sent by out0 to {S2}.\n" in asked.stdout


# --- beside the kernel ---------------------------------------------------------------------------


def test_the_kernel_answers_nothing_for_inner_hosts(lab, up):
    """B's own stack sees each of these frames too, and must not send a reset or an error."""
    server, client = lab.udp("S2", 9301), lab.udp("S6", 9301)
    _, port = external_of(client, server, (S2, 9301))
    said = lab.capture_gateway_outside(filter_extra="ip")
    inside = lab.capture("innet", "br0", f"ip and src {GATEWAY_INNER}")
    for transport in (UDP(sport=9301, dport=port), UDP(sport=1, dport=port),
                      TCP(sport=1, dport=port, flags="S"), TCP(sport=1, dport=port, flags="A"),
                      TCP(sport=1, dport=20000, flags="S"), UDP(sport=1, dport=20000)):
        lab.send_frame("S2", from_outside("S2") / IP(src=S2, dst=GATEWAY_OUTER) / transport)
    for transport in (TCP(sport=9, dport=80, flags="A"), UDP(sport=9, dport=9)):
        lab.send_frame("S4", from_inside("S4") / IP(src=ADDRESS["S4"], dst=ADDRESS["S1"])
                       / transport)
    assert receive(client) is not None
    time.sleep(0.3)
    assert {p[IP].dst for p in said.packets()} <= {ADDRESS["S1"]}
    assert inside.packets() == []


def test_the_kernel_sends_nothing_outside_from_an_inner_address(lab, up):
    said = lab.capture_gateway_outside(filter_extra="ip")
    assert not pings(lab, "B", S2, 1, "-I", GATEWAY_INNER, timeout_s=0.3)
    assert pings(lab, "B", S2)
    assert {p[IP].src for p in said.packets()} == {GATEWAY_OUTER}


def test_a_machine_that_forwards_hands_nothing_through(lab):
    """Errors of the kernel's own forwarding, such as `time exceeded`, come from masq and once."""
    lab.sysctl("B", {"net.ipv4.ip_forward": 1})
    try:
        assert lab.masq("up", "--datapath", "user").returncode == 0
        wait_until_it_flows(lab)
        errors = lab.capture("S6", filter_="icmp[icmptype] == icmp-timxceed")
        lab.send_frame("S6", from_inside("S6") / IP(src=S6, dst=S2, ttl=1)
                       / UDP(sport=9302, dport=9))
        assert len(errors.packets()) == 1
        lab.routes_inwards()
        assert not pings(lab, "S1", S6, timeout_s=0.3)
        assert pings(lab, "S6", S2)
        lab.kill_daemon()
        assert not pings(lab, "S6", S2, timeout_s=0.3)
    finally:
        lab.routes_inwards("del")
        assert lab.masq("down").returncode == 0
        lab.sysctl("B", {"net.ipv4.ip_forward": 0})


@pytest.mark.parametrize("leg", ["in0", "out0"])
def test_an_interface_is_in_another_namespace_for_a_moment(lab, up, leg):
    """It keeps its number, and masqd may see only that it is there."""
    index = lambda: json.loads(lab.run("B", ["ip", "-j", "link", "show", leg]).stdout)[0]["ifindex"]
    before, elsewhere = index(), f"{lab.name}-elsewhere"
    [daemon] = lab.processes("B", "masqd")
    os.kill(daemon, signal.SIGSTOP)
    command(["ip", "netns", "add", elsewhere])  # there nobody else has its number
    try:
        lab.ip("B", f"link set {leg} netns {elsewhere}")
        command(["ip", "-n", elsewhere, "link", "set", leg, "netns", lab.ns("B")])
    finally:
        command(["ip", "netns", "del", elsewhere])
    assert index() == before
    address = GATEWAY_INNER if leg == "in0" else GATEWAY_OUTER
    lab.ip("B", f"addr add {address}/24 dev {leg}", f"link set {leg} up",
           f"route replace default via {ADDRESS['A']}")
    os.kill(daemon, signal.SIGCONT)
    wait_until_it_flows(lab)


@pytest.mark.parametrize("strict", [0, 1])
def test_routes_are_found_with_every_check_of_sources(lab, strict):
    lab.sysctl("B", {"net.ipv4.conf.all.rp_filter": strict})
    try:
        assert lab.masq("up", "--datapath", "user").returncode == 0
        wait_until_it_flows(lab)
        assert pings(lab, "S5", ADDRESS["I1"])
    finally:
        assert lab.masq("down").returncode == 0
        lab.sysctl("B", {"net.ipv4.conf.all.rp_filter": 0})


# --- next hops -----------------------------------------------------------------------------------


def test_frames_wait_for_a_next_hop_and_arrive_in_order(lab, up):
    server, client = lab.udp("S3", 9303), lab.udp("S6", 9303)
    lab.ip("B", "neigh flush dev out0")
    for number in range(10):
        client.sendto(b"%d" % number, (ADDRESS["S3"], 9303))
    assert [data for data, _ in receive_all(server)] == [b"%d" % number for number in range(10)]
    assert lab.status()["user"]["neighbour_waits"] >= 1


def test_a_host_that_changes_its_hardware_address_is_found_again(lab, up):
    assert pings(lab, "S6", S2)
    for address in ("02:00:00:00:00:99", mac_of(S2)):
        time.sleep(1)  # the kernel does not believe two answers within a second (locktime)
        lab.ip("S2", f"link set eth0 address {address}")
        lab.run("S2", ["arping", "-q", "-U", "-c1", "-I", "eth0", S2])
        wait_until_it_flows(lab, timeout_s=3)


def test_next_hops_that_nobody_has_cost_a_bounded_queue(lab, up):
    """What waits for them is lost after a second, too much at once at once, and each is counted."""
    client = lab.udp("S6", 9304)
    before = lab.status()["user"]
    for number in range(200):
        client.sendto(b"nobody", ("192.168.1.199", 9304))
    time.sleep(2.5)
    after = lab.status()["user"]
    lost = {name: after[name] - before[name] for name in after}
    assert lost["neighbour_waits"] == lost["neighbour_unknown"] == 64
    assert lost["neighbour_full"] == 200 - 64
    assert pings(lab, "S6", S2)


# --- large segments ------------------------------------------------------------------------------


def test_large_segments_stay_whole_on_the_way(lab, up):
    """Between virtual interfaces TCP goes through as the sender's kernel made it: up to 64 KB."""
    at_s2 = lab.capture("S2", filter_=f"tcp and src {GATEWAY_OUTER}")
    argv = curl_argv(f"http://{S2}/upload/large", "-T", lab.services.files / "5m")
    lab.run("S5", argv, check=True)
    assert sha256(lab.services.uploaded("S2", "large")) == lab.services.sha256_of("5m")
    assert max(len(p) for p in at_s2.packets()) > 3000
    counted = lab.status()["traffic"]
    assert counted["translated_out"] > 5_000_000 / 1460


def test_an_error_about_an_unfinished_checksum_quotes_a_finished_one(lab, up):
    errors = lab.capture("S6", filter_="icmp[icmptype] == icmp-timxceed")
    client = lab.udp("S6", 9305)
    client.setsockopt(0, 2, 1)  # IP_TTL
    client.sendto(b"not far", (S2, 9))
    [error] = errors.packets()
    quoted = IP(bytes(error[IP].payload.payload))
    claimed = quoted[UDP].chksum
    del quoted[UDP].chksum
    assert IP(bytes(quoted))[UDP].chksum == claimed
    assert_checksums_right(errors, "icmp")


# --- without BPF ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed_to_bpf():
    with Lab(without_bpf=True) as lab:
        lab.services = None
        yield lab


def test_without_bpf_up_falls_back_and_says_so(closed_to_bpf):
    lab = closed_to_bpf
    done = lab.masq("up")
    try:
        assert done.returncode == 0, done.stderr
        [said] = [line for line in done.stdout.splitlines() if "BPF" in line]
        assert "masqd itself carries the packets" in said and said.endswith(".")
        wait_until_it_flows(lab)
        assert lab.status()["datapath"] == "user"
        assert len(flows(lab)) == 1
    finally:
        assert lab.masq("down").returncode == 0
    assert not pings(lab, "S6", S2, timeout_s=0.3)


def test_without_bpf_tc_is_refused_in_one_sentence(closed_to_bpf):
    done = closed_to_bpf.masq("up", "--datapath", "tc")
    assert done.returncode == 1
    assert one_sentence(done.stderr) and "BPF" in done.stderr, done.stderr
    assert not closed_to_bpf.run_folder().exists()


def test_with_bpf_auto_stays_in_the_kernel(lab):
    assert lab.masq("up", "--datapath", "auto").returncode == 0
    try:
        assert lab.status()["datapath"] == "tc"
    finally:
        assert lab.masq("down").returncode == 0


def test_the_demo_runs_without_bpf(lab):
    """And leaves the networks of others as they are."""
    if not (BINARIES.parent / "CMakeCache.txt").exists():
        pytest.fail("the demo builds masq, and the programs under test lie in no folder of a build")
    done = subprocess.run([WITHOUT_BPF, REPOSITORY / "demo"], capture_output=True, text=True,
                          timeout=300, env=os.environ | {"MASQ_BUILD_DIR": str(BINARIES.parent)})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "masqd itself carries the packets" in done.stdout
    assert "All of it happened" in done.stdout
    assert lab.ns("B") in command(["ip", "netns", "list"]).split()
