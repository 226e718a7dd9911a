"""Blocks of external ports: each host of a network has its own, and a port says whose it is."""

import ipaddress
import json
import re

import pytest

from lab import ADDRESS, GATEWAY_OUTER
from services import curl_argv
from traffic import external_of, pings, receive

DATAPATHS = ["tc", "user"]
S2, S3 = ADDRESS["S2"], ADDRESS["S3"]
PORTS = 128
NETWORK = "192.168.2.4/31"  # S4 and S5; S6 has no block
BLOCK = {"S4": range(20096, 20224), "S5": range(20224, 20352)}
REST = range(20352, 20480)
UP = ["up", "--external-ports", "20000-20479", "--port-block", f"{NETWORK}={PORTS}"]


@pytest.fixture(scope="module", autouse=True)
def masq_with_blocks(lab):
    up = lab.masq(*UP)
    assert up.returncode == 0, up.stdout + up.stderr


def owner(status, port):
    """Whose a port is, by the formula that the documents give."""
    for blocks in status["port_blocks"]:
        for run in blocks["ranges"]:
            if run["first_port"] <= port <= run["last_port"]:
                number = (port - run["first_port"]) // blocks["ports_per_host"]
                return str(ipaddress.ip_address(run["first_host"]) + number)
    return None


def ports_of(lab, host, protocol):
    flows = json.loads(lab.masq("flows", "--json").stdout)
    return {int(f["external"].split(":")[1]) for f in flows
            if f["internal"].startswith(ADDRESS[host] + ":") and f["protocol"] == protocol}


@pytest.mark.parametrize("host", ["S4", "S5", "S6"])
def test_all_that_a_host_does_has_a_port_of_its_block(lab, host):
    wanted = BLOCK.get(host, REST)
    with lab.udp("S2", 8000) as server:
        for port in (7000, 7001, 7002):
            with lab.udp(host, port) as client:
                external = external_of(client, server, (S2, 8000))
                assert external[0] == GATEWAY_OUTER and external[1] in wanted
                assert external[1] % 2 == port % 2
                server.sendto(b"back", external)
                assert receive(client) == (b"back", (S2, 8000))
    if host in BLOCK:
        with lab.udp("S2", 8001) as server, lab.udp(host, 500) as client:
            assert external_of(client, server, (S2, 8001))[1] in wanted
    curl = lab.run(host, curl_argv(f"http://{S2}/1m", "-o", "/dev/null"))
    assert curl.returncode == 0, curl.stdout + curl.stderr
    assert ports_of(lab, host, "tcp") <= set(wanted)
    assert pings(lab, host, S2)
    queries = ports_of(lab, host, "icmp")
    assert queries and (queries <= set(wanted) if host in BLOCK else min(queries) >= REST[0])
    status = lab.status()
    for port in ports_of(lab, host, "udp") | ports_of(lab, host, "tcp"):
        assert owner(status, port) == (ADDRESS[host] if host in BLOCK else None)


def test_status_says_whose_a_port_is(lab):
    status = lab.status()
    assert status["port_blocks"] == [
        {"network": NETWORK, "ports_per_host": PORTS, "hosts": 2,
         "ranges": [{"first_host": ADDRESS["S4"], "first_port": BLOCK["S4"][0],
                     "last_port": BLOCK["S5"][-1]}]}]
    assert status["ports_without_block"] == len(REST)
    text = lab.masq("status").stdout
    assert f"{NETWORK}, {PORTS} ports for each of 2 hosts" in text
    assert "ports 20096 to 20351: host = 192.168.2.4 + (port - 20096) / 128" in text
    assert "all others share 128 ports" in text


def test_explain_names_the_block(lab):
    for host, expected in (("S5", "ports 20224 to 20351 are 192.168.2.5's alone"), ("S6", None)):
        packet = ["explain", "udp", f"{ADDRESS[host]}:7500", f"{S2}:9"]
        text = lab.masq(*packet).stdout
        named = re.findall(r"^ *block +(.*)$", text, re.MULTILINE)
        assert named == ([expected] if expected else [])
        block = json.loads(lab.masq(*packet, "--json").stdout)["host"]["block"]
        ports = BLOCK.get(host)
        assert block == (ports and {"first_port": ports[0], "last_port": ports[-1]})


