"""Rule chains with real traffic: `ipchains` on the gateway, programs inside and outside."""

import re
import time

import pytest
from scapy.all import ICMP, IP, TCP

from lab import ADDRESS, BINARIES, GATEWAY_INNER, GATEWAY_OUTER, wait_until
from services import curl_argv
from traffic import pings

S2, S3, S4, S5, S7 = (ADDRESS[name] for name in ("S2", "S3", "S4", "S5", "S7"))
INNER_NET = "192.168.2.0/24"

DATAPATHS = ["tc", "user"]
LAB = {"second_inner": True}
pytestmark = pytest.mark.usefixtures("masq_up")


def ipchains(lab, line, check=True):
    done = lab.run("B", [str(BINARIES / "ipchains"), *line.split()])
    assert not check or done.returncode == 0, f"ipchains {line}: {done.stderr}"
    return done


@pytest.fixture(autouse=True)
def no_rules(lab):
    """Each test begins with what masq does by itself, and ends so."""
    yield
    for line in ("-F", "-X", "-P input ACCEPT", "-P output ACCEPT", "-P forward MASQ"):
        ipchains(lab, line)


def counted(lab, chain):
    """Target and packets of each rule, by `ipchains -L -v -x -n`."""
    rows = ipchains(lab, f"-L {chain} -v -x -n").stdout.splitlines()[2:]
    return [(row.split()[2], int(row.split()[0]), int(row.split()[1])) for row in rows]


def refused(lab, name):
    return lab.status()["dropped"][name]


def test_masq_for_a_network_and_policy_deny(lab):
    ipchains(lab, "-P forward DENY")
    assert pings(lab, "S4", S2) == 0
    ipchains(lab, f"-A forward -s {S4} -j MASQ")
    assert pings(lab, "S4", S2) == 1
    assert pings(lab, "S5", S2) == 0
    ipchains(lab, f"-A forward -s {INNER_NET} -j MASQ")
    assert pings(lab, "S5", S2) == 1
    lab.run("S5", curl_argv(f"http://{S2}/whoami"), check=True)


def test_a_change_takes_hold_at_the_next_packet_of_an_open_flow(lab):
    ipchains(lab, f"-A forward -s {INNER_NET} -j MASQ")
    ipchains(lab, "-P forward DENY")
    server = lab.tcp("S2", 7100, listen=True)
    client = lab.tcp("S4")
    client.connect((S2, 7100))
    taken, _ = server.accept()
    client.sendall(b"one")
    assert taken.recv(10) == b"one"
    ipchains(lab, f"-I forward 1 -s {S4} -j DENY")
    before = refused(lab, "rules_deny")
    client.sendall(b"two")
    taken.settimeout(1.0)
    with pytest.raises(TimeoutError):
        taken.recv(10)
    assert refused(lab, "rules_deny") > before
    ipchains(lab, "-D forward 1")
    taken.settimeout(5.0)
    assert taken.recv(10) == b"two"  # the retransmission


def test_accept_without_masq_lets_nothing_out(lab):
    ipchains(lab, "-P forward ACCEPT")
    before = refused(lab, "rules_not_masqueraded")
    assert pings(lab, "S4", S2) == 0
    assert refused(lab, "rules_not_masqueraded") > before


def test_input_sees_replies_addressed_to_the_gateway_and_output_to_the_inner_host(lab):
    ipchains(lab, f"-A input -i out0 -d {GATEWAY_OUTER} -p icmp")
    ipchains(lab, f"-A output -i in0 -s {S2} -d {S4} -p icmp")
    ipchains(lab, f"-A output -i out0 -s {GATEWAY_OUTER} -d {S2} -p icmp")
    ipchains(lab, f"-A input -i out0 -d {S4}")  # never: that is the inner address
    assert pings(lab, "S4", S2) == 1
    assert [packets for _, packets, _ in counted(lab, "input")] == [1, 0]
    assert [packets for _, packets, _ in counted(lab, "output")] == [1, 1]
    ipchains(lab, f"-A output -d {S4} -j DENY")
    assert pings(lab, "S4", S2) == 0
    assert pings(lab, "S5", S2) == 1


def test_forward_names_the_outgoing_interface_and_sees_no_replies(lab):
    ipchains(lab, "-P forward DENY")
    ipchains(lab, "-A forward -i in0 -j MASQ")
    assert pings(lab, "S4", S2) == 0
    ipchains(lab, "-A forward -i out+ -j MASQ")
    assert pings(lab, "S4", S2) == 1
    assert [packets for _, packets, _ in counted(lab, "forward")] == [0, 1]


def test_reject_tells_and_deny_does_not(lab):
    ipchains(lab, f"-A forward -s {S4} -d {S2} -j REJECT")
    ipchains(lab, f"-A input -s {S5} -d {S2} -j REJECT")
    at_s4 = lab.capture("S4", filter_="icmp[icmptype] == icmp-unreach")
    at_s5 = lab.capture("S5", filter_="icmp[icmptype] == icmp-unreach")
    assert pings(lab, "S4", S2) == 0 and pings(lab, "S5", S2) == 0
    told = [(p[IP].src, p[ICMP].code) for p in at_s4.packets()]
    assert set(told) == {(GATEWAY_INNER, 1)}
    assert {(p[IP].src, p[ICMP].code) for p in at_s5.packets()} == {(GATEWAY_INNER, 3)}


