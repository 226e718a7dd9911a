"""The slow path with real hosts: fragments out of order, and datagrams to be cut.

RFC 4787 REQ-13, REQ-14; RFC 6864 section 4.
"""

import contextlib
import os
import random
import socket
import struct
import time

import pytest

from fragments import datagram, fragments_of, raw
from frames import inner_addresses_in
from lab import ADDRESS, GATEWAY_OUTER, wait_until
from traffic import external_of, pings, receive, receive_all, wait_until_it_flows

S2 = ADDRESS["S2"]

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


def test_two_hosts_with_the_same_identification_reach_one_server(lab):
    server = lab.udp("S2", 7100)
    senders = {host: raw(lab, host) for host in ("S4", "S5")}
    data = {host: os.urandom(4000) for host in senders}
    for turn in range(20):
        pieces = {host: fragments_of(ADDRESS[host], S2, datagram(5000, 7100, data[host]),
                                     100 + turn) for host in senders}
        mixed = [(host, piece) for host in senders for piece in pieces[host]]
        random.Random(turn).shuffle(mixed)
        for host, piece in mixed:
            senders[host].sendto(piece, (S2, 0))
        got = {receive(server), receive(server)}
        assert None not in got, f"turn {turn}: a datagram is missing"
        assert {each[0] for each in got} == set(data.values())
        assert all(each[1][0] == GATEWAY_OUTER for each in got)
        assert len({each[1][1] for each in got}) == 2


def test_fragments_from_outside_in_any_order(lab):
    server = lab.udp("S2", 7101)
    client = lab.udp("S4", 7101)
    external = external_of(client, server, (S2, 7101))
    sender = raw(lab, "S2")
    for turn in range(20):
        data = os.urandom(5000)
        pieces = fragments_of(S2, GATEWAY_OUTER, datagram(7101, external[1], data), 200 + turn)
        random.Random(turn).shuffle(pieces)
        for piece in pieces:
            sender.sendto(piece, (GATEWAY_OUTER, 0))
        assert receive(client) == (data, (S2, 7101)), f"turn {turn}"


def test_fragments_in_any_order_between_inner_hosts_by_the_external_address(lab):
    server = lab.udp("S2", 7110)
    one, other = lab.udp("S4", 7110), lab.udp("S5", 7110)
    one_outside, other_outside = (external_of(s, server, (S2, 7110)) for s in (one, other))
    other.sendto(b"opens the filter", one_outside)
    receive_all(one, wait_s=0.1)
    sender = raw(lab, "S4")
    for turn in range(20):
        data = os.urandom(5000)
        pieces = fragments_of(ADDRESS["S4"], other_outside[0],
                              datagram(7110, other_outside[1], data), 300 + turn)
        random.Random(turn).shuffle(pieces)
        for piece in pieces:
            sender.sendto(piece, (other_outside[0], 0))
        assert receive(other) == (data, one_outside), f"turn {turn}"


@contextlib.contextmanager
def small_link(lab, name):
    lab.run("B", ["ip", "link", "set", name, "mtu", "1000"], check=True)
    time.sleep(0.5)
    yield
    lab.run("B", ["ip", "link", "set", name, "mtu", "1500"], check=True)
    time.sleep(0.5)


@pytest.fixture
def small_outside(lab):
    """The gateway's outer link carries 1000 bytes."""
    with small_link(lab, "out0"):
        yield


def test_datagrams_that_may_be_cut_are_cut(lab, small_outside):
    server = lab.udp("S2", 7103)
    client = lab.udp("S4", 7103)
    client.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: never "don't fragment"
    capture = lab.capture("S2", filter_="udp or ip[6:2] & 0x3fff != 0")
    for size in (972, 973, 1472, 4000, 9000):
        data = os.urandom(size)
        client.sendto(data, (S2, 7103))
        got = receive(server)
        assert got is not None and got[0] == data, f"{size} bytes"
    capture.stop()
    assert max(len(frame.data) for frame in capture.frames()) <= 1014
    assert not inner_addresses_in(capture)


@pytest.fixture
def small_inside(lab):
    """The gateway's inner link carries 1000 bytes."""
    with small_link(lab, "in0"):
        yield


def test_datagrams_from_outside_are_cut_too(lab, small_inside):
    server = lab.udp("S2", 7106)
    server.setsockopt(socket.IPPROTO_IP, 10, 0)
    client = lab.udp("S4", 7106)
    external = external_of(client, server, (S2, 7106))
    for size in (972, 973, 1472, 4000, 9000):
        data = os.urandom(size)
        server.sendto(data, external)
        got = receive(client)
        assert got is not None and got[0] == data, f"{size} bytes"


