"""The daemon may die: what it made goes on in the kernel."""

import fcntl
import json
import os
import signal
import time

import pytest

from fragments import datagram, fragments_of, raw
from lab import ADDRESS, BINARIES, GATEWAY_OUTER, TCX, command, wait_until
from maps import maps_held
from services import curl_argv, sha256
from traffic import external_of, pings, receive, receive_all, wait_until_it_flows

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


@pytest.fixture
def anew(lab):
    """The gateway has just been started, whatever was before."""
    lab.masq("down")
    up(lab)
    wait_until_it_flows(lab)
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


def test_masqd_begins_anew_and_never_lets_its_lock_go(lab, anew):
    [daemon] = lab.processes("B", "masqd")
    log = lab.run_folder() / "log"
    before = log.read_text().count("Took over")
    with open(lab.run_folder() / "lock", encoding="utf-8") as lock:
        os.kill(daemon, signal.SIGUSR1)
        ends = time.monotonic() + 20
        while log.read_text().count("Took over") == before:
            with pytest.raises(BlockingIOError):  # a `masq down` would undo what it then sets up
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert time.monotonic() < ends
    assert lab.processes("B", "masqd") == [daemon]
    # It still has its configuration, and hears when it is told to end.
    assert f"udp_s = {UDP_TIMEOUT_S}\n" in (lab.run_folder() / "config.toml").read_text()
    assert pings(lab, "S4", S2, 1)
    assert lab.masq("down").returncode == 0
    assert lab.processes("B", "masqd") == []


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


def test_up_goes_on_with_the_very_maps_that_the_holder_has(lab, anew):
    """So there is one sweeper: two would hand places of the table out twice."""
    [holder] = lab.processes("B", "masq-holder")
    for _ in range(2):
        lab.kill_daemon()
        up(lab)
        [daemon] = lab.processes("B", "masqd")
        assert lab.processes("B", "masq-holder") == [holder]
        assert maps_held(holder) and maps_held(holder) <= maps_held(daemon)


def test_up_goes_on_when_both_interfaces_were_made_anew_meanwhile(lab, anew):
    listener, client = lab.tcp("S2", 9205, listen=True), lab.tcp("S6", 9205)
    client.connect((S2, 9205))
    connection, _ = listener.accept()
    [before] = flows_of(lab, f"{ADDRESS['S6']}:9205")
    lab.kill_daemon()
    for side in ("inside", "outside"):
        lab.make_gateway_leg_anew(side)
    assert flows_of(lab, f"{ADDRESS['S6']}:9205") == [before]
    assert lab.masq("status").returncode == 0
    done = lab.masq("up", "--config", config(lab))
    assert done.returncode == 0 and "Took over the running gateway" in done.stdout, done
    wait_until_it_flows(lab)
    connection.sendall(b"still here")
    assert client.recv(100) == b"still here"


def test_fragments_in_any_order_pass_when_an_interface_was_made_anew_meanwhile(lab, anew):
    """What the programs of before and those that are loaded again tell each other arrives."""
    lab.kill_daemon()
    lab.make_gateway_leg_anew("inside")
    up(lab)
    wait_until_it_flows(lab)
    server, client = lab.udp("S2", 9206), raw(lab, "S6")
    for piece in reversed(fragments_of(ADDRESS["S6"], S2, datagram(9206, 9206, bytes(4000)), 7)):
        client.sendto(piece, (S2, 0))
    data, sender = receive(server) or (None, None)
    assert data == bytes(4000) and sender[0] == GATEWAY_OUTER


def test_up_after_all_programs_have_gone_holds_the_new_maps(lab, anew):
    """As without /dev/net/tun, when both interfaces have gone."""
    lab.kill_daemon()
    for interface in ("in0", "out0", "masq-slow"):
        lab.take_programs_off(interface)
    up(lab)
    wait_until_it_flows(lab)
    [holder], [daemon] = lab.processes("B", "masq-holder"), lab.processes("B", "masqd")
    assert maps_held(holder) and maps_held(holder) == maps_held(daemon)


def test_programs_without_their_tables_are_taken_off(lab, anew):
    lab.kill_daemon()
    for interface in ("in0", "out0", "masq-slow"):
        lab.take_programs_off(interface)
    lab.run("B", [TCX, "put", "masq-slow", "ingress", "masq_from_slow"], check=True)
    status = lab.masq("status")
    assert status.returncode == 1 and "`masq up`" in status.stderr, status
    done = lab.masq("up", "--config", config(lab))
    assert done.returncode == 0 and "without its tables" in done.stdout, done
    wait_until_it_flows(lab)


def test_programs_that_came_along_with_an_interface_are_not_ours(lab, anew):
    """An interface takes them along into another network namespace; there they are nobody's."""
    command(["ip", "-n", lab.ns("B"), "link", "set", "in0", "netns", lab.ns("S1")])
    try:
        lab.ip("S1", "addr add 192.168.2.1/24 dev in0", "link set in0 up")
        masq = BINARIES / "masq"
        status = lab.run("S1", [masq, "status"])
        assert status.returncode == 1 and "not running" in status.stderr, status
        done = lab.run("S1", [masq, "up"])
        assert done.returncode == 0, done
        assert "in0 came with programs of another network namespace's gateway" in done.stdout, done
        assert "Took over" not in done.stdout, done
    finally:
        lab.run("S1", [masq, "down"])
        lab.ip("S1", "link del in0")
        lab.plug_in_gateway_inside()
    wait_until_it_flows(lab)


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
