"""Rules for the gateway's own services and for what it sends itself: enforced on both datapaths
alike, and with bridges as interfaces too, whether nftables sees what they carry or not."""

import errno

import pytest
from scapy.all import IP

from cables import DeviceLab
from lab import ADDRESS, GATEWAY_INNER, GATEWAY_OUTER, wait_until
from test_rules import counted, ipchains, no_rules, refused  # noqa: F401 (a fixture)
from traffic import pings, receive, receive_all, wait_until_it_flows

S2, S4, S5 = (ADDRESS[name] for name in ("S2", "S4", "S5"))
SENDERS = [("S4", GATEWAY_INNER), ("S2", GATEWAY_OUTER)]

LAB_CLASS = DeviceLab
BRIDGES = {"outside": "bridge", "inside": "bridge"}
LABS = {"eth": {}, "bridges-seen": BRIDGES | {"bridges_seen": True},
        "bridges-unseen": BRIDGES | {"bridges_seen": False}}
DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("it_flows")
ALONE = pytest.mark.only_labs(lambda options: "outside" not in options)
IN_USER_SPACE = pytest.mark.only_labs(
    lambda options: "outside" not in options and options["datapath"] == "user")


@pytest.fixture(scope="module")
def it_flows(lab, masq_up):
    wait_until_it_flows(lab)


@pytest.fixture
def services(lab):
    """A TCP server and a UDP server of the gateway, for both sides."""
    tcp, udp = lab.tcp("B", 7300, listen=True), lab.udp("B", 7300, timeout_s=0.5)
    yield tcp, udp
    tcp.close()
    udp.close()


def table(lab):
    return lab.run("B", ["nft", "--stateless", "list", "table", "ip", "masq_own"]).stdout


def how_it_connects(lab, host, target, port=7300, timeout_s=0.6):
    """None if it does, else the error."""
    client = lab.tcp(host, timeout_s=timeout_s)
    with client:
        try:
            client.connect((target, port))
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as problem:
            return problem.errno
    return None


def datagram_arrives(lab, services, host, target):
    receive_all(services[1], wait_s=0.05)
    services[1].settimeout(0.5)
    with lab.udp(host) as client:
        client.sendto(b"hello", (target, 7300))
        return receive(services[1]) is not None


def send_from_gateway(lab, data, to, by=None):
    try:
        (by or lab.udp("B")).sendto(data, to)
    except PermissionError:
        assert lab.datapath == "user"  # the kernel says so at once, where it judges by itself


@pytest.mark.parametrize("target", ["DENY", "REJECT"])
@pytest.mark.parametrize("host, address", SENDERS)
def test_what_a_rule_refuses_never_reaches_a_service(lab, services, host, address, target):
    assert how_it_connects(lab, host, address) is None
    assert datagram_arrives(lab, services, host, address)
    for protocol in ("tcp", "udp"):
        ipchains(lab, f"-A input -p {protocol} -d {address} 7300 -j {target}")
    answers = lab.capture(host, filter_=f"tcp and src host {address}")
    for _ in range(1 if target == "DENY" else 10):
        assert how_it_connects(lab, host, address) == (
            errno.ETIMEDOUT if target == "DENY" else errno.ECONNREFUSED)
    assert not datagram_arrives(lab, services, host, address)
    assert not answers.packets()  # not one SYN with ACK, nor a reset
    other = [each for each in SENDERS if each[0] != host][0]
    assert how_it_connects(lab, *other) is None  # another destination
    ipchains(lab, "-F input")
    assert how_it_connects(lab, host, address) is None
    assert datagram_arrives(lab, services, host, address)


def test_the_policy_and_an_exception_by_interface_and_by_user_chain(lab, services):
    ipchains(lab, "-P input DENY")
    for host, address in SENDERS:
        assert how_it_connects(lab, host, address) == errno.ETIMEDOUT
    ipchains(lab, "-N good")
    ipchains(lab, f"-A good -s {S5} -j RETURN")
    ipchains(lab, "-A good -p tcp --dport 7300 -j ACCEPT")
    ipchains(lab, "-A input -i in+ -j good")
    assert how_it_connects(lab, "S4", GATEWAY_INNER) is None
    assert how_it_connects(lab, "S5", GATEWAY_INNER) == errno.ETIMEDOUT
    assert how_it_connects(lab, "S2", GATEWAY_OUTER) == errno.ETIMEDOUT
    ipchains(lab, "-A input ! -i in0 -p tcp ! -s 192.168.1.3 -j ACCEPT")
    assert how_it_connects(lab, "S2", GATEWAY_OUTER) is None
    assert how_it_connects(lab, "S3", GATEWAY_OUTER) == errno.ETIMEDOUT


