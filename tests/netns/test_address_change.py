"""The outer address changes while inner hosts are busy."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from scapy.all import IP

from lab import ADDRESS, GATEWAY_OUTER, wait_until
from traffic import KNOCK, external_of, receive_all, wait_until_it_flows

S2 = ADDRESS["S2"]
NEW_ADDRESS = "192.168.1.253"
SETTLE_S = 0.5  # the news has to reach masq

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


def renumber(lab, old, new):
    """As a DHCP client does it: the new address, then away with the old one, then the route."""
    lab.sysctl("B", {"net.ipv4.conf.out0.promote_secondaries": 1})
    lab.ip("B", f"addr add {new}/24 dev out0", f"addr del {old}/24 dev out0",
           "route replace default via 192.168.1.250")
    return time.time()


@pytest.mark.parametrize("old, new", [(GATEWAY_OUTER, NEW_ADDRESS), (NEW_ADDRESS, GATEWAY_OUTER)])
def test_new_flows_use_the_new_address_and_nothing_leaves_with_the_old_one(lab, old, new):
    server, client = lab.udp("S2", 9100), lab.udp("S6", 9100)
    assert external_of(client, server, (S2, 9100))[0] == old
    outside = lab.capture_gateway_outside(filter_extra="ip")
    pinger = lab.popen("S5", ["ping", "-n", "-q", "-i", "0.01", S2])
    changed_at = renumber(lab, old, new)
    time.sleep(SETTLE_S)
    wait_until_it_flows(lab)
    # The same inner endpoint, which had a mapping on the old address.
    receive_all(server, wait_s=0.1)
    server.settimeout(2)
    assert external_of(client, server, (S2, 9100))[0] == new
    time.sleep(0.5)
    pinger.terminate()
    packets = outside.packets()
    late = [p.summary() for p in packets if p[IP].src != new and p.time > changed_at + SETTLE_S]
    assert late == []
    assert any(p[IP].src == new for p in packets)


def test_what_is_sent_to_the_old_address_reaches_nobody(lab):
    server, client = lab.udp("S2", 9101), lab.udp("S6", 9101)
    old_address, old_port = external_of(client, server, (S2, 9101))
    renumber(lab, GATEWAY_OUTER, NEW_ADDRESS)
    time.sleep(SETTLE_S)
    wait_until_it_flows(lab)
    # S2 still knows the way to the old address, even though nobody answers for it any more.
    lab.ip("S2", f"neigh replace {old_address} lladdr 02:00:c0:a8:01:fe dev eth0")
    server.sendto(KNOCK, (old_address, old_port))
    server.sendto(KNOCK, (NEW_ADDRESS, old_port))
    assert receive_all(client) == []


def test_a_second_outer_address_that_comes_and_goes_changes_nothing(lab):
    server, client = lab.udp("S2", 9102), lab.udp("S6", 9102)
    before = external_of(client, server, (S2, 9102))
    lab.ip("B", "addr add 192.168.1.240/24 dev out0")
    time.sleep(SETTLE_S)
    assert external_of(client, server, (S2, 9102)) == before
    lab.ip("B", "addr del 192.168.1.240/24 dev out0")
    time.sleep(SETTLE_S)
    assert external_of(client, server, (S2, 9102)) == before


# --- connections, and addresses that come back ----------------------------------------------------

ROUTE = "route replace default via 192.168.1.250"
# What masqd itself sends, and the programs do not.
WITHOUT_RESETS_OF_MASQD = """table ip own_resets {
  chain output { type filter hook output priority 0; oifname "in0" tcp flags rst counter drop; }
}
"""
# A server that does not hear the old address.
DEAF = f"""table ip deaf {{
  chain input {{ type filter hook input priority 0; ip saddr {GATEWAY_OUTER} tcp dport 9115 drop; }}
}}
"""


@pytest.fixture
def address(lab):
    """The address that B has; put back at the end, and all as it was at the beginning."""
    def only(new):
        for old in {GATEWAY_OUTER, NEW_ADDRESS} - {new}:
            lab.run("B", ["ip", "addr", "del", f"{old}/24", "dev", "out0"])
        lab.ip("B", f"addr replace {new}/24 dev out0", ROUTE)
        wait_until_it_flows(lab)

    only(GATEWAY_OUTER)
    yield GATEWAY_OUTER
    lab.run("B", ["nft", "delete", "table", "ip", "own_resets"])
    only(GATEWAY_OUTER)


def connection(lab, port):
    """(client, server) of an open TCP connection from S6 to S2, over which a word has gone."""
    listener, client = lab.tcp("S2", port, listen=True), lab.tcp("S6")
    client.connect((S2, port))
    server, who = listener.accept()
    server.settimeout(5)
    client.sendall(b"hello")
    assert server.recv(5) == b"hello"
    server.sendall(b"there")
    assert client.recv(5) == b"there"
    listener.close()
    return client, server, who


def is_reset(client, timeout_s):
    client.settimeout(timeout_s)
    try:
        return client.recv(1) is None
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_who_only_waits_is_told_at_once(lab, address):
    client, server, _ = connection(lab, 9110)
    renumber(lab, address, NEW_ADDRESS)
    assert is_reset(client, 2)
    said = f"The external address {address} has been replaced: 1 TCP connection was ended."
    wait_until(lambda: said in (lab.run_folder() / "log").read_text(), "masqd says so")
    server.close()


def test_who_sends_is_told_at_the_first_segment(lab, address):
    client, server, _ = connection(lab, 9111)
    lab.run("B", ["nft", "-f", "-"], input=WITHOUT_RESETS_OF_MASQD, check=True)
    sent = lab.status()["traffic"]["resets_sent"]
    renumber(lab, address, NEW_ADDRESS)
    wait_until_it_flows(lab)
    assert not is_reset(client, 0.3)
    inside = lab.capture("S6", filter_="tcp port 9111")
    client.send(b"x")
    assert is_reset(client, 1)
    time.sleep(0.1)
    flags = [str(p["TCP"].flags) for p in inside.packets()]
    assert flags == ["PA", "R"], flags
    assert lab.status()["traffic"]["resets_sent"] == sent + 1
    assert lab.dropped("address_replaced") >= 1
    server.close()


def test_a_connection_outlives_the_renewal_of_its_address(lab, address):
    client, server, who = connection(lab, 9112)
    other, asked = lab.udp("S6", 9113), lab.udp("S2", 9113)
    mapping = external_of(other, asked, (S2, 9113))
    lab.ip("B", f"addr del {address}/24 dev out0")
    time.sleep(1.5)
    client.send(b"in the gap")
    server.send(b"likewise")
    lab.ip("B", f"addr add {address}/24 dev out0", ROUTE)
    wait_until_it_flows(lab)
    client.settimeout(10)
    assert server.recv(10) == b"in the gap" and client.recv(8) == b"likewise"
    assert server.getpeername() == who
    assert external_of(other, asked, (S2, 9113)) == mapping


def test_the_first_connection_in_a_gap_succeeds(lab, address):
    listener, client = lab.tcp("S2", 9114, listen=True), lab.tcp("S6", timeout_s=10)
    for new in (address, NEW_ADDRESS):
        lab.ip("B", "addr flush dev out0 scope global")
        time.sleep(SETTLE_S)
        with ThreadPoolExecutor() as pool:
            connecting = pool.submit(client.connect, (S2, 9114))
            time.sleep(0.5)
            assert not connecting.done()
            lab.ip("B", f"addr add {new}/24 dev out0", ROUTE)
            connecting.result(timeout=10)
        assert listener.accept()[1][0] == new
        client.close()
        client = lab.tcp("S6", timeout_s=10)


def test_a_connection_that_is_opening_goes_on_by_the_new_address(lab, address):
    """Its first SYN went out by the old one."""
    listener, client = lab.tcp("S2", 9115, listen=True), lab.tcp("S6", timeout_s=10)
    lab.run("S2", ["nft", "-f", "-"], input=DEAF, check=True)
    with ThreadPoolExecutor() as pool:
        connecting = pool.submit(client.connect, (S2, 9115))
        time.sleep(0.3)
        renumber(lab, address, NEW_ADDRESS)
        connecting.result(timeout=10)
    lab.run("S2", ["nft", "delete", "table", "ip", "deaf"], check=True)
    assert listener.accept()[1][0] == NEW_ADDRESS


def test_an_interface_that_is_made_anew_with_its_address_goes_on(lab, address):
    """As ppp0 is."""
    client, server, who = connection(lab, 9116)
    lab.unplug_gateway("out0")
    time.sleep(1)
    client.send(b"in the gap")
    lab.plug_in_gateway_outside()
    lab.ip("B", ROUTE)
    wait_until_it_flows(lab)
    assert server.recv(10) == b"in the gap"
    assert server.getpeername() == who


def test_silent_where_that_is_asked_for(lab, address):
    lab.kill_daemon()
    assert lab.masq("up", "--dead-address", "silent").returncode == 0
    try:
        client, server, _ = connection(lab, 9117)
        renumber(lab, address, NEW_ADDRESS)
        wait_until_it_flows(lab)
        client.send(b"x")
        assert not is_reset(client, 1)
        server.close()
    finally:
        lab.kill_daemon()
        assert lab.masq("up", "--dead-address", "reset").returncode == 0
