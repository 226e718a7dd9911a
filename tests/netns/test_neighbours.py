"""Next hops on an Ethernet: who has which hardware address is the kernel's to know, and it has to
hear that a neighbour is in use, or it would never ask after it again."""

import time

import pytest

from lab import ADDRESS, wait_until
from traffic import receive_all, wait_until_it_flows

S2 = ADDRESS["S2"]
OTHER_CARD = "02:00:00:00:00:77"
# The kernel's usual ones are 15 to 45 s, 5 s, 1 s.
QUICK = {"base_reachable_time_ms": 1000, "delay_first_probe_time": 1, "retrans_time_ms": 200}

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture(autouse=True)
def quick_neighbours(lab):
    lab.sysctl("B", {f"net.ipv4.neigh.out0.{name}": value for name, value in QUICK.items()})


def neighbour(lab, address):
    return lab.run("B", ["ip", "neigh", "show", address, "dev", "out0"]).stdout.split()


class Steady:
    """One-way traffic from S6 to S2, which says nothing itself."""

    def __init__(self, lab):
        self.server, self.client = lab.udp("S2", 9200), lab.udp("S6", 9200)

    def arrives(self, wait_s):
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            self.client.sendto(b"on and on", (S2, 9200))
            if receive_all(self.server, wait_s=0.02):
                return True
        return False


def test_a_neighbour_in_use_is_asked_after(lab):
    wait_until_it_flows(lab)
    traffic = Steady(lab)
    seen = set()
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert traffic.arrives(1)
        seen.add(neighbour(lab, S2)[-1])
    # After each time of being stale it is asked, and then reachable again.
    assert "REACHABLE" in seen and seen & {"DELAY", "PROBE"}, seen
    assert neighbour(lab, S2)[-1] in {"REACHABLE", "DELAY", "PROBE"}


def test_a_next_hop_with_another_card_is_found_though_it_is_silent(lab):
    wait_until_it_flows(lab)
    traffic = Steady(lab)
    assert traffic.arrives(1)
    lab.ip("S2", f"link set eth0 address {OTHER_CARD}")
    assert OTHER_CARD not in neighbour(lab, S2)
    assert traffic.arrives(15), neighbour(lab, S2)
    wait_until(lambda: OTHER_CARD in neighbour(lab, S2), "the kernel knows the card")
