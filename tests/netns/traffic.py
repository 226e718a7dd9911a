"""Traffic that tests set going and look for."""

import contextlib
import itertools
import socket
import threading

import scapy.all as scapy

from lab import ADDRESS, GATEWAY_INNER, GATEWAY_OUTER_MAC, IPV6, mac_of, wait_until

SO_NO_CHECK = 11  # Linux: send UDP without a checksum
KNOCK = b"knock from outside"


def pings(lab, host, target, count=1, *options, timeout_s=1):
    """Does `host` get an answer to every one of its pings?"""
    argv = ["ping", "-n", "-c", count, "-i", "0.05", "-W", timeout_s, *options, target]
    return lab.run(host, argv).returncode == 0


def wait_until_it_flows(lab, host="S6", target=ADDRESS["S2"], timeout_s=8):
    wait_until(lambda: pings(lab, host, target), f"{host} reaches {target}", timeout_s=timeout_s)


def receive(s):
    """(payload, sender) of the next datagram, or None if none comes."""
    try:
        return s.recvfrom(65535)
    except (socket.timeout, ConnectionRefusedError):
        return None


def receive_all(s, wait_s=0.3):
    """Every datagram that is there or arrives within that time."""
    s.settimeout(wait_s)
    return list(iter(lambda: receive(s), None))


def external_of(client, server, target, payload=b"who am I"):
    """Which external (address, port) a client's UDP socket has towards a server's socket."""
    client.sendto(payload, target)
    arrived = receive(server)
    assert arrived is not None, f"a datagram to {target} did not arrive"
    assert arrived[0] == payload
    return arrived[1]


def from_inside(host):
    """The link header of a frame from an inner host to the gateway."""
    return scapy.Ether(src=mac_of(ADDRESS[host]), dst=mac_of(GATEWAY_INNER))


def from_outside(host):
    """The link header of a frame from an outer host to the gateway."""
    return scapy.Ether(src=mac_of(ADDRESS[host]), dst=GATEWAY_OUTER_MAC)


def odd_packets(host, target=ADDRESS["S2"]):
    """Packets that a careless gateway passes on untranslated."""
    ip = scapy.IP(src=ADDRESS[host], dst=target)
    orphan = scapy.IP(src=target, dst=ADDRESS[host]) / scapy.UDP(sport=7, dport=7)
    packets = [
        ip / scapy.TCP(sport=7001, dport=80, flags="R"),
        ip / scapy.TCP(sport=7002, dport=80, flags="SR"),
        ip / scapy.TCP(sport=7003, dport=80, flags="FA"),
        ip / scapy.TCP(sport=7004, dport=80, flags="A") / b"middle of a connection",
        ip / scapy.TCP(sport=7005, dport=80, flags="S", chksum=1),
        ip / scapy.UDP(sport=7006, dport=9, len=5000) / b"length beyond the packet",
        ip / scapy.ICMP(type=3, code=1) / bytes(orphan),
        ip / scapy.ICMP(type=5, code=1, gw="192.168.2.9") / bytes(orphan),
        ip / scapy.ICMP(type=0, id=5) / b"a reply that nobody asked for",
        *(scapy.IP(src=ADDRESS[host], dst=target, proto=protocol) / (b"\x1b\x58" * 2 + b"\0" * 24)
          for protocol in (0, 47, 50, 132, 136, 253)),
        scapy.IP(src=ADDRESS[host], dst=target, frag=100, id=7, proto=17) / b"no first fragment",
        scapy.IP(src=ADDRESS[host], dst=target, options=scapy.IPOption_RR(routers=["0.0.0.0"] * 3))
        / scapy.ICMP(id=9),
        scapy.IP(src="192.168.2.99", dst=target, ttl=1) / scapy.UDP(sport=7007, dport=9),
        scapy.IP(src="10.1.2.3", dst=target) / scapy.UDP(sport=7008, dport=9) / b"spoofed",
    ]
    return [bytes(from_inside(host) / p) for p in packets]


def knocks(host):
    """Packets by which an outer host tries to reach inner ones directly."""
    packets = []
    for inner in ("S4", "S6"):
        for source in (ADDRESS[host], ADDRESS["S5"]):
            ip = scapy.IP(src=source, dst=ADDRESS[inner])
            packets += [ip / scapy.UDP(sport=9, dport=9) / KNOCK, ip / scapy.ICMP(id=1) / KNOCK,
                        ip / scapy.TCP(sport=80, dport=22, flags="S") / KNOCK]
    return [bytes(from_outside(host) / p) for p in packets]


def knock_at_the_inner_leg(host):
    """Without masq the kernel answers this, as it does for every address of its own on any leg."""
    ip = scapy.IP(src=ADDRESS[host], dst=GATEWAY_INNER)
    return bytes(from_outside(host) / ip / scapy.ICMP(id=1) / KNOCK)


def ipv6_outwards(host, target="S2"):
    """What a host sends that believes its IPv6 default route."""
    ip = scapy.IPv6(src=IPV6[host], dst=IPV6[target])
    packets = [ip / scapy.ICMPv6EchoRequest(id=6), ip / scapy.UDP(sport=7100, dport=9) / b"plain",
               ip / scapy.TCP(sport=7101, dport=80, flags="S")]
    return [bytes(from_inside(host) / p) for p in packets]


def ipv6_knocks(host):
    """The same from an outer host, under its own address and under an inner one."""
    packets = []
    for inner in ("S4", "S6"):
        for source in (IPV6[host], IPV6["S5"]):
            ip = scapy.IPv6(src=source, dst=IPV6[inner])
            packets += [ip / scapy.ICMPv6EchoRequest(data=KNOCK),
                        ip / scapy.UDP(sport=9, dport=9) / KNOCK,
                        ip / scapy.TCP(sport=80, dport=22, flags="S") / KNOCK]
    return [bytes(from_outside(host) / p) for p in packets]


class Restless:
    """While this lasts, inner hosts send good and odd packets, and outer ones knock, all the time,
    by IPv4 and by IPv6.

    Nothing here waits for an answer: the captures are judged.
    """

    def __init__(self, lab, interval_s=0.005, inner_leg=False):
        self.lab = lab
        self.interval_s = interval_s
        self.sent = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._packets = {}
        knocking = knocks("S1") + ([knock_at_the_inner_leg("S1")] if inner_leg else [])
        for host, frames_ in (("S4", odd_packets("S4")), ("S1", knocking),
                              ("S4", ipv6_outwards("S4")), ("S1", ipv6_knocks("S1"))):
            with lab.inside(host):
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            s.bind(("eth0", 0))
            self._packets[s] = itertools.cycle(frames_)
        self._plain = lab.udp("S6", 7100)
        self._pinger = None

    def __enter__(self):
        self._inside = self.lab.capture("innet", "br0", snap_bytes=200)
        self._pinger = self.lab.popen("S5", ["ping", "-q", "-n", "-i", "0.02", ADDRESS["S2"]])
        self._thread.start()
        return self

    def _run(self):
        while not self._end.wait(self.interval_s):
            with contextlib.suppress(OSError):
                self._plain.sendto(b"plain", (ADDRESS["S2"], 9))
                self.sent += 1
            for s, packets in self._packets.items():
                with contextlib.suppress(OSError):
                    s.send(next(packets))

    def __exit__(self, *_):
        self._end.set()
        self._thread.join(timeout=5)
        self._pinger.terminate()
        for s in [self._plain, *self._packets]:
            s.close()
        self._inside.stop()

    def knocks_that_came_in(self):
        return [frame for frame in self._inside.frames() if KNOCK in frame.data]
