"""Fragments in any order, from raw sockets of hosts of the lab."""

import random
import socket
import struct

from lab import ADDRESS
from traffic import receive

S2 = ADDRESS["S2"]


def fragments_of(source, destination, payload, ident, size=1480):
    """The fragments of a UDP datagram (`payload` with its UDP header), in order."""
    pieces = []
    for at in range(0, len(payload), size):
        more = at + size < len(payload)
        piece = payload[at:at + size]
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(piece), ident,
                             (0x2000 if more else 0) | at // 8, 64, 17, 0,
                             socket.inet_aton(source), socket.inet_aton(destination))
        pieces.append(header + piece)
    return pieces


def datagram(source_port, destination_port, data):
    # Without a checksum, so that only the addresses and the order decide.
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data


def raw(lab, host):
    with lab.inside(host):
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def serves(lab):
    """Does a datagram whose fragments go out backwards arrive?"""
    server = lab.udp("S2", 0, timeout_s=0.3)
    port = server.getsockname()[1]
    sender = raw(lab, "S4")
    ident = random.randrange(1, 65536)
    for piece in reversed(fragments_of(ADDRESS["S4"], S2, datagram(4444, port, b"x" * 3000),
                                       ident)):
        sender.sendto(piece, (S2, 0))
    got = receive(server)
    return got is not None and got[0] == b"x" * 3000
