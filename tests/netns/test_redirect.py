"""REDIRECT: what inner hosts send elsewhere reaches a service of the gateway's own, which learns
where it was meant to go, and its answers come from there. Transparent proxies live by that."""

import contextlib
import socket
import struct
import threading

import pytest

from lab import ADDRESS, GATEWAY_OUTER, wait_until
from services import curl_argv
from test_rules import ipchains, no_rules  # noqa: F401 (a fixture)
from traffic import pings, receive, wait_until_it_flows

S1, S2, S4, S5 = (ADDRESS[name] for name in ("S1", "S2", "S4", "S5"))
DATAPATHS = ["tc", "user"]
SO_ORIGINAL_DST = 80
PROXY, DNS = 3128, 5300
NOWHERE = "10.66.0.1"  # by the default route, and there is nobody


@pytest.fixture(scope="module", autouse=True)
def gateway(lab, masq_up):
    wait_until_it_flows(lab)


class Proxy:
    """Says to each that connects whom it has and whom he meant, and gives back what he sends."""

    def __init__(self, lab):
        self._listening = lab.tcp("B", PROXY, listen=True, timeout_s=0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, peer = self._listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(3)
                    meant = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
                    port, address = struct.unpack("!2xH4s8x", meant)
                    connection.sendall(f"{peer[0]} {socket.inet_ntoa(address)}:{port}\n".encode())
                    while data := connection.recv(65536):
                        connection.sendall(data)

    def close(self):
        self._stop.set()
        self._thread.join()
        self._listening.close()


@pytest.fixture
def proxy(lab):
    it = Proxy(lab)
    yield it
    it.close()


def told(lab, host, address, port=80, timeout_s=5):
    """What the proxy tells the host; without one, what is wrong."""
    with lab.tcp(host, timeout_s=timeout_s) as client:
        try:
            client.connect((address, port))
            return client.recv(100).decode().strip()
        except OSError as problem:
            return str(problem)


def fetched(lab, host):
    return lab.run(host, curl_argv(f"http://{S2}/whoami") + ["--connect-timeout", "2"]).stdout


def redirect_the_web(lab):
    ipchains(lab, f"-A input -i in0 -p tcp -s 192.168.2.0/24 -d 0/0 80 -j REDIRECT {PROXY}")


def flows_to(lab, address):
    return [line for line in lab.masq("flows").stdout.splitlines() if address in line]


def test_a_proxy_gets_it_and_learns_what_was_meant(lab, proxy):
    redirect_the_web(lab)
    for host in ("S4", "S5"):
        assert told(lab, host, S2) == f"{ADDRESS[host]} {S2}:80"
    assert told(lab, "S4", NOWHERE) == f"{S4} {NOWHERE}:80"
    # No flow is made for it, and the rest goes out as ever.
    assert not flows_to(lab, f"{S2}:80")
    assert pings(lab, "S4", S2)
    with lab.udp("S2", 8200) as server, lab.udp("S4") as client:
        client.sendto(b"out", (S2, 8200))
        assert receive(server)[1][0] == GATEWAY_OUTER


def test_much_goes_through_it_whole(lab, proxy):
    redirect_the_web(lab)
    data = bytes(range(256)) * 4096
    with lab.tcp("S4", timeout_s=5) as client:
        client.connect((S2, 80))
        assert client.recv(100).decode() == f"{S4} {S2}:80\n"
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data) and (part := client.recv(65536)):
            got += part
        sender.join()
    assert got == data


def test_one_source_port_to_two_servers(lab, proxy):
    redirect_the_web(lab)
    with lab.tcp("S4", 5555) as one, lab.tcp("S4", 5555) as other:
        one.connect((S2, 80))
        other.connect((S1, 80))
        assert one.recv(100).decode() == f"{S4} {S2}:80\n"
        one.shutdown(socket.SHUT_WR)
        assert other.recv(100).decode() == f"{S4} {S1}:80\n"


def test_names_are_asked_of_the_gateway(lab):
    """UDP, from one socket to two servers: each answer comes from the one that was asked."""
    ipchains(lab, f"-A input -i in0 -p udp -d 0/0 53 -j REDIRECT {DNS}")
    with lab.udp("B", DNS) as server, lab.udp("S4", 5353) as client:
        for address in (S2, "8.8.8.8"):
            client.sendto(address.encode(), (address, 53))
            question, asker = receive(server)
            assert question.decode() == address and asker[0] == S4
            server.sendto(b"answer " + question, asker)
            assert receive(client) == (b"answer " + question, (address, 53))


def test_without_a_number_the_port_stays(lab):
    ipchains(lab, "-A input -i in0 -p udp -d 198.51.100.0/24 -j REDIRECT")
    with lab.udp("B", 7777) as server, lab.udp("S4") as client:
        client.sendto(b"x", ("198.51.100.9", 7777))
        assert receive(server)[0] == b"x"


def test_from_outside_to_another_port(lab, proxy):
    """At a port that no mapping can have."""
    ipchains(lab, f"-A input -i out0 -p tcp -d {GATEWAY_OUTER} 40000 -j REDIRECT {PROXY}")
    assert told(lab, "S1", GATEWAY_OUTER, 40000) == f"{S1} {GATEWAY_OUTER}:40000"
    assert fetched(lab, "S4").startswith(GATEWAY_OUTER)


def test_it_begins_and_ends_with_the_rule(lab, proxy):
    assert fetched(lab, "S4").startswith(GATEWAY_OUTER)
    redirect_the_web(lab)
    assert told(lab, "S4", S2) == f"{S4} {S2}:80"
    ipchains(lab, "-F input")
    assert fetched(lab, "S4").startswith(GATEWAY_OUTER)
    if lab.datapath == "tc":
        assert lab.run("B", ["nft", "list", "tables"]).stdout.find("masq_own") < 0


def test_no_packet_of_it_leaves_whoever_deletes_the_table(lab, proxy):
    redirect_the_web(lab)
    outside = lab.capture("S2", filter_="tcp port 80")
    assert told(lab, "S4", S2) == f"{S4} {S2}:80"
    lab.run("B", ["nft", "delete", "table", "ip", "masq_own"], check=True)
    told(lab, "S4", S2, timeout_s=0.5)
    wait_until(lambda: told(lab, "S4", S2) == f"{S4} {S2}:80", "the table is there again")
    assert outside.packets() == []


@pytest.mark.only_labs(lambda options: options["datapath"] == "tc")  # else nothing goes on
def test_it_goes_on_without_masqd(lab, proxy):
    redirect_the_web(lab)
    lab.kill_daemon()
    assert told(lab, "S4", S2) == f"{S4} {S2}:80"
    assert lab.masq("up").returncode == 0
    assert told(lab, "S5", S2) == f"{S5} {S2}:80"


def test_the_rule_counts_and_says_so(lab, proxy):
    redirect_the_web(lab)
    assert told(lab, "S4", S2)
    listed = ipchains(lab, "-L input -n -v").stdout
    line = next(each for each in listed.splitlines() if "REDIRECT" in each)
    assert f"=> {PROXY}" in line and int(line.split()[0]) >= 4
    said = lab.masq("explain", "tcp", f"{S4}:5000", f"{S2}:80").stdout
    assert f"redirects it to the gateway itself, to tcp port {PROXY}" in said
    assert "redirected" in ipchains(lab, f"-C input -i in0 -p tcp -s {S4} 5000 -d {S2} 80").stdout
