"""What the machine and its neighbours may do to the gateway: still nothing untranslated crosses."""

import json
import time

import pytest
from scapy.all import IP, UDP, Dot1Q

from frames import inner_addresses_in
from lab import ADDRESS, GATEWAY_OUTER, wait_until
from traffic import external_of, from_inside, from_outside, receive_all

DATAPATHS = ["tc", "user"]
PORT = 7777
S2, S6 = ADDRESS["S2"], ADDRESS["S6"]


def test_a_renamed_outer_interface_stays_the_outside_where_the_kernel_forwards(lab):
    """The names in the configuration are gone, but what the link leads to is not."""
    lab.run("B", ["sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
    lab.masq("up", "--external", "out0", "--internal", "in0")
    capture = lab.capture("S1", "eth0", "udp port 7777")
    try:
        lab.ip("B", "link set out0 down", "link set out0 name wan0", "link set wan0 up",
               f"route replace default via {ADDRESS['A']} dev wan0")
        time.sleep(0.5)
        for _ in range(20):
            lab.run("S4", ["bash", "-c", f"echo x >/dev/udp/{ADDRESS['S1']}/{PORT}"])
        time.sleep(0.3)
        capture.stop()
        assert capture.frames(), "traffic goes on under the new name"
        assert not inner_addresses_in(capture)
    finally:
        lab.ip("B", "link set wan0 down", "link set wan0 name out0", "link set out0 up",
               f"route replace default via {ADDRESS['A']} dev out0")
        lab.run("B", ["sysctl", "-qw", "net.ipv4.ip_forward=0"], check=True)
        lab.masq("down")


def test_a_priority_tag_opens_nothing(lab):
    """The kernel takes VLAN 0 for no VLAN, after tc has seen the frame: so must masq."""
    lab.masq("up", "--external", "out0", "--internal", "in0")
    inside = lab.capture("S4", "eth0", "udp port 7777")
    try:
        lab.run("S1", ["/usr/bin/python3", "-c", f"""
from scapy.all import Dot1Q, Ether, IP, UDP, get_if_hwaddr, getmacbyip, sendp
mac = getmacbyip("{GATEWAY_OUTER}")
for target in ("192.168.2.1", "{ADDRESS['S4']}"):
    for tag in (0, 0x8000):
        sendp(Ether(dst=mac) / Dot1Q(vlan=0, prio=tag >> 13) / IP(dst=target) /
              UDP(sport=5, dport={PORT}) / b"vid0", iface="eth0", verbose=False)
"""], check=True)
        time.sleep(0.3)
        dropped = json.loads(lab.masq("status", "--json").stdout)["dropped"]
        assert dropped["not_for_us"] >= 4, dropped
        assert not inside.stop().frames()
    finally:
        lab.masq("down")


@pytest.mark.parametrize("number, passes", [(0, True), (5, False)])
def test_a_frame_of_a_vlan_is_not_for_the_interface_itself(lab, number, passes):
    """Another net may be in the VLAN, and nothing leads from one to the other."""
    lab.masq("up", "--external", "out0", "--internal", "in0")
    server, client = lab.udp("S2", PORT + number), lab.udp("S6", PORT + number)
    try:
        _, port = external_of(client, server, (S2, PORT + number))
        tag = Dot1Q(vlan=number)
        lab.send_frame("S2", from_outside("S2") / tag / IP(src=S2, dst=GATEWAY_OUTER)
                       / UDP(sport=PORT + number, dport=port) / b"inwards")
        lab.send_frame("S6", from_inside("S6") / tag / IP(src=S6, dst=S2)
                       / UDP(sport=PORT + number, dport=PORT + number) / b"outwards")
        came = [data for s in (client, server) for data, _ in receive_all(s)]
        assert came == ([b"inwards", b"outwards"] if passes else [])
    finally:
        lab.masq("down")


def test_what_a_promiscuous_interface_shows_is_not_for_the_gateway(lab):
    """As when somebody runs tcpdump there, and a switch floods what is for another gateway."""
    lab.masq("up", "--external", "out0", "--internal", "in0")
    lab.ip("B", "link set in0 promisc on", "link set out0 promisc on")
    server, client = lab.udp("S2", PORT + 20), lab.udp("S6", PORT + 20)
    try:
        _, port = external_of(client, server, (S2, PORT + 20))
        for stranger in ("02:00:00:00:00:99", None):
            for host, link, packet in (
                    ("S6", from_inside("S6"), IP(src=S6, dst=S2)
                     / UDP(sport=PORT + 20, dport=PORT + 20) / b"outwards"),
                    ("S2", from_outside("S2"), IP(src=S2, dst=GATEWAY_OUTER)
                     / UDP(sport=PORT + 20, dport=port) / b"inwards")):
                link.dst = stranger or link.dst
                lab.send_frame(host, link / packet)
            came = [data for s in (client, server) for data, _ in receive_all(s)]
            assert came == ([] if stranger else [b"inwards", b"outwards"])
    finally:
        lab.ip("B", "link set in0 promisc off", "link set out0 promisc off")
        lab.masq("down")


def test_rules_of_masq_that_are_emptied_are_put_back(lab):
    lab.masq("up", "--external", "out0", "--internal", "in0")
    tables = ["inet masq_belt"] + (["inet masq_user", "arp masq_user"] * (lab.datapath == "user"))
    rules_of = lambda table: lab.run("B", ["nft", "-s", "list", "table", *table.split()]).stdout
    try:
        for table in tables:
            time.sleep(0.3)  # until it has looked at what its own start has changed
            before = rules_of(table)
            assert " drop" in before
            lab.run("B", ["nft", "flush", "table", *table.split()], check=True)
            wait_until(lambda: rules_of(table) == before, f"the rules of {table} are back")
    finally:
        lab.masq("down")


def test_an_interface_with_an_odd_name_widens_no_rule(lab):
    """For nft `in*` is every interface whose name begins so."""
    lab.masq("up", "--external", "out0", "--internal", "in0")
    listing = lambda: lab.run("B", ["nft", "list", "table", "inet", "masq_belt"]).stdout
    try:
        for name in ("o*", 'a"b', "plain7"):
            lab.ip("B", f"link add {name} type bridge")
        wait_until(lambda: "plain7" in listing(), "masqd has seen the last one")
        assert "o*" not in listing() and 'a"b' not in listing()
    finally:
        for name in ("o*", 'a"b', "plain7"):
            lab.run("B", ["ip", "link", "del", name])
        lab.masq("down")