def test_a_large_ping_and_its_answer(lab):
    assert pings(lab, "S4", S2, 3, "-s", 4000, "-M", "dont")


def test_a_transfer_without_path_mtu_discovery(lab, small_outside):
    listener = lab.tcp("S2", 7104, listen=True)
    client = lab.tcp("S4")
    client.setsockopt(socket.IPPROTO_IP, 10, 0)
    client.connect((S2, 7104))
    end, _ = listener.accept()
    data = os.urandom(300000)
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    end.settimeout(10)
    got = b""
    while chunk := end.recv(65536):
        got += chunk
    assert got == data


def test_what_is_never_completed_does_no_harm(lab):
    """A flood of last fragments from one host; another host's reordered datagrams arrive."""
    server = lab.udp("S2", 7105, timeout_s=3)
    flood, other = raw(lab, "S5"), raw(lab, "S4")
    data = os.urandom(4000)
    arrived = 0
    for turn in range(20):
        for i in range(200):
            last = fragments_of(ADDRESS["S5"], S2, datagram(1, 7105, b"y" * 2000),
                                1000 + turn * 200 + i)[-1]
            flood.sendto(last, (S2, 0))
        for piece in reversed(fragments_of(ADDRESS["S4"], S2, datagram(5001, 7105, data),
                                           20000 + turn)):
            other.sendto(piece, (S2, 0))
        got = receive(server)
        arrived += got is not None and got[0] == data
    assert arrived >= 18
    # They are refused in the end, and counted.
    wait_until(lambda: lab.dropped("fragment_without_first") + lab.dropped("slow_path_full")
               + lab.dropped("slow_path_busy") >= 4000, "all are counted", timeout_s=10)


def test_what_is_begun_and_never_completed_does_no_harm(lab):
    """A flood of first fragments from one host, three times as many as are remembered; another
    host's datagrams arrive, in order, and so do its own. (S1 gets the flood: it keeps the kernel of
    who gets it from putting anything together.)"""
    flood, other = raw(lab, "S5"), raw(lab, "S4")
    data = os.urandom(4000)
    first = fragments_of(ADDRESS["S5"], ADDRESS["S1"], datagram(1, 9, b"y" * 600), 0, size=576)[0]
    arrived = {"S4": 0, "S5": 0}
    server = lab.udp("S2", 7130, timeout_s=3)
    for turn in range(10):
        own = turn % 2 and fragments_of(ADDRESS["S5"], S2, datagram(5002, 7130, data), 60000 + turn)
        pieces = fragments_of(ADDRESS["S4"], S2, datagram(5001, 7130, data), 60000 + turn)
        other.sendto(pieces[0], (S2, 0))
        for ident in range(turn * 5000, turn * 5000 + 5000):
            flood.sendto(first[:4] + struct.pack("!H", ident + 1) + first[6:], (ADDRESS["S1"], 0))
        for piece in pieces[1:]:
            other.sendto(piece, (S2, 0))
        got = receive(server)
        arrived["S4"] += got is not None and got[0] == data
        for piece in own or []:
            flood.sendto(piece, (S2, 0))
        got = own and receive(server)
        arrived["S5"] += bool(got) and got[0] == data
    assert arrived == {"S4": 10, "S5": 5}
    assert lab.status()["traffic"]["fragments_displaced"] > 20000


def test_nothing_is_left_of_it(lab):
    assert lab.masq("down").returncode == 0
    assert lab.processes("B", "masq-slow") == []
    assert "masq-slow" not in lab.run("B", ["ip", "link"]).stdout
    assert lab.masq("up").returncode == 0
    wait_until_it_flows(lab)


@pytest.mark.parametrize("order", ["in order", "any order"])
def test_fragments_that_must_be_cut_themselves(lab, small_outside, order):
    """As from a host with 1500 bytes to a line with less."""
    server = lab.udp("S2", 7111)
    sender = raw(lab, "S4")
    for turn in range(20):
        data = os.urandom(4000)
        pieces = fragments_of(ADDRESS["S4"], S2, datagram(7111, 7111, data), 400 + turn)
        if order == "any order":
            random.Random(turn).shuffle(pieces)
        for piece in pieces:
            sender.sendto(piece, (S2, 0))
        got = receive(server)
        assert got is not None and got[0] == data, f"turn {turn}"