def test_counters_count_the_fast_path_too(lab):
    ipchains(lab, f"-A forward -p tcp -s {S4} -d {S2} 7101 -j MASQ")
    ipchains(lab, f"-A input -p tcp -i out0 -s {S2} 7101")
    server = lab.tcp("S2", 7101, listen=True)
    client = lab.tcp("S4")
    at_s2 = lab.capture("S2", filter_="tcp port 7101")
    client.connect((S2, 7101))
    taken, _ = server.accept()
    for _ in range(50):
        client.sendall(b"x" * 100)
        assert taken.recv(100, 0x100) == b"x" * 100  # MSG_WAITALL
    client.close()
    taken.close()
    time.sleep(0.5)
    seen = [p for p in at_s2.packets() if TCP in p]
    out = [p for p in seen if p[IP].dst == S2]
    back = [p for p in seen if p[IP].src == S2]
    assert counted(lab, "forward") == [("MASQ", len(out), sum(p[IP].len for p in out))]
    assert counted(lab, "input") == [("-", len(back), sum(p[IP].len for p in back))]


def test_syn_rules_look_at_each_packet(lab):
    ipchains(lab, "-A input -p tcp -i in0 -y")
    ipchains(lab, "-A input -p tcp -i in0 ! -y")
    lab.run("S4", curl_argv(f"http://{S2}/whoami"), check=True)
    rows = counted(lab, "input")
    assert rows[0][1] == 1 and rows[1][1] > 3


def test_user_chains_return_and_loop(lab):
    ipchains(lab, "-P forward DENY")
    ipchains(lab, "-N good")
    ipchains(lab, f"-A good -s {S5} -j RETURN")
    ipchains(lab, "-A good -j MASQ")
    ipchains(lab, "-A forward -i out0 -j good")
    assert pings(lab, "S4", S2) == 1
    assert pings(lab, "S5", S2) == 0
    ipchains(lab, "-I good 1 -j good")
    before = refused(lab, "rules_loop")
    assert pings(lab, "S4", S2) == 0
    assert refused(lab, "rules_loop") > before


def test_the_gateways_own_services_stand_behind_input(lab):
    lab.services.nginx("B")
    assert lab.run("S4", curl_argv(f"http://{GATEWAY_INNER}/whoami")).returncode == 0
    ipchains(lab, "-A input -i in0 -p tcp --dport 80 -j REJECT")
    assert lab.run("S4", curl_argv(f"http://{GATEWAY_INNER}/whoami")).returncode != 0
    assert lab.run("S4", curl_argv(f"http://{S2}/whoami")).returncode != 0
    assert lab.run("S2", curl_argv(f"http://{GATEWAY_OUTER}/whoami")).returncode == 0


def test_between_inner_networks_all_three_chains_are_passed(lab):
    assert pings(lab, "S4", S7) == 1
    ipchains(lab, "-A forward -i in1 -j DENY")
    assert pings(lab, "S4", S7) == 0
    ipchains(lab, "-F forward")
    ipchains(lab, f"-A output -i in1 -s {S4} -d {S7} -j DENY")
    assert pings(lab, "S4", S7) == 0


def test_type_of_service_is_changed_and_congestion_bits_stay(lab):
    ipchains(lab, f"-A input -s {S4} -t 0x01 0x10")
    at_s2 = lab.capture("S2", filter_="icmp[icmptype] == icmp-echo")
    lab.run("S4", ["ping", "-n", "-c1", "-W1", "-Q", "0x0a", S2])
    assert [p[IP].tos for p in at_s2.packets()] == [0x12]


def test_rules_outlive_the_daemon_and_can_be_changed_without_it(lab):
    if lab.datapath == "user":
        return
    ipchains(lab, "-P forward DENY")
    ipchains(lab, f"-A forward -s {S4} -j MASQ")
    lab.kill_daemon()
    assert pings(lab, "S4", S2) == 1 and pings(lab, "S5", S2) == 0
    ipchains(lab, f"-A forward -s {S5} -j MASQ")
    assert pings(lab, "S5", S2) == 1
    assert lab.masq("up").returncode == 0
    assert pings(lab, "S4", S2) == 1 and pings(lab, "S5", S2) == 1
    assert len(counted(lab, "forward")) == 2


def test_the_table_of_connections_as_it_was_shown(lab):
    sender = lab.udp("S4", 5353)
    sender.sendto(b"x", (S2, 9999))
    listed = ipchains(lab, "-M -L -n").stdout.splitlines()
    assert listed[0] == "IP masquerading entries"
    assert any(re.match(rf"UDP +0?[45]:\d\d\.\d\d {S4} +{S2} +5353 \(\d+\) -> 9999", row)
               for row in listed), listed


def test_rules_are_restored_from_what_is_saved_only_later(lab):
    """As in a pipe: who restores must not keep out who saves."""
    ipchains(lab, f"-A forward -s {S4} -j MASQ")
    pipe = f"(sleep 0.3; {BINARIES}/ipchains-save) | {BINARIES}/ipchains-restore -f"
    lab.run("B", ["sh", "-c", pipe], check=True, timeout_s=10)
    assert len(counted(lab, "forward")) == 2


def test_timeouts_take_hold_at_the_next_packet(lab):
    ipchains(lab, "-M -S 0 0 160")
    assert lab.status()["timeouts_s"]["udp"] == 160
    assert lab.status()["timeouts_s"]["tcp_established"] == 7440
    ipchains(lab, "-M -S 7200 10 300")
    assert lab.status()["timeouts_s"]["tcp_established"] == 7200
