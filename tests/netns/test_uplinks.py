"""Two ways out: an interface that a default route leads through is never taken for the inside.

The second inner net plays the second uplink: its address on the gateway is private, and S7 is the
stranger behind it.
"""


import re

import pytest

from lab import ADDRESS, GATEWAY_OUTER, GATEWAY_SECOND_INNER, wait_until
from traffic import KNOCK, external_of, pings, receive, receive_all, wait_until_it_flows

DATAPATHS = ["tc", "user"]
LAB = {"second_inner": True}
S2, S6, S7 = (ADDRESS[host] for host in ("S2", "S6", "S7"))
SECOND = f"default via {S7} dev in1 metric 600"


@pytest.fixture(autouse=True)
def masq_is_down_afterwards(lab):
    yield
    lab.run("B", ["ip", "route", "del", *SECOND.split()])
    lab.ip("B", f"route replace default via {ADDRESS['A']}")
    lab.masq("down")
    lab.sysctl("B", {"net.ipv4.ip_forward": 0})


def zones(lab):
    return {each["name"]: each["zone"] for each in lab.status()["interfaces"]}


def comes_through(lab, host, target):
    """Does a datagram of `host` arrive at `target`, under whatever source?"""
    with lab.udp(target, 9300) as receiver, lab.udp(host, 9300) as sender:
        for _ in range(3):
            sender.sendto(KNOCK, (ADDRESS[target], 9300))
        return bool(receive_all(receiver))


def test_two_default_routes_are_not_guessed_about(lab):
    lab.ip("B", f"route add {SECOND}")
    up = lab.masq("up")
    assert up.returncode == 1
    for word in ("out0", "in1", "--external", "--internal"):
        assert word in up.stderr, up.stderr
    assert len(up.stderr.splitlines()) == 1
    assert not any(lab.programs(interface) for interface in ("out0", "in0", "in1"))


def test_what_lies_under_a_vpn_is_not_found_to_be_internal(lab):
    """The default route leads into the VPN, and one to its server by the uplink's next hop."""
    lab.ip("B", f"route add 198.51.100.99 via {S7}")
    try:
        up = lab.masq("up")
        assert up.returncode == 0, up.stderr
        [said] = [line for line in up.stdout.splitlines() if line.startswith("in1 ")]
        assert "left alone" in said and "--internal" in said
        assert zones(lab) == {"out0": "external", "in0": "internal"}
        assert not comes_through(lab, "S7", "S6")
    finally:
        lab.ip("B", "route del 198.51.100.99")


def test_an_uplink_is_not_found_to_be_internal(lab):
    lab.ip("B", f"route add {SECOND}")
    assert lab.masq("up", "--external", "out0").returncode == 0
    assert zones(lab) == {"out0": "external", "in0": "internal"}
    wait_until_it_flows(lab)
    assert not comes_through(lab, "S7", "S6")
    assert not lab.programs("in1")


@pytest.mark.parametrize("kernel_forwards", [0, 1])
def test_what_becomes_an_uplink_is_taken_out_of_the_inside(lab, kernel_forwards):
    lab.sysctl("B", {"net.ipv4.ip_forward": kernel_forwards})
    assert lab.masq("up").returncode == 0
    assert zones(lab)["in1"] == "internal"
    assert comes_through(lab, "S7", "S6")
    lab.ip("B", f"route add {SECOND}")
    wait_until(lambda: zones(lab)["in1"] == "closed", "in1 is out of the inside")
    assert re.search(r"closed +in1 .*since a default route leads there", lab.masq("status").stdout)
    wait_until(lambda: not lab.programs("in1"), "in1 has no programs")
    log = (lab.run_folder() / "log").read_text()
    assert "in1" in log and "default route" in log
    # It stays out, also when the route has gone again and when another daemon takes over.
    lab.ip("B", f"route del {SECOND}")
    for _ in range(2):
        assert not comes_through(lab, "S7", "S6")
        assert not comes_through(lab, "S6", "S7")
        assert not comes_through(lab, "S7", "S2")
        assert lab.read_sysctl("B", "net.ipv4.conf.in1.forwarding") == str(kernel_forwards)
        wait_until_it_flows(lab)
        lab.kill_daemon()
        up = lab.masq("up")
        assert up.returncode == 0 and "in1" in up.stdout, up.stdout + up.stderr
    # Who says that it is internal is believed.
    lab.kill_daemon()
    assert lab.masq("up", "--internal", "in0", "--internal", "in1").returncode == 0
    wait_until(lambda: zones(lab).get("in1") == "internal", "in1 is internal")
    assert comes_through(lab, "S7", "S6")


def test_a_named_internal_interface_stays_so(lab):
    assert lab.masq("up", "--internal", "in0", "--internal", "in1").returncode == 0
    lab.ip("B", f"route add {SECOND}")
    wait_until_it_flows(lab)
    assert zones(lab)["in1"] == "internal"


