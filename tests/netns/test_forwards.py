"""Forwards with real traffic: what hosts outside and inside reach by the external address."""

import json
import socket

import pytest
from scapy.all import ICMP, IP

from lab import ADDRESS, BINARIES, GATEWAY_OUTER, wait_until
from services import curl_argv
from test_address_change import renumber
from traffic import pings

A, S1, S2, S3, S4, S5, S7, I1 = (
    ADDRESS[name] for name in ("A", "S1", "S2", "S3", "S4", "S5", "S7", "I1"))
SECOND_OUTER = "192.168.1.253"

DATAPATHS = ["tc", "user"]
LAB = {"second_inner": True}


@pytest.fixture(scope="module", autouse=True)
def servers_and_gateway(lab):
    lab.services.nginx("S4")
    lab.services.nginx("S5")
    forward(lab, "add tcp 8000 192.168.2.4:80")  # waits for `masq up`
    assert lab.masq("up").returncode == 0


@pytest.fixture(autouse=True)
def no_forwards(lab):
    """Each test ends as it began, with none but the first one."""
    yield
    for each in listed(lab):
        if each["first_port"] != 8000:
            forward(lab, f"remove {each['number']}")


def forward(lab, words, check=True):
    done = lab.masq("forward", *words.split())
    assert not check or done.returncode == 0, f"masq forward {words}: {done.stderr}"
    return done


def listed(lab):
    return json.loads(lab.masq("forward", "list", "--json").stdout)["forwards"]


def old_command(lab, line):
    words = line.split()
    done = lab.run("B", [str(BINARIES / words[0]), *words[1:]])
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def fetch(lab, host, address):
    """What the server says of who asks; empty if it cannot be reached in a second or two."""
    asked = lab.run(host, curl_argv(f"http://{address}/whoami") + ["--connect-timeout", "2"])
    return asked.stdout.split(" ")[0]


def test_hosts_outside_reach_an_inner_server_by_the_external_address(lab):
    for host in ("S1", "A", "I1"):
        assert fetch(lab, host, f"{GATEWAY_OUTER}:8000") == ADDRESS[host]
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8001") == ""
    assert fetch(lab, "S1", f"{S4}:80") == ""


def test_what_is_said_of_it(lab):
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8000") == S1
    flows = json.loads(lab.masq("flows", "--json").stdout)
    assert {(each["internal"], each["external"], each["shares_port"]) for each in flows
            if each["forward"] == 0} == {(f"{S4}:80", f"{GATEWAY_OUTER}:8000", False)}
    assert "forward 0" in lab.masq("hosts").stdout
    said = lab.masq("explain", "tcp", f"{S1}:3000", f"{GATEWAY_OUTER}:8000").stdout
    assert "let in by forward 0" in said and f"> {S4}:80" in said
    said = lab.masq("explain", "tcp", f"{S1}:3000", f"{GATEWAY_OUTER}:8001").stdout
    assert "forward 0" not in said


def test_inner_hosts_reach_it_too_and_are_seen_with_the_external_address(lab):
    for host in ("S4", "S5", "S7"):
        assert fetch(lab, host, f"{GATEWAY_OUTER}:8000") == GATEWAY_OUTER


def test_the_gateway_outside_has_no_port_but_the_forwards(lab):
    """Nothing answers twice: no reset and no error of the gateway's own beside the inner host's;
    at a port that mappings could have, and at one that they could not."""
    forward(lab, "add tcp 40080 192.168.2.4:80")
    at_s1 = lab.capture("S1", filter_=f"src host {GATEWAY_OUTER} and "
                                      "(icmp or tcp[tcpflags] & tcp-rst != 0)")
    for port in (8000, 40080):
        assert fetch(lab, "S1", f"{GATEWAY_OUTER}:{port}") == S1
    assert at_s1.packets() == []


def test_ranges_keep_the_place_of_each_port(lab):
    forward(lab, "add udp 5000-5010 192.168.2.5:6000")
    server, client = lab.udp("S5", 6007), lab.udp("S2", 4000)
    client.sendto(b"in", (GATEWAY_OUTER, 5007))
    message, sender = server.recvfrom(100)
    assert (message, sender) == (b"in", (S2, 4000))
    server.sendto(b"out", sender)
    assert client.recvfrom(100) == (b"out", (GATEWAY_OUTER, 5007))


