#!/usr/bin/python3
"""A host that scans: one packet to each port of an address, as fast as it can.

    scanner.py tcp|udp SOURCE TARGET SECONDS PACKETS

goes round and round 16384 ports until the time is over or so many packets are sent; then it says
how many they were.
"""

import itertools
import socket
import struct
import sys
import time

PORTS = range(1024, 1024 + 16384)
LOOKS_AT_CLOCK_EVERY = 64


def sum_of(data):
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    words = (words & 0xffff) + (words >> 16)
    return ~(words + (words >> 16)) & 0xffff


def syn(source, destination, source_port, destination_port):
    header = struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 0, 0x50, 2, 1024, 0, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    checksum = sum_of(ends + struct.pack("!HH", socket.IPPROTO_TCP, len(header)) + header)
    return header[:16] + struct.pack("!H", checksum) + header[18:]


def scan(protocol, source, target, seconds, packets_most):
    if protocol == "tcp":
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        each = [(syn(source, target, port, port), (target, 0)) for port in PORTS]
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        each = [(b"x", (target, port)) for port in PORTS]
    end_s = time.monotonic() + seconds
    for number, (data, to) in enumerate(itertools.cycle(each)):
        if number == packets_most or (number % LOOKS_AT_CLOCK_EVERY == 0
                                      and time.monotonic() > end_s):
            return number
        s.sendto(data, to)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit("usage: scanner.py tcp|udp SOURCE TARGET SECONDS PACKETS")
    print(scan(*sys.argv[1:4], float(sys.argv[4]), int(sys.argv[5])))
