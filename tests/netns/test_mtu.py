"""Links of different size: jumbo frames inside and a smaller link outside, and the reverse.

Bulk data of TCP and UDP arrives byte for byte, with path MTU discovery and without, with offloads
and without.
"""

import hashlib
import json
import struct
import threading

import pytest
from scapy.all import TCP

from lab import ADDRESS, GATEWAY_OUTER, INNER_HOSTS, OUTER_HOSTS, wait_until
from traffic import receive

S2, S6 = ADDRESS["S2"], ADDRESS["S6"]
DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")

# Does the gateway cut packets that may be fragmented (no DF) and are too large for the next link?
CUTS_DATAGRAMS = True

TCP_BULK = b"".join(b"%031d\n" % i for i in range(32000))  # 1 MB
UDP_BULK = TCP_BULK[:200_000]
UDP_PIECE = 4000
NARROW = 1280
LINKS = [(9000, 1500), (9000, 1280), (1500, 9000), (1280, 9000)]


def set_mtu(lab, inner, outer, gateway_outer=None):
    """Of both links; the gateway's own outer leg may be narrower than the link."""
    for net, hosts, mtu, leg in (("innet", INNER_HOSTS, inner, "in0"),
                                 ("outnet", OUTER_HOSTS, outer, "out0")):
        for host in hosts:
            lab.ip(host, f"link set eth0 mtu {mtu}")
        ports = [host.lower() for host in hosts] + ["b", "br0"]
        lab.ip(net, *(f"link set dev {port} mtu {mtu}" for port in ports))
        lab.ip("B", f"link set {leg} mtu {mtu}")
    if gateway_outer is not None:
        lab.ip("B", f"link set out0 mtu {gateway_outer}")

    def known():
        interfaces = json.loads(lab.masq("status", "--json").stdout)["interfaces"]
        return {i["name"]: i["mtu"] for i in interfaces} == {
            "in0": inner, "out0": gateway_outer or outer}
    wait_until(known, "the gateway knows the new sizes", timeout_s=10)


def set_offloads(lab, on):
    word = "on" if on else "off"
    for host, interface in (("S6", "eth0"), ("S2", "eth0"), ("B", "in0"), ("B", "out0")):
        lab.run(host, ["ethtool", "-K", interface, "gso", word, "tso", word, "gro", word],
                check=True)


@pytest.fixture(scope="module", params=LINKS, ids=lambda sizes: "%d-%d" % sizes)
def links(lab, masq_up, request):
    set_mtu(lab, *request.param)
    yield request.param
    set_mtu(lab, 1500, 1500)


@pytest.fixture(params=[True, False], ids=["offloads", "no_offloads"])
def offloads(lab, links, request):
    set_offloads(lab, request.param)
    yield request.param
    set_offloads(lab, True)


@pytest.fixture(params=[True, False], ids=["discovery", "no_discovery"])
def discovery(lab, links, request):
    """Path MTU discovery of the hosts: without it nothing that they send says "don't fragment"."""
    for host in ("S2", "S6"):
        lab.sysctl(host, {"net.ipv4.ip_no_pmtu_disc": 0 if request.param else 1})
        lab.ip(host, "route flush cache")
    yield request.param
    for host in ("S2", "S6"):
        lab.sysctl(host, {"net.ipv4.ip_no_pmtu_disc": 0})
        lab.ip(host, "route flush cache")


def receive_stream(s, size):
    digest, count = hashlib.sha256(), 0
    while count < size:
        data = s.recv(65536)
        if not data:
            break
        digest.update(data)
        count += len(data)
    return digest.digest()


def send_stream(sender, receiver):
    """Whether TCP_BULK arrives as it is."""
    sending = threading.Thread(target=sender.sendall, args=(TCP_BULK,), daemon=True)
    sending.start()
    arrived = receive_stream(receiver, len(TCP_BULK))
    sending.join(timeout=20)
    return arrived == hashlib.sha256(TCP_BULK).digest()


def connect(lab):
    listener, client = lab.tcp("S2", 9600, listen=True), lab.tcp("S6", timeout_s=20)
    with listener:
        client.connect((S2, 9600))
        server, _ = listener.accept()
    server.settimeout(20)
    return client, server


