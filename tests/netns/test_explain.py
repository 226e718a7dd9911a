"""`masq explain`: each kind of packet gets its sentence, nothing is changed by asking, and what was
foretold is what then happens.

Each kind is asked about in words and as a capture of the very frame that is sent afterwards.

Long because the kinds of packets are one list, each with all that is to be said of it.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import struct
import time
import typing

import pytest
import scapy.all as scapy

from lab import (ADDRESS, BINARIES, GATEWAY_INNER, GATEWAY_OUTER, GATEWAY_OUTER_MAC,
                 GATEWAY_SECOND_INNER, IPV6, mac_of, wait_until)
from maps import Maps, TablesFile
from traffic import from_inside, from_outside

DATAPATHS = ["tc", "user"]
LAB = {"second_inner": True}

# Outside, with a hardware address but nobody there, so that no answer disturbs the counting.
QUIET, OTHER, RELAY = "192.168.1.77", "192.168.1.78", "192.168.1.79"
S4, S5, S6, S7 = (ADDRESS[host] for host in ("S4", "S5", "S6", "S7"))
VPN, BEHIND_VPN, NOWHERE = "10.9.0.1", "10.9.0.5", "10.66.0.1"
OUT_MTU = 1400
FLOWS_MAX = 100
UP = ["up", "--external", "out0", "--internal", "in0", "--internal", "in1",
      "--flows-max", str(FLOWS_MAX), "--ipv6", "block"]
UDP_SERVICE, TCP_SERVICE = 5353, 2022
# What the neighbourhood does meanwhile.
NOISE = {"arp_not_external", "ipv6_blocked"}

IP, UDP, TCP, ICMP = scapy.IP, scapy.UDP, scapy.TCP, scapy.ICMP


@pytest.fixture(scope="module")
def gateway(lab):
    lab.ip("B", f"link set out0 mtu {OUT_MTU}",
           "link add vpn0 type veth peer name vpn1", "link set vpn1 up",
           f"addr add {VPN}/24 dev vpn0", "link set vpn0 up",
           f"neigh add {BEHIND_VPN} lladdr 02:00:00:00:00:05 dev vpn0",
           "route add unreachable 10.66.0.0/16", f"route add 100.64.0.0/16 via {QUIET}",
           *(f"neigh add {each} lladdr {mac_of(each)} dev out0" for each in (QUIET, OTHER, RELAY)))
    up = lab.masq(*UP)
    assert up.returncode == 0, up.stdout + up.stderr
    lab.sysctl("B", {"net.ipv6.conf.all.forwarding": 1})
    sockets = [lab.udp("B", UDP_SERVICE), lab.tcp("B", TCP_SERVICE, listen=True),
               lab.udp("S4", 5001)]  # so that S4 does not answer with errors of its own
    yield TablesFile(lab) if lab.datapath == "user" else Maps(lab)
    for s in sockets:
        s.close()
    lab.masq("down")


# --- asking ---------------------------------------------------------------------------------------


def explain(lab, *arguments):
    done = lab.masq("explain", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_capture(path, frames, link_type=1, order="<"):
    data = struct.pack(order + "IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, link_type)
    for frame in frames:
        data += struct.pack(order + "IIII", 0, 0, len(frame), len(frame)) + frame
    path.write_bytes(data)
    return path


def around_the_tables(lab):
    """Neighbours and sockets of the gateway, and what masq has counted."""
    neighbours = json.loads(lab.run("B", ["ip", "-json", "neigh"], check=True).stdout)
    sockets = lab.run("B", ["ss", "-Hantu"], check=True).stdout.splitlines()
    return {"neighbours": sorted((each["dev"], each["dst"]) for each in neighbours),
            "sockets": sorted(line.split() for line in sockets), "counted": counters(lab)}


def unchanged(lab, maps, ask):
    """What `ask` returns; no map or table may change by it, and nothing about the gateway. What
    happens beside it may, now and then."""
    for _ in range(5):
        before = maps.read() | around_the_tables(lab)
        answer = ask()
        after = maps.read() | around_the_tables(lab)
        changed = [name for name in before if before[name] != after[name]]
        if not changed:
            return answer
        time.sleep(0.3)
    raise AssertionError(f"asking has changed {changed}")


def counters(lab):
    status = json.loads(lab.masq("status", "--json").stdout)
    return status["dropped"] | status["traffic"]


def endpoint(lab, internal, protocol="udp"):
    """The external endpoint of an inner one, as a pair, or None."""
    for each in json.loads(lab.masq("mappings", "--json").stdout):
        if each["internal"] == internal and each["protocol"] == protocol:
            address, port = each["external"].split(":")
            return address, int(port)
    return None


# --- the kinds ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Kind:
    """`words` and `frame` may name EXT, the external port of S4's UDP port 5001."""
    name: str
    words: str
    frame: typing.Callable  # of the external port
    sentence: str
    counts: tuple  # which counters rise by one
    host: str = "S4"
    interface: str = "in0"  # where it comes in
    sends_by: str = "eth0"
    more: dict = dataclasses.field(default_factory=dict)  # further fields of the answer
    capture: bool = True
    # What differs with the data path `user`; None if masq does not see it there.
    in_user_space: dict | None = dataclasses.field(default_factory=dict)


def inner(packet):
    return lambda ext: from_inside("S4") / (packet(ext) if callable(packet) else packet)


def outer(packet):
    return lambda ext: from_outside("S1") / (packet(ext) if callable(packet) else packet)


def without_bridge(packet):
    """From S7, whose cable leads straight to the gateway: a bridge drops what is damaged."""
    return lambda ext: scapy.Ether(src=mac_of(S7), dst=mac_of(GATEWAY_SECOND_INNER)) / packet


def to_quiet(**options):
    return IP(src=S4, dst=QUIET, **options)


def refused(reason, because, told=" The sender is told nothing."):
    return f"It is refused ({reason}): {because}.{told}"


def icmp_error(name, source=GATEWAY_INNER):
    return f' The sender gets the ICMP error "{name}" from {source}.'


SENT = f"It is translated and sent by out0 to {QUIET}."
GOES_IN = f"It is translated and sent by in0 to {S4}."
OUT, IN = ("translated_out",), ("translated_in",)
MALFORMED = refused("malformed", "its IPv4 header or transport header is damaged, cut short or has "
                    "a wrong checksum")