def test_what_leads_to_an_interface_that_is_not_ours_is_refused_and_counted(lab):
    assert lab.masq("up", "--external", "out0", "--internal", "in0").returncode == 0
    wait_until_it_flows(lab)
    ping = lab.run("S6", ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", S7])
    assert "Unreachable" in ping.stdout and ping.returncode != 0, ping.stdout
    assert lab.status()["dropped"]["other_interface"] >= 2
    text = lab.masq("status").stdout
    assert "interface that masq was not given" in text


def test_where_the_kernel_forwards_it_still_decides(lab):
    lab.sysctl("B", {"net.ipv4.ip_forward": 1})
    up = lab.masq("up", "--external", "out0", "--internal", "in0")
    assert "masq_belt" in up.stdout and "forwards" in up.stdout
    assert comes_through(lab, "S6", "S7")
    assert lab.status()["dropped"]["other_interface"] == 0


def test_status_says_that_the_default_route_leads_elsewhere(lab):
    assert lab.masq("up", "--external", "out0", "--internal", "in0").returncode == 0
    assert lab.masq("status").stdout.splitlines()[0] == "masq is translating."
    lab.ip("B", f"route replace default via {S7} dev in1")
    first = lab.masq("status").stdout.splitlines()[0]
    assert "default route leads to in1" in first, first


def test_a_take_over_needs_no_default_route(lab):
    assert lab.masq("up").returncode == 0
    before = zones(lab)
    lab.kill_daemon()
    lab.ip("B", f"route del default via {ADDRESS['A']}")
    up = lab.masq("up")
    assert up.returncode == 0, up.stderr
    assert zones(lab) == before == {"out0": "external", "in0": "internal", "in1": "internal"}
    lab.ip("B", f"route add default via {ADDRESS['A']}")
    wait_until_it_flows(lab)
    assert pings(lab, "S6", S2)


def test_a_take_over_keeps_the_interfaces_that_have_gone(lab):
    assert lab.masq("up").returncode == 0
    lab.kill_daemon()
    lab.unplug_gateway("out0")
    up = lab.masq("up")
    try:
        assert up.returncode == 0, up.stderr
        assert "out0 has gone" in up.stdout
    finally:
        lab.plug_in_gateway_outside()
    wait_until_it_flows(lab)


def test_a_first_up_without_a_default_route_asks(lab):
    lab.ip("B", f"route del default via {ADDRESS['A']}")
    up = lab.masq("up")
    assert up.returncode == 1
    assert "--external IF" in up.stderr and "before" in up.stderr, up.stderr


def test_two_uplinks_at_once(lab):
    """Routes say which one a packet takes; each has its own address, mappings and ports."""
    up = lab.masq("up", "--external", "out0", "--external", "in1", "--internal", "in0")
    assert up.returncode == 0, up.stderr
    wait_until_it_flows(lab)
    here, there = lab.udp("S2", 9400), lab.udp("S7", 9400)
    with here, there, lab.udp("S6", 9401) as client:
        first = external_of(client, here, (S2, 9400))
        second = external_of(client, there, (S7, 9400))
        assert (first[0], second[0]) == (GATEWAY_OUTER, GATEWAY_SECOND_INNER)
        for server, external, address in ((here, first, S2), (there, second, S7)):
            server.sendto(b"back", external)
            assert receive(client) == (b"back", (address, 9400))
        # Both go on, again and again, with the same external endpoints.
        for _ in range(3):
            assert external_of(client, here, (S2, 9400)) == first
            assert external_of(client, there, (S7, 9400)) == second
        # By the other's address, or from the other's side, nothing comes in.
        there.sendto(KNOCK, first)
        here.sendto(KNOCK, second)
        assert receive_all(client) == []
        # One goes; the other does not notice. (Without it the default route would be taken.)
        lab.ip("B", "route add unreachable 192.168.3.0/24 metric 9999",
               f"addr del {GATEWAY_SECOND_INNER}/24 dev in1")
        assert external_of(client, here, (S2, 9400)) == first
        client.sendto(KNOCK, (S7, 9400))
        assert receive_all(there) == []
        lab.ip("B", f"addr add {GATEWAY_SECOND_INNER}/24 dev in1",
               "route del unreachable 192.168.3.0/24 metric 9999")
        wait_until(lambda: pings(lab, "S6", S7), "S6 reaches S7 again")
        assert external_of(client, there, (S7, 9400))[0] == GATEWAY_SECOND_INNER
    assert not comes_through(lab, "S7", "S6")
    assert not comes_through(lab, "S7", "S2")
    assert not comes_through(lab, "S2", "S7")


def test_two_uplinks_with_one_address(lab):
    """As two modems with their factory settings give it: one of them works, and that is said."""
    lab.ip("B", f"addr add {GATEWAY_OUTER}/32 dev in1")
    try:
        up = lab.masq("up", "--external", "out0", "--external", "in1", "--internal", "in0")
        assert up.returncode == 0, up.stderr
        assert (f"{GATEWAY_OUTER} is an address of out0 and of in1; masq can use it on one of "
                "them, and that is out0.") in up.stdout
        wait_until_it_flows(lab)
    finally:
        lab.ip("B", f"addr del {GATEWAY_OUTER}/32 dev in1")