def test_chains_in_a_circle_refuse_where_they_close(lab, services):
    for name in ("one", "two"):
        ipchains(lab, f"-N {name}")
    ipchains(lab, f"-A two -s {S5} -j ACCEPT")
    ipchains(lab, "-A two -j one")
    ipchains(lab, "-A one -p tcp -j two")
    ipchains(lab, f"-A input -d {GATEWAY_INNER} -j one")
    before = refused(lab, "rules_loop")
    assert how_it_connects(lab, "S4", GATEWAY_INNER) == errno.ETIMEDOUT
    assert refused(lab, "rules_loop") > before
    assert how_it_connects(lab, "S5", GATEWAY_INNER) is None
    assert pings(lab, "S4", GATEWAY_INNER) == 1  # fits no rule of the circle


def test_each_packet_for_the_gateway_counts_once(lab):
    ipchains(lab, f"-A input -p icmp -s {S4}")
    ipchains(lab, f"-A input -p icmp -s {S5} -j DENY")
    assert pings(lab, "S4", GATEWAY_INNER, 5, "-s", 100)
    assert not pings(lab, "S5", GATEWAY_INNER, 3, "-s", 100)
    assert counted(lab, "input") == [("-", 5, 5 * 128), ("DENY", 3, 3 * 128)]


@pytest.mark.parametrize("host, target", [("S2", S2), ("S4", S4)])
def test_what_the_gateway_sends_passes_output_and_is_counted(lab, host, target):
    with lab.udp(host, 7301, timeout_s=0.5) as server, lab.udp("B", 7302) as client:
        ipchains(lab, f"-A output -p udp -d {target} 7301")
        ipchains(lab, "-N no")
        ipchains(lab, "-A no -p udp --sport 7302 -j DENY")
        client.sendto(b"x" * 72, (target, 7301))
        assert receive(server)[0] == b"x" * 72
        ipchains(lab, f"-A output -d {target} -j no")
        for _ in range(3):
            send_from_gateway(lab, b"x" * 72, (target, 7301), client)
        assert receive(server) is None
    # One before the second rule was there; counters go on through changes.
    assert counted(lab, "output") == [("-", 4, 400), ("no", 3, 300)]
    assert counted(lab, "no") == [("DENY", 3, 300)]
    ipchains(lab, "-Z")
    assert counted(lab, "output") == [("-", 0, 0), ("no", 0, 0)]


def test_return_in_output_is_its_policy(lab):
    ipchains(lab, "-P output DENY")
    ipchains(lab, f"-A output -d {S4} -p udp --dport 7301 -j RETURN")
    ipchains(lab, "-A output -j ACCEPT")
    with lab.udp("S4", 7301, timeout_s=0.4) as at_s4, lab.udp("S5", 7301) as at_s5:
        send_from_gateway(lab, b"x", (S4, 7301))
        assert receive(at_s4) is None
        send_from_gateway(lab, b"xx", (S5, 7301))
        assert receive(at_s5) is not None
    assert counted(lab, "output")[0] == ("RETURN", 1, 29)
    assert "policy DENY: 1 packets, 29 bytes" in ipchains(lab, "-L output -v -x -n").stdout


def test_output_knows_the_interface_where_it_goes_out(lab):
    ipchains(lab, "-A output -i out0 -p icmp -j REJECT")
    assert not pings(lab, "B", S2, timeout_s=0.4)
    assert pings(lab, "B", S4)
    assert not pings(lab, "S2", GATEWAY_OUTER, timeout_s=0.4)  # nor does the answer leave
    assert pings(lab, "B", "127.0.0.1") and pings(lab, "B", GATEWAY_INNER)


def test_the_gateway_sends_with_the_type_of_service_that_rules_say(lab):
    ipchains(lab, f"-A output -d {S2} -t 0x01 0x10")
    ipchains(lab, f"-A output -d {S4} -t 0xe1 0x08")
    for host, target, tos in (("S2", S2, 0x12), ("S4", S4, 0xea)):
        at = lab.capture(host, filter_="icmp[icmptype] == icmp-echo")
        lab.run("B", ["ping", "-n", "-c1", "-W1", "-Q", "0xe6", target], check=True)
        assert [p[IP].tos for p in at.packets()] == [tos]


@ALONE
def test_later_fragments_are_seen_one_by_one(lab):
    ipchains(lab, f"-A input -f -s {S4} -j DENY")
    assert not pings(lab, "S4", GATEWAY_INNER, 1, "-s", 3000, timeout_s=0.4)
    assert pings(lab, "S5", GATEWAY_INNER, 1, "-s", 3000)
    assert counted(lab, "input") == [("DENY", 2, 1500 + 68)]


def test_fragments_cannot_hide_a_port(lab, services):
    ipchains(lab, "-A input -p udp --dport 7300 -j DENY")
    with lab.udp("S4") as client:
        client.sendto(b"x" * 3000, (GATEWAY_INNER, 7300))
        client.sendto(b"x" * 3000, (GATEWAY_INNER, 7301))
    assert receive(services[1]) is None