def test_tcp(lab, links, offloads, discovery):
    client, server = connect(lab)
    with client, server:
        assert send_stream(client, server)
        assert send_stream(server, client)


def send_datagrams(sender, to, receiver):
    """Sends UDP_BULK in numbered pieces, again what has not arrived; whether all of it did."""
    pieces = [UDP_BULK[i:i + UDP_PIECE] for i in range(0, len(UDP_BULK), UDP_PIECE)]
    arrived = {}
    receiver.settimeout(0.5)
    for _ in range(6):
        for number in sorted(set(range(len(pieces))) - set(arrived)):
            try:
                sender.sendto(struct.pack("!I", number) + pieces[number], to)
            except OSError:  # the sender has just been told that this is too large
                continue
            if (got := receive(receiver)) is not None:
                arrived[struct.unpack("!I", got[0][:4])[0]] = got[0][4:]
        if len(arrived) == len(pieces):
            break
    return b"".join(arrived[i] for i in sorted(arrived)) == UDP_BULK


def test_udp(lab, links, offloads, discovery):
    if not discovery and not CUTS_DATAGRAMS:
        direction_that_shrinks = "refused"  # and said so in README
    else:
        direction_that_shrinks = "carried"
    server, client = lab.udp("S2", 9601), lab.udp("S6", 9601)
    with server, client:
        client.sendto(b"hello", (S2, 9601))
        hello = receive(server)
        assert hello is not None and hello[1][0] == GATEWAY_OUTER
        for sender, to, receiver, shrinks in (
                (client, (S2, 9601), server, links[0] > links[1]),
                (server, hello[1], client, links[1] > links[0])):
            before = lab.dropped("too_big")
            if shrinks and direction_that_shrinks == "refused":
                sender.sendto(UDP_BULK[:UDP_PIECE], to)
                assert receive(receiver) is None
                assert lab.dropped("too_big") == before + 1
            else:
                assert send_datagrams(sender, to, receiver)


def mss_of(capture):
    """What the MSS options of a SYN and its answer say."""
    return [dict(o for o in packet[TCP].options if o[0] == "MSS")["MSS"]
            for packet in capture.packets()[:2]]


def test_mss_is_lowered_both_ways(lab, links):
    smaller = min(links) - 40
    outside = lab.capture("outnet", "br0", "tcp[tcpflags] & tcp-syn != 0")
    inside = lab.capture("innet", "br0", "tcp[tcpflags] & tcp-syn != 0")
    client, server = connect(lab)
    client.close()
    server.close()
    assert mss_of(inside) == [links[0] - 40, smaller]
    assert mss_of(outside) == [smaller, links[1] - 40]


@pytest.fixture(scope="module")
def narrow_gateway(lab, masq_up):
    """Both ends know only large links, and the narrow one lies between them."""
    set_mtu(lab, 9000, 9000, gateway_outer=NARROW)
    yield
    set_mtu(lab, 1500, 1500)


@pytest.fixture(params=["auto", "off"])
def clamp(lab, narrow_gateway, request):
    """A new masqd with another setting takes the gateway over; afterwards one as before."""
    def again(word):
        lab.kill_daemon()
        done = lab.masq("up", "--mss-clamp", word)
        assert done.returncode == 0, done.stderr
    again(request.param)
    yield request.param
    again("auto")


@pytest.mark.parametrize("offloads_on", [True, False])
def test_tcp_over_a_narrow_gateway(lab, clamp, offloads_on):
    """Agreed on from the start; or else found by the gateway's "fragmentation needed"."""
    set_offloads(lab, offloads_on)
    for host in ("S2", "S6"):
        lab.ip(host, "route flush cache")
    before = lab.dropped("too_big")
    client, server = connect(lab)
    with client, server:
        assert send_stream(client, server)
        if clamp == "auto":
            assert send_stream(server, client)
            assert lab.dropped("too_big") == before
        else:
            assert lab.dropped("too_big") > before
    set_offloads(lab, True)