NOT_SYN = refused("tcp_not_syn", "it belongs to no known TCP connection and does not open one")
UNSUPPORTED = refused("unsupported_protocol",
                      "only TCP, UDP and ICMP queries and errors can be translated")
NO_MAPPING = refused("no_mapping", "it came from outside and no mapping, flow or local service "
                     "asked for it")
ORPHAN = refused("icmp_orphan", "it is an ICMP error about a packet that no known flow sent")
SPOOFED = refused("spoofed_source", "its source address cannot belong to a host on the interface "
                  "where it came in")
EXPIRED = refused("ttl_exceeded", "its time to live has run out", icmp_error("time exceeded"))
ARP_FOR_ANOTHER = refused("arp_not_external", "it asks outside for an address that is not an "
                          "external one")
IPV6_BLOCKED = refused("ipv6_blocked", "IPv6 between inside and outside is blocked")
TOO_BIG = "it is larger than the next link carries and may not be cut"


def stack(address, what=None):
    tail = f", and {what}" if what else ""
    return f"It goes to the gateway's own stack: {address} is its own address{tail}."


def by_the_kernel(sentence):
    """Refused by nftables rules, where masq neither counts nor remembers it."""
    told = " The kernel refuses it, by masq's nftables rules, and masq does not count it."
    return {"sentence": sentence + told, "counts": ()}


NEW = {"flow": {"new": True}, "mapping": {"new": True}}
KNOWN = {"flow": {"new": False, "in_force": True}, "mapping": {"new": False}}
OUTSIDE = {"host": "S1", "interface": "out0"}
EXT = "EXT"

OUTWARDS = [
    Kind("udp", f"udp {S4}:5001 {QUIET}:9", inner(to_quiet() / UDP(sport=5001, dport=9)), SENT, OUT,
         more=NEW | {"flow": {"new": True, "expires_s": 300}, "interface": "in0",
                     "zone": "inside"}),
    Kind("udp again", f"udp {S4}:5001 {QUIET}:9", inner(to_quiet() / UDP(sport=5001, dport=9)),
         SENT, OUT, more=KNOWN),
    Kind("udp to another host", f"udp {S4}:5001 to {OTHER}:9",
         inner(IP(src=S4, dst=OTHER) / UDP(sport=5001, dport=9)),
         f"It is translated and sent by out0 to {OTHER}.", OUT,
         more={"flow": {"new": True}, "mapping": {"new": False, "flows": 1}}),
    Kind("dns", f"udp {S4}:5002 > {QUIET}:53", inner(to_quiet() / UDP(sport=5002, dport=53)), SENT,
         OUT, more={"flow": {"new": True, "expires_s": 30}}),
    Kind("behind a next hop", f"udp {S4}:5003 100.64.0.9:9",
         inner(IP(src=S4, dst="100.64.0.9") / UDP(sport=5003, dport=9)), SENT, OUT,
         more={"route": {"interface": "out0", "next_hop": QUIET, "mtu": OUT_MTU}}),
    Kind("tcp syn", f"tcp {S4}:5001 {QUIET}:80 flags S",
         inner(to_quiet() / TCP(sport=5001, dport=80, flags="S")), SENT, OUT,
         more=NEW | {"read_as": "a TCP segment that opens a connection"}),
    Kind("tcp in the middle", f"tcp {S4}:5004 {QUIET}:80 flags A",
         inner(to_quiet() / TCP(sport=5004, dport=80, flags="A")), NOT_SYN, ("tcp_not_syn",)),
    Kind("tcp reset", f"tcp {S4}:5004 {QUIET}:80 rst",
         inner(to_quiet() / TCP(sport=5004, dport=80, flags="R")), NOT_SYN, ("tcp_not_syn",)),
    Kind("tcp of its connection", f"tcp {S4}:5001 {QUIET}:80 flags R",
         inner(to_quiet() / TCP(sport=5001, dport=80, flags="R", seq=7)), SENT, OUT,
         more={"flow": {"new": False, "state": "opening"}}),
    Kind("echo", f"icmp {S4} {QUIET} echo id 77", inner(to_quiet() / ICMP(id=77)), SENT, OUT,
         more=NEW),
    Kind("ping", f"ping {S4} {QUIET} id 78", inner(to_quiet() / ICMP(id=78)), SENT, OUT),
    Kind("timestamp", f"icmp {S4} {QUIET} timestamp id 79 len 12",
         inner(to_quiet() / ICMP(type=13, id=79)), SENT, OUT),
    Kind("echo reply outwards", f"icmp {S4} {QUIET} echo-reply id 5",
         inner(to_quiet() / ICMP(type=0, id=5)), NO_MAPPING, ("no_mapping",)),
    Kind("redirect", f"icmp {S4} {QUIET} redirect code 1", inner(to_quiet() / ICMP(type=5, code=1)),
         refused("icmp_type", "ICMP messages of this type are not passed on"), ("icmp_type",)),
    Kind("gre", f"gre {S4} {QUIET}", inner(to_quiet(proto=47) / (b"\0" * 8)), UNSUPPORTED,
         ("unsupported_protocol",)),
    Kind("esp", f"esp {S4} {QUIET}", inner(to_quiet(proto=50) / (b"\0" * 8)), UNSUPPORTED,
         ("unsupported_protocol",)),
    Kind("sctp", f"sctp {S4} {QUIET}", inner(to_quiet(proto=132) / (b"\0" * 12)), UNSUPPORTED,
         ("unsupported_protocol",)),
    Kind("forged source", f"from inside udp 10.1.2.3:5000 {QUIET}:9",
         inner(IP(src="10.1.2.3", dst=QUIET) / UDP(sport=5000, dport=9)), SPOOFED,
         ("spoofed_source",)),
    Kind("the gateway's address as source", f"from in0 udp {GATEWAY_OUTER}:3000 {QUIET}:9",
         inner(IP(src=GATEWAY_OUTER, dst=QUIET) / UDP(sport=3000, dport=9)), SPOOFED,
         ("spoofed_source",)),
    Kind("last hop", f"udp {S4}:5001 {QUIET}:9 ttl 1",
         inner(to_quiet(ttl=1) / UDP(sport=5001, dport=9)), EXPIRED,
         ("ttl_exceeded", "icmp_errors_sent"), more={"icmp_error": {"type": 11, "code": 0}}),
    Kind("too big, DF", f"udp {S4}:5001 {QUIET}:9 size 1450 df",
         inner(to_quiet(flags="DF") / UDP(sport=5001, dport=9) / (b"x" * 1422)),
         refused("too_big", TOO_BIG, f' The sender gets the ICMP error "fragmentation needed" with '
                 f"MTU {OUT_MTU} from {GATEWAY_INNER}."),
         ("too_big", "icmp_errors_sent"), more={"icmp_error": {"code": 4, "mtu": OUT_MTU}}),
    Kind("too big", f"udp {S4}:5001 {QUIET}:9 size 1450",
         inner(to_quiet() / UDP(sport=5001, dport=9) / (b"x" * 1422)),
         f"It goes to the slow path, to be cut to {OUT_MTU} bytes, and comes back.",
         ("slow_path", "cut", "translated_out")),
    Kind("just fits", f"udp {S4}:5001 {QUIET}:9 size {OUT_MTU} df",
         inner(to_quiet(flags="DF") / UDP(sport=5001, dport=9) / (b"x" * (OUT_MTU - 28))), SENT,
         OUT),
    Kind("no route", f"udp {S4}:5001 {NOWHERE}:9",
         inner(IP(src=S4, dst=NOWHERE) / UDP(sport=5001, dport=9)),
         refused("no_route", "there is no route to its destination",
                 icmp_error("network unreachable")), ("no_route", "icmp_errors_sent"),
         more={"route": None}),
    Kind("ip options", f"udp {S4}:5001 {QUIET}:9 options",
         inner(to_quiet(options=scapy.IPOption_RR(routers=["0.0.0.0"]))
               / UDP(sport=5001, dport=9)),
         refused("ip_options", "it carries IP options, which would be translated only in part and "
                 "can name inner hosts"), ("ip_options",)),
    Kind("bad header checksum", f"udp {S7}:5001 {QUIET}:9 bad-checksum",
         without_bridge(IP(src=S7, dst=QUIET, chksum=1) / UDP(sport=5001, dport=9)), MALFORMED,
         ("malformed",), host="S7", interface="in1"),
    Kind("bad tcp header", f"tcp {S4}:5001 {QUIET}:80 doff 4",
         inner(to_quiet() / TCP(sport=5001, dport=80, flags="S", dataofs=4)), MALFORMED,
         ("malformed",)),
    Kind("length beyond the packet", f"udp {S7}:5001 {QUIET}:9 total 900",
         without_bridge(IP(src=S7, dst=QUIET, len=900) / UDP(sport=5001, dport=9)), MALFORMED,
         ("malformed",), host="S7", interface="in1"),
    Kind("fragment without its first", f"udp {S4} {QUIET} id 700 offset 24 len 16",
         inner(to_quiet(id=700, frag=3, proto=17) / (b"x" * 16)),
         "It goes to the slow path, until the first fragment of its datagram has come.",
         ("slow_path", "fragment_without_first")),
    Kind("first fragment", f"udp {S4}:5001 {QUIET}:9 id 701 mf len 16",
         inner(to_quiet(id=701, flags="MF") / UDP(sport=5001, dport=9, len=40) / (b"x" * 16)), SENT,
         OUT),
    Kind("second fragment", f"udp {S4} {QUIET} id 701 offset 24 len 16",
         inner(to_quiet(id=701, frag=3, proto=17) / (b"x" * 16)), SENT, OUT,
         more={"flow": {"new": False, "internal": f"{S4}:5001"}}),
    Kind("tail of a tcp header", f"tcp {S4} {QUIET} offset 8 len 16",
         inner(to_quiet(id=9, frag=1, proto=6) / (b"x" * 16)), MALFORMED, ("malformed",)),
    Kind("error about nothing",
         f"icmp {S4} {QUIET} unreachable code 3 about udp {QUIET}:9 {S4}:44",
         inner(to_quiet() / ICMP(type=3, code=3) / IP(src=QUIET, dst=S4) / UDP(sport=9, dport=44)),
         ORPHAN, ("icmp_orphan",)),
    Kind("error of the inner host",
         f"icmp {S4} {QUIET} unreachable code 3 about udp {QUIET}:9 {S4}:5001",
         inner(to_quiet() / ICMP(type=3, code=3) / IP(src=QUIET, dst=S4)
               / UDP(sport=9, dport=5001)), SENT, OUT, more={"flow": {"new": False}}),
]

