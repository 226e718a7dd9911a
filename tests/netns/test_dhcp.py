"""The outer address comes by DHCP, and masq is there before it is."""

import pytest
from scapy.all import BOOTP, DHCP

from lab import ADDRESS, GATEWAY_OUTER_MAC, OUTER_HOSTS, wait_until
from traffic import pings, receive, wait_until_it_flows

DATAPATHS = ["tc", "user"]
LEASED = "192.168.1.200"
SCRIPT = """#!/bin/sh
# Sets address and route, and nothing else of the machine.
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr replace "$ip/24" dev "$interface"
ip route replace default via "$router" dev "$interface"
"""


@pytest.fixture(scope="module", autouse=True)
def leases(lab):
    """Gateway A gives addresses away; B has none."""
    lab.ip("B", "addr flush dev out0 scope global", "addr add fd00:1::254/64 dev out0 nodad")
    lab.services.dnsmasq("A", "--port=0", "--interface=eth0", "--bind-interfaces",
                         f"--dhcp-range={LEASED},{LEASED},1h",
                         f"--dhcp-option=option:router,{OUTER_HOSTS['A']}",
                         f"--dhcp-leasefile={lab.directory}/leases", "--dhcp-authoritative",
                         "--no-ping")


def test_up_without_an_outer_address_waits_and_is_closed(lab):
    up = lab.masq("up", "--external", "out0", "--internal", "in0")
    assert up.returncode == 0, up.stderr
    assert "waiting" in (up.stdout + up.stderr).lower()
    assert "closed" in lab.masq("status").stdout
    outside = lab.capture_gateway_outside(filter_extra="ip")
    assert not pings(lab, "S6", ADDRESS["S2"], timeout_s=0.5)
    assert outside.packets() == []


def test_the_lease_is_got_through_masq_and_traffic_flows_from_it(lab):
    script = lab.directory / "udhcpc-script"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    lab.run("B", ["udhcpc", "-i", "out0", "-n", "-q", "-f", "-t", "5", "-T", "1", "-s", script],
            check=True)
    wait_until(lambda: LEASED in lab.ip("B", "addr show dev out0"), "B has its lease")
    wait_until_it_flows(lab)
    answer = lab.run("S6", ["curl", "-s", f"http://{ADDRESS['S2']}/whoami"]).stdout
    assert answer.split()[0] == LEASED


def test_the_lease_is_renewed_while_inner_hosts_are_busy(lab):
    pinger = lab.popen("S5", ["ping", "-n", "-q", "-i0.02", "-c50", "-W1", ADDRESS["S2"]])
    script = lab.directory / "udhcpc-script"
    lab.run("B", ["udhcpc", "-i", "out0", "-n", "-q", "-f", "-r", LEASED, "-s", script], check=True)
    assert " 0% packet loss" in pinger.communicate(timeout=10)[0]


def test_the_lease_is_renewed_by_the_address_that_it_gave(lab):
    """By then clients have a socket of the kernel's stack, on a port that a mapping could have."""
    server, card = (OUTER_HOSTS["A"], 67), bytes.fromhex(GATEWAY_OUTER_MAC.replace(":", ""))
    request = BOOTP(xid=1, ciaddr=LEASED, chaddr=card) / DHCP(options=[("message-type", "request")])
    with lab.udp("B", 68, LEASED) as s:
        s.sendto(bytes(request), server)
        answer, sender = receive(s)
    assert sender == server
    assert BOOTP(answer).yiaddr == LEASED and ("message-type", 5) in BOOTP(answer)[DHCP].options
