"""Next hops on an Ethernet: who has which hardware address is the kernel's to know, and it has to
hear that a neighbour is in use, or it would never ask after it again."""

import json
import time

import pytest
from scapy.all import IP, UDP, Ether

from lab import ADDRESS, mac_of, wait_until
from traffic import receive_all, wait_until_it_flows

S2 = ADDRESS["S2"]
OTHER_CARD = "02:00:00:00:00:77"  # of S2
NEW_CARD = "02:00:00:00:00:78"    # of the gateway
TOLD_CARD = "02:00:00:00:00:79"   # of nobody
SOON_S = 3  # a quarter of a second, on a busy machine
# The kernel's usual ones are 15 to 45 s, 5 s, 1 s.
QUICK = {"base_reachable_time_ms": 1000, "delay_first_probe_time": 1, "retrans_time_ms": 200}

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture(autouse=True)
def quick_neighbours(lab):
    lab.sysctl("B", {f"net.ipv4.neigh.out0.{name}": value for name, value in QUICK.items()})


def neighbour(lab, address):
    return lab.run("B", ["ip", "neigh", "show", address, "dev", "out0"]).stdout.split()


class Steady:
    """One-way traffic from S6 to S2, which says nothing itself."""

    def __init__(self, lab):
        self.server, self.client = lab.udp("S2", 9200), lab.udp("S6", 9200)

    def arrives(self, wait_s):
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            self.client.sendto(b"on and on", (S2, 9200))
            if receive_all(self.server, wait_s=0.02):
                return True
        return False


def test_a_neighbour_in_use_is_asked_after(lab):
    wait_until_it_flows(lab)
    traffic = Steady(lab)
    seen = set()
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert traffic.arrives(1)
        seen.add(neighbour(lab, S2)[-1])
    # After each time of being stale it is asked, and then reachable again.
    assert "REACHABLE" in seen and seen & {"DELAY", "PROBE"}, seen
    assert neighbour(lab, S2)[-1] in {"REACHABLE", "DELAY", "PROBE"}


def test_a_next_hop_with_another_card_is_found_though_it_is_silent(lab):
    wait_until_it_flows(lab)
    traffic = Steady(lab)
    assert traffic.arrives(1)
    try:
        lab.ip("S2", f"link set eth0 address {OTHER_CARD}")
        assert OTHER_CARD not in neighbour(lab, S2)
        assert traffic.arrives(15), neighbour(lab, S2)
        wait_until(lambda: OTHER_CARD in neighbour(lab, S2), "the kernel knows the card")
    finally:
        lab.ip("S2", f"link set eth0 address {mac_of(S2)}")
        lab.ip("B", "neigh flush dev out0")


def frames_at(lab, host, count, wait_s=0.02):
    """Source and destination of the frames in which what S6 sends to a host comes there."""
    capture = lab.capture(host, filter_="udp dst port 9200")
    client = lab.udp("S6", 9201)
    for _ in range(count):
        client.sendto(b"look at my frame", (ADDRESS[host], 9200))
        time.sleep(wait_s)
    return [(p.src, p.dst) for p in capture.packets()]


def address_of(lab, host, interface):
    return json.loads(lab.run(host, ["ip", "-j", "link", "show", interface]).stdout)[0]["address"]


def test_frames_have_the_addresses_of_the_gateway_and_the_next_hop(lab):
    wait_until_it_flows(lab)
    right = (address_of(lab, "B", "out0"), address_of(lab, "S2", "eth0"))
    assert frames_at(lab, "S2", 20) == [right] * 20


def test_another_card_of_the_gateway_is_in_the_frames_soon(lab):
    wait_until_it_flows(lab)
    before = address_of(lab, "B", "out0")
    assert {each[0] for each in frames_at(lab, "S2", 5)} == {before}
    try:
        lab.ip("B", f"link set out0 address {NEW_CARD}")
        wait_until(lambda: {each[0] for each in frames_at(lab, "S2", 5)} == {NEW_CARD},
                   "the frames have the new card", SOON_S)
    finally:
        lab.ip("B", f"link set out0 address {before}")
        lab.ip("S2", "neigh flush dev eth0")


def test_another_card_that_the_kernel_knows_is_written_to_soon(lab):
    wait_until_it_flows(lab)
    assert len(frames_at(lab, "S2", 5)) == 5
    lab.ip("B", f"neigh replace {S2} lladdr {TOLD_CARD} dev out0")
    client = lab.udp("S6", 9202)

    def told():
        bridge = lab.capture_gateway_outside(filter_extra="udp dst port 9200")
        for _ in range(5):
            client.sendto(b"to the other card", (S2, 9200))
            time.sleep(0.02)
        return {p.dst for p in bridge.packets()} == {TOLD_CARD}
    try:
        wait_until(told, "the frames go to the other card", SOON_S)
    finally:
        lab.ip("B", f"neigh del {S2} dev out0")


def test_what_came_to_all_on_the_link_is_not_forwarded(lab):
    """RFC 1812 section 5.3.4: what is for all reaches several gateways; each would pass it on."""
    wait_until_it_flows(lab)
    arrived = lab.capture("S2", filter_="udp dst port 9203")
    to_all = Ether(src=mac_of(ADDRESS["S6"]), dst="ff:ff:ff:ff:ff:ff")
    to_us = Ether(src=mac_of(ADDRESS["S6"]), dst=address_of(lab, "B", "in0"))
    datagram = IP(src=ADDRESS["S6"], dst=S2) / UDP(sport=9203, dport=9203) / b"who takes me?"
    for _ in range(10):
        lab.send_frame("S6", to_us / datagram)
        lab.send_frame("S6", to_all / datagram)
    time.sleep(0.2)
    assert len(arrived.packets()) == 10
