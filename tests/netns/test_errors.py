"""ICMP errors: they reach the host that they concern, and say what that host knows."""

import re
import socket

import pytest
from scapy.all import ICMP, IP, TCPerror, UDP, UDPerror

from frames import assert_checksums_right
from lab import ADDRESS, GATEWAY_INNER, GATEWAY_OUTER
from services import curl_argv, sha256
from traffic import from_inside, from_outside, receive_all

S2, S6, I1 = ADDRESS["S2"], ADDRESS["S6"], ADDRESS["I1"]
NARROW_MTU = 1300

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture(scope="module", autouse=True)
def narrow_link(lab, masq_up):
    """Behind gateway A lies a link that carries less than the others."""
    lab.services.nginx("I1")
    lab.ip("A", f"link set eth1 mtu {NARROW_MTU}")
    lab.ip("R", f"link set eth0 mtu {NARROW_MTU}")


def forget_path_mtu(lab, *hosts):
    for host in hosts:
        lab.ip(host, "route flush cache")


def upload(lab, host, server, name):
    argv = curl_argv(f"http://{server}/upload/{name}", "-T", lab.services.files / "5m")
    lab.run(host, argv, check=True)


def test_time_exceeded_comes_from_the_gateways_inner_address(lab):
    output = lab.run("S6", ["ping", "-n", "-c1", "-W2", "-t1", S2]).stdout
    assert f"From {GATEWAY_INNER} icmp_seq=1 Time to live exceeded" in output


@pytest.mark.parametrize("ttl", [1, 2, 3])
def test_time_exceeded_quotes_what_the_host_has_sent(lab, ttl):
    at_s6 = lab.capture("S6", filter_="icmp[icmptype] == icmp-timxceed")
    lab.send_frame("S6", from_inside("S6") / IP(src=S6, dst=I1, ttl=ttl, id=4711, flags="DF")
                   / UDP(sport=8100 + ttl, dport=33434) / b"payload")
    [error] = at_s6.packets()
    assert error[IP].dst == S6
    quoted = error[ICMP].payload
    assert (quoted.src, quoted.dst, quoted.id) == (S6, I1, 4711)
    assert (quoted[UDPerror].sport, quoted[UDPerror].dport) == (8100 + ttl, 33434)
    assert_checksums_right(at_s6, "icmp")


def test_a_closed_udp_port_outside_is_reported_to_the_socket(lab):
    s = lab.udp("S6")
    s.connect((S2, 4))
    s.send(b"is anybody there")
    with pytest.raises(ConnectionRefusedError):
        s.recv(100)


def test_a_closed_tcp_port_outside_is_reported_to_the_socket(lab):
    with pytest.raises(ConnectionRefusedError):
        lab.tcp("S6").connect((S2, 4))


def test_an_unreachable_net_is_reported(lab):
    lab.run("A", ["nft", "add table ip lab;"
                  "add chain ip lab f { type filter hook forward priority 0; };"
                  "add rule ip lab f ip daddr 203.0.113.200 reject with icmp type net-unreachable"],
            check=True)
    output = lab.run("S6", ["ping", "-n", "-c1", "-W2", "203.0.113.200"]).stdout
    assert "From 192.168.1.250 icmp_seq=1 Destination Net Unreachable" in output


def test_fragmentation_needed_reaches_the_host_in_its_own_terms(lab):
    forget_path_mtu(lab, "S6")
    at_s6 = lab.capture("S6", filter_="icmp")
    at_s2 = lab.capture_gateway_outside(filter_extra="icmp")
    output = lab.run("S6", ["ping", "-n", "-c1", "-W1", "-M", "do", "-s", "1400", I1]).stdout
    assert re.search(rf"From 192\.168\.1\.250 .*mtu ?=? ?{NARROW_MTU}", output), output
    sent, error = at_s6.packets()
    assert (error[ICMP].type, error[ICMP].code) == (3, 4)
    assert error[ICMP].nexthopmtu == NARROW_MTU
    quoted = error[ICMP].payload
    assert (quoted.src, quoted.dst, quoted.id) == (S6, I1, sent[IP].id)
    assert quoted.payload.id == sent[ICMP].id
    assert {p[IP].src for p in at_s2.packets()} == {GATEWAY_OUTER}
    assert_checksums_right(at_s6, "icmp")


def test_an_upload_finds_the_path_mtu_and_is_whole(lab):
    forget_path_mtu(lab, "S4")
    errors = lab.capture("S4", filter_="icmp[icmptype] == icmp-unreach")
    upload(lab, "S4", I1, "narrow")
    assert sha256(lab.services.uploaded("I1", "narrow")) == lab.services.sha256_of("5m")
    quotes = [p[ICMP].payload for p in errors.packets()]
    assert quotes, "no `fragmentation needed` was called for"
    assert {(q.src, q.dst, q[TCPerror].dport) for q in quotes} == {(ADDRESS["S4"], I1, 80)}


def test_a_download_finds_the_path_mtu_and_is_whole(lab):
    forget_path_mtu(lab, "I1")
    path = lab.directory / "narrow-5m"
    lab.run("S5", curl_argv(f"http://{I1}/5m", "-o", path), check=True)
    assert sha256(path) == lab.services.sha256_of("5m")


def test_fragments_cross_the_narrow_link_both_ways(lab):
    output = lab.run("S6", ["ping", "-n", "-c2", "-i0.1", "-W2", "-M", "dont", "-s", "4000", I1])
    assert output.returncode == 0, output.stdout


def test_an_error_about_a_packet_that_is_too_big_for_the_gateways_own_link(lab):
    """The link between B and the outer net itself is narrow: B says so, from its inner address."""
    lab.ip("B", "link set out0 mtu 1400")
    try:
        forget_path_mtu(lab, "S6")
        output = lab.run("S6", ["ping", "-n", "-c1", "-W1", "-M", "do", "-s", "1450", S2]).stdout
        assert re.search(rf"From {GATEWAY_INNER} .*mtu ?=? ?1400", output), output
        upload(lab, "S5", S2, "leg")
        assert sha256(lab.services.uploaded("S2", "leg")) == lab.services.sha256_of("5m")
    finally:
        lab.ip("B", "link set out0 mtu 1500")
        forget_path_mtu(lab, "S5", "S6")


def test_an_error_never_ends_a_flow(lab):
    """Every `unreachable`, and a source quench, about a living UDP flow (RFC 4787 REQ-12)."""
    server, client = lab.udp("S2", 8200), lab.udp("S6", 8200)
    client.sendto(b"open", (S2, 8200))
    _, (_, port) = server.recvfrom(100)
    quoted = IP(src=GATEWAY_OUTER, dst=S2, proto=17) / UDP(sport=port, dport=8200)
    for code in range(16):
        lab.send_frame("S2", from_outside("S2") / IP(src=S2, dst=GATEWAY_OUTER)
                       / ICMP(type=3, code=code) / quoted)
    lab.send_frame("S2", from_outside("S2") / IP(src=S2, dst=GATEWAY_OUTER) / ICMP(type=4) / quoted)
    server.sendto(b"alive", (GATEWAY_OUTER, port))
    client.setsockopt(socket.SOL_IP, 11, 0)  # IP_RECVERR off: only datagrams are of interest
    assert (b"alive", (S2, 8200)) in receive_all(client)