def test_several_inner_hosts_take_turns(lab):
    forward(lab, "add udp 5100 192.168.2.4:5100@2 192.168.2.5:5100@1")
    one, other = lab.udp("S4", 5100), lab.udp("S5", 5100)
    for number in range(6):
        lab.udp("S2", 4100 + number).sendto(b"%d" % number, (GATEWAY_OUTER, 5100))
    assert [one.recv(10) for _ in range(4)] == [b"0", b"1", b"3", b"4"]
    assert [other.recv(10) for _ in range(2)] == [b"2", b"5"]
    assert [each["flows"] for each in listed(lab) if each["first_port"] == 5100] == [6]


def test_senders_that_it_is_not_for(lab):
    forward(lab, f"add tcp 8080 192.168.2.5:80 --from {S1} --from 198.51.100.0/24")
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8080") == S1
    assert fetch(lab, "I1", f"{GATEWAY_OUTER}:8080") == I1
    assert fetch(lab, "S2", f"{GATEWAY_OUTER}:8080") == ""
    assert fetch(lab, "S4", f"{GATEWAY_OUTER}:8080") == ""
    assert [each["refused"] > 0 for each in listed(lab) if each["first_port"] == 8080] == [True]


def test_one_to_one_both_ways(lab):
    lab.ip("B", f"addr add {SECOND_OUTER}/24 dev out0")
    try:
        forward(lab, f"add all {S5} --at {SECOND_OUTER}")
        wait_until(lambda: pings(lab, "S2", SECOND_OUTER) == 1, "pings are led on")
        assert fetch(lab, "S2", SECOND_OUTER) == S2
        assert fetch(lab, "S4", SECOND_OUTER) in (GATEWAY_OUTER, SECOND_OUTER)
        assert fetch(lab, "S4", S2) == GATEWAY_OUTER
    finally:
        lab.ip("B", f"addr del {SECOND_OUTER}/24 dev out0")


def test_errors_about_what_was_forwarded_reach_the_sender(lab):
    forward(lab, "add udp 5200 192.168.2.5:5200")
    client = lab.udp("S2", 4200)
    client.connect((GATEWAY_OUTER, 5200))
    at_s2 = lab.capture("S2", filter_="icmp[icmptype] == icmp-unreach")
    client.send(b"nobody listens")
    with pytest.raises(ConnectionRefusedError):
        client.recv(10)
    [error] = at_s2.packets()
    quoted = error[ICMP].payload
    assert error[IP].src == GATEWAY_OUTER and quoted.dst == GATEWAY_OUTER
    assert quoted.payload.dport == 5200


def test_it_follows_the_external_address(lab):
    for old, new in ((GATEWAY_OUTER, SECOND_OUTER), (SECOND_OUTER, GATEWAY_OUTER)):
        renumber(lab, old, new)
        wait_until(lambda: fetch(lab, "S1", f"{new}:8000") == S1,
                   "the forward is at the new address")
        wait_until(lambda: fetch(lab, "S1", f"{old}:8000") == "", "the old address is forgotten")


def test_what_goes_on_without_its_forward(lab):
    forward(lab, "add tcp 8300 192.168.2.5:8300")
    server = lab.tcp("S5", 8300, listen=True)
    client = lab.tcp("S2")
    client.connect((GATEWAY_OUTER, 8300))
    taken, _ = server.accept()
    forward(lab, "remove tcp 8300 192.168.2.5:8300")
    client.sendall(b"still")
    assert taken.recv(10) == b"still"
    late = lab.tcp("S2", timeout_s=1.0)
    with pytest.raises((ConnectionRefusedError, socket.timeout, TimeoutError)):
        late.connect((GATEWAY_OUTER, 8300))


def test_a_forward_comes_before_a_server_of_the_gateways_own(lab):
    lab.services.nginx("B")
    assert fetch(lab, "S2", f"{GATEWAY_OUTER}:80") == S2
    forward(lab, "add tcp 80 192.168.2.5:80")
    assert fetch(lab, "S2", f"{GATEWAY_OUTER}:80") == S2
    assert lab.services.access_log("S5")[-1][0] == S2
    assert fetch(lab, "S4", "192.168.2.1") == S4  # the inner side stays


