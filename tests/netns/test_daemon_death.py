"""The daemon may die: what it made goes on in the kernel."""

import json
import time

import pytest

from lab import ADDRESS, BINARIES, GATEWAY_OUTER, wait_until
from services import curl_argv, sha256
from traffic import external_of, pings, receive, receive_all

S2 = ADDRESS["S2"]
UDP_TIMEOUT_S = 3
SWEEP_S = 5  # a whole turn of the sweeper, and some


def config(lab):
    path = lab.directory / "masq.toml"
    path.write_text(f"[timeouts]\nudp_s = {UDP_TIMEOUT_S}\n")
    return path


def up(lab):
    done = lab.masq("up", "--config", config(lab))
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", autouse=True)
def short_timeouts(lab):
    up(lab)


@pytest.fixture
def killed(lab):
    """The daemon has died of -9. Afterwards `masq up` has taken over."""
    lab.kill_daemon()
    yield
    up(lab)


def flows_of(lab, internal):
    done = lab.masq("flows", "--json")
    assert done.returncode == 0, done.stderr
    return [flow for flow in json.loads(done.stdout) if flow["internal"] == internal]


def test_a_transfer_of_20_mb_goes_on_while_the_daemon_dies_and_is_replaced(lab):
    path = lab.directory / "slow-20m"
    transfer = lab.popen("S6", curl_argv(f"http://{S2}/slow/20m", "-o", path,
                                         "--local-port", "42000", timeout_s=25))
    time.sleep(1.0)
    lab.kill_daemon()
    time.sleep(1.0)
    assert len(flows_of(lab, f"{ADDRESS['S6']}:42000")) == 1
    up(lab)
    assert len(flows_of(lab, f"{ADDRESS['S6']}:42000")) == 1
    assert transfer.communicate(timeout=25)[0] == ""
    assert transfer.returncode == 0
    assert sha256(path) == lab.services.sha256_of("20m")


def test_new_flows_are_made(lab, killed):
    assert pings(lab, "S4", S2, 3)
    answer = lab.run("S5", curl_argv(f"http://{S2}/whoami"), check=True).stdout
    assert answer.split()[0] == GATEWAY_OUTER
    server, client = lab.udp("S2", 9200), lab.udp("S6", 9200)
    peer = external_of(client, server, (S2, 9200))
    server.sendto(b"answer", peer)
    assert receive(client) == (b"answer", (S2, 9200))


def test_nobody_comes_in(lab, killed):
    server, stranger, client = lab.udp("S2", 9201), lab.udp("S3", 9201), lab.udp("S6", 9201)
    peer = external_of(client, server, (S2, 9201))
    stranger.sendto(b"stranger", peer)
    assert receive_all(client) == []


def test_udp_flows_expire(lab, killed):
    server, client = lab.udp("S2", 9202), lab.udp("S6", 9202)
    peer = external_of(client, server, (S2, 9202))
    time.sleep(UDP_TIMEOUT_S - 1)
    server.sendto(b"in time", peer)
    assert receive(client) == (b"in time", (S2, 9202))
    time.sleep(1.5)
    server.sendto(b"too late", peer)
    assert receive_all(client) == []
    time.sleep(SWEEP_S - 1.5)
    assert flows_of(lab, f"{ADDRESS['S6']}:9202") == []
    mappings = json.loads(lab.masq("mappings", "--json").stdout)
    assert not [m for m in mappings if m["internal"] == f"{ADDRESS['S6']}:9202"]


def test_an_active_udp_flow_does_not_expire(lab, killed):
    server, client = lab.udp("S2", 9203), lab.udp("S6", 9203)
    peers = set()
    for _ in range(6):
        peers.add(external_of(client, server, (S2, 9203)))
        time.sleep(UDP_TIMEOUT_S / 3)
    assert len(peers) == 1


def test_up_takes_the_flows_over(lab):
    listener, client = lab.tcp("S2", 9204, listen=True), lab.tcp("S6", 9204)
    client.connect((S2, 9204))
    connection, peer = listener.accept()
    [before] = flows_of(lab, f"{ADDRESS['S6']}:9204")
    dead = lab.kill_daemon()
    up(lab)
    assert lab.processes("B", "masqd") != [dead]
    [after] = flows_of(lab, f"{ADDRESS['S6']}:9204")
    assert (after["external"], after["remote"]) == (before["external"], before["remote"])
    assert after["external"] == f"{peer[0]}:{peer[1]}"
    connection.sendall(b"still here")
    assert client.recv(100) == b"still here"


def test_up_takes_over_also_from_a_daemon_that_is_still_dying(lab):
    """As in `kill -9 ...; masq up`: a process that has been killed takes a moment to be gone."""
    try:
        for _ in range(3):
            [dying] = lab.processes("B", "masqd")
            script = f"kill -9 {dying}; exec {BINARIES / 'masq'} up --config {config(lab)}"
            done = lab.run("B", ["sh", "-c", script])
            assert done.returncode == 0, done.stderr
            wait_until(lambda: dying not in lab.processes("B", "masqd"), "masqd is gone")
            assert len(lab.processes("B", "masqd")) == 1, done.stdout
    finally:
        up(lab)


def test_who_keeps_the_sweeper_going_keeps_that_of_new_programs(lab):
    before = lab.processes("B", "masq-holder")
    lab.kill_daemon()
    for interface in ("in0", "out0", "masq-slow"):
        lab.take_programs_off(interface)
    up(lab)
    assert len(lab.processes("B", "masq-holder")) == 1
    assert lab.processes("B", "masq-holder") != before
    pings(lab, "S6", S2)


def test_status_tells_that_the_daemon_is_dead(lab, killed):
    status = lab.masq("status")
    assert status.returncode == 0
    assert "daemon" in status.stdout and "masq up" in status.stdout, status.stdout


def test_down_works_without_the_daemon(lab):
    lab.kill_daemon()
    down = lab.masq("down")
    assert down.returncode == 0, down.stderr
    assert lab.pids("B") == []
    assert not pings(lab, "S6", S2)
