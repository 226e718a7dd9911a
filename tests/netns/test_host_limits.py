"""One inner host that scans at full speed leaves room for the others: limits per inner host."""

import json
import socket
import struct

import pytest

from lab import ADDRESS
from traffic import external_of, receive

S2, S5 = ADDRESS["S2"], ADDRESS["S5"]
DATAPATHS = ["tc", "user"]
FLOWS_MAX = 4095
SHARE = 1024  # of one host: a quarter of so small a table would be less
QUIET = "192.168.1.77"  # nobody has this address


@pytest.fixture(autouse=True)
def ended(lab):
    yield
    assert lab.masq("down").returncode == 0


def start(lab, *options):
    up = lab.masq("up", "--flows-max", str(FLOWS_MAX), *options)
    assert up.returncode == 0, up.stderr


def hosts(lab):
    return {h["host"]: h for h in json.loads(lab.masq("hosts", "--json").stdout)}


def sum_of(data):
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    words = (words & 0xffff) + (words >> 16)
    return ~(words + (words >> 16)) & 0xffff


def syn(source, destination, source_port, destination_port):
    header = struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 0, 0x50, 2, 1024, 0, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    checksum = sum_of(ends + struct.pack("!HH", socket.IPPROTO_TCP, len(header)) + header)
    return header[:16] + struct.pack("!H", checksum) + header[18:]


def scan_tcp(lab, host, ports, source_port=None):
    """A SYN to each port of an address that never answers."""
    with lab.inside(host):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with raw:
        for port in ports:
            raw.sendto(syn(ADDRESS[host], QUIET, source_port or port, port), (QUIET, 0))


def scan_udp(lab, host, ports):
    with lab.udp(host) as s:
        for port in ports:
            s.sendto(b"x", (QUIET, port))


def others_are_served(lab):
    """New flows of another host, UDP and TCP."""
    with lab.udp("S2", 8000) as server, lab.udp("S4") as client:
        assert external_of(client, server, (S2, 8000))
    page = lab.run("S4", ["curl", "-s", "-o", "/dev/null", "-m", "10", f"http://{S2}/"])
    assert page.returncode == 0


def test_a_scan_meets_its_share_and_others_do_not_notice(lab):
    start(lab)
    with lab.udp("S2", 8100) as server, lab.udp("S5", 8100) as client:
        external = external_of(client, server, (S2, 8100))
        scan_udp(lab, "S5", range(10000, 10000 + 2 * FLOWS_MAX))
        assert lab.dropped("host_flows") > 0
        assert hosts(lab)[S5]["flows"] == SHARE
        assert hosts(lab)[S5]["refused"] == lab.dropped("host_flows")
        others_are_served(lab)
        # Nor do flows that the host has.
        client.sendto(b"still here", (S2, 8100))
        assert receive(server) == (b"still here", external)
    assert lab.dropped("flow_table_full") == 0
    assert S5 in lab.masq("hosts").stdout


def test_without_a_limit_it_takes_all(lab):
    """That the scan above would do harm."""
    start(lab, "--host-flows", "0")
    scan_udp(lab, "S5", range(10000, 10000 + 2 * FLOWS_MAX))
    assert lab.dropped("host_flows") == 0
    assert lab.dropped("flow_table_full") > 0
    assert "per host  at most" in lab.masq("status").stdout


@pytest.mark.parametrize("option, value, reason, count", [
    ("--host-opening", 200, "host_opening", "opening"),
    ("--host-ports", 300, "host_ports", "mappings")])
def test_a_scan_of_tcp_ports(lab, option, value, reason, count):
    start(lab, option, str(value))
    scan_tcp(lab, "S5", range(10000, 10000 + FLOWS_MAX))
    assert lab.dropped(reason) > 0
    assert hosts(lab)[S5][count] == value
    others_are_served(lab)
    assert lab.dropped("flow_table_full") == 0


def test_a_scan_faster_than_a_host_may_begin_flows(lab):
    start(lab, "--host-new-per-s", "10", "--host-new-burst", "100")
    scan_tcp(lab, "S5", range(10000, 10000 + FLOWS_MAX), source_port=5000)
    assert lab.dropped("host_rate") > 0
    assert 100 <= hosts(lab)[S5]["flows"] < SHARE
    others_are_served(lab)
