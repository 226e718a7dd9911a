"""IPv6 between inside and outside is closed, or the inside would be open to all through it."""

import time

import pytest

from lab import GATEWAY_INNER_IPV6, GATEWAY_OUTER_IPV6, IPV6
from traffic import Restless, wait_until_it_flows

DATAPATHS = ["tc", "user"]
FORWARDING = "net.ipv6.conf.all.forwarding"
NOBODY_INSIDE = "fd00:2::99"


def pings6(lab, host, target):
    argv = ["ping", "-6", "-n", "-c3", "-i0.1", "-W0.5", target]
    return " 0 received" not in lab.run(host, argv).stdout


@pytest.fixture(scope="module")
def blocked(lab):
    """Routes are there and B's kernel forwards, since `masq up`; only masq is in the way.

    That the packets would pass without it is shown in test_ipv6_left.py.
    """
    up = lab.masq("up")
    assert up.returncode == 0, up.stderr
    time.sleep(0.5)  # the news of its own start must not be what makes masqd look
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


def test_nobody_outside_learns_which_inner_hosts_there_are(blocked):
    """A router says of a host that is not there that it cannot be reached."""
    blocked.sysctl("B", {"net.ipv6.neigh.in0.retrans_time_ms": 50})  # three questions, then it does
    back = blocked.capture("S1", filter_=f"icmp6 and icmp6[0] < 128 and src {GATEWAY_OUTER_IPV6}")
    assert not pings6(blocked, "S1", IPV6["S6"])
    assert not pings6(blocked, "S1", NOBODY_INSIDE)
    assert back.packets() == []


@pytest.mark.parametrize("host, target", [("S6", GATEWAY_INNER_IPV6), ("S1", GATEWAY_OUTER_IPV6)])
def test_the_gateway_itself_is_reached(blocked, host, target):
    assert pings6(blocked, host, target)


@pytest.mark.parametrize("daemon", ["alive", "dead"])
@pytest.mark.parametrize("side", ["inside", "outside"])
def test_an_interface_goes_and_comes_back(blocked, side, daemon):
    """What leaves meanwhile is judged by the lab's watch."""
    with Restless(blocked) as restless:
        if daemon == "dead":
            blocked.kill_daemon()
        blocked.make_gateway_leg_anew(side)
        assert not pings6(blocked, "S6", IPV6["S2"])
        assert not pings6(blocked, "S1", IPV6["S6"])
    assert restless.knocks_that_came_in() == []
    assert blocked.masq("up").returncode == 0
    wait_until_it_flows(blocked)
