"""Filtering by choice (RFC 4787 section 5): who may send to the mappings of which inner host."""

import json

import pytest

from lab import ADDRESS
from traffic import external_of, receive

S2, S3 = ADDRESS["S2"], ADDRESS["S3"]
DATAPATHS = ["tc", "user"]


@pytest.fixture(scope="module", autouse=True)
def up(lab):
    """The network of both hosts has a rule too, and theirs count: they are longer."""
    done = lab.masq("up", "--filtering-for", f"{ADDRESS['S4']}/31=apdf",
                    "--filtering-for", f"{ADDRESS['S4']}=eif",
                    "--filtering-for", f"{ADDRESS['S5']}/32=adf")
    assert done.returncode == 0, done.stderr


def arrives(lab, host, port):
    """Which of three kinds of sender reach the mapping that `host` has by sending to S2:port."""
    asked, client = lab.udp("S2", port), lab.udp(host, port, timeout_s=0.4)
    external = external_of(client, asked, (S2, port))
    senders = {"asked": asked, "same address": lab.udp("S2", port + 1),
               "stranger": lab.udp("S3", port)}
    for sender in senders.values():
        sender.sendto(b"unasked", external)
    come = {receive(client) for _ in senders} - {None}
    froms = {"asked": (S2, port), "same address": (S2, port + 1), "stranger": (S3, port)}
    return {who for who, endpoint in froms.items() if (b"unasked", endpoint) in come}


@pytest.mark.parametrize("host, who", [("S4", {"asked", "same address", "stranger"}),
                                       ("S5", {"asked", "same address"}),
                                       ("S6", {"asked"})])
def test_each_host_is_reached_by_whom_its_filtering_lets_in(lab, host, who):
    assert arrives(lab, host, 8000) == who


def test_a_stranger_leaves_no_flow_until_he_is_answered(lab):
    server, client = lab.udp("S2", 8100), lab.udp("S4", 8100)
    external = external_of(client, server, (S2, 8100))
    stranger = lab.udp("S3", 8100)
    stranger.sendto(b"hello", external)
    assert receive(client) == (b"hello", (S3, 8100))
    assert remotes(lab, 8100) == {f"{S2}:8100"}
    client.sendto(b"answer", (S3, 8100))
    assert receive(stranger) == (b"answer", external)
    assert remotes(lab, 8100) == {f"{S2}:8100", f"{S3}:8100"}


def remotes(lab, port):
    flows = json.loads(lab.masq("flows", "--json").stdout)
    return {f["remote"] for f in flows if f["internal"] == f"{ADDRESS['S4']}:{port}"}


def test_tcp_from_a_stranger_to_an_open_mapping(lab):
    """A peer listens on the port from which it has connected, as peer-to-peer programs do."""
    listener = lab.tcp("S2", 8200, listen=True)
    first = lab.tcp("S4", 8200)
    first.connect((S2, 8200))
    external = listener.accept()[1]
    first.close()
    inner = lab.tcp("S4", 8200, listen=True)
    stranger = lab.tcp("S3", 8200)
    stranger.connect(external)
    accepted, peer = inner.accept()
    assert peer == (S3, 8200)
    stranger.sendall(b"x" * 500000)
    got = 0
    while got < 500000:
        got += len(accepted.recv(65536))
    state = [f["state"] for f in json.loads(lab.masq("flows", "--json").stdout)
             if f["remote"] == f"{S3}:8200"]
    assert state == ["established"]


def test_nobody_reaches_a_closed_host_by_tcp(lab):
    listener = lab.tcp("S2", 8300, listen=True)
    first = lab.tcp("S6", 8300)
    first.connect((S2, 8300))
    external = listener.accept()[1]
    first.close()
    lab.tcp("S6", 8300, listen=True)
    stranger = lab.tcp("S3", 8300, timeout_s=1)
    with pytest.raises(TimeoutError):
        stranger.connect(external)


def test_it_is_shown(lab):
    status = json.loads(lab.masq("status", "--json").stdout)
    assert status["filtering"] == "address- and port-dependent"
    assert status["filtering_for"] == [
        {"network": f"{ADDRESS['S4']}/32", "filtering": "endpoint-independent"},
        {"network": f"{ADDRESS['S5']}/32", "filtering": "address-dependent"},
        {"network": f"{ADDRESS['S4']}/31", "filtering": "address- and port-dependent"}]
    client = lab.udp("S5", 8400)
    external_of(client, lab.udp("S2", 8400), (S2, 8400))
    [mapping] = [m for m in json.loads(lab.masq("mappings", "--json").stdout)
                 if m["internal"] == f"{ADDRESS['S5']}:8400"]
    assert mapping["filtering"] == "address-dependent" and mapping["flows"] == 1
    assert f"endpoint-independent for {ADDRESS['S4']}/32" in lab.masq("status").stdout


def test_it_changes_with_a_take_over(lab):
    lab.kill_daemon()
    assert lab.masq("up", "--filtering", "eif").returncode == 0
    assert arrives(lab, "S6", 8500) == {"asked", "same address", "stranger"}


@pytest.mark.parametrize("rule", ["", "eif", "=eif", "192.168.2.4=", "192.168.2.4=open",
                                  "192.168.2.4/33=eif", "192.168.2.4/24=eif", "s4=eif"])
def test_a_rule_that_is_none_is_refused(lab, rule):
    done = lab.masq("up", "--filtering-for", rule)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