FOR_THE_GATEWAY = [
    Kind("its inner address", f"udp {S4}:5001 {GATEWAY_INNER}:7777",
         inner(IP(src=S4, dst=GATEWAY_INNER) / UDP(sport=5001, dport=7777)),
         stack(GATEWAY_INNER, "no socket is there for udp port 7777"), ("local",)),
    Kind("its service", f"udp {S4}:5001 {GATEWAY_INNER}:{UDP_SERVICE}",
         inner(IP(src=S4, dst=GATEWAY_INNER) / UDP(sport=5001, dport=UDP_SERVICE)),
         stack(GATEWAY_INNER, f"a socket is there for udp port {UDP_SERVICE}"), ("local",)),
    Kind("echo to it", f"icmp {S4} {GATEWAY_INNER}", inner(IP(src=S4, dst=GATEWAY_INNER) / ICMP()),
         stack(GATEWAY_INNER), ("local",)),
    Kind("its external address, no port of mappings", f"udp {S4}:5001 {GATEWAY_OUTER}:40000",
         inner(IP(src=S4, dst=GATEWAY_OUTER) / UDP(sport=5001, dport=40000)),
         stack(GATEWAY_OUTER, "no socket is there for udp port 40000"), ("local",)),
    Kind("an inner host's external endpoint", f"udp {S4}:5001 {GATEWAY_OUTER}:EXT",
         inner(lambda ext: IP(src=S4, dst=GATEWAY_OUTER) / UDP(sport=5001, dport=ext)),
         "It is translated twice, out and in again, to an inner host's external endpoint, and sent "
         f"by in0 to {S4}.", OUT + IN, more={"flow": {"new": True}}),
    Kind("an external endpoint that keeps out", f"udp {S5}:5001 {GATEWAY_OUTER}:EXT",
         lambda ext: from_inside("S5") / IP(src=S5, dst=GATEWAY_OUTER)
         / UDP(sport=5001, dport=ext), NO_MAPPING, OUT + ("no_mapping",), host="S5"),
    Kind("multicast", f"udp {S4}:5353 224.0.0.251:5353",
         inner(IP(src=S4, dst="224.0.0.251") / UDP(sport=5353, dport=5353)),
         "It goes to the gateway's own stack: multicast and broadcast are not passed on.",
         ("local",)),
    Kind("broadcast", f"from inside udp {S4}:9 255.255.255.255:9",
         inner(IP(src=S4, dst="255.255.255.255") / UDP(sport=9, dport=9)),
         "It goes to the gateway's own stack: multicast and broadcast are not passed on.",
         ("local",)),
    Kind("another zone", f"udp {S4}:5001 {BEHIND_VPN}:9",
         inner(IP(src=S4, dst=BEHIND_VPN) / UDP(sport=5001, dport=9)),
         refused("other_interface", "it leads to an interface that masq was not given, and the "
                 "kernel does not forward there", icmp_error("network unreachable")),
         ("other_interface", "icmp_errors_sent"),
         more={"route": {"zone": "other", "interface": "vpn0"}}),
    Kind("another inner network", f"udp {S4}:5001 {S7}:9",
         inner(IP(src=S4, dst=S7) / UDP(sport=5001, dport=9)),
         f"It is routed as it is, by in1 to {S7}: both ends are inside.", ("routed",)),
    Kind("service from outside", f"tcp {QUIET}:4000 {GATEWAY_OUTER}:{TCP_SERVICE} syn",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER) / TCP(sport=4000, dport=TCP_SERVICE, flags="S")),
         stack(GATEWAY_OUTER, f"a socket is there for tcp port {TCP_SERVICE}"), ("local",),
         **OUTSIDE),
    Kind("closed port from outside", f"udp {QUIET}:4000 {GATEWAY_OUTER}:40000",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER) / UDP(sport=4000, dport=40000)),
         stack(GATEWAY_OUTER, "no socket is there for udp port 40000"), ("local",), **OUTSIDE),
    Kind("echo from outside", f"icmp {QUIET} {GATEWAY_OUTER} echo",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER) / ICMP()), stack(GATEWAY_OUTER), ("local",),
         **OUTSIDE),
    Kind("dhcp", f"udp {QUIET}:67 {GATEWAY_OUTER}:68",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER) / UDP(sport=67, dport=68)),
         stack(GATEWAY_OUTER, "no socket is there for udp port 68"), ("local",), **OUTSIDE),
    Kind("its own packet", f"udp {GATEWAY_OUTER}:40001 {QUIET}:9",
         lambda ext: scapy.Ether(src=GATEWAY_OUTER_MAC, dst=mac_of(QUIET))
         / IP(src=GATEWAY_OUTER, dst=QUIET) / UDP(sport=40001, dport=9),
         "It leaves as it is: the gateway's own packets from udp port 40001 need no mapping.",
         ("local",), host="B", sends_by="out0", capture=False, in_user_space=None),
    Kind("its own packet from a port of mappings", f"udp {GATEWAY_OUTER}:3001 {QUIET}:9",
         lambda ext: scapy.Ether(src=GATEWAY_OUTER_MAC, dst=mac_of(QUIET))
         / IP(src=GATEWAY_OUTER, dst=QUIET) / UDP(sport=3001, dport=9),
         "It leaves as it is: the gateway's own flow keeps its port.", ("local",), host="B",
         sends_by="out0", capture=False, more=NEW | {"flow": {"new": True, "gateway": True}},
         in_user_space=None),
    Kind("the answer to it", f"udp {QUIET}:9 {GATEWAY_OUTER}:3001",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER) / UDP(sport=9, dport=3001)),
         "It is translated and given to the gateway's own stack: the flow is its own.",
         ("local_translated",), **OUTSIDE,
         in_user_space={"sentence": NO_MAPPING, "counts": ("no_mapping",)}),
    Kind("its inner address as source", f"from gateway udp {GATEWAY_INNER}:9 {QUIET}:9",
         lambda ext: scapy.Ether(src=GATEWAY_OUTER_MAC, dst=mac_of(QUIET))
         / IP(src=GATEWAY_INNER, dst=QUIET) / UDP(sport=9, dport=9),
         refused("egress_guard", "it was about to leave outside with a source that is not an "
                 "external address"), ("egress_guard",), host="B", sends_by="out0",
         capture=False, in_user_space=None),
]

