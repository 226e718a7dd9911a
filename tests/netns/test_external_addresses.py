"""Several external addresses on one interface: each inner host has one of them for all it does."""

import collections
import json
import time

import pytest

from lab import ADDRESS, GATEWAY_OUTER, wait_until
from services import curl_argv
from traffic import external_of, receive, receive_all

DATAPATHS = ["tc", "user"]
S2, S3, S4 = (ADDRESS[host] for host in ("S2", "S3", "S4"))
MORE = ["192.168.1.240", "192.168.1.241"]
ALL = [GATEWAY_OUTER, *MORE]
GUESTS = [f"192.168.2.{n}" for n in range(100, 132)]  # inner hosts that are all S4


@pytest.fixture(scope="module")
def addresses(lab):
    lab.ip("B", *(f"addr add {address}/24 dev out0" for address in MORE))
    lab.ip("S4", *(f"addr add {guest}/24 dev eth0" for guest in GUESTS))


@pytest.fixture(autouse=True)
def masq_with_all(lab, addresses):
    up = lab.masq("up", *(f"--external-address={address}" for address in ALL))
    assert up.returncode == 0, up.stdout + up.stderr
    yield
    lab.masq("down")
    for address in MORE:
        lab.run("B", ["ip", "addr", "replace", f"{address}/24", "dev", "out0"])


def address_of(lab, guest, server, port=7000):
    with lab.udp("S4", port, address=guest) as client:
        return external_of(client, server, (S2, 7000))[0]


def flows_by_host(lab):
    found = collections.defaultdict(set)
    for flow in json.loads(lab.masq("flows", "--json").stdout):
        found[flow["internal"].split(":")[0]].add(flow["external"].split(":")[0])
    return found


def test_hosts_are_spread_over_the_addresses_and_answers_come_back(lab):
    seen = collections.Counter()
    with lab.udp("S2", 7000) as server:
        for guest in GUESTS:
            with lab.udp("S4", 7000, address=guest) as client:
                external = external_of(client, server, (S2, 7000))
                seen[external[0]] += 1
                server.sendto(b"back", external)
                assert receive(client) == (b"back", (S2, 7000))
    assert set(seen) == set(ALL), seen
    assert min(seen.values()) >= 3, seen


def test_a_host_has_the_same_address_for_everything(lab):
    udp_servers = [lab.udp("S2", 7100), lab.udp("S3", 7101)]
    for host in ("S4", "S5", "S6"):
        seen = set()
        for port in range(7100, 7110):
            with lab.udp(host, port) as client:
                seen.add(external_of(client, udp_servers[0], (S2, 7100))[0])
                seen.add(external_of(client, udp_servers[1], (S3, 7101))[0])
        seen.add(lab.run(host, curl_argv(f"http://{S2}/whoami"), check=True).stdout.split()[0])
        assert lab.run(host, ["ping", "-n", "-c1", "-W1", S2]).returncode == 0
        assert len(seen) == 1, (host, seen)
        assert flows_by_host(lab)[ADDRESS[host]] == seen  # the ping too
    for server in udp_servers:
        server.close()


def test_status_names_them_and_a_second_up_compares(lab):
    interfaces = json.loads(lab.masq("status", "--json").stdout)["interfaces"]
    shared = {each["name"]: set(each["shared_addresses"]) for each in interfaces}
    assert shared == {"out0": set(ALL), "in0": set()}
    [line] = [line for line in lab.masq("status").stdout.splitlines() if " out0 " in line]
    assert all(address in line.partition("shared:")[2] for address in ALL)
    assert lab.masq("up", *(f"--external-address={address}" for address in ALL)).returncode == 0
    other = lab.masq("up", f"--external-address={MORE[0]}")
    assert other.returncode == 1 and "external_addresses" in other.stderr


def test_one_that_is_not_named_serves_nobody(lab):
    lab.masq("down")
    assert lab.masq("up", f"--external-address={MORE[0]}").returncode == 0
    with lab.udp("S2", 7000) as server:
        assert {address_of(lab, guest, server) for guest in GUESTS} == {MORE[0]}


def test_without_a_word_all_get_the_first(lab):
    lab.masq("down")
    assert lab.masq("up").returncode == 0
    with lab.udp("S2", 7000) as server:
        assert {address_of(lab, guest, server) for guest in GUESTS} == {GATEWAY_OUTER}


