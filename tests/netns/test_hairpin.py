"""Inner hosts that meet by their external endpoints, as peers behind one gateway do.

RFC 4787 REQ-9, RFC 5382 REQ-8.
"""

import hashlib
import os
import signal
import socket
import threading
import time

import pytest

from lab import ADDRESS, GATEWAY_OUTER
from traffic import external_of, pings, receive

S2 = ADDRESS["S2"]

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


def meet(lab, port):
    """Two UDP sockets, and the external endpoint of each, learned from a server outside."""
    server = lab.udp("S2", port)
    s4, s5 = lab.udp("S4", port), lab.udp("S5", port)
    return s4, external_of(s4, server, (S2, port)), s5, external_of(s5, server, (S2, port))


def test_udp_peers_meet_and_see_each_others_external_endpoint(lab):
    s4, external4, s5, external5 = meet(lab, 7000)
    s4.sendto(b"opens the filter of S4", external5)
    s5.sendto(b"to S4", external4)
    assert receive(s4) == (b"to S4", external5)
    s4.sendto(b"to S5", external5)
    assert receive(s5) == (b"to S5", external4)


def test_the_filter_holds_for_inner_hosts_too(lab):
    _, _, s5, external5 = meet(lab, 7001)
    lab.udp("S6", 7001).sendto(b"unasked", external5)
    s5.settimeout(0.5)
    assert receive(s5) is None


def test_an_error_of_the_other_host_comes_back(lab):
    s4, external4, s5, external5 = meet(lab, 7002)
    s5.sendto(b"opens the filter of S5", external4)
    s5.close()
    s4.connect(external5)
    s4.send(b"to a closed port")
    time.sleep(0.3)
    with pytest.raises(ConnectionRefusedError):
        s4.recv(100)


def test_tcp_peers_open_at_once_and_carry_a_megabyte_each_way(lab):
    port = 7003
    listener = lab.tcp("S2", port, listen=True)
    external, ends = {}, {}
    for host in ("S4", "S5"):
        first = shared_port(lab, host, port)
        first.connect((S2, port))
        external[host] = listener.accept()[1]
        ends[host] = shared_port(lab, host, port)
    data = {host: os.urandom(1 << 20) for host in ends}
    got = {}

    def peer(me, other):
        ends[me].connect(external[other])
        threading.Thread(target=ends[me].sendall, args=(data[me],)).start()
        received = b""
        while len(received) < len(data[other]):
            received += ends[me].recv(65536)
        got[me] = (ends[me].getpeername(), hashlib.sha256(received).digest())

    peers = [threading.Thread(target=peer, args=pair) for pair in (("S4", "S5"), ("S5", "S4"))]
    for thread in peers:
        thread.start()
    for thread in peers:
        thread.join(20)
    for me, other in (("S4", "S5"), ("S5", "S4")):
        assert got[me] == (external[other], hashlib.sha256(data[other]).digest())


def shared_port(lab, host, port):
    """A TCP socket whose port another one of the host has too."""
    with lab.inside(host):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.settimeout(15)
    s.bind((ADDRESS[host], port))
    return s


def test_without_the_holder_it_is_refused_and_counted_until_masq_up(lab):
    s4, external4, s5, external5 = meet(lab, 7004)
    s4.sendto(b"opens the filter of S4", external5)
    lab.kill_daemon()
    for pid in lab.processes("B", "masq-holder"):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    before = lab.dropped("hairpin")
    s5.sendto(b"lost", external4)
    s4.settimeout(0.5)
    assert receive(s4) is None
    # In user space masqd was the one who counts.
    assert lab.dropped("hairpin") == before + (1 if lab.datapath == "tc" else 0)
    assert pings(lab, "S6", S2) == (lab.datapath == "tc"), "in the kernel all else goes on"
    assert lab.masq("up").returncode == 0
    s5.sendto(b"to S4", external4)
    assert receive(s4) == (b"to S4", external5)
    assert external4[0] == GATEWAY_OUTER
