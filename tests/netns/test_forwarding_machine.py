"""A machine that forwards by itself, IPv4 and IPv6, for other networks of its own.

While masq is up, that is no way between inside and outside, whatever happens to masq's programs and
interfaces.
"""

import os
import signal
import time

import pytest

from lab import ADDRESS, GATEWAY_INNER, wait_until
from traffic import Restless, pings, wait_until_it_flows

S1, S2, S4 = ADDRESS["S1"], ADDRESS["S2"], ADDRESS["S4"]
LAB = {"second_inner": True}
DATAPATHS = ["tc", "user"]


@pytest.fixture(scope="module", autouse=True)
def forwarding_machine(lab):
    lab.routes_inwards()
    forwarding = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    lab.sysctl("B", dict.fromkeys(forwarding, 1))
    yield
    lab.sysctl("B", dict.fromkeys(forwarding, 0))


def up(lab):
    done = lab.masq("up", "--ipv6", "block")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def restless(lab):
    """Inner hosts send and S1 knocks, from just after `masq up` to just before `masq down`: without
    masq this machine hands everything through, as it did before."""
    assert "masq_belt" in up(lab) or lab.datapath == "user"
    wait_until_it_flows(lab)
    with Restless(lab) as restless:
        time.sleep(0.2)
        yield
        time.sleep(0.2)
    assert restless.sent > 10
    assert restless.knocks_that_came_in() == []
    down = lab.masq("down")
    assert down.returncode == 0
    assert "inner hosts are no longer hidden" in down.stdout
    assert "IPv6 on this machine: masq blocks it no longer" in down.stdout


def nobody_comes_in(lab):
    return not any(pings(lab, "S1", target, timeout_s=0.3) for target in (S4, GATEWAY_INNER))


def test_it_forwarded_before_and_masq_keeps_it_out(lab):
    assert lab.read_sysctl("B", "net.ipv4.ip_forward") == "1"
    assert nobody_comes_in(lab)


def test_somebody_takes_the_programs_off(lab):
    lab.kill_daemon()
    for interface in ("in0", "out0"):
        lab.take_programs_off(interface)
    time.sleep(0.5)
    assert not pings(lab, "S6", S2, timeout_s=0.3)
    assert not pings(lab, "S1", S4, timeout_s=0.3)
    up(lab)
    wait_until_it_flows(lab)


def test_the_daemon_is_killed(lab):
    lab.kill_daemon()
    time.sleep(0.3)
    assert nobody_comes_in(lab)
    up(lab)
    wait_until_it_flows(lab)


@pytest.mark.parametrize("daemon", ["alive", "dead"])
@pytest.mark.parametrize("side", ["inside", "outside"])
def test_an_interface_goes_and_comes_back(lab, side, daemon):
    if daemon == "dead":
        lab.kill_daemon()
    lab.make_gateway_leg_anew(side)
    time.sleep(0.3)
    assert not pings(lab, "S1", S4, timeout_s=0.3)
    up(lab)
    wait_until_it_flows(lab)


@pytest.mark.parametrize("daemon", ["alive", "dead"])
@pytest.mark.parametrize("name", ["in0", "out0"])
def test_an_interface_gets_another_name(lab, name, daemon):
    if daemon == "dead":
        lab.kill_daemon()
    try:
        for _ in range(5):
            lab.ip("B", f"link set {name} name new0")
            time.sleep(0.1)
            lab.ip("B", f"link set new0 name {name}")
        lab.ip("B", f"link set {name} name new0")
        time.sleep(0.3)
        assert not pings(lab, "S1", S4, timeout_s=0.3)
        assert pings(lab, "S6", S2) == (daemon == "alive" or lab.datapath == "tc")
    finally:
        lab.ip("B", f"link set new0 name {name}")
    up(lab)
    wait_until_it_flows(lab)


def test_the_names_of_other_interfaces_mean_nothing_in_the_rules(lab):
    """Neither the end of a set and of the line, nor all names that begin so."""
    for name in ('a"}#', "o*", "e+"):
        lab.run("B", ["ip", "link", "add", name, "type", "veth"], check=True)
        try:
            wait_until(lambda: name in (lab.run_folder() / "log").read_text(), "masqd has seen it")
            time.sleep(0.2)
            rules = [line for line in lab.run("B", ["nft", "list", "table", "inet", "masq_belt"],
                                              check=True).stdout.splitlines() if "if" in line]
            assert len(rules) == 8
            assert all(rule.endswith(" drop") and name not in rule for rule in rules)
            assert nobody_comes_in(lab)
        finally:
            lab.run("B", ["ip", "link", "del", name], check=True)


def test_an_interface_comes_back_before_the_daemon_sees_it(lab):
    """As on a busy machine: it has seen that the interface has gone, and is slow from then on."""
    lab.unplug_gateway("in0")
    time.sleep(0.5)
    leaks = lab.capture_gateway_outside(filter_extra="src net 192.168.2.0/24")
    [daemon] = lab.processes("B", "masqd")
    os.kill(daemon, signal.SIGSTOP)
    try:
        lab.plug_in_gateway_inside()
        time.sleep(0.5)
        assert not pings(lab, "S6", S2, timeout_s=0.3)
        assert not pings(lab, "S1", S4, timeout_s=0.3)
    finally:
        os.kill(daemon, signal.SIGCONT)
    wait_until_it_flows(lab)
    assert leaks.packets() == []


@pytest.mark.parametrize("daemon", ["alive", "dead"])
def test_interfaces_get_other_names(lab, daemon):
    """While they are up, and before the daemon has seen it."""
    leaks = lab.capture_gateway_outside(filter_extra="src net 192.168.2.0/24")
    if daemon == "dead":
        lab.kill_daemon()
    for before, after in (("in0", "lan0"), ("out0", "wan0"), ("lan0", "in0"), ("wan0", "out0")):
        lab.ip("B", f"link set {before} name {after}")
        time.sleep(0.2)
    assert leaks.packets() == []
    up(lab)
    wait_until_it_flows(lab)
