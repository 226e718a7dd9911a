"""The gateway has lost its table, as by a reboot: with --take-over-streams the open TCP connections
of inner hosts go on, without it they are refused."""

import hashlib
import pathlib
import socket
import stat
import threading

import pytest

from lab import ADDRESS, mac_of, wait_until
from test_commands import one_sentence
from traffic import wait_until_it_flows

S2 = ADDRESS["S2"]
DATAPATHS = ["tc", "user"]
SECRET = pathlib.Path("/var/lib/masq/secret")
UPLOAD = b"".join(b"%031d\n" % i for i in range(60000))


@pytest.fixture(scope="module", autouse=True)
def own_secret():
    """The one of this machine, if it has one, is put back afterwards."""
    before = SECRET.read_bytes() if SECRET.exists() else None
    folder = SECRET.parent.exists()
    SECRET.unlink(missing_ok=True)
    yield
    SECRET.unlink(missing_ok=True)
    if before is not None:
        SECRET.write_bytes(before)
        SECRET.chmod(0o600)
    elif not folder and SECRET.parent.exists():
        SECRET.parent.rmdir()


def up(lab, *options):
    done = lab.masq("up", "--external", "out0", "--internal", "in0", *options)
    assert done.returncode == 0, done.stderr


def reboot(lab, *options):
    """Nothing is left of the table, and nobody hears a word of the gateway meanwhile."""
    lab.ip("B", "link set out0 down")
    assert lab.masq("down").returncode == 0
    up(lab, *options)
    lab.ip("B", "link set out0 up", "route replace default via 192.168.1.250")
    wait_until_it_flows(lab, host="S4")


@pytest.fixture
def taking_over(lab):
    up(lab, "--take-over-streams")
    wait_until_it_flows(lab)
    yield
    assert lab.masq("down").returncode == 0


@pytest.fixture
def connection(lab, taking_over):
    """(inner end, outer end, external endpoint)"""
    listener = lab.tcp("S2", 9500, listen=True)
    client = lab.tcp("S6", timeout_s=20)
    client.connect((S2, 9500))
    server, peer = listener.accept()
    server.settimeout(20)
    with listener, client, server:
        yield client, server, peer


def test_an_upload_goes_on(lab, connection):
    client, server, _ = connection
    received = hashlib.sha256()
    count = 0

    def receive():
        nonlocal count
        while count < len(UPLOAD):
            data = server.recv(65536)
            if not data:
                return
            received.update(data)
            count += len(data)

    receiver = threading.Thread(target=receive)
    receiver.start()
    half = len(UPLOAD) // 2
    client.sendall(UPLOAD[:half])
    reboot(lab, "--take-over-streams")
    client.sendall(UPLOAD[half:])
    receiver.join(timeout=30)
    assert count == len(UPLOAD)
    assert received.digest() == hashlib.sha256(UPLOAD).digest()


def test_a_quiet_connection_is_found_by_its_keepalive(lab, connection):
    client, server, _ = connection
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 60)
    reboot(lab, "--take-over-streams")
    server.sendall(b"from outside, once there is a flow")
    assert client.recv(100) == b"from outside, once there is a flow"


def test_it_has_the_same_external_port(lab, connection):
    client, server, peer = connection
    reboot(lab, "--take-over-streams")
    client.sendall(b"again")
    assert server.recv(100) == b"again"
    flows = lab.masq("flows").stdout
    assert f"{peer[0]}:{peer[1]}" in flows, flows


def test_without_the_option_it_is_refused_in_silence(lab, connection):
    client, server, _ = connection
    server.settimeout(2)
    told = lab.capture("S6", filter_=f"tcp port 9500 or (icmp and host {S2})")
    reboot(lab)
    before = lab.dropped("tcp_not_syn")
    client.sendall(b"is anybody there?")
    wait_until(lambda: lab.dropped("tcp_not_syn") > before, "it is refused")
    with pytest.raises(socket.timeout):
        server.recv(100)
    assert {packet.src for packet in told.packets()} == {mac_of(ADDRESS["S6"])}


def test_the_secret_is_for_root_alone_and_not_guessed(lab, taking_over):
    about = SECRET.stat()
    assert stat.S_IMODE(about.st_mode) == 0o600
    assert about.st_size == 16


@pytest.mark.parametrize("spoil", [lambda: SECRET.chmod(0o644), lambda: SECRET.write_bytes(b"x")])
def test_a_secret_that_is_not_one_stops_the_start(lab, spoil):
    up(lab, "--take-over-streams")
    assert lab.masq("down").returncode == 0
    good = SECRET.read_bytes()
    spoil()
    try:
        done = lab.masq("up", "--take-over-streams")
        assert done.returncode == 1
        assert str(SECRET) in done.stderr and one_sentence(done.stderr)
        assert not lab.programs("in0")
    finally:
        SECRET.write_bytes(good)
        SECRET.chmod(0o600)
