"""The gateway's own traffic works, and never gets in the way of a mapping, nor a mapping in its."""

import struct
import subprocess

import pytest
from scapy.all import DNS, DNSQR

from lab import ADDRESS, GATEWAY_INNER, GATEWAY_OUTER, wait_until
from services import curl_argv, nslookup_argv
from traffic import external_of, pings, receive, receive_all

S2, S4 = ADDRESS["S2"], ADDRESS["S4"]

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture(scope="module", autouse=True)
def servers(lab, masq_up):
    lab.services.dnsmasq("S2")
    lab.services.sshd("B")


@pytest.mark.parametrize("host, target", [("S1", GATEWAY_OUTER), ("S6", GATEWAY_INNER),
                                          ("S6", GATEWAY_OUTER)])
def test_ssh_to_the_gateway(lab, host, target):
    done = lab.run(host, lab.services.ssh_argv(target, "echo", "logged in"))
    assert done.stdout == "logged in\n", done.stderr


@pytest.mark.parametrize("host, target", [("S1", GATEWAY_OUTER), ("S6", GATEWAY_INNER),
                                          ("S6", GATEWAY_OUTER)])
def test_the_gateway_answers_pings(lab, host, target):
    assert pings(lab, host, target, 3)


@pytest.mark.parametrize("target", [S2, ADDRESS["I1"], S4])
def test_the_gateway_pings_both_sides(lab, target):
    assert pings(lab, "B", target, 3)


def test_the_gateway_downloads_and_resolves_names(lab):
    answer = lab.run("B", curl_argv(f"http://{S2}/whoami"), check=True).stdout
    assert answer.split()[0] == GATEWAY_OUTER
    assert f"Address: {S2}" in lab.run("B", nslookup_argv("www.lab"), check=True).stdout


def test_the_gateway_traces(lab):
    output = lab.run("B", ["traceroute", "-n", "-q1", "-w2", ADDRESS["I1"]], check=True).stdout
    assert "192.168.1.250" in output and ADDRESS["I1"] in output


def test_netcat_to_the_gateways_inner_address(lab):
    server = lab.popen("B", ["nc", "-l", "-N", "2000"], stdin=subprocess.DEVNULL)
    talk = f"sleep 0.2; echo hello | nc -N -w 3 {GATEWAY_INNER} 2000"
    lab.run("S5", ["sh", "-c", talk], check=True)
    assert server.communicate(timeout=10)[0] == "hello\n"


def test_a_server_on_the_gateway_at_a_pool_port_is_reached_from_outside(lab):
    server = lab.udp("B", 5353)
    client = lab.udp("S1")
    client.sendto(b"question", (GATEWAY_OUTER, 5353))
    payload, peer = receive(server)
    assert payload == b"question" and peer[0] == ADDRESS["S1"]
    server.sendto(b"answer", peer)
    assert receive(client) == (b"answer", (GATEWAY_OUTER, 5353))


def ask(lab, host, server, protocol, timeout_s=5):
    """The address of www.lab that a name server says, or None if it says nothing at all."""
    question = bytes(DNS(id=53, rd=1, qd=DNSQR(qname="www.lab")))
    with (lab.udp if protocol == "udp" else lab.tcp)(host, timeout_s=timeout_s) as s:
        try:
            s.connect((server, 53))
            if protocol == "udp":
                s.send(question)
                answer = s.recv(1000)
            else:
                s.sendall(struct.pack("!H", len(question)) + question)
                answer = s.recv(1000)[2:]
        except TimeoutError:
            return None
    return DNS(answer).an.rdata


@pytest.fixture
def resolver(lab, servers, request):
    """A name server on the gateway that passes questions on to S2; what it was asked, by whom."""
    server = lab.services.dnsmasq("B", f"--server={S2}", "--log-queries", *request.param)
    yield lambda: (lab.directory / "B-dnsmasq.log").read_text()
    server.terminate()
    server.wait(timeout=5)
    # Its children, one for each TCP connection, hold its ports too.
    wait_until(lambda: not lab.processes("B", "dnsmasq"), "the children have ended")


EVERYWHERE, INSIDE_ONLY = [], [f"--listen-address={GATEWAY_INNER}", "--bind-interfaces"]


@pytest.mark.parametrize("resolver", [EVERYWHERE, INSIDE_ONLY], ids=["everywhere", "inside"],
                         indirect=True)
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_the_gateways_name_server_answers_inner_hosts(lab, resolver, protocol):
    for host in ("S4", "S5", "S6"):
        assert ask(lab, host, GATEWAY_INNER, protocol) == S2


