"""Which external port an inner host gets, and who may send to it."""

import collections
import json

import pytest

from lab import ADDRESS, GATEWAY_OUTER
from traffic import external_of, receive, receive_all

S2, S3 = ADDRESS["S2"], ADDRESS["S3"]
LOCAL_PORTS = range(32768, 61000)  # the kernel's own, kept out of the pool

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture(scope="module")
def servers(lab, masq_up):
    """UDP sockets on three endpoints outside."""
    return {(S2, 9): lab.udp("S2", 9), (S2, 10): lab.udp("S2", 10), (S3, 9): lab.udp("S3", 9)}


def externals(client, servers):
    return {external_of(client, server, endpoint) for endpoint, server in servers.items()}


def test_one_udp_socket_has_one_external_port_for_every_destination(lab, servers):
    assert len(externals(lab.udp("S4", 5000), servers)) == 1


def test_one_external_port_each_also_when_two_hosts_use_the_same(lab, servers):
    s4, s5 = lab.udp("S4", 5001), lab.udp("S5", 5001)
    # Interleaved: each host begins where the other one is already.
    seen = {"S4": set(), "S5": set()}
    for endpoint, server in servers.items():
        seen["S4"].add(external_of(s4, server, endpoint))
        seen["S5"].add(external_of(s5, server, endpoint))
    assert len(seen["S4"]) == 1 and len(seen["S5"]) == 1
    assert seen["S4"] != seen["S5"]


def test_two_sockets_of_one_host_have_two_external_ports(lab, servers):
    first = externals(lab.udp("S4", 5002), servers)
    second = externals(lab.udp("S4", 5003), servers)
    assert first != second


def test_external_ports_are_outside_of_the_range_for_the_gateways_own_sockets(lab, servers):
    server = servers[(S2, 9)]
    for source_port in (500, 1023, 5004, 40001, 61000, 65535):
        address, port = external_of(lab.udp("S6", source_port), server, (S2, 9))
        assert address == GATEWAY_OUTER
        assert port not in LOCAL_PORTS


def test_external_ports_cannot_be_guessed_from_one_another(lab, servers):
    server = servers[(S2, 9)]
    ports = [external_of(lab.udp("S6", 5100 + i), server, (S2, 9))[1] for i in range(20)]
    steps = {second - first for first, second in zip(ports, ports[1:])}
    assert len(set(ports)) == 20 and len(steps) > 10, ports


def test_external_ports_are_spread_over_the_whole_pool(lab, servers):
    """No small part of the pool gets more than a small part of the mappings (RFC 6056)."""
    server = servers[(S2, 9)]
    count, slice_ports = 400, 512
    ports = [external_of(lab.udp("S5", 10000 + i), server, (S2, 9))[1] for i in range(count)]
    # The pool has 71 slices of 512 ports, so 5.6 mappings fall into each on average; 25 or more in
    # any of them happens by chance less than once in a million runs.
    slices = collections.Counter(port // slice_ports for port in ports)
    fullest, mappings = slices.most_common(1)[0]
    assert mappings < 25, (f"{mappings} of {count} mappings lie in the {slice_ports} ports from "
                           f"{fullest * slice_ports}: {sorted(ports)}")


def test_one_tcp_endpoint_has_one_external_port_for_every_destination(lab):
    listeners = {(S2, 9001): lab.tcp("S2", 9001, listen=True),
                 (S2, 9002): lab.tcp("S2", 9002, listen=True),
                 (S3, 9001): lab.tcp("S3", 9001, listen=True)}
    clients, peers = [], set()
    for endpoint, listener in listeners.items():
        client = lab.tcp("S4", 6000)
        client.connect(endpoint)
        clients.append(client)
        peers.add(listener.accept()[1])
    assert len(peers) == 1


def test_only_the_asked_endpoint_may_answer(lab, servers):
    s4 = lab.udp("S4", 5010)
    _, port = external_of(s4, servers[(S2, 9)], (S2, 9))
    for endpoint, server in servers.items():
        server.sendto(f"from {endpoint}".encode(), (GATEWAY_OUTER, port))
    arrived = receive_all(s4)
    assert arrived == [(f"from {(S2, 9)}".encode(), (S2, 9))]


def test_an_endpoint_that_is_asked_later_may_answer_from_then_on(lab, servers):
    s4 = lab.udp("S4", 5011)
    _, port = external_of(s4, servers[(S2, 9)], (S2, 9))
    servers[(S3, 9)].sendto(b"too early", (GATEWAY_OUTER, port))
    assert receive_all(s4) == []
    assert external_of(s4, servers[(S3, 9)], (S3, 9))[1] == port
    servers[(S3, 9)].sendto(b"asked", (GATEWAY_OUTER, port))
    assert receive(s4) == (b"asked", (S3, 9))


def test_masq_lists_the_flow_and_its_mapping(lab, servers):
    address, port = external_of(lab.udp("S4", 5020), servers[(S2, 9)], (S2, 9))
    flows = json.loads(lab.masq("flows", "--json").stdout)
    mine = [f for f in flows if f["internal"] == f"{ADDRESS['S4']}:5020"]
    assert len(mine) == 1, flows
    assert mine[0]["protocol"] == "udp"
    assert mine[0]["external"] == f"{address}:{port}"
    assert mine[0]["remote"] == f"{S2}:9"
    assert mine[0]["state"]
    assert 0 < mine[0]["expires_s"] <= 300
    mappings = json.loads(lab.masq("mappings", "--json").stdout)
    assert any(m["internal"] == f"{ADDRESS['S4']}:5020" and m["external"] == f"{address}:{port}"
               for m in mappings), mappings
    for listing in ("flows", "mappings"):
        text = lab.masq(listing).stdout
        assert f"{ADDRESS['S4']}:5020" in text and f"{address}:{port}" in text
