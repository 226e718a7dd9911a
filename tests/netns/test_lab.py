"""The lab itself: what the other tests rely on must be able to fail."""

import os
import signal
import subprocess
import sys

from frames import assert_checksums_right, inner_address_in, inner_addresses_in
from lab import ADDRESS, GATEWAY_INNER, OUTER_HOSTS, REPOSITORY, Lab, command, wait_until
from traffic import pings

import pytest
import scapy.all as scapy


@pytest.fixture(scope="module")
def plain():
    """The network without masq."""
    with Lab() as lab:
        yield lab


def test_a_gateway_without_masq_forwards_nothing(plain):
    assert plain.read_sysctl("B", "net.ipv4.ip_forward") == "0"
    outside = plain.capture_gateway_outside()
    assert not pings(plain, "S6", ADDRESS["S2"])
    assert not [p for p in outside.packets() if scapy.IP in p]


def test_the_watch_sees_inner_addresses_that_leave(plain):
    """A plain router in place of masq: its leaks must be found."""
    plain.sysctl("B", {"net.ipv4.ip_forward": 1})
    try:
        outside = plain.capture_gateway_outside()
        pings(plain, "S6", ADDRESS["S2"])
        leaks = inner_addresses_in(outside.stop())
        assert any(" source: " in line for line in leaks), leaks
    finally:
        plain.sysctl("B", {"net.ipv4.ip_forward": 0})


@pytest.mark.parametrize("host", OUTER_HOSTS)
def test_without_masq_the_inner_leg_shows_outside(plain, host):
    """The kernel answers for each of its addresses on any leg; so test_closed.py can fail."""
    plain.routes_inwards()
    assert pings(plain, host, GATEWAY_INNER)
    arping = ["arping", "-q", "-c1", "-w2", "-I", "eth0", GATEWAY_INNER]
    assert plain.run(host, arping).returncode == 0


INNER, OUTER, GATEWAY = "192.168.2.6", "192.168.1.2", "192.168.1.254"
PLAIN = scapy.IP(src=GATEWAY, dst=OUTER)
PLAIN_IPV6 = scapy.IPv6(src="fd00:1::254", dst="fd00:1::2")
OWN_WORDS = scapy.IPv6(src="fd00:1::2", dst="fd00:2::6") / scapy.UDP()
OTHERS_WORDS = scapy.IPv6(src="fd00:1::3", dst="fd00:2::6") / scapy.UDP()


@pytest.mark.parametrize("how, packet", [
    ("source", scapy.IP(src=INNER, dst=OUTER) / scapy.UDP()),
    ("destination", scapy.IP(src=GATEWAY, dst=INNER) / scapy.UDP()),
    ("quoted destination",
     PLAIN / scapy.ICMP(type=3) / scapy.IP(src=OUTER, dst=INNER) / scapy.UDP()),
    ("quoted source", PLAIN / scapy.ICMP(type=11) / scapy.IP(src=INNER, dst=OUTER) / scapy.UDP()),
    ("IP option", scapy.IP(src=GATEWAY, dst=OUTER, options=scapy.IPOption_RR(routers=[INNER]))
     / scapy.ICMP()),
    ("payload", PLAIN / scapy.UDP() / (b"abc" + bytes([192, 168, 2, 6]) + b"def")),
    ("ARP", scapy.ARP(psrc="192.168.2.1", pdst=OUTER)),
    ("IPv6", scapy.IPv6(src="fd00:2::6", dst="fd00:1::2") / scapy.UDP()),
    ("IPv6", PLAIN_IPV6 / scapy.ICMPv6DestUnreach(code=3) / OWN_WORDS),
    ("IPv6", PLAIN_IPV6 / scapy.ICMPv6DestUnreach(code=0) / OTHERS_WORDS),
    (None, PLAIN_IPV6 / scapy.ICMPv6DestUnreach(code=0) / OWN_WORDS),
    (None, PLAIN / scapy.ICMP(type=3) / scapy.IP(src=OUTER, dst=GATEWAY) / scapy.UDP()),
    (None, PLAIN / scapy.TCP(seq=0xc0a80206, ack=0xc0a80206) / b"abc"),
])
def test_the_watch_says_how_a_frame_names_an_inner_host(how, packet):
    frame = bytes(scapy.Ether(src="02:00:c0:a8:01:fe", dst="02:00:c0:a8:01:02") / packet)
    assert inner_address_in(frame) == how


def test_the_checksum_check_sees_a_wrong_checksum(plain):
    received = plain.capture("S5", filter_="udp port 9999")
    packet = scapy.IP(src=ADDRESS["S6"], dst=ADDRESS["S5"]) / scapy.UDP(dport=9999, chksum=1) / b"x"
    plain.send_frame("S6", scapy.Ether(dst="ff:ff:ff:ff:ff:ff") / packet)
    with pytest.raises(AssertionError, match="wrong checksums"):
        assert_checksums_right(received, "udp")


def test_an_interrupted_lab_leaves_nothing_behind():
    script = ("import sys; sys.path.insert(0, 'tests/netns'); import lab, time\n"
              "with lab.Lab() as it:\n"
              "    it.popen('S4', ['sleep', '1000'])\n"
              "    print(it.name, flush=True); time.sleep(60)\n")
    runner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL, cwd=REPOSITORY)
    name = runner.stdout.readline().strip()
    assert f"{name}-S4" in command(["ip", "netns", "list"])
    os.kill(runner.pid, signal.SIGTERM)
    runner.wait(timeout=20)
    runner.stdout.close()
    wait_until(lambda: name not in command(["ip", "netns", "list"]), "the lab's namespaces go away")
    assert not os.path.exists(f"/tmp/masq-lab-{name}")