def test_who_has_flows_keeps_an_address_that_serves_no_more(lab):
    with lab.udp("S2", 7000) as server:
        before = {guest: address_of(lab, guest, server) for guest in GUESTS[:16]}
        assert MORE[1] in before.values()
        lab.kill_daemon()
        up = lab.masq("up", *(f"--external-address={address}" for address in ALL[:2]))
        assert up.returncode == 0, up.stderr
        after = {guest: address_of(lab, guest, server, port=7001) for guest in GUESTS[:16]}
        assert after == before
        assert MORE[1] not in {address_of(lab, guest, server) for guest in GUESTS[16:]}


def test_an_address_that_goes_takes_only_its_hosts_along(lab):
    with lab.udp("S2", 7000) as server:
        before = {guest: address_of(lab, guest, server) for guest in GUESTS}
        lab.ip("B", f"addr del {MORE[0]}/24 dev out0")
        time.sleep(0.5)
        after = {guest: address_of(lab, guest, server) for guest in GUESTS}
        moved = {guest for guest in GUESTS if before[guest] != after[guest]}
        assert moved == {guest for guest in GUESTS if before[guest] == MORE[0]}
        assert MORE[0] not in after.values()
        wait_until(lambda: f"{MORE[0]} is to be shared" in (lab.run_folder() / "log").read_text(),
                   "the log says that the address has gone")
        # It comes back, and those that moved stay where their flows are.
        lab.ip("B", f"addr add {MORE[0]}/24 dev out0")
        time.sleep(0.5)
        assert {guest: address_of(lab, guest, server, port=7002) for guest in GUESTS} == after


def test_hairpin_between_hosts_with_different_addresses(lab):
    with lab.udp("S2", 7000) as server:
        by_address = {address_of(lab, guest, server, port=7300): guest for guest in GUESTS}
        one, other = by_address[MORE[0]], by_address[MORE[1]]
        with lab.udp("S4", 7300, address=one) as a, lab.udp("S5", 7300) as b:
            external_a = external_of(a, server, (S2, 7000))
            external_b = external_of(b, server, (S2, 7000))
            b.sendto(b"first", external_a)  # refused, and opens the way for what follows
            a.sendto(b"hello", external_b)
            assert receive(b) == (b"hello", external_a)
            b.sendto(b"answer", external_a)
            assert (b"answer", external_b) in receive_all(a)
        assert other != one


def test_what_is_named_and_not_there_is_said(lab):
    lab.masq("down")
    up = lab.masq("up", "--external-address=192.168.1.99")
    assert up.returncode == 0
    assert "192.168.1.99 is to be shared, but no external interface has it." in up.stdout
    with lab.udp("S2", 7000) as server:
        assert address_of(lab, S4, server) == GATEWAY_OUTER


@pytest.mark.parametrize("words, sentence", [
    (["nonsense"], "`nonsense` is not an address that an external interface could have."),
    (["224.0.0.1"], "`224.0.0.1` is not an address that an external interface could have."),
    ([ALL[0], ALL[0]], f"The external address {ALL[0]} is named twice."),
    ([f"192.168.1.{n}" for n in range(1, 18)],
     "192.168.1.17 is one external address too many; 16 can be in use at once."),
])
def test_bad_words(lab, words, sentence):
    lab.masq("down")
    up = lab.masq("up", *(f"--external-address={word}" for word in words))
    assert up.returncode == 2 and sentence in up.stderr, up.stderr
    assert len(up.stderr.splitlines()) == 1


def test_named_ones_come_before_the_rest(lab):
    """There are more addresses than masq has places for, and the last of them is named."""
    many = [f"192.168.1.{n}" for n in range(100, 120)]
    lab.masq("down")
    lab.ip("B", *(f"addr add {address}/24 dev out0" for address in many))
    try:
        up = lab.masq("up", f"--external-address={many[-1]}")
        assert up.returncode == 0
        assert "one external address too many" in up.stdout
        assert "is to be shared" not in up.stdout
        with lab.udp("S2", 7000) as server:
            assert {address_of(lab, guest, server) for guest in GUESTS} == {many[-1]}
    finally:
        lab.ip("B", *(f"addr del {address}/24 dev out0" for address in many))
