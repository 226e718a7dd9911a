"""One inner host that scans at full speed leaves room for the others: limits per inner host."""

import json
import socket
import time

import pytest

from lab import ADDRESS, REPOSITORY, wait_until
from scanner import syn
from traffic import external_of, pings, receive

S2, S5 = ADDRESS["S2"], ADDRESS["S5"]
SCANNER = REPOSITORY / "tests" / "netns" / "scanner.py"
DATAPATHS = ["tc", "user"]
FLOWS_MAX = 4095
SHARE = 1024  # of one host: a quarter of so small a table would be less
QUIET = "192.168.1.77"  # nobody has this address
SCAN_S, SCAN_PACKETS_MOST = 3, 3_000_000
# Between two rounds of three flows a host: fewer than the 100 a second that the last case allows.
PAUSE_S = 0.04


@pytest.fixture(autouse=True)
def ended(lab):
    yield
    assert lab.masq("down").returncode == 0


def start(lab, *options):
    up = lab.masq("up", "--flows-max", str(FLOWS_MAX), *options)
    assert up.returncode == 0, up.stderr


def hosts(lab):
    return {h["host"]: h for h in json.loads(lab.masq("hosts", "--json").stdout)}


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


@pytest.mark.parametrize("protocol, reason, options", [
    ("udp", "host_flows", ()),
    ("tcp", "host_opening", ("--host-opening", "200")),
    ("tcp", "host_rate", ("--host-new-per-s", "100", "--host-new-burst", "300"))])
def test_during_a_scan_others_do_not_notice(lab, protocol, reason, options):
    """Each of their new flows succeeds, and at once, while the scan goes on at full speed."""
    start(lab, *options)
    with lab.udp("S2", 8300) as udp, lab.tcp("S2", 8300, listen=True) as tcp:
        scan = lab.popen("S5", [SCANNER, protocol, S5, QUIET, SCAN_S, SCAN_PACKETS_MOST])
        wait_until(lambda: lab.dropped(reason), "the scan meets its limit")
        before, rounds = lab.dropped(reason), 0
        while scan.poll() is None:
            for host in ("S4", "S6"):
                with lab.udp(host) as client:
                    external_of(client, udp, (S2, 8300))
                with lab.tcp(host, timeout_s=0.9) as client:  # without a second SYN
                    client.connect((S2, 8300))
                    tcp.accept()[0].close()
                assert pings(lab, host, S2)
            rounds += 1
            time.sleep(PAUSE_S)
        refused = lab.dropped(reason) - before
    assert rounds >= 5 and refused > 2 * FLOWS_MAX, (rounds, refused, scan.stdout.read())
    assert {h["refused"] for name, h in hosts(lab).items() if name != S5} == {0}
