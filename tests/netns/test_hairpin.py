"""Inner hosts that meet by their external endpoints, as peers behind one gateway do.

RFC 4787 REQ-9, RFC 5382 REQ-8, RFC 5508 REQ-7.
"""

import hashlib
import json
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
        received = receive_exactly(ends[me], len(data[other]))
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


@pytest.fixture
def open_to_all(lab):
    """Endpoint-independent filtering for the time of one test."""
    begin_anew(lab, "--filtering", "eif")
    yield
    begin_anew(lab)


def begin_anew(lab, *options):
    assert lab.masq("down").returncode == 0
    up = lab.masq("up", *options)
    assert up.returncode == 0, up.stderr


def listening_peer(lab, host, port):
    """A socket that listens on the port from which the host has connected to a server outside, as
    peer-to-peer programs do; the external endpoint of that port; and the connection's ends."""
    with lab.tcp("S2", port, listen=True) as server:
        first = shared_port(lab, host, port)
        first.connect((S2, port))
        at_server, external = server.accept()
    listener = shared_port(lab, host, port)
    listener.listen()
    return listener, external, (first, at_server)


def test_tcp_to_a_peer_that_listens(lab, open_to_all):
    port = 7005
    listener, external, ends = listening_peer(lab, "S4", port)
    client = shared_port(lab, "S5", port)
    client.connect(external)
    accepted, seen = listener.accept()
    accepted.settimeout(15)
    # REQ-9a: the source is the client's external endpoint, the same as towards anybody else.
    assert seen[0] == GATEWAY_OUTER and client.getpeername() == external
    with lab.tcp("S2", port + 1, listen=True) as server, shared_port(lab, "S5", port) as other:
        other.connect((S2, port + 1))
        assert server.accept()[1] == seen
    data = os.urandom(1 << 20)
    for sender, receiver in ((client, accepted), (accepted, client)):
        threading.Thread(target=sender.sendall, args=(data,)).start()
        assert receive_exactly(receiver, len(data)) == data
    # The connection that has made the mapping is still what it was.
    ends[0].sendall(b"to the server")
    assert ends[1].recv(100) == b"to the server"
    mine = {(f["internal"], f["external"], f["remote"])
            for f in json.loads(lab.masq("flows", "--json").stdout) if f["state"] == "established"}
    name = "{}:{}".format
    s4, s5 = name(ADDRESS["S4"], port), name(ADDRESS["S5"], port)
    assert {(s5, name(*seen), name(*external)), (s4, name(*external), name(*seen))} <= mine


def test_a_peer_that_listens_behind_a_closed_filter_is_not_reached(lab):
    _, external, _ = listening_peer(lab, "S4", 7007)
    before = lab.dropped("no_mapping")
    client = lab.tcp("S5", 7007, timeout_s=0.5)
    with pytest.raises(TimeoutError):
        client.connect(external)
    assert lab.dropped("no_mapping") > before


def receive_exactly(s, size_bytes):
    received = b""
    while len(received) < size_bytes and (piece := s.recv(65536)):
        received += piece
    return received


def test_a_ping_to_the_external_address_is_for_the_gateway(lab):
    """A NAT of ports hairpins ICMP errors, but no queries (RFC 5508 REQ-7), also where the number
    of the query is that of another host's mapping."""
    number = 7008
    assert pings(lab, "S4", S2, 1, "-e", number)
    [external] = {f["external"] for f in json.loads(lab.masq("flows", "--json").stdout)
                  if f["internal"] == f"{ADDRESS['S4']}:{number}"}
    taken = external.split(":")[1]
    at_s4 = lab.capture("S4", filter_="icmp")
    outside = lab.capture_gateway_outside(filter_extra="icmp")
    assert pings(lab, "S5", GATEWAY_OUTER, 1, "-e", taken)
    lab.sysctl("B", {"net.ipv4.icmp_echo_ignore_all": 1})
    try:
        assert not pings(lab, "S5", GATEWAY_OUTER, 1, "-e", taken, timeout_s=0.3)
    finally:
        lab.sysctl("B", {"net.ipv4.icmp_echo_ignore_all": 0})
    assert not at_s4.packets() and not outside.packets()


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