@pytest.mark.parametrize("resolver", [EVERYWHERE], ids=["everywhere"], indirect=True)
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_who_reaches_a_name_server_that_listens_everywhere(lab, resolver, protocol):
    """Outer hosts do by the external address, as any service, and so do inner hosts; by the inner
    address nobody outside does. The gateway's own packet filter has the last word."""
    outer_hosts = ("S1", "A")
    for host in ("S4", *outer_hosts):
        assert ask(lab, host, GATEWAY_OUTER, protocol) == S2
    lab.routes_inwards()
    heard = resolver()
    assert all(f"from {ADDRESS[host]}" in heard for host in outer_hosts)
    for host in outer_hosts:
        assert ask(lab, host, GATEWAY_INNER, protocol, 0.3) is None
    assert resolver() == heard
    lab.run("B", ["nft", f"""table inet own {{ chain input {{ type filter hook input priority 0;
                             iifname "out0" {protocol} dport 53 drop; }}; }}"""], check=True)
    try:
        for host in outer_hosts:
            assert ask(lab, host, GATEWAY_OUTER, protocol, 0.3) is None
        assert resolver() == heard
        assert ask(lab, "S4", GATEWAY_INNER, protocol) == S2
    finally:
        lab.run("B", ["nft", "delete", "table", "inet", "own"], check=True)


@pytest.mark.parametrize("resolver", [INSIDE_ONLY], ids=["inside"], indirect=True)
def test_a_name_server_inside_does_not_show_outside(lab, resolver):
    """Not even by an error or a reset from port 53, which a mapping could have."""
    lab.routes_inwards()
    back = lab.capture("S1", filter_=f"src {GATEWAY_OUTER} or src {GATEWAY_INNER}")
    for address in (GATEWAY_OUTER, GATEWAY_INNER):
        for protocol in ("udp", "tcp"):
            assert ask(lab, "S1", address, protocol, 0.3) is None
    assert "from 192.168.1." not in resolver()
    assert [p for p in back.packets() if "IP" in p] == []


def test_netcat_from_a_pool_port_of_the_gateway(lab):
    server = lab.tcp("S2", 2001, listen=True)
    client = lab.popen("B", ["nc", "-p", "20000", "-w", "3", S2, "2001"], stdin=subprocess.PIPE)
    connection, peer = server.accept()
    assert peer[0] == GATEWAY_OUTER
    connection.sendall(b"hello\n")
    connection.close()
    assert client.communicate(timeout=10)[0] == "hello\n"


@pytest.mark.parametrize("host, address", [("S1", GATEWAY_OUTER), ("S6", GATEWAY_OUTER),
                                           ("S6", GATEWAY_INNER)])
def test_a_connection_to_the_gateway_outlives_the_socket_that_listened(lab, host, address):
    """As with `nc -l`, or a server that is restarted: only the connection is left on the port."""
    listener, client = lab.tcp("B", 2002, listen=True), lab.tcp(host)
    client.connect((address, 2002))
    connection, _ = listener.accept()
    listener.close()
    connection.settimeout(3)
    client.sendall(b"question")
    assert connection.recv(100) == b"question"
    connection.sendall(b"answer")
    assert client.recv(100) == b"answer"


def converse(server, own, own_peer, inner, inner_peer):
    """Each of the two hears what is meant for it and nothing else."""
    server.sendto(b"for the gateway", own_peer)
    server.sendto(b"for S4", inner_peer)
    assert receive_all(own) == [(b"for the gateway", (S2, 1194))]
    assert receive_all(inner) == [(b"for S4", (S2, 1194))]


def test_the_gateways_socket_before_an_inner_hosts_on_the_same_port(lab):
    server, own = lab.udp("S2", 1194), lab.udp("B", 1194)
    own_peer = external_of(own, server, (S2, 1194))
    inner = lab.udp("S4", 1194)
    inner_peer = external_of(inner, server, (S2, 1194))
    assert own_peer == (GATEWAY_OUTER, 1194)
    assert inner_peer != own_peer
    converse(server, own, own_peer, inner, inner_peer)


def test_the_gateways_socket_on_a_port_that_a_mapping_has_already(lab):
    server = lab.udp("S2", 1194)
    inner = lab.udp("S4", 1195)
    inner_peer = external_of(inner, server, (S2, 1194))
    own = lab.udp("B", inner_peer[1])
    own_peer = external_of(own, server, (S2, 1194))
    if lab.datapath == "user":
        # There the gateway's own packets have no mappings, so nothing gives them another port; what
        # was open goes on with the inner host (docs/configuration.md).
        assert own_peer == inner_peer
        server.sendto(b"for S4", inner_peer)
        assert receive(inner) == (b"for S4", (S2, 1194))
        return
    assert own_peer != inner_peer
    converse(server, own, own_peer, inner, inner_peer)


def test_a_mapping_never_gets_a_port_on_which_the_gateway_listens(lab):
    """Of a pool this large chance avoids one port; so the gateway holds a great many."""
    held = [lab.udp("B", port) for port in range(2000, 32000, 40)]
    taken = {s.getsockname()[1] for s in held}
    server = lab.udp("S2", 1196)
    given = {external_of(lab.udp("S5"), server, (S2, 1196))[1] for _ in range(100)}
    for s in held:
        s.close()
    assert not given & taken
