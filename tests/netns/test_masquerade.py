"""Inner hosts use the outside, and the outside sees one address."""

import re
import subprocess
import threading

import pytest
from scapy.all import ICMP, IP, UDP

from lab import ADDRESS, GATEWAY_OUTER, TRACE_TO_I1
from services import curl_argv, nslookup_argv, sha256
from traffic import SO_NO_CHECK, external_of, receive

S2, S6, I1 = ADDRESS["S2"], ADDRESS["S6"], ADDRESS["I1"]
INNER = ["S4", "S5", "S6"]

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture(scope="module", autouse=True)
def servers(lab, masq_up):
    lab.services.nginx("I1")
    lab.services.dnsmasq("S2")
    lab.services.iperf3("S2")


def finish(processes, timeout_s=20):
    """The output of programs that run side by side; all must have succeeded."""
    outputs = [process.communicate(timeout=timeout_s)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def test_ping_arrives_from_the_gateway_and_its_reply_from_the_asked_host(lab):
    at_s2 = lab.capture("S2", filter_="icmp")
    at_s6 = lab.capture("S6", filter_="icmp")
    lab.run("S6", ["ping", "-n", "-c3", "-i0.1", "-W2", S2], check=True)
    asked = at_s2.packets()
    assert {p[IP].src for p in asked if p[ICMP].type == 8} == {GATEWAY_OUTER}
    assert {p[IP].dst for p in asked if p[ICMP].type == 0} == {GATEWAY_OUTER}
    replies = [p for p in at_s6.packets() if p[ICMP].type == 0]
    assert [(p[IP].src, p[IP].dst) for p in replies] == [(S2, S6)] * 3


def test_tcpdump_on_the_gateway_shows_both_sides(lab):
    """Before and after translation, questions and answers, each once."""
    inside, outside = (lab.capture("B", name, "icmp") for name in ("in0", "out0"))
    lab.run("S6", ["ping", "-n", "-c3", "-i0.1", "-W2", S2], check=True)
    for capture, host in ((inside, S6), (outside, GATEWAY_OUTER)):
        ends = [(p[IP].src, p[IP].dst) for p in capture.packets()]
        assert ends == [(host, S2), (S2, host)] * 3, (capture.where, ends)


def test_three_hosts_ping_at_once_with_one_identifier(lab):
    at_s2 = lab.capture("S2", filter_="icmp[icmptype] == icmp-echo")
    finish([lab.popen(host, ["ping", "-n", "-e", "77", "-c5", "-i0.1", "-W2", S2])
            for host in INNER])
    identifiers = {p[ICMP].id for p in at_s2.packets()}
    assert len(identifiers) == 3


def test_three_hosts_use_one_tcp_source_port_at_once(lab):
    for_everyone = lab.tcp("S2", 7000, listen=True)
    clients = {host: lab.tcp(host, 40000) for host in INNER}
    for client in clients.values():
        client.connect((S2, 7000))
    peers = set()
    for host, client in clients.items():
        client.sendall(host.encode())
    for _ in INNER:
        connection, peer = for_everyone.accept()
        peers.add(peer)
        connection.settimeout(3)
        connection.sendall(b"hello " + connection.recv(100))
        connection.close()
    assert len(peers) == 3 and {address for address, _ in peers} == {GATEWAY_OUTER}
    for host, client in clients.items():
        assert client.recv(100) == b"hello " + host.encode()
        client.close()


def test_three_hosts_use_one_udp_source_port_at_once(lab):
    server = lab.udp("S2", 7000)
    clients = {host: lab.udp(host, 40000) for host in INNER}
    for host, client in clients.items():
        client.sendto(host.encode(), (S2, 7000))
    peers = set()
    for _ in INNER:
        payload, peer = receive(server)
        peers.add(peer)
        server.sendto(b"hello " + payload, peer)
    assert len(peers) == 3 and {address for address, _ in peers} == {GATEWAY_OUTER}
    for host, client in clients.items():
        assert receive(client) == (b"hello " + host.encode(), (S2, 7000))


def test_three_downloads_at_once_with_one_source_port_are_whole(lab):
    names = {host: lab.directory / f"download-{host}" for host in INNER}
    before = len(lab.services.access_log("S2"))
    finish([lab.popen(host, curl_argv(f"http://{S2}/1m", "--local-port", "41000", "-o", path))
            for host, path in names.items()])
    assert {sha256(path) for path in names.values()} == {lab.services.sha256_of("1m")}
    log = lab.services.access_log("S2")[before:]
    assert len(log) == 3
    assert {address for address, *_ in log} == {GATEWAY_OUTER}
    assert len({port for _, port, *_ in log}) == 3


def test_a_download_of_20_mb_is_whole(lab):
    path = lab.directory / "download-20m"
    lab.run("S4", curl_argv(f"http://{S2}/20m", "-o", path), check=True)
    assert sha256(path) == lab.services.sha256_of("20m")


def test_an_upload_of_5_mb_is_whole(lab):
    argv = curl_argv(f"http://{S2}/upload/plain", "-T", lab.services.files / "5m")
    lab.run("S5", argv, check=True)
    assert sha256(lab.services.uploaded("S2", "plain")) == lab.services.sha256_of("5m")


def test_the_internet_behind_gateway_a_is_reached(lab):
    answer = lab.run("S5", curl_argv(f"http://{I1}/whoami"), check=True).stdout
    assert answer.split()[0] == GATEWAY_OUTER


def test_netcat_talks_both_ways(lab):
    server = lab.popen("S2", ["nc", "-l", "-N", "7010"], stdin=subprocess.PIPE,
                       stderr=subprocess.PIPE)
    server.stdin.write("from S2\n")
    server.stdin.flush()
    client = lab.popen("S6", ["sh", "-c", f"sleep 0.3; echo from S6 | nc -N -w 3 {S2} 7010"])
    assert client.communicate(timeout=10)[0] == "from S2\n"
    assert server.communicate(timeout=10)[0] == "from S6\n"


def test_names_are_resolved(lab):
    for host in INNER:
        assert f"Address: {S2}" in lab.run(host, nslookup_argv("www.lab"), check=True).stdout


@pytest.mark.parametrize("options", [[], ["-R"], ["-u", "-b", "20M"], ["-u", "-b", "20M", "-R"]],
                         ids=["up", "down", "udp-up", "udp-down"])
def test_iperf3_measures(lab, options):
    volume = ["-n", "2M"] if "-u" in options else ["-n", "20M"]
    done = lab.run("S4", ["iperf3", "-c", S2, *volume, *options])
    assert done.returncode == 0, done.stdout + done.stderr


def test_large_segments_stay_whole_on_the_way(lab):
    """What the sender's kernel leaves to be cut by hardware is not cut at the gateway."""
    at_s2 = lab.capture("S2", filter_=f"tcp and src {GATEWAY_OUTER}", snap_bytes=100)
    at_s4 = lab.capture("S4", filter_=f"tcp and src {S2}", snap_bytes=100)
    for options in ([], ["-R"]):
        done = lab.run("S4", ["iperf3", "-c", S2, "-n", "20M", *options])
        assert done.returncode == 0, done.stdout + done.stderr
    assert max(p[IP].len for p in at_s2.packets()) > 3000
    assert max(p[IP].len for p in at_s4.packets()) > 3000


@pytest.mark.parametrize("size_bytes", [0, 1, 1472, 1473, 4000, 20000])
def test_pings_of_every_size_pass(lab, size_bytes):
    done = lab.run("S6", ["ping", "-n", "-c2", "-i0.1", "-W2", "-s", size_bytes, S2])
    assert done.returncode == 0, done.stdout


def test_big_pings_of_three_hosts_do_not_mix(lab):
    patterns = {"S4": "44", "S5": "55", "S6": "66"}
    # ping compares every byte of the reply with what it sent and reports a difference.
    outputs = finish([lab.popen(host, ["ping", "-n", "-c5", "-i0.05", "-W2", "-s4000", "-e78",
                                       "-p", pattern, S2]) for host, pattern in patterns.items()])
    for output in outputs:
        assert "wrong data byte" not in output and " 0% packet loss" in output


def test_udp_datagrams_of_8000_bytes_pass_both_ways(lab):
    server = lab.udp("S2", 7020)
    client = lab.udp("S6", 7020)
    question, answer = b"q" * 8000, b"a" * 8000
    _, port = external_of(client, server, (S2, 7020), question)
    server.sendto(answer, (GATEWAY_OUTER, port))
    assert receive(client) == (answer, (S2, 7020))


def test_udp_without_a_checksum_stays_without(lab):
    server = lab.udp("S2", 7021)
    client = lab.udp("S6", 7021)
    for s in (server, client):
        s.setsockopt(1, SO_NO_CHECK, 1)
    at_s2 = lab.capture("S2", filter_=f"udp and src {GATEWAY_OUTER}")
    at_s6 = lab.capture("S6", filter_=f"udp and src {S2}")
    _, port = external_of(client, server, (S2, 7021))
    server.sendto(b"answer", (GATEWAY_OUTER, port))
    assert receive(client) == (b"answer", (S2, 7021))
    assert [p[UDP].chksum for p in at_s2.packets()] == [0]
    assert [p[UDP].chksum for p in at_s6.packets()] == [0]


@pytest.mark.parametrize("method", [["-U"], ["-I"], ["-T", "-p", "80"], []],
                         ids=["udp-53", "icmp", "tcp", "udp-high-ports"])
def test_a_trace_shows_every_hop(lab, method):
    argv = ["traceroute", "-n", "-q1", "-w2", "-N4", "-m8", *method, I1]
    output = lab.run("S6", argv, check=True).stdout
    assert re.findall(r"^ *\d+  (\S+)", output, re.MULTILINE) == TRACE_TO_I1, output


def test_many_connections_at_once_all_get_through(lab):
    """300 TCP connections from three hosts, open at the same time."""
    server = lab.tcp("S2", 7030, listen=True)
    server.listen(512)
    accepted = []

    def accept():
        for _ in range(300):
            accepted.append(server.accept())

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    clients = []
    for number in range(300):
        client = lab.tcp(INNER[number % 3])
        client.connect((S2, 7030))
        clients.append(client)
    acceptor.join(timeout=10)
    assert len(accepted) == 300
    assert len({peer for _, peer in accepted}) == 300
    for s in [server, *clients, *(connection for connection, _ in accepted)]:
        s.close()