def test_a_block_is_used_to_its_last_port_and_its_neighbours_go_on(lab):
    before = lab.dropped("ports_exhausted")
    with lab.udp("S2", 8100) as server, lab.udp("S3", 8100) as other:
        seen = set()
        port = 10000
        while len(ports_of(lab, "S4", "udp")) < PORTS:
            for _ in range(PORTS - len(ports_of(lab, "S4", "udp"))):
                with lab.udp("S4", port) as client:
                    seen.add(external_of(client, server, (S2, 8100))[1])
                port += 1
        assert ports_of(lab, "S4", "udp") == set(BLOCK["S4"]) and seen <= set(BLOCK["S4"])
        assert lab.dropped("ports_exhausted") == before
        with lab.udp("S4", port) as client:
            client.sendto(b"one too many", (S3, 8100))
            assert receive(other) is None
        assert lab.dropped("ports_exhausted") > before
        for host, wanted in (("S5", BLOCK["S5"]), ("S6", REST)):
            with lab.udp(host, 10000) as client:
                assert external_of(client, server, (S2, 8100))[1] in wanted
    assert pings(lab, "S4", S2)


def test_tcp_shares_the_ports_of_its_block(lab):
    first, second = lab.tcp("S2", 8200, listen=True), lab.tcp("S3", 8200, listen=True)
    sockets = []

    def connect(host, port, server, listener):
        client = lab.tcp(host, port)
        client.connect((server, 8200))
        accepted, peer = listener.accept()
        sockets.extend((client, accepted))
        return peer[1]

    # Fewer than there are: connections of before may still have some.
    held = len(ports_of(lab, "S5", "tcp"))
    given = {connect("S5", 11000 + i, S2, first) for i in range(PORTS - held)}
    assert len(given) == PORTS - held and given <= set(BLOCK["S5"])
    shared = {connect("S5", 12000 + i, S3, second) for i in range(20)}
    assert len(shared) == 20 and shared <= set(BLOCK["S5"])
    assert lab.status()["traffic"]["flows_sharing_port"] == 20
    assert connect("S6", 11000, S2, first) in REST
    for each in [*sockets, first, second]:
        each.close()


@pytest.mark.parametrize("asked", [
    "", "192.168.2.0/24", "192.168.2.0/24=", "192.168.2.0/24=0", "192.168.2.0/24=100",
    "192.168.2.0/24=128x", "192.168.2.0/24=-128", "192.168.2.0/24=8320", "192.168.2.1/24=128",
    "192.168.2.0/33=128", "s4=128"])
def test_what_is_no_block_is_refused(lab, asked):
    done = lab.masq("up", "--port-block", asked)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


def test_another_wish_is_told_and_a_new_daemon_keeps_the_blocks(lab):
    assert lab.masq("up").returncode == 0
    assert lab.masq(*UP).returncode == 0
    other = lab.masq("up", "--port-block", "192.168.2.4=128")
    assert other.returncode == 1 and "to change port_blocks, " in other.stderr, other.stderr
    with lab.udp("S2", 8300) as server, lab.udp("S5", 8300) as client:
        before = external_of(client, server, (S2, 8300))
        lab.kill_daemon()
        again = lab.masq("up", "--port-block", "192.168.2.6=128")
        assert again.returncode == 0 and "keeps its port blocks" in again.stdout, again.stdout
        assert external_of(client, server, (S2, 8300)) == before
    assert lab.status()["port_blocks"][0]["network"] == NETWORK


@pytest.mark.parametrize("wishes, sentence", [
    (["192.168.2.0/24=128"], "no room for 128 external ports for each host of 192.168.2.0/24; "
                             "name a smaller one"),
    (["192.168.2.4/31=256"], "no room for 256 external ports for each host of 192.168.2.4/31; "
                             "128 would fit"),
    (["192.168.2.4/31=128", "192.168.2.5=128"], "have hosts in common"),
    ([f"192.168.2.{i}=128" for i in range(9)], "more than 8 networks")])
def test_blocks_that_do_not_fit_change_nothing(lab, tmp_path, wishes, sentence):
    lab.masq("down")
    done = lab.masq(*UP[:3], *(f"--port-block={wish}" for wish in wishes))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and sentence in done.stderr, done.stderr
    assert not lab.programs("out0")
    config = tmp_path / "masq.toml"
    lines = "".join(f'"{network}" = {ports}\n'
                    for network, ports in (wish.split("=") for wish in wishes))
    config.write_text(f'external_ports = "20000-20479"\n[port_blocks]\n{lines}')
    check = lab.masq("check", str(config))
    assert check.returncode == 1 and sentence in check.stderr, check.stderr
    assert re.match(rf"{config}:\d+: ", check.stderr)