INWARDS = [
    Kind("answer", f"udp {QUIET}:9 {GATEWAY_OUTER}:EXT",
         outer(lambda ext: IP(src=QUIET, dst=GATEWAY_OUTER) / UDP(sport=9, dport=ext)), GOES_IN, IN,
         **OUTSIDE,
         more={"flow": {"new": False}, "filter": f"lets in {QUIET}:9, whom {S4}:5001 has asked "
               "(address- and port-dependent)"}),
    Kind("another port of the same host", f"udp {QUIET}:10 {GATEWAY_OUTER}:EXT",
         outer(lambda ext: IP(src=QUIET, dst=GATEWAY_OUTER) / UDP(sport=10, dport=ext)), NO_MAPPING,
         ("no_mapping",), **OUTSIDE,
         more={"flow": None, "filter": f"keeps out {QUIET}:10, which {S4}:5001 has not asked "
               "(address- and port-dependent)"}),
    Kind("unasked", f"udp {QUIET}:9 {GATEWAY_OUTER}:3999",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER) / UDP(sport=9, dport=3999)), NO_MAPPING,
         ("no_mapping",), **OUTSIDE, more={"flow": None, "mapping": None, "filter": None}),
    Kind("unasked connection", f"from outside tcp {QUIET}:9 {GATEWAY_OUTER}:3999",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER) / TCP(sport=9, dport=3999, flags="S")), NO_MAPPING,
         ("no_mapping",), **OUTSIDE),
    Kind("to an inner host", f"udp {QUIET}:9 {S4}:5001",
         outer(IP(src=QUIET, dst=S4) / UDP(sport=9, dport=5001)),
         refused("not_for_us", "it came from outside and is not addressed to an external address "
                 "of this gateway"), ("not_for_us",), **OUTSIDE),
    Kind("with an inner source", f"from out0 udp {S5}:9 {GATEWAY_OUTER}:3998",
         outer(IP(src=S5, dst=GATEWAY_OUTER) / UDP(sport=9, dport=3998)), NO_MAPPING,
         ("no_mapping",), **OUTSIDE),
    Kind("damaged", f"udp {QUIET}:9 {GATEWAY_OUTER}:53 total 20",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER, len=20) / UDP(sport=9, dport=53)), MALFORMED,
         ("malformed",), **OUTSIDE),
    Kind("last hop inwards", f"udp {QUIET}:9 {GATEWAY_OUTER}:EXT ttl 1",
         outer(lambda ext: IP(src=QUIET, dst=GATEWAY_OUTER, ttl=1) / UDP(sport=9, dport=ext)),
         refused("ttl_exceeded", "its time to live has run out",
                 icmp_error("time exceeded", GATEWAY_OUTER)), ("ttl_exceeded", "icmp_errors_sent"),
         **OUTSIDE),
    Kind("echo reply", f"icmp {QUIET} {GATEWAY_OUTER} echo-reply id 4242",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER) / ICMP(type=0, id=4242)), NO_MAPPING,
         ("no_mapping",), **OUTSIDE),
    Kind("error about a flow", f"icmp {RELAY} {GATEWAY_OUTER} unreachable code 4 mtu 1300 about "
         f"udp {GATEWAY_OUTER}:EXT {QUIET}:9",
         outer(lambda ext: IP(src=RELAY, dst=GATEWAY_OUTER) / ICMP(type=3, code=4, nexthopmtu=1300)
               / IP(src=GATEWAY_OUTER, dst=QUIET) / UDP(sport=ext, dport=9)), GOES_IN, IN,
         **OUTSIDE),
    Kind("error about a forgery", f"icmp {RELAY} {GATEWAY_OUTER} time-exceeded about "
         f"udp {S4}:5001 {QUIET}:9",
         outer(IP(src=RELAY, dst=GATEWAY_OUTER) / ICMP(type=11) / IP(src=S4, dst=QUIET)
               / UDP(sport=5001, dport=9)), ORPHAN, ("icmp_orphan",), **OUTSIDE),
    Kind("fragment for the gateway", f"udp {QUIET} {GATEWAY_OUTER} id 800 offset 24 len 16",
         outer(IP(src=QUIET, dst=GATEWAY_OUTER, id=800, frag=3, proto=17) / (b"x" * 16)),
         "The gateway's own stack gets a copy, and it waits in the slow path for the first "
         "fragment of its datagram: nobody knows yet whose it is.",
         ("local", "slow_path", "fragment_without_first"), **OUTSIDE),
    Kind("arp for the inner leg", f"arp {QUIET} {GATEWAY_INNER}",
         lambda ext: scapy.Ether(src=mac_of(ADDRESS["S1"]), dst="ff:ff:ff:ff:ff:ff")
         / scapy.ARP(op=1, psrc=QUIET, pdst=GATEWAY_INNER, hwsrc=mac_of(QUIET)),
         ARP_FOR_ANOTHER, ("arp_not_external",), **OUTSIDE,
         in_user_space=by_the_kernel(ARP_FOR_ANOTHER)),
    Kind("arp for the gateway", f"from outside arp {QUIET} {GATEWAY_OUTER}",
         lambda ext: scapy.Ether(src=mac_of(ADDRESS["S1"]), dst="ff:ff:ff:ff:ff:ff")
         / scapy.ARP(op=1, psrc=QUIET, pdst=GATEWAY_OUTER, hwsrc=mac_of(QUIET)),
         "It is left to the kernel, which answers for its own addresses.", (), **OUTSIDE),
    Kind("ipv6", "from inside ipv6",
         lambda ext: from_inside("S4") / scapy.IPv6(src=IPV6["S4"], dst=IPV6["S2"])
         / UDP(sport=9, dport=9),
         IPV6_BLOCKED, ("ipv6_blocked",), in_user_space=by_the_kernel(IPV6_BLOCKED)),
]

