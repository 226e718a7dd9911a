"""IPv6 between inside and outside is closed, or the inside would be open to all through it."""

import pytest

from lab import GATEWAY_INNER_IPV6, GATEWAY_OUTER_IPV6, IPV6

DATAPATHS = ["tc", "user"]
FORWARDING = "net.ipv6.conf.all.forwarding"


def pings6(lab, host, target):
    argv = ["ping", "-6", "-n", "-c3", "-i0.1", "-W0.5", target]
    return " 0 received" not in lab.run(host, argv).stdout


@pytest.fixture(scope="module")
def blocked(lab):
    """Routes are there and B's kernel forwards; only masq is in the way.

    That the packets would pass without it is shown in test_ipv6_left.py.
    """
    up = lab.masq("up")
    assert up.returncode == 0, up.stderr
    lab.sysctl("B", {FORWARDING: 1})
    return lab


def test_status_says_so(blocked):
    assert any("IPv6" in line and "blocked" in line
               for line in blocked.masq("status").stdout.splitlines())


@pytest.mark.parametrize("host, target", [("S6", IPV6["S2"]), ("S4", IPV6["A"])])
def test_inner_hosts_do_not_reach_outside(blocked, host, target):
    outside = blocked.capture_gateway_outside(filter_extra="net fd00:2::/64")
    assert not pings6(blocked, host, target)
    assert outside.packets() == []


@pytest.mark.parametrize("host, target", [("S1", IPV6["S6"]), ("A", IPV6["S4"])])
def test_outer_hosts_do_not_reach_inside(blocked, host, target):
    inside = blocked.capture("innet", "br0", "net fd00:1::/64")
    assert not pings6(blocked, host, target)
    assert inside.packets() == []


@pytest.mark.parametrize("host, target", [("S6", GATEWAY_INNER_IPV6), ("S1", GATEWAY_OUTER_IPV6)])
def test_the_gateway_itself_is_reached(blocked, host, target):
    assert pings6(blocked, host, target)
