"""Two inner nets: routed between each other as they are, masqueraded to the outside."""

import pytest
from scapy.all import ICMP, IP

from lab import ADDRESS, GATEWAY_OUTER, GATEWAY_SECOND_INNER
from services import curl_argv
from traffic import external_of, pings, receive

LAB = {"second_inner": True}
S2, S4, S7 = ADDRESS["S2"], ADDRESS["S4"], ADDRESS["S7"]

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


def test_up_finds_both_inner_interfaces(masq_up):
    assert "in0" in masq_up.stdout and "in1" in masq_up.stdout


@pytest.mark.parametrize("one, other", [("S4", "S7"), ("S7", "S4")])
def test_hosts_of_the_two_nets_see_each_others_own_addresses(lab, one, other):
    seen = lab.capture(other, filter_="icmp")
    assert pings(lab, one, ADDRESS[other], 2)
    requests = [p for p in seen.packets() if p[ICMP].type == 8]
    assert {(p[IP].src, p[IP].ttl) for p in requests} == {(ADDRESS[one], 63)}


def test_tcp_and_udp_between_the_two_nets(lab):
    listener, client = lab.tcp("S7", 8000, listen=True), lab.tcp("S4", 8001)
    client.connect((S7, 8000))
    connection, peer = listener.accept()
    assert peer == (S4, 8001)
    connection.sendall(b"x" * 100000)
    connection.close()
    assert len(b"".join(iter(lambda: client.recv(65536), b""))) == 100000
    server, asker = lab.udp("S4", 8002), lab.udp("S7", 8003)
    asker.sendto(b"q" * 4000, (S4, 8002))
    payload, peer = receive(server)
    assert (len(payload), peer) == (4000, (S7, 8003))


def test_nothing_between_the_two_nets_makes_a_flow_or_leaves_outside(lab):
    outside = lab.capture_gateway_outside(filter_extra="icmp or tcp or udp")
    assert pings(lab, "S4", S7) and pings(lab, "S7", S4)
    assert outside.packets() == []
    flows = lab.masq("flows").stdout
    assert f"{S7}:" not in flows.replace(f"{ADDRESS['S2']}:", "")


@pytest.mark.parametrize("host", ["S4", "S7"])
def test_both_nets_reach_the_outside(lab, host):
    answer = lab.run(host, curl_argv(f"http://{S2}/whoami"), check=True).stdout
    assert answer.split()[0] == GATEWAY_OUTER
    assert pings(lab, host, ADDRESS["I1"], 2)


def test_one_source_port_of_two_nets(lab):
    server = lab.udp("S2", 8100)
    clients = {"S4": lab.udp("S4", 8100), "S7": lab.udp("S7", 8100)}
    peers = {name: external_of(s, server, (S2, 8100)) for name, s in clients.items()}
    assert peers["S4"] != peers["S7"]
    for name, peer in peers.items():
        server.sendto(name.encode(), peer)
    for name, s in clients.items():
        assert receive(s) == (name.encode(), (S2, 8100))


def test_time_exceeded_comes_from_the_leg_where_the_host_is(lab):
    output = lab.run("S7", ["ping", "-n", "-c1", "-W2", "-t1", S2]).stdout
    assert f"From {GATEWAY_SECOND_INNER} icmp_seq=1 Time to live exceeded" in output


def test_a_host_cannot_speak_for_the_other_net(lab):
    """S4 with an address of S7's net: refused, else it could take S7's replies."""
    lab.ip("S4", f"addr add {S7}/32 dev lo")
    seen = lab.capture("S2", filter_=f"udp and src {GATEWAY_OUTER}")
    with lab.udp("S4", 8200, address=S7) as forger:
        forger.sendto(b"forged", (S2, 9))
    lab.ip("S4", f"addr del {S7}/32 dev lo")
    assert seen.packets() == []