KINDS = OUTWARDS + FOR_THE_GATEWAY + INWARDS


def contains(found, wanted):
    """Is every field of `wanted`, at every depth, as in `found`?"""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(contains(found.get(k), v) for k, v in wanted.items())
    return found == wanted


def ask_in_both_ways(lab, kind, words, frame):
    """The answer; in words and as a capture it must be the same."""
    said = explain(lab, *words.split())
    expires_s = (said["flow"] or {}).get("expires_s")
    if kind.capture:
        path = write_capture(lab.directory / "asked.pcap", [frame])
        [seen] = explain(lab, "--pcap", path, "--interface", kind.interface)
        assert seen["sentence"] == said["sentence"]
        for each in (said, seen):
            (each["flow"] or {}).pop("expires_s", None)  # a second may have passed
        assert seen["flow"] == said["flow"]
        if expires_s is not None:
            said["flow"]["expires_s"] = expires_s
    return said


@contextlib.contextmanager
def without_belt(lab):
    """The belt stops IPv6 before the programs, which are asked here; masqd would put it back."""
    [daemon] = lab.processes("B", "masqd")
    os.kill(daemon, signal.SIGSTOP)
    try:
        lab.run("B", ["nft", "flush", "chain", "inet", "masq_belt", "forward"], check=True)
        yield
    finally:
        os.kill(daemon, signal.SIGCONT)


def test_there_are_enough_kinds():
    assert len(KINDS) >= 40
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_what_is_foretold_happens_and_nothing_before(lab, gateway, kind):
    ext = (endpoint(lab, f"{S4}:5001") or (None, 1))[1]
    frame = bytes(kind.frame(ext))
    words = kind.words.replace(EXT, str(ext))
    if lab.datapath == "user":
        if kind.in_user_space is None:
            check_that_it_is_not_seen(lab, gateway, words, scapy.Ether(frame))
            return
        kind = dataclasses.replace(kind, **kind.in_user_space)
    said = unchanged(lab, gateway, lambda: ask_in_both_ways(lab, kind, words, frame))
    assert said["sentence"] == kind.sentence
    for field, wanted in kind.more.items():
        assert contains(said[field], wanted), (field, said[field])
    text = lab.masq("explain", *words.split())
    assert text.returncode == 0
    assert kind.sentence in text.stdout.splitlines()

    sent = lab.capture("outnet", "br0", "udp or tcp or icmp") if said["after"] else None
    before = counters(lab)
    with without_belt(lab) if "ipv6_blocked" in kind.counts else contextlib.nullcontext():
        with contextlib.suppress(OSError):  # the gateway's own sender is told of the drop
            lab.send_frame(kind.host, frame, kind.sends_by)
        for name in kind.counts:
            wait_until(lambda: counters(lab)[name] > before[name], f"{name} is counted",
                       timeout_s=3)
    after = counters(lab)
    allowed = set(kind.counts) | NOISE | {f"{name}_bytes" for name in kind.counts} | {"local"}
    others = {name for name in after if after[name] != before[name]} - allowed
    assert not others, {name: (before[name], after[name]) for name in others}
    if said["reason"] and kind.counts:
        remembered = json.loads(lab.masq("explain", "--json", "--last").stdout)
        assert any(each["reason"] == said["reason"] and each["ago_s"] <= 3 for each in remembered)
    if said["mapping"] and said["mapping"]["new"] and said["action"] != "drop":
        internal = said["mapping"]["internal"]
        is_now = endpoint(lab, internal, said["mapping"]["protocol"])
        assert "{}:{}".format(*is_now) == said["mapping"]["external"]
    if sent and kind.counts == OUT:
        check_on_the_wire(sent, said)