def test_wrong_words_change_nothing(lab):
    before = listed(lab)
    for words, code in (
            ("add tcp 0 192.168.2.5", 2), ("add tcp 80", 2), ("add sctp 80 192.168.2.5", 2),
            ("add tcp 90-80 192.168.2.5", 2), ("add tcp 80 192.168.2.5:99999", 2),
            ("add all 192.168.2.5", 2), ("add tcp 80 192.168.2.5 --from 10.0.0.1/8", 2),
            ("add tcp 8000 192.168.2.5", 1), ("add tcp 7000-9000 192.168.2.5", 1),
            ("remove 200", 1), ("remove tcp 81 192.168.2.5", 1), ("remove", 2), ("add", 2)):
        done = forward(lab, words, check=False)
        assert (done.returncode, done.stderr.count("\n"), done.stdout) == (code, 1, ""), words
    assert [each["number"] for each in listed(lab)] == [each["number"] for each in before]


def test_it_outlives_the_daemon_and_changes_without_it(lab):
    if lab.datapath == "user":
        return
    lab.kill_daemon()
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8000") == S1
    forward(lab, "add tcp 8400 192.168.2.5:80")
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8400") == S1
    assert lab.masq("up").returncode == 0
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8400") == S1
    forward(lab, "remove tcp 8400 192.168.2.5:80")
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8400") == ""


def test_forwards_of_the_configuration(lab, tmp_path):
    """They come with it and go with it; what else was added stays."""
    assert lab.masq("down").returncode == 0
    config = tmp_path / "masq.toml"
    config.write_text(f'datapath = "{lab.datapath}"\n'
                      'forwards = ["tcp 8000 192.168.2.4:80", "tcp 8500 192.168.2.5:80"]\n')
    up = lab.masq("up", "--config", str(config))
    assert up.returncode == 0, up.stdout + up.stderr
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8500") == S1
    assert [each["made_by"] for each in listed(lab)] == ["config", "config"]
    forward(lab, "add tcp 8600 192.168.2.5:80")
    lab.kill_daemon()
    config.write_text(f'datapath = "{lab.datapath}"\nforwards = ["tcp 8000 192.168.2.4:80"]\n')
    assert lab.masq("up", "--config", str(config)).returncode == 0
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8500") == ""
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8000") == S1
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8600") == S1
    config.write_text('forwards = ["tcp 80 192.168.2.4", "tcp 1-99 192.168.2.5"]\n')
    wrong = lab.masq("check", str(config))
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1 and ":1: " in wrong.stderr
    config.write_text('forwards = ["tcp 80 nobody"]\n')
    wrong = lab.masq("check", str(config))
    assert wrong.returncode == 1 and "nobody" in wrong.stderr and wrong.stderr.count("\n") == 1


def test_portfw(lab):
    old_command(lab, f"ipmasqadm portfw -a -P tcp -L {GATEWAY_OUTER} 8700 -R {S5} 80")
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8700") == S1
    assert f"{S5}" in old_command(lab, "ipmasqadm portfw -l -n")
    assert [each["made_by"] for each in listed(lab) if each["first_port"] == 8700] == ["portfw"]
    old_command(lab, f"ipportfw -D -t{GATEWAY_OUTER}/8700")
    assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8700") == ""


def test_mfw(lab):
    """What the rules mark goes to the inner host, from whatever port."""
    old_command(lab, f"ipmasqadm mfw -A -m 5 -r {S5} 80")
    old_command(lab, f"ipchains -A input -p tcp -d {GATEWAY_OUTER} 8800:8810 -m 5")
    try:
        assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8805") == S1
        assert fetch(lab, "S1", f"{GATEWAY_OUTER}:8811") == ""
    finally:
        old_command(lab, "ipchains -F input")


def test_autofw(lab):
    """An inner host that sends to the control port has the ports for a while."""
    old_command(lab, "ipmasqadm autofw -A -r udp 7000 7010 -c udp 7999")
    receiver, sender = lab.udp("S5", 7005), lab.udp("S2", 4300)
    sender.sendto(b"early", (GATEWAY_OUTER, 7005))
    control = lab.udp("S2", 7999)
    lab.udp("S5", 7998).sendto(b"control", (S2, 7999))
    assert control.recv(10) == b"control"
    sender.sendto(b"asked", (GATEWAY_OUTER, 7005))
    assert receiver.recv(10) == b"asked"
