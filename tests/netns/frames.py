"""Captures: taking them, reading them, and the two questions that every test may ask of one.

`inner_addresses_in` looks for the address of an inner host anywhere in what the gateway sent
outside. `bad_checksums_in` lets tshark verify every checksum of a capture.
"""

import collections
import contextlib
import ipaddress
import os
import re
import select
import signal
import struct
import subprocess
import time

INNER_NETS = (bytes([192, 168, 2]), bytes([192, 168, 3]))
INNER_NET_IPV6 = ipaddress.ip_address("fd00:2::").packed[:8]
INNER_ADDRESSES = re.compile(b"|".join(
    re.escape(net + bytes([host])) for net in INNER_NETS for host in (1, 4, 5, 6, 7)))

ETHERNET_BYTES = 14
TYPE_IPV4, TYPE_ARP, TYPE_IPV6 = 0x0800, 0x0806, 0x86dd
RAW_LINK_TYPES = (12, 101)  # of captures on devices without a link header
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
ICMP_ERRORS = (3, 4, 5, 11, 12)
ICMPV6_NO_ROUTE = bytes([1, 0])  # type and code

Frame = collections.namedtuple("Frame", "time_s data")


class Capture:
    """tcpdump on one interface of one host of the lab, from construction to stop()."""

    def __init__(self, lab, host, interface, filter_="", snap_bytes=0):
        index = len(list(lab.directory.glob("*.pcap")))
        self.path = lab.directory / f"{index:03d}-{host}-{interface}.pcap"
        self.where = f"{interface} of {host}"
        self.dropped = 0
        argv = ["tcpdump", "-n", "-U", "--immediate-mode", "-Z", "root", "-B", "16384",
                "-s", snap_bytes, "-i", interface, "-w", self.path]
        self._process = lab.popen(host, argv + ([filter_] if filter_ else []), text=False)
        self._output = b""
        self._wait_until_listening()

    def _wait_until_listening(self):
        deadline = time.monotonic() + 10
        pipe = self._process.stdout
        while b"listening on" not in self._output:
            ready, _, _ = select.select([pipe], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(pipe.fileno(), 4096) if ready else b""
            if not chunk:
                raise RuntimeError(f"tcpdump on {self.where} does not listen: {self._output!r}")
            self._output += chunk

    def stop(self):
        """Ends it; returns itself. Later calls do nothing."""
        if self._process is None:
            return self
        time.sleep(0.1)  # what is in the socket's buffer still has to reach the file
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGINT)
        rest, _ = self._process.communicate(timeout=10)
        self._process = None
        counts = re.search(rb"(\d+) packets? dropped by kernel", self._output + rest)
        self.dropped = int(counts.group(1)) if counts else 0
        return self

    def frames(self):
        """What has been captured so far, as raw bytes."""
        return list(read_pcap(self.path))

    def packets(self):
        """The same through scapy. Stops the capture."""
        import scapy.all as scapy

        self.stop()
        packets = []
        for frame in self.frames():
            packet = scapy.Ether(frame.data)
            packet.time = frame.time_s
            packets.append(packet)
        return packets

    def text(self, *options):
        """The same as tcpdump prints it. Stops the capture."""
        self.stop()
        argv = ["tcpdump", "-n", "-t", *options, "-r", str(self.path)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout


def read_pcap(path):
    """The frames of a capture file; one that is still being written may end in half a frame.

    Packets without a link header get an empty one.
    """
    with open(path, "rb") as file:
        header = file.read(24)
        if len(header) < 24:
            return
        magic = struct.unpack("=I", header[:4])[0]
        assert magic == 0xa1b2c3d4, f"{path}: not a capture of this machine"
        raw = struct.unpack("=I", header[20:])[0] in RAW_LINK_TYPES
        while len(head := file.read(16)) == 16:
            seconds, microseconds, captured, _ = struct.unpack("=IIII", head)
            data = file.read(captured)
            if len(data) < captured:
                return
            if raw:
                kind = TYPE_IPV6 if data[:1] and data[0] >> 4 == 6 else TYPE_IPV4
                data = bytes(12) + struct.pack("!H", kind) + data
            yield Frame(seconds + microseconds / 1e6, data)


# --- does it name an inner host? -----------------------------------------------------------------


def in_inner_net(address):
    return address[:3] in INNER_NETS


def inner_address_in_ipv4(packet):
    """How an IPv4 packet (bytes) names an inner host, or None."""
    header_bytes = (packet[0] & 0xf) * 4
    protocol = packet[9]
    if in_inner_net(packet[12:16]):
        return "source"
    if in_inner_net(packet[16:20]):
        return "destination"
    if INNER_ADDRESSES.search(packet[20:header_bytes]):
        return "IP option"
    rest = packet[header_bytes:]
    if struct.unpack("!H", packet[6:8])[0] & 0x1fff == 0:
        if protocol == ICMP and len(rest) >= 28 and rest[0] in ICMP_ERRORS:
            quoted = inner_address_in_ipv4(rest[8:])
            return quoted and f"quoted {quoted}"
        if protocol == TCP and len(rest) >= 20:
            # Sequence numbers are random: four bytes of them may look like any address.
            rest = rest[(rest[12] >> 4) * 4:]
    return "payload" if INNER_ADDRESSES.search(rest) else None


def inner_address_in_ipv6(packet):
    """How an IPv6 packet (bytes) names an inner host, or None.

    While an inner interface is gone, a kernel that forwards IPv6 says "no route" to whoever has
    sent something there. That quotes his own words, and is so for every address that is nowhere.
    """
    destination, rest = packet[24:40], packet[40:]
    if packet[6] == ICMPV6 and rest[:2] == ICMPV6_NO_ROUTE and rest[16:32] == destination:
        rest = b""
    named = INNER_NET_IPV6 in packet[8:40] + rest or INNER_ADDRESSES.search(rest)
    return "IPv6" if named else None


def inner_address_in(frame):
    """How an Ethernet frame names an inner host, or None."""
    kind = struct.unpack("!H", frame[12:14])[0]
    rest = frame[ETHERNET_BYTES:]
    if kind == TYPE_IPV4 and len(rest) >= 20:
        return inner_address_in_ipv4(rest)
    if kind == TYPE_ARP and len(rest) >= 28:
        if in_inner_net(rest[14:18]) or in_inner_net(rest[24:28]):
            return "ARP"
        return None
    if kind == TYPE_IPV6 and len(rest) >= 40:
        return inner_address_in_ipv6(rest)
    return "other protocol" if INNER_NET_IPV6 in rest or INNER_ADDRESSES.search(rest) else None


def inner_addresses_in(capture):
    """One line for each frame of a capture that names an inner host."""
    found = []
    for frame in capture.frames():
        how = inner_address_in(frame.data)
        if how:
            found.append(f"{frame.time_s:.6f} {how}: {frame.data[:96].hex(' ')}")
    return found


# --- are its checksums right? --------------------------------------------------------------------

CHECKSUMS = ("ip", "tcp", "udp", "icmp")
BAD, GOOD = "0", "1"


def checksums_in(capture):
    """What tshark says of each packet: a list of {"ip": "1", "udp": "0", ...}; "1" is right."""
    capture.stop()
    argv = ["tshark", "-n", "-r", str(capture.path), "-T", "fields", "-E", "occurrence=f",
            "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
            "-o", "udp.check_checksum:TRUE", "-o", "ip.defragment:TRUE"]
    for name in CHECKSUMS:
        argv += ["-e", f"{name}.checksum.status"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [dict(zip(CHECKSUMS, line.split("\t"))) for line in done.stdout.splitlines()]


def assert_checksums_right(capture, protocol, at_least=1):
    """Every checksum is right, and there were packets of that protocol to look at."""
    seen = checksums_in(capture)
    bad = [number + 1 for number, line in enumerate(seen) if BAD in line.values()]
    assert not bad, f"{capture.where}: wrong checksums in packets {bad[:10]}\n{capture.text('-vv')}"
    good = sum(line[protocol] == GOOD for line in seen)
    assert good >= at_least, f"{capture.where}: only {good} {protocol} checksums to verify"