def check_that_it_is_not_seen(lab, maps, words, frame):
    """It is answered that masq does not see it; it is sent by a socket, and masq has not."""
    done = unchanged(lab, maps, lambda: lab.masq("explain", *words.split()))
    assert done.returncode == 1 and one_sentence(done.stderr), done.stdout + done.stderr
    assert "masq does not see that packet: with the data path user" in done.stderr
    before = maps.read()
    with (lab.udp("B", frame[UDP].sport, frame[IP].src) as s,
          contextlib.suppress(PermissionError)):  # nothing leaves under an inner address
        s.sendto(b"x", (frame[IP].dst, frame[UDP].dport))
    time.sleep(0.3)
    assert maps.read() == before


def check_on_the_wire(capture, said):
    """The translated packet has the ends and the time to live that were foretold."""
    found = re.match(r"\w+ ([\d.]+)(?::(\d+))? > ([\d.]+).* ttl (\d+)$", said["after"])
    source, port, destination, ttl = found.groups()
    packets = [p[IP] for p in capture.packets() if IP in p and p[IP].src == source
               and p[IP].dst == destination and p[IP].ttl == int(ttl)]
    assert packets, said["after"]
    if port:
        assert any(getattr(p.payload, "sport", None) == int(port) for p in packets), said["after"]


# --- states that stand at the end ----------------------------------------------------------------


def judged(lab, maps, words, sentence, *counts, frame):
    """Asks, finds nothing changed, sends, and finds that it was so."""
    said = unchanged(lab, maps, lambda: explain(lab, *words.split()))
    assert said["sentence"] == sentence
    before = counters(lab)
    lab.send_frame("S1" if "from outside" in words else "S4", bytes(frame))
    for name in counts:
        wait_until(lambda: counters(lab)[name] > before[name], f"{name} is counted", timeout_s=3)
    return said


def test_a_mapping_whose_host_has_gone_elsewhere(lab, gateway):
    _, ext = endpoint(lab, f"{S4}:5001")
    lab.ip("B", f"route add {S4}/32 dev vpn0")
    try:
        time.sleep(0.5)  # the programs remember a route for a quarter of a second
        judged(lab, gateway, f"from outside udp {QUIET}:9 {GATEWAY_OUTER}:{ext}",
               refused("wrong_zone", "its mapping leads to an address that is not reached through "
                       "an inner interface"), "wrong_zone",
               frame=from_outside("S1") / IP(src=QUIET, dst=GATEWAY_OUTER)
               / UDP(sport=9, dport=ext))
    finally:
        lab.ip("B", f"route del {S4}/32 dev vpn0")
        time.sleep(0.5)


def test_a_dead_daemon_is_not_missed_or_nothing_passes(lab, gateway):
    lab.kill_daemon()
    if lab.datapath == "user":
        done = lab.masq("explain", *f"udp {S4}:5001 {QUIET}:9".split())
        assert done.returncode == 1 and one_sentence(done.stderr), done.stdout + done.stderr
        assert "No packet passes" in done.stderr and "`masq up`" in done.stderr
        assert lab.masq("explain", "--last").returncode == 0
    else:
        assert explain(lab, *f"udp {S4}:5001 {QUIET}:9".split())["sentence"] == SENT
    assert lab.masq("up").returncode == 0
    assert explain(lab, *f"udp {S4}:5001 {QUIET}:9".split())["sentence"] == SENT


def test_a_full_table(lab, gateway):
    with lab.udp("S5") as s:
        for port in range(2 * FLOWS_MAX):
            s.sendto(b"x", (QUIET, 20000 + port))
    wait_until(lambda: counters(lab)["flow_table_full"] > 0, "the table is full")
    said = judged(lab, gateway, f"udp {S4}:5999 {QUIET}:9",
                  refused("flow_table_full", "the flow table is full; raise --flows-max",
                          icmp_error("communication administratively prohibited")),
                  "flow_table_full",
                  frame=from_inside("S4") / to_quiet() / UDP(sport=5999, dport=9))
    assert said["flows_now"] == said["flows_max"] == FLOWS_MAX
    assert "Raise `flows_max`" in said["advice"]
    assert explain(lab, *f"udp {S4}:5001 {QUIET}:9".split())["sentence"] == SENT


def test_no_external_address(lab, gateway):
    lab.ip("B", f"addr del {GATEWAY_OUTER}/24 dev out0", "route add default dev out0")
    try:
        wait_until(lambda: not json.loads(lab.masq("status", "--json").stdout)["translating"],
                   "masq knows that its address is gone")
        judged(lab, gateway, f"udp {S4}:5001 {QUIET}:9",
               refused("no_external_address", "the external interface has no address"),
               "no_external_address",
               frame=from_inside("S4") / to_quiet() / UDP(sport=5001, dport=9))
    finally:
        lab.ip("B", "route del default dev out0", f"addr add {GATEWAY_OUTER}/24 dev out0",
               "route add default via 192.168.1.250")
        wait_until(lambda: json.loads(lab.masq("status", "--json").stdout)["translating"],
                   "masq has its address again")


# --- the last refusals ----------------------------------------------------------------------------


