"""Outside hosts cannot start anything inwards, and cannot tell that there is an inside."""

import random
import socket

import pytest
from scapy.all import ARP, ICMP, IP, TCP, UDP, Ether, UDPerror

from lab import ADDRESS, GATEWAY_INNER, GATEWAY_OUTER, GATEWAY_OUTER_MAC, OUTER_HOSTS
from traffic import (KNOCK, from_outside, knock_at_the_inner_leg, knocks, odd_packets, pings,
                     wait_until_it_flows)

S2 = ADDRESS["S2"]
FIRST_LOCAL_PORT, LAST_LOCAL_PORT = 32768, 60999  # what the pool leaves out

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture(scope="module", autouse=True)
def honest_routes(lab, masq_up):
    """The outer hosts know the way: nothing but masq keeps them out. There is much to reach."""
    lab.routes_inwards()
    lab.services.sshd("B")
    lab.without_icmp_limits("B")
    listeners = [lab.tcp(host, 22, listen=True) for host in ("S4", "S5", "S6")]
    listeners += [lab.udp(host, 22) for host in ("S4", "S5", "S6")]
    wait_until_it_flows(lab)
    return listeners


def tcp_connects(lab, host, target, port, timeout_s=0.4):
    s = lab.tcp(host, timeout_s=timeout_s)
    with s:
        try:
            s.connect((target, port))
            return True
        except (socket.timeout, OSError):
            return False


@pytest.mark.parametrize("host", OUTER_HOSTS)
def test_programs_outside_reach_nobody_inside(lab, host):
    """ping, TCP and UDP to every inner host and to the gateway's inner address."""
    inside = lab.capture("innet", "br0", "ip and src net 192.168.1.0/24")
    back = lab.capture(host, filter_="src net 192.168.2.0/24")
    s = lab.udp(host)
    for target in (ADDRESS["S4"], ADDRESS["S6"], GATEWAY_INNER):
        assert not pings(lab, host, target, 1, timeout_s=0.3)
        assert not tcp_connects(lab, host, target, 22)
        s.sendto(KNOCK, (target, 22))
    assert inside.packets() == []
    assert back.packets() == []


def test_forged_frames_from_outside_reach_nobody_inside(lab):
    """Also with inner source addresses, and past the senders' own stacks."""
    inside = lab.capture("innet", "br0", "not ip6")
    outside = lab.capture_gateway_outside(filter_extra="ip")
    for host in OUTER_HOSTS:
        for frame in [*knocks(host), knock_at_the_inner_leg(host)]:
            lab.send_frame(host, frame)
    assert pings(lab, "S6", S2)
    arrived = inside.packets()
    assert [p for p in arrived if KNOCK in bytes(p)] == []
    assert [p for p in arrived if IP in p and p[IP].src == S2], "the capture inside is blind"
    # B has answered nothing of it: all that it sent is the ping.
    assert {p[IP].dst for p in outside.packets()} == {S2}


def test_odd_packets_from_inside_never_leave_untranslated(lab):
    outside = lab.capture_gateway_outside(filter_extra="ip")
    for host in ("S4", "S5"):
        for frame in odd_packets(host):
            lab.send_frame(host, frame)
    assert pings(lab, "S6", S2)
    assert {p[IP].src for p in outside.packets()} == {GATEWAY_OUTER}


def test_arp_answers_only_for_the_outer_address(lab):
    """Whoever asks, and all at once."""
    inner = [GATEWAY_INNER, *(ADDRESS[host] for host in ("S4", "S5", "S6"))]
    asked = {(host, target): lab.popen(host, ["arping", "-q", "-c1", "-w2", "-I", "eth0", target])
             for host in OUTER_HOSTS for target in [GATEWAY_OUTER, *inner]}
    answered = {question for question, arping in asked.items() if arping.wait(timeout=10) == 0}
    assert answered == {(host, GATEWAY_OUTER) for host in OUTER_HOSTS}


def test_the_gateway_never_asks_outside_from_an_inner_address(lab):
    """A question for S3 that is caused by an inner host names B's outer address only."""
    outside = lab.capture_gateway_outside(filter_extra="arp")
    lab.ip("B", "neigh flush dev out0")
    assert pings(lab, "S6", ADDRESS["S3"])
    questions = [p[ARP].psrc for p in outside.packets() if p[ARP].op == 1]
    assert questions and set(questions) == {GATEWAY_OUTER}


def sample_of_ports():
    generator = random.Random(2663)
    edges = [1, 21, 23, 80, 1023, 1024, 32767, 32768, 60999, 61000, 65535]
    return sorted(set(edges + generator.sample(range(1, 65536), 250)) - {22})


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_scan_finds_no_port_of_the_pool(lab, protocol):
    """Ports that only a mapping could have say nothing; the kernel's own say `closed`."""
    answers = lab.capture("S1", filter_=f"src {GATEWAY_OUTER}")
    ports = sample_of_ports()
    with lab.inside("S1"):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("eth0", 0))
    for port in ports:
        transport = TCP if protocol == "tcp" else UDP
        s.send(bytes(from_outside("S1") / IP(src=ADDRESS["S1"], dst=GATEWAY_OUTER)
                     / transport(sport=50000, dport=port)))
    s.close()
    closed = set()
    for packet in answers.packets():
        if ICMP in packet:
            closed.add(packet[UDPerror].dport)
        elif TCP in packet:
            assert packet[TCP].flags.R
            closed.add(packet[TCP].sport)
    assert closed == {p for p in ports if FIRST_LOCAL_PORT <= p <= LAST_LOCAL_PORT}


def test_a_service_of_the_gateway_itself_is_reached(lab):
    assert tcp_connects(lab, "S1", GATEWAY_OUTER, 22, timeout_s=2)
    assert pings(lab, "S1", GATEWAY_OUTER)


def test_a_stranger_cannot_end_or_enter_a_connection(lab):
    """RST, SYN and data from S3 and from other ports of S2 to a connection's external port."""
    server = lab.tcp("S2", 7200, listen=True)
    client = lab.tcp("S4", 7200)
    client.connect((S2, 7200))
    connection, (_, port) = server.accept()
    connection.settimeout(3)
    at_s4 = lab.capture("S4", filter_="tcp port 7200")
    for source, source_port in ((ADDRESS["S3"], 7200), (S2, 7201), (ADDRESS["S1"], 80)):
        for flags in ("R", "S", "A", "FA"):
            host = next(h for h, a in OUTER_HOSTS.items() if a == source)
            lab.send_frame(host, Ether(dst=GATEWAY_OUTER_MAC) / IP(src=source, dst=GATEWAY_OUTER)
                           / TCP(sport=source_port, dport=port, flags=flags))
    assert at_s4.packets() == []
    client.sendall(b"still here")
    assert connection.recv(100) == b"still here"


def test_an_icmp_error_about_a_flow_that_does_not_exist_is_refused(lab):
    inside = lab.capture("innet", "br0", "icmp")
    for quoted in (UDP(sport=20000, dport=9), TCP(sport=20000, dport=80), ICMP(id=20000)):
        lab.send_frame("S2", from_outside("S2") / IP(src=S2, dst=GATEWAY_OUTER)
                       / ICMP(type=3, code=3) / IP(src=GATEWAY_OUTER, dst=S2) / quoted)
    assert inside.packets() == []
