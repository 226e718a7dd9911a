"""When external ports run out, TCP connections to different servers share them."""

import json
import threading

import pytest

from lab import ADDRESS, GATEWAY_OUTER
from services import curl_argv
from traffic import external_of

DATAPATHS = ["tc", "user"]
PORTS = range(20000, 20004)
S2, S3 = ADDRESS["S2"], ADDRESS["S3"]
HOSTS = ("S4", "S5", "S6")
BYTES = 200_000


@pytest.fixture(scope="module", autouse=True)
def narrow_masq(lab):
    up = lab.masq("up", "--external-ports", f"{PORTS[0]}-{PORTS[-1]}")
    assert up.returncode == 0, up.stdout + up.stderr


@pytest.fixture
def listeners(lab):
    sockets = {(S2, 9101): lab.tcp("S2", 9101, listen=True),
               (S3, 9101): lab.tcp("S3", 9101, listen=True),
               (S3, 9102): lab.tcp("S3", 9102, listen=True)}
    yield sockets
    for each in sockets.values():
        each.close()


def said_by(host, port, server):
    return f"{host} from {port} to {server} ".encode()


def long_text(name):
    return (name * (BYTES // len(name) + 1))[:BYTES]


def receive_whole(sock):
    data = b""
    while len(data) < BYTES:
        piece = sock.recv(65536)
        if not piece:
            break
        data += piece
    return data


def test_every_byte_reaches_the_right_host(lab, listeners):
    """Twelve connections at once over four ports, four to each server, long ones both ways."""
    pairs = []
    for server, listener in listeners.items():
        for i in range(len(PORTS)):
            host = HOSTS[i % len(HOSTS)]
            port = 6000 + len(pairs)  # no two of one endpoint, so that each needs a port
            client = lab.tcp(host, port)
            client.connect(server)
            accepted, peer = listener.accept()
            assert peer[0] == GATEWAY_OUTER and peer[1] in PORTS, peer
            accepted.settimeout(20)
            client.settimeout(20)
            pairs.append((said_by(host, port, server), client, accepted, (peer[1], server)))
    tuples = [each[3] for each in pairs]
    assert len(set(tuples)) == len(tuples), tuples
    assert len({port for port, _ in tuples}) == len(PORTS)
    received = {}

    def take(key, sock):
        received[key] = receive_whole(sock)

    threads = []
    for i, (name, client, accepted, _) in enumerate(pairs):
        for key, sock in (((i, "in"), client), ((i, "out"), accepted)):
            threads.append(threading.Thread(target=take, args=(key, sock)))
        threads.append(threading.Thread(target=client.sendall, args=(long_text(b"> " + name),)))
        threads.append(threading.Thread(target=accepted.sendall, args=(long_text(b"< " + name),)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, (name, *_) in enumerate(pairs):
        assert received[(i, "out")] == long_text(b"> " + name)
        assert received[(i, "in")] == long_text(b"< " + name)

    status = json.loads(lab.masq("status", "--json").stdout)
    assert status["traffic"]["flows_sharing_port"] == 8, status["traffic"]
    assert "share their external port" in lab.masq("status").stdout
    flows = json.loads(lab.masq("flows", "--json").stdout)
    assert sum(each["shares_port"] for each in flows if each["protocol"] == "tcp") == 8

    # Each server has every port now: the next host is told so at once, and others are served.
    before = lab.dropped("ports_exhausted")
    refused = lab.tcp("S4", 7000)
    with pytest.raises(OSError) as error:
        refused.connect((S2, 9101))
    assert not isinstance(error.value, TimeoutError), "the host was not told"
    assert lab.dropped("ports_exhausted") > before
    curl = lab.run("S5", curl_argv(f"http://{S2}/1m", "-o", "/dev/null"))
    assert curl.returncode == 0, curl.stdout + curl.stderr
    for _, client, accepted, _ in pairs:
        client.close()
        accepted.close()


def test_udp_does_not_share(lab):
    servers = {(S2, 9): lab.udp("S2", 9), (S3, 9): lab.udp("S3", 9)}
    externals = {external_of(lab.udp("S4", 5000 + i), servers[(S2, 9)], (S2, 9))
                 for i in range(len(PORTS))}
    assert len(externals) == len(PORTS)
    before = lab.dropped("ports_exhausted")
    lab.udp("S5", 5000).sendto(b"to the other", (S3, 9))
    assert lab.dropped("ports_exhausted") == before + 1


@pytest.mark.parametrize("ranges", ["", "5", "5-4", "0-7", "1-65536", "5-7x", "a-b", "30000-40000"])
def test_a_wrong_range_is_refused_with_a_sentence(lab, ranges):
    lab.masq("down")
    up = lab.masq("up", f"--external-ports={ranges}") if ranges else lab.masq("up",
                                                                          "--external-ports")
    assert up.returncode != 0
    assert up.stderr.strip()
    assert not lab.programs("out0")