def last(lab, *host):
    done = lab.masq("explain", "--json", "--last", *host)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_scan_from_outside_does_not_push_out_what_inner_hosts_ask_about(lab, gateway):
    gre = from_inside("S5") / IP(src=S5, dst=OTHER, proto=47) / (b"\0" * 8)
    before = counters(lab)
    lab.send_frame("S5", gre)
    scan = [bytes(from_outside("S1") / IP(src=f"192.168.1.{n % 200 + 20}", dst=GATEWAY_OUTER)
                  / TCP(sport=n, dport=3000 + n, flags="S")) for n in range(900)]
    for frame in scan:
        lab.send_frame("S1", frame)
    wait_until(lambda: counters(lab)["no_mapping"] >= before["no_mapping"] + len(scan),
               "the scan is counted")
    mine = [each for each in last(lab, S5) if each["reason"] == "unsupported_protocol"]
    assert mine and mine[-1]["packet"] == f"gre {S5} > {OTHER}"
    assert mine[-1]["side"] == "inside" and mine[-1]["interface"] == "in0"
    assert mine[-1]["ago_s"] < 60
    # Of the scan itself the latest are remembered.
    scanned = [each for each in last(lab) if each["reason"] == "no_mapping"
               and each["side"] == "outside"]
    assert any(":3899 " in each["packet"] for each in scanned)
    assert len(scanned) <= 32


def test_the_last_refusals_of_one_host_in_words(lab, gateway):
    gre = from_inside("S5") / IP(src=S5, dst=OTHER, proto=47) / (b"\0" * 8)
    lab.send_frame("S5", gre)
    lab.send_frame("S4", from_inside("S4") / to_quiet(proto=50) / (b"\0" * 8))
    wait_until(lambda: any("gre" in each["packet"] for each in last(lab, S5)), "it is remembered")
    text = lab.masq("explain", "--last", S5).stdout
    assert re.search(rf"^ +\d+ s ago, inside in0: gre {S5} > {OTHER}$", text, re.MULTILINE)
    assert ("refused (unsupported_protocol): only TCP, UDP and ICMP queries and errors can be "
            "translated.") in text
    assert "IPsec works with NAT traversal" in " ".join(text.split())
    assert S4 not in text
    assert all(S5 in (each["source"], each["destination"]) for each in last(lab, S5))
    ages = [each["ago_s"] for each in last(lab)]
    assert ages == sorted(ages, reverse=True)
    assert lab.masq("explain", "--last", "203.0.113.77").stdout == (
        "No refused packet is remembered.\n")


# --- captures -------------------------------------------------------------------------------------


def syn_and_answer(ext=None):
    syn = from_inside("S7") / IP(src=S7, dst=QUIET) / TCP(sport=5100, dport=80, flags="S")
    answer = from_outside("S1") / IP(src=QUIET, dst=GATEWAY_OUTER) / TCP(
        sport=80, dport=ext or 9, flags="SA", ack=1)
    return [bytes(syn), bytes(answer)]


@pytest.fixture
def room(lab, gateway):
    """A table with room in it again."""
    lab.masq("down")
    assert lab.masq("up", "--external", "out0", "--internal", "in0", "--internal", "in1",
                    "--flows-max", str(FLOWS_MAX)).returncode == 0


def test_an_answer_in_a_capture_finds_the_flow_that_its_question_would_make(lab, room):
    path = lab.directory / "two.pcap"
    [syn] = explain(lab, "--pcap", write_capture(path, syn_and_answer()[:1]))
    ext = int(syn["mapping"]["external"].split(":")[1])
    for order in "<>":
        both = explain(lab, "--pcap", write_capture(path, syn_and_answer(ext), order=order))
        assert [each["number"] for each in both] == [1, 2]
        assert both[0]["flow"]["new"] and not both[1]["flow"]["new"]
        assert both[1]["sentence"] == f"It is translated and sent by in1 to {S7}."
    assert endpoint(lab, f"{S7}:5100", "tcp") is None
    text = lab.masq("explain", "--pcap", path).stdout
    assert "1. tcp " in text and "\n2. tcp " in text


def test_raw_ip_and_pcapng(lab, room):
    plain = write_capture(lab.directory / "plain.pcap", syn_and_answer())
    wanted = [each["sentence"] for each in explain(lab, "--pcap", plain)]
    raw = write_capture(lab.directory / "raw.pcap", [f[14:] for f in syn_and_answer()], 101)
    assert [each["sentence"] for each in explain(lab, "--pcap", raw)] == wanted
    newer = lab.directory / "newer.pcapng"
    lab.run("B", ["editcap", "-F", "pcapng", plain, newer], check=True)
    assert [each["sentence"] for each in explain(lab, "--pcap", newer)] == wanted
    newer.write_bytes(newer.read_bytes()[:-7])
    damaged = lab.masq("explain", "--pcap", newer)
    assert damaged.returncode == 1
    assert damaged.stderr.endswith("damaged or cut short behind packet 1.\n")


def test_what_a_capture_has_cut_off_is_taken_for_zeros_when_it_is_explained(lab, room):
    """And takes no memory before: a record of 16 bytes may speak of a large packet."""
    frame = bytes(from_inside("S7") / IP(src=S7, dst=QUIET) / UDP(sport=5200, dport=9) / bytes(900))
    header = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1)
    records = [struct.pack("<IIII", 0, 0, 60, len(frame)) + frame[:60],
               struct.pack("<IIII", 0, 0, 14, 200000) + frame[:14]]
    whole = write_capture(lab.directory / "whole.pcap", [frame])
    cut = lab.directory / "cut.pcap"
    cut.write_bytes(header + b"".join(records))
    [wanted] = explain(lab, "--pcap", whole, "--interface", "in1")
    answer, empty = explain(lab, "--pcap", cut, "--interface", "in1")
    assert answer == wanted
    assert empty["action"] == "drop", empty
    cut.write_bytes(header + records[1] * 5000)  # 150 KB that speak of 1 GB
    done = lab.run("S6", ["prlimit", f"--data={64 << 20}", BINARIES / "masq", "explain",
                          "--pcap", cut])
    # There is no gateway there; the capture has been read before.
    assert done.returncode == 1 and "not running" in done.stderr, (done.returncode, done.stderr)


# --- odd input ------------------------------------------------------------------------------------


def one_sentence(text):
    lines = text.strip().splitlines()
    return len(lines) == 1 and lines[0].startswith("masq: ") and lines[0].endswith(".")


