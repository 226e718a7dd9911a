"""What the machine and its neighbours may do to the gateway: still nothing untranslated crosses."""

import json
import time

import pytest
from scapy.all import IP, UDP, Dot1Q

from frames import inner_addresses_in
from lab import ADDRESS, GATEWAY_OUTER, wait_until
from traffic import external_of, from_inside, from_outside, receive_all, wait_until_it_flows

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


def states(lab):
    """(zone, state) of each interface that masq names."""
    return {each["name"]: (each["zone"], each["state"]) for each in lab.status()["interfaces"]}


@pytest.fixture
def both_legs(lab):
    """masq is up, and afterwards the gateway is as it was."""
    assert lab.masq("up", "--external", "out0", "--internal", "in0").returncode == 0
    yield
    lab.masq("down")
    for name in ("strange", "in0", "out0", "lan7"):
        lab.run("B", ["ip", "link", "del", name])
    lab.plug_in_gateway_inside()
    lab.plug_in_gateway_outside()


@pytest.mark.parametrize("daemon", ["alive", "dead"])
@pytest.mark.parametrize("leg", ["in0", "out0"])
def test_a_stranger_with_the_index_of_a_link_that_has_gone_is_not_masqs(lab, both_legs, leg,
                                                                        daemon):
    [link] = json.loads(lab.run("B", ["ip", "-j", "link", "show", leg]).stdout)
    if daemon == "dead":
        lab.kill_daemon()
    lab.unplug_gateway(leg)
    if daemon == "alive":
        wait_until(lambda: f"{leg} has gone" in (lab.run_folder() / "log").read_text(), "it said")
    lab.ip("B", f"link add strange index {link['ifindex']} type veth peer name strange7",
           "link set strange up")
    if daemon == "dead":
        assert f"{leg} has gone" in lab.masq("up").stdout
    time.sleep(0.5)
    other = "out0" if leg == "in0" else "in0"
    assert {name: state for name, (_, state) in states(lab).items()} == {leg: "gone", other: "up"}
    assert not lab.programs("strange")


def test_a_link_renamed_while_the_daemon_is_dead_stays_masqs(lab, both_legs):
    lab.kill_daemon()
    lab.ip("B", "link set in0 down", "link set in0 name lan7", "link set lan7 up")
    assert lab.masq("up").returncode == 0
    wait_until_it_flows(lab)
    wait_until(lambda: states(lab).get("lan7") == ("internal", "up"), "it is internal and up")


@pytest.mark.parametrize("daemon", ["alive", "dead"])
def test_a_link_of_the_inside_with_the_name_of_the_outside_is_neither(lab, both_legs, daemon):
    if daemon == "dead":
        lab.kill_daemon()
    lab.unplug_gateway("out0")
    lab.ip("B", "link set in0 down", "link set in0 name out0", "link set out0 up")
    said = lab.masq("up").stdout if daemon == "dead" else ""
    wait_until(lambda: "out0 was in0 and " in said + (lab.run_folder() / "log").read_text(),
               "it is said")
    time.sleep(0.3)
    assert not lab.programs("out0")
    if lab.datapath == "user":  # with tc it is the programs by which the gateway is found
        assert states(lab) == {"out0": ("external", "gone"), "in0": ("internal", "gone")}
    belt = lab.run("B", ["nft", "list", "table", "inet", "masq_belt"]).stdout
    assert 'iifname "out0" counter' in belt and 'oifname "out0" counter' in belt, belt
    lab.ip("B", "link set out0 down", "link set out0 name in0", "link set in0 up")
    lab.plug_in_gateway_outside()
    wait_until_it_flows(lab)


def is_answered(lab, address):
    """Does S1 find B at this address, asking anew for B's hardware address?"""
    lab.ip("S1", "neigh flush all")
    return lab.run("S1", ["ping", "-n", "-c", "1", "-W", "2", address]).returncode == 0


def test_with_more_addresses_than_fit_the_external_ones_count(lab):
    """By their numbers the others, which are too many already, would come first."""
    many = [f"10.50.{n // 200}.{n % 200 + 1}" for n in range(1100)]
    lab.ip("B", "link add many0 type bridge", "link set many0 up",
           *(f"addr add {address}/32 dev many0" for address in many))
    try:
        up = lab.masq("up", "--external", "out0", "--internal", "in0")
        assert up.returncode == 0, up.stderr
        assert ("1024 at most" in up.stdout) == (lab.datapath == "tc"), up.stdout
        wait_until_it_flows(lab)
        assert is_answered(lab, GATEWAY_OUTER)
        lab.ip("B", "addr add 192.168.1.253/24 dev out0")  # one that comes when all is full
        wait_until(lambda: is_answered(lab, "192.168.1.253"), "the second one answers")
    finally:
        lab.masq("down")
        lab.ip("B", "link del many0")
        lab.run("B", ["ip", "addr", "del", "192.168.1.253/24", "dev", "out0"])


def test_a_route_that_is_not_a_default_route_is_no_reason_to_look_at_all_anew(lab, both_legs):
    """A routing daemon changes thousands. What shows whether masq has looked: it puts back a sysctl
    that somebody has changed, of which the kernel says nothing."""
    def set_back():
        return lab.read_sysctl("B", "net.ipv4.conf.out0.arp_announce") == "2"

    default = "default via 192.168.1.250 metric 77"
    wait_until(set_back, "masq is up")
    lab.ip("B", f"route add {default}")  # from now on a minute, if nothing happens
    time.sleep(0.5)
    lab.sysctl("B", {"net.ipv4.conf.out0.arp_announce": 0})
    for n in range(50):
        route = f"10.60.{n}.0/24 via 192.168.1.250"
        lab.ip("B", f"route add {route}", f"route del {route}")
    time.sleep(0.5)
    assert not set_back()
    lab.ip("B", f"route del {default}")
    wait_until(set_back, "masq has looked")


def test_flows_follow_a_route_that_is_not_a_default_route(lab, both_legs):
    """To S2 by A, which takes them there."""
    by_a = lab.capture("A", "eth0", f"udp and dst host {S2}")
    with lab.udp("S6", PORT) as client, lab.udp("S2", PORT) as server:
        external_of(client, server, (S2, PORT))
        lab.ip("B", f"route add {S2} via {ADDRESS['A']}")
        time.sleep(0.6)
        external_of(client, server, (S2, PORT))
        time.sleep(0.3)
    assert by_a.stop().frames()


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
