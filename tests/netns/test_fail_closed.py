"""Whatever happens to masq or to its interfaces, nothing leaks and nothing comes in.

During every one of these tests inner hosts send without pause, good packets and odd ones, and an
outer host with a route knocks, all that by IPv6 too. What leaves is judged at the end of the
module, by the lab's watch; what comes in, at the end of each test.
"""

import time

import pytest

from lab import ADDRESS, wait_until
from traffic import Restless, pings, wait_until_it_flows

S2 = ADDRESS["S2"]
LAB = {"second_inner": True}
DATAPATHS = ["tc", "user"]


@pytest.fixture(scope="module", autouse=True)
def honest_routes(lab):
    lab.routes_inwards()


def judged(lab, **options):
    with Restless(lab, **options) as restless:
        time.sleep(0.2)
        yield restless
        time.sleep(0.2)
    assert restless.sent > 10
    assert restless.knocks_that_came_in() == []


@pytest.fixture
def restless(lab):
    """Traffic for tests in which masq is away for a while."""
    yield from judged(lab)


@pytest.fixture
def very_restless(lab):
    """For tests in which masq's programs stay: outside pings the inner leg too."""
    yield from judged(lab, inner_leg=True)


def up(lab):
    done = lab.masq("up")
    assert done.returncode == 0, done.stderr


def own_rules(lab):
    """Those of nftables: against the kernel's forwarding, and in user space its stack."""
    return "".join(lab.run("B", ["nft", "--stateless", "list", "table", *table.split()]).stdout
                   for table in ("inet masq_belt", "inet masq_user", "arp masq_user"))


def test_before_up_nothing_passes(lab, restless):
    assert not pings(lab, "S6", S2)
    time.sleep(0.5)


def test_during_up_and_down_again_and_again(lab, restless):
    for _ in range(3):
        up(lab)
        wait_until_it_flows(lab)
        assert lab.masq("down").returncode == 0
        assert not pings(lab, "S6", S2, timeout_s=0.3)
    up(lab)
    wait_until_it_flows(lab)


def test_while_the_daemon_is_dead(lab, very_restless):
    lab.kill_daemon()
    time.sleep(0.5)
    # In user space nothing is forwarded without masqd; in the kernel everything is, as before.
    assert pings(lab, "S6", S2, 3) == (lab.datapath == "tc")
    up(lab)
    wait_until_it_flows(lab)


def test_while_the_daemon_is_killed_again_and_again(lab, very_restless):
    for _ in range(3):
        lab.kill_daemon()
        up(lab)
    wait_until_it_flows(lab)


def test_the_external_interface_goes_and_comes_back(lab, restless):
    lab.unplug_gateway("out0")
    assert not pings(lab, "S6", S2, timeout_s=0.3)
    lab.plug_in_gateway_outside()
    wait_until_it_flows(lab)


def test_the_external_interface_goes_and_comes_back_without_a_daemon(lab, restless):
    lab.kill_daemon()
    lab.unplug_gateway("out0")
    lab.plug_in_gateway_outside()
    assert not pings(lab, "S6", S2, 2, timeout_s=0.3)
    up(lab)
    wait_until_it_flows(lab)


def test_an_internal_interface_goes_and_comes_back(lab, very_restless):
    lab.unplug_gateway("in0")
    lab.plug_in_gateway_inside()
    wait_until_it_flows(lab)


def test_an_internal_interface_goes_and_comes_back_without_a_daemon(lab, very_restless):
    lab.kill_daemon()
    lab.unplug_gateway("in0")
    lab.plug_in_gateway_inside()
    assert not pings(lab, "S6", S2, 2, timeout_s=0.3)
    up(lab)
    wait_until_it_flows(lab)


@pytest.mark.parametrize("side", ["inside", "outside"])
def test_somebody_lets_the_kernel_forward_while_the_daemon_is_dead(lab, restless, side):
    forwarding = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    up(lab)
    lab.kill_daemon()
    lab.sysctl("B", dict.fromkeys(forwarding, 1))
    try:
        lab.make_gateway_leg_anew(side)
        time.sleep(0.3)
        assert not pings(lab, "S1", ADDRESS["S4"], timeout_s=0.3)
        assert not pings(lab, "S6", S2, timeout_s=0.3)
        up(lab)
        wait_until_it_flows(lab)
    finally:
        lab.sysctl("B", dict.fromkeys(forwarding, 0))


def test_links_go_down_and_up(lab, very_restless):
    for interface in ("out0", "in0"):
        lab.ip("B", f"link set {interface} down")
        assert not pings(lab, "S6", S2, timeout_s=0.3)
        lab.ip("B", f"link set {interface} up", "route replace default via 192.168.1.250")
    wait_until_it_flows(lab)


def test_somebody_takes_the_programs_off(lab, restless):
    """By another hand: closed, and put right by the next `masq up` at the latest.

    The rules of nftables masqd puts back by itself.
    """
    up(lab)
    for interface in ("in0", "out0"):
        assert bool(lab.programs(interface)) == (lab.datapath == "tc")
        lab.take_programs_off(interface)
    rules = own_rules(lab)
    assert "inet masq_belt" in rules and ("masq_user" in rules) == (lab.datapath == "user")
    for taken_away in ("flush ruleset", "flush table inet masq_belt", "delete table inet masq_belt",
                       *(["flush table arp masq_user", "flush chain inet masq_user output"]
                         if lab.datapath == "user" else [])):
        lab.run("B", ["nft", *taken_away.split()], check=True)
        wait_until(lambda: own_rules(lab) == rules, f"the rules are back after {taken_away}")
    time.sleep(0.5)
    lab.kill_daemon()
    up(lab)
    wait_until_it_flows(lab)


def test_the_external_address_is_taken_away_and_given_back(lab, very_restless):
    lab.ip("B", "addr del 192.168.1.254/24 dev out0")
    wait_until(lambda: not pings(lab, "S6", S2, timeout_s=0.3), "masqd knows of it", timeout_s=2)
    assert not pings(lab, "S6", S2, timeout_s=0.3)
    lab.ip("B", "addr add 192.168.1.254/24 dev out0", "route replace default via 192.168.1.250")
    wait_until_it_flows(lab)


def test_after_down_nothing_passes(lab, restless):
    assert lab.masq("down").returncode == 0
    assert not pings(lab, "S6", S2)
    time.sleep(0.5)