@pytest.mark.parametrize("words", [
    "", "nonsense", "udp", "udp 192.168.2.4", "udp 192.168.2.4:70000 198.51.100.1:53",
    "udp 192.168.2.4:-1 198.51.100.1:53", "udp 192.168.2.4: 198.51.100.1:53",
    "udp 192.168.2.4:x 198.51.100.1:53", "udp 192.168.2.4:1 198.51.100.1:53 10.0.0.1:1",
    "udp 192.168.2.444:1 198.51.100.1:53", "udp example.org 198.51.100.1",
    "udp 192.168.2.4:1 198.51.100.1:53 ttl", "udp 192.168.2.4:1 198.51.100.1:53 ttl 256",
    "udp 192.168.2.4:1 198.51.100.1:53 ttl 99999999999999999999", "from", "udp from",
    "tcp 192.168.2.4:1 198.51.100.1:53 flags SX", "tcp 192.168.2.4:1 198.51.100.1:53 flags",
    "udp 192.168.2.4:1 198.51.100.1:53 flags S", "udp 192.168.2.4:1 198.51.100.1:53 code 3",
    "udp 192.168.2.4 198.51.100.1 offset 7", "udp 192.168.2.4:1 198.51.100.1:53 size 70000",
    "icmp 192.168.2.4 198.51.100.1 unreachable", "udp 192.168.2.4:1 198.51.100.1:53 about",
    "icmp 192.168.2.4 198.51.100.1 unreachable about icmp 192.168.2.4 198.51.100.1 about",
    "--nonsense", "--last nonsense", "--last 192.168.2.4 192.168.2.5",
    "--pcap x udp 192.168.2.4:1 198.51.100.1:53", "--last --pcap x", "\u001b[2J\u0007", "x" * 5000])
def test_nonsense_is_answered_with_one_sentence_and_2(lab, gateway, words):
    done = lab.masq("explain", *words.split())
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert one_sentence(done.stderr), done.stderr
    assert len(done.stderr) < 300 and done.stderr.isprintable() or done.stderr.endswith("\n")
    assert "\u001b" not in done.stderr


@pytest.mark.parametrize("words", [
    "from vpn0 udp 10.9.0.5:1 192.168.1.77:9", "from nosuch0 udp 192.168.2.4:1 192.168.1.77:9",
    "udp 10.9.0.5:1 10.9.0.6:1", "--interface vpn0 udp 192.168.2.4:1 192.168.1.77:9"])
def test_packets_that_masq_does_not_see(lab, gateway, words):
    done = lab.masq("explain", *words.split())
    assert done.returncode == 1
    assert one_sentence(done.stderr), done.stderr


CAPTURES = {
    "nothing": b"",
    "a header and no packet": struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1),
    "half a header": struct.pack("<IHHi", 0xa1b2c3d4, 2, 4, 0),
    "an unknown link type": struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 147)
    + struct.pack("<IIII", 0, 0, 4, 4) + b"abcd",
    "a length of 4 GiB": struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1)
    + struct.pack("<IIII", 0, 0, 0xffffffff, 0xffffffff) + b"abcd",
    "half a packet": struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1)
    + struct.pack("<IIII", 0, 0, 60, 60) + b"abcd",
    "a pcapng of one block": struct.pack("<IIIHHqI", 0x0a0d0d0a, 28, 0x1a2b3c4d, 1, 0, -1, 28),
    "a pcapng with a wrong length": struct.pack("<IIIHHqI", 0x0a0d0d0a, 27, 0x1a2b3c4d, 1, 0, -1,
                                                27),
    "10 MB of noise": bytes(range(7, 256)) * 42000,
}


@pytest.mark.parametrize("name", CAPTURES)
def test_what_is_no_capture_is_answered_with_one_sentence_and_1(lab, gateway, name):
    path = lab.directory / "odd.pcap"
    path.write_bytes(CAPTURES[name])
    done = lab.masq("explain", "--pcap", path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert one_sentence(done.stderr), done.stderr


def test_noise_in_the_packets_of_a_capture_is_explained(lab, gateway):
    noise = [bytes((n * 37 + i * i) % 256 for i in range(n)) for n in range(0, 300, 7)]
    path = write_capture(lab.directory / "noise.pcap", noise)
    for interface in ("in0", "out0"):
        answers = explain(lab, "--pcap", path, "--interface", interface)
        assert len(answers) == len(noise)
    raw = write_capture(lab.directory / "noise.pcap", noise, 101)
    assert all(each["action"] in ("drop", "kernel") for each in
               explain(lab, "--pcap", raw, "--interface", "out0"))


@pytest.mark.parametrize("path", ["/nosuch.pcap", "/", "/dev/zero"])
def test_a_capture_that_is_no_file(lab, gateway, path):
    done = lab.masq("explain", "--pcap", path)
    assert done.returncode == 1
    assert one_sentence(done.stderr), done.stderr


def test_masq_is_not_running(lab, gateway):
    lab.masq("down")
    for words in (f"udp {S4}:5001 {QUIET}:9", "--last"):
        done = lab.masq("explain", *words.split())
        assert done.returncode == 1
        assert one_sentence(done.stderr) and "masq up" in done.stderr


def test_what_a_host_has_and_may_have(lab, gateway):
    """The limit is one that only S6 reaches: at the last place before it and behind it."""
    lab.masq("down")
    up = lab.masq(*UP, "--host-ports=3", "--host-flows=50", "--host-opening=0")
    assert up.returncode == 0, up.stderr
    words = f"udp {S6}:7001 {QUIET}:9".split()
    for n in range(4):
        said = explain(lab, *words)
        assert said["host"] == {"address": S6, "flows": {"now": n, "max": 50},
                                "ports": {"now": n, "max": 3}, "opening": {"now": 0, "max": None},
                                "block": None}
        text = lab.masq("explain", *words).stdout
        assert f"  host      {S6} had {n} of 50 flows, {n} of 3 external ports, 0 opening " in text
        assert (said["reason"] == "host_ports") == (n == 3), said
        assert ("--host-ports" in text) == (n == 3)
        with lab.udp("S6", 7100 + n) as s:
            s.sendto(b"x", (QUIET, 9))
        if n < 3:
            wait_until(lambda: f"{S6}:{7100 + n}" in lab.masq("mappings").stdout, "it is mapped")
    # An answer, and a packet of a flow that exists, are no host's to count.
    text = lab.masq("explain", *f"udp {S6}:7100 {QUIET}:9".split()).stdout
    assert "  host " not in text and "It is translated" in text
