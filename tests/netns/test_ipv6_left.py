"""IPv6 that was being forwarded before masq came, and IPv6 that the administrator wants open.

These labs let inner IPv6 addresses out on purpose, so they stand apart from the watched ones.
"""

import pytest

from lab import IPV6, Lab
from test_ipv6 import FORWARDING, pings6


@pytest.fixture
def router():
    """B forwards IPv6, as a machine that has been a router for long."""
    with Lab() as lab:
        lab.sysctl("B", {FORWARDING: 1})
        assert pings6(lab, "S6", IPV6["S2"]) and pings6(lab, "S1", IPV6["S6"])
        yield lab


def test_what_was_forwarded_before_is_left_alone_and_said(router):
    up = router.masq("up")
    assert up.returncode == 0, up.stderr
    assert "IPv6" in up.stdout
    assert pings6(router, "S6", IPV6["S2"])


def test_block_closes_it_and_down_opens_it_again(router):
    assert router.masq("up", "--ipv6", "block").returncode == 0
    assert not pings6(router, "S6", IPV6["S2"])
    assert not pings6(router, "S1", IPV6["S6"])
    assert router.masq("down").returncode == 0
    assert pings6(router, "S6", IPV6["S2"])


def test_a_take_over_opens_it_and_closes_it(router):
    for mode in ("block", "leave", "block"):
        assert router.masq("up", "--ipv6", mode).returncode == 0
        assert pings6(router, "S6", IPV6["S2"]) == (mode == "leave")
        router.kill_daemon()
    assert not pings6(router, "S6", IPV6["S2"])


def test_leave_leaves_it_open():
    with Lab() as lab:
        assert lab.masq("up", "--ipv6", "leave").returncode == 0
        lab.sysctl("B", {FORWARDING: 1})
        assert pings6(lab, "S6", IPV6["S2"])