def test_inner_hosts_do_not_feel_it(lab, services):
    """What is for their mappings is not for the gateway, though it is addressed to it."""
    ipchains(lab, "-A input -i in0 -d 192.168.2.1 -j DENY")
    ipchains(lab, f"-A output -s {GATEWAY_INNER} -j DENY")
    assert pings(lab, "S4", S2, 3, "-s", 3000)
    assert not pings(lab, "S4", GATEWAY_INNER, timeout_s=0.4)


def test_it_stays_so_without_masqd_and_can_be_changed_then(lab, services):
    ipchains(lab, "-A input -p tcp --dport 7300 -j DENY")
    lab.kill_daemon()
    for host, address in SENDERS:
        assert how_it_connects(lab, host, address) == errno.ETIMEDOUT
    ipchains(lab, "-R input 1 -p tcp --dport 7300 -i in0 -j DENY")
    assert how_it_connects(lab, "S4", GATEWAY_INNER) == errno.ETIMEDOUT
    assert how_it_connects(lab, "S2", GATEWAY_OUTER) is None
    assert lab.masq("up").returncode == 0
    assert how_it_connects(lab, "S4", GATEWAY_INNER) == errno.ETIMEDOUT
    assert how_it_connects(lab, "S2", GATEWAY_OUTER) is None


# --- the table -----------------------------------------------------------------------------------


def test_there_is_a_table_only_where_it_is_needed(lab):
    assert not table(lab)
    ipchains(lab, "-A forward -s 192.168.2.0/24 -j MASQ")
    assert not table(lab)
    ipchains(lab, "-A input -j ACCEPT")
    assert bool(table(lab)) == (lab.datapath == "user")
    ipchains(lab, "-F")
    assert not table(lab)


@IN_USER_SPACE
def test_who_takes_it_away_or_changes_it_finds_it_again(lab, services):
    ipchains(lab, "-A input -p tcp --dport 7300 -j DENY")
    ipchains(lab, "-A output -p udp --dport 9 -j DENY")
    rules = table(lab)
    for by in ("delete table ip masq_own", "flush ruleset", "flush table ip masq_own",
               "insert rule ip masq_own prerouting accept"):
        lab.run("B", ["nft", *by.split()], check=True)
        # The generation, by which a chain is named, is another one.
        wait_until(lambda: len(table(lab)) == len(rules), f"it is as before after {by}")
        assert how_it_connects(lab, "S4", GATEWAY_INNER, timeout_s=0.3) == errno.ETIMEDOUT
    lab.kill_daemon()
    lab.run("B", ["nft", "flush", "ruleset"], check=True)
    assert lab.masq("up").returncode == 0
    assert len(table(lab)) == len(rules)


@IN_USER_SPACE
def test_what_cannot_be_changes_nothing(lab, services):
    """One chain deeper than nftables can have it; and so many ways that the kernel could hang."""
    ipchains(lab, "-A input -p tcp --dport 7300 -j DENY")
    for i in range(16):
        ipchains(lab, f"-N c{i}")
    for i in range(15):
        ipchains(lab, f"-A c{i} -j c{i + 1}")
    ipchains(lab, "-A input -j c1")  # 15 chains
    before, listed = table(lab), ipchains(lab, "-L -n").stdout
    done = ipchains(lab, "-A input -j c0", check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no more than 15 chains can lead into each other" in done.stderr
    assert (table(lab), ipchains(lab, "-L -n").stdout) == (before, listed)
    ipchains(lab, "-D input 2")
    for i in range(1, 14):
        ipchains(lab, f"-A c{i} -j c{i + 1}")
    before = table(lab)
    done = ipchains(lab, "-A input -j c1", check=False)
    assert done.returncode == 1 and "could pass more than 16384 rules" in done.stderr
    assert table(lab) == before
    assert how_it_connects(lab, "S4", GATEWAY_INNER) == errno.ETIMEDOUT


@IN_USER_SPACE
def test_down_removes_it_and_what_is_left_of_another_gateway_goes(lab, services):
    ipchains(lab, "-A input -p tcp --dport 7300 -j DENY")
    assert table(lab)
    assert lab.masq("down").returncode == 0
    assert not table(lab)
    ipchains(lab, "-A input -p tcp --dport 7300 -j DENY")  # kept for `masq up`
    assert not table(lab)
    assert lab.masq("up").returncode == 0
    assert how_it_connects(lab, "S4", GATEWAY_INNER) == errno.ETIMEDOUT
    assert lab.masq("down").returncode == 0
    lab.run("B", ["nft", "add table ip masq_own; add chain ip masq_own prerouting "
                  "{ type filter hook prerouting priority -449; policy drop; }"], check=True)
    assert lab.masq("up").returncode == 0
    assert not table(lab)
    assert how_it_connects(lab, "S4", GATEWAY_INNER) is None
