"""The outer address changes while inner hosts are busy."""

import time

import pytest
from scapy.all import IP

from lab import ADDRESS, GATEWAY_OUTER
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
