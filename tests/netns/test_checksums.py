"""Every checksum that arrives is right, whoever completes it.

Between virtual interfaces the kernel leaves transport checksums to be completed "by hardware", that
is never; captures then show half of one. So the tests run twice: once the gateway's interfaces
complete them on sending, once the hosts do and the gateway has to keep whole ones right.
"""

import pytest
from scapy.all import IP, TCP, UDP

from frames import assert_checksums_right
from lab import ADDRESS, GATEWAY_OUTER
from services import curl_argv, nslookup_argv
from traffic import external_of, from_inside, receive

S2, I1 = ADDRESS["S2"], ADDRESS["I1"]

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture(scope="module", autouse=True)
def servers(lab, masq_up):
    lab.services.dnsmasq("S2")


@pytest.fixture(scope="module", params=["completed-by-the-gateway", "completed-by-the-hosts"])
def completed(request, lab):
    lab.checksums_on_wire("B")
    if request.param == "completed-by-the-hosts":
        lab.checksums_on_wire("S2", "S4", "S5", "S6", "A", "I1")


@pytest.fixture
def captures(lab, completed):
    """What arrives at S2 from the gateway, and at S6 from there."""
    return (lab.capture("S2", filter_=f"src {GATEWAY_OUTER}"),
            lab.capture("S6", filter_="src net not 192.168.2.0/24 or src 192.168.2.1"))


def right(captures, protocol, at_least=1):
    for capture in captures:
        assert_checksums_right(capture, protocol, at_least)


def test_tcp_both_ways(lab, captures):
    lab.run("S6", curl_argv(f"http://{S2}/1m", "-o", "/dev/null"), check=True)
    lab.run("S6", curl_argv(f"http://{S2}/upload/sum", "-T", lab.services.files / "1m"), check=True)
    right(captures, "tcp", at_least=20)


def test_udp_both_ways(lab, captures):
    lab.run("S6", nslookup_argv("www.lab"), check=True)
    right(captures, "udp")


def test_fragmented_udp_both_ways(lab, captures):
    server, client = lab.udp("S2", 7100), lab.udp("S6", 7100)
    _, port = external_of(client, server, (S2, 7100), b"q" * 8000)
    server.sendto(b"a" * 8000, (GATEWAY_OUTER, port))
    assert receive(client) == (b"a" * 8000, (S2, 7100))
    right(captures, "udp")


def test_icmp_both_ways(lab, captures):
    lab.run("S6", ["ping", "-n", "-c3", "-i0.05", "-s", "1001", S2], check=True)
    right(captures, "icmp", at_least=3)


def test_icmp_errors(lab, captures):
    """About TCP and UDP, from the gateway and from beyond it: whole to the last quoted byte."""
    for method in ([], ["-T"]):
        lab.run("S6", ["traceroute", "-n", "-q1", "-w2", *method, I1], check=True)
    assert_checksums_right(captures[1], "icmp", at_least=6)


def test_odd_lengths_and_values(lab, captures):
    """Payloads whose sums lie at the edges of one's complement arithmetic."""
    server = lab.udp("S2", 7101)
    client = lab.udp("S6", 7101)
    payloads = [b"", b"\0", b"\xff", b"\xff\xff", b"\xff" * 7, b"\0" * 1001]
    for payload in payloads:
        client.sendto(payload, (S2, 7101))
        data, peer = receive(server)
        assert data == payload
        server.sendto(payload, peer)
        assert receive(client)[0] == payload
    right(captures, "udp", at_least=len(payloads))


def test_a_udp_checksum_of_ffff_is_not_turned_into_none(lab, completed):
    """A sum that comes out as zero is sent as ffff; zero would mean that there is none."""
    at_s2 = lab.capture("S2", filter_=f"udp and src {GATEWAY_OUTER}")
    for word in range(0, 65536, 257):
        payload = word.to_bytes(2, "big")
        lab.send_frame("S6", from_inside("S6") / IP(src=ADDRESS["S6"], dst=S2)
                       / UDP(sport=7102, dport=9) / payload)
    arrived = at_s2.packets()
    assert len(arrived) == 256
    assert 0 not in {p[UDP].chksum for p in arrived}
    assert_checksums_right(at_s2, "udp", at_least=256)


def test_a_wrong_checksum_stays_wrong_or_is_refused(lab, completed):
    """What was damaged on the way in must not look whole on the way out."""
    at_s2 = lab.capture("S2", filter_=f"src {GATEWAY_OUTER}")
    ip = IP(src=ADDRESS["S6"], dst=S2)
    for transport in (TCP(sport=7103, dport=80, flags="S", chksum=0x1234),
                      UDP(sport=7103, dport=9, chksum=0x1234)):
        lab.send_frame("S6", from_inside("S6") / ip / transport)
    for packet in at_s2.packets():
        layer = packet[TCP] if TCP in packet else packet[UDP]
        claimed = layer.chksum
        del layer.chksum
        assert IP(bytes(packet[IP]))[type(layer)].chksum != claimed
