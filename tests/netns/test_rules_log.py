"""Rules with -l: what masqd writes down about real packets, on both datapaths."""

import re
import time

import pytest

from lab import ADDRESS, GATEWAY_INNER, GATEWAY_OUTER, wait_until
from services import curl_argv
from test_rules import counted, ipchains, no_rules, pings  # noqa: F401 (a fixture)

S2, S4, S5 = (ADDRESS[name] for name in ("S2", "S4", "S5"))
LINE = re.compile(
    r"Packet log: (?P<chain>\S+) (?P<target>\S+) (?P<interface>\S+) PROTO=(?P<protocol>\d+) "
    r"(?P<source>\S+) (?P<destination>\S+) L=(?P<length>\d+) S=0x(?P<tos>[0-9A-F]{2}) I=\d+ "
    r"F=0x(?P<fragment>[0-9A-F]{4}) T=(?P<ttl>\d+) (?P<syn>SYN )?\(#(?P<number>\d+)\)$")

DATAPATHS = ["tc", "user"]
pytestmark = pytest.mark.usefixtures("masq_up")


@pytest.fixture
def log(lab):
    """The lines since the test began, once there are so many, and after that no more."""
    path = lab.run_folder() / "log"
    before = path.stat().st_size

    def all_lines():
        text = path.read_text()[before:]
        return [line for line in text.splitlines() if "Packet log:" in line]

    def lines(count):
        wait_until(lambda: len(all_lines()) >= count, f"{count} lines are there", timeout_s=4)
        time.sleep(0.5)
        found = all_lines()
        assert len(found) == count, found
        return [match.groupdict() for match in map(LINE.search, found) if match]
    return lines


def test_each_packet_of_a_connection_and_its_syn(lab, log):
    ipchains(lab, f"-A forward -p tcp -s {S4} -d {S2} 80 -l -j MASQ")
    lab.run("S4", curl_argv(f"http://{S2}/whoami"), check=True)
    [(_, packets, bytes_)] = counted(lab, "forward")
    assert packets > 4
    lines = log(packets)
    assert {(x["chain"], x["target"], x["interface"], x["protocol"], x["number"])
            for x in lines} == {("forward", "MASQ", "out0", "6", "1")}
    assert [bool(x["syn"]) for x in lines] == [True] + [False] * (packets - 1)
    assert sum(int(x["length"]) for x in lines) == bytes_
    assert all(x["source"].startswith(f"{S4}:") and x["destination"] == f"{S2}:80" for x in lines)


def test_each_chain_shows_what_it_sees(lab, log):
    ipchains(lab, "-A input -p icmp -t 0x01 0x10 -l")
    ipchains(lab, "-N mine")
    ipchains(lab, "-A mine -j RETURN -l")
    ipchains(lab, "-A output -p icmp -j mine -l")
    assert pings(lab, "S4", S2)
    seen = [(x["chain"], x["target"], x["interface"], x["source"], x["destination"], x["tos"])
            for x in log(6)]
    assert seen == [("input", "-", "in0", f"{S4}:8", f"{S2}:0", "00"),
                    ("output", "mine", "out0", f"{GATEWAY_OUTER}:8", f"{S2}:0", "10"),
                    ("mine", "RETURN", "out0", f"{GATEWAY_OUTER}:8", f"{S2}:0", "10"),
                    # S2 answers with the type of service that it was asked with.
                    ("input", "-", "out0", f"{S2}:0", f"{GATEWAY_OUTER}:0", "10"),
                    ("output", "mine", "in0", f"{S2}:0", f"{S4}:0", "10"),
                    ("mine", "RETURN", "in0", f"{S2}:0", f"{S4}:0", "10")]


def test_what_is_refused_and_what_is_for_the_gateway(lab, log):
    ipchains(lab, f"-A input -p udp -s {S4} -d {GATEWAY_INNER} 7400 -l -j DENY")
    ipchains(lab, f"-A forward -p udp -s {S5} -d {S2} 7400 -l -j REJECT")
    with lab.udp("S4", 7401) as one, lab.udp("S5", 7402) as two:
        one.sendto(b"x" * 10, (GATEWAY_INNER, 7400))
        log(1)
        two.sendto(b"x" * 20, (S2, 7400))
    first, second = log(2)
    assert (first["target"], first["source"], first["length"]) == ("DENY", f"{S4}:7401", "38")
    assert (second["target"], second["source"], second["length"]) == ("REJECT", f"{S5}:7402", "48")


def test_a_datagram_in_fragments_has_one_line_and_passes_whole(lab, log):
    ipchains(lab, "-P forward DENY")
    ipchains(lab, f"-A forward -p udp -s {S4} -d {S2} 7403 -l -j MASQ")
    with lab.udp("S2", 7403) as server, lab.udp("S4", 7404) as client:
        client.sendto(b"x" * 3000, (S2, 7403))
        assert len(server.recv(4000)) == 3000
    [line] = log(1)
    assert (line["length"], line["fragment"]) == ("1500", "2000")


def test_too_many_are_counted_and_said(lab):
    """Each packet has its line or is counted as one that has none."""
    ipchains(lab, f"-A input -p udp -s {S4} -l")
    text = lambda: (lab.run_folder() / "log").read_text()
    lines = lambda: text().count(f"{S4}:7405 {GATEWAY_INNER}:9")
    before, lines_before = lab.status()["packet_log"], lines()
    with lab.udp("S4", 7405) as client:
        for _ in range(3000):
            client.sendto(b"x", (GATEWAY_INNER, 9))
    wait_until(lambda: "are not written down here" in text(), "the log says what it lacks")
    time.sleep(1)
    new = {name: count - before[name] for name, count in lab.status()["packet_log"].items()}
    assert 1500 < new["noted"] <= 3000  # in user space some frames may come too fast
    assert new["lost"] + new["left_out"] > 500
    assert lines() - lines_before + new["lost"] + new["left_out"] == new["noted"]
    assert "packets for rules with -l, of which" in lab.masq("status").stdout


def test_without_masqd_packets_pass_and_the_next_one_writes(lab, log):
    time.sleep(4)  # until lines are to be had again
    ipchains(lab, f"-A input -p icmp -s {S4} -l")
    lab.kill_daemon()
    if lab.datapath == "tc":
        assert pings(lab, "S4", S2, 3)
        assert lab.status()["packet_log"]["noted"] > 0
    assert lab.masq("up").returncode == 0
    if lab.datapath == "user":
        wait_until(lambda: pings(lab, "S4", S2, 3), "it flows again")
    text = lambda: (lab.run_folder() / "log").read_text()
    wait_until(lambda: text().count(f"{S4}:8 {S2}:0") >= 3, "the next one has written them")
