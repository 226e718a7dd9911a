"""`masq replay`: a capture goes through the engine, and what would have come out is another."""

import json
import struct
import subprocess

import pytest
from scapy.all import (ARP, ICMP, IP, TCP, UDP, CookedLinux, Ether, IPerror, Raw, UDPerror,
                       rdpcap, wrpcap, wrpcapng)

from lab import BINARIES

ADDRESS, INNER, S4, S2 = "192.0.2.1", "192.168.2.1", "192.168.2.4", "198.51.100.2"
LINK = Ether(src="02:00:00:00:00:04", dst="02:00:00:00:00:01")
QUESTION = IP(src=S4, dst=S2) / UDP(sport=4000, dport=7) / b"question"


def replay(*arguments):
    return subprocess.run([BINARIES / "masq", "replay", *map(str, arguments)], capture_output=True,
                          text=True, timeout=30)


@pytest.fixture
def play(tmp_path):
    """Writes packets as a capture, replays it, and reads what came out."""
    def play_(packets, *options, file=None):
        if file is None:
            file = tmp_path / "in.pcap"
            wrpcap(str(file), packets)
        out = tmp_path / "out.pcap"
        done = replay(file, out, "--address", ADDRESS, "--json", *options)
        assert done.returncode == 0, done.stderr
        return list(rdpcap(str(out))), json.loads(done.stdout)
    return play_


def at(time_s, packet):
    packet.time = time_s
    return packet


def right(packet):
    """Are the checksums right, and what is quoted too?"""
    fresh = IP(bytes(packet))
    for layer in (IP, UDP, TCP, ICMP):
        if layer in fresh:
            del fresh[layer].chksum
    return bytes(fresh) == bytes(packet)


def question_and_answer(play):
    [out], _ = play([LINK / QUESTION])
    answer = IP(src=S2, dst=ADDRESS) / UDP(sport=7, dport=out[UDP].sport) / b"answer"
    return out, answer


def test_a_question_leaves_and_its_answer_comes_back(play):
    _, answer = question_and_answer(play)
    packets, counts = play([at(100.25, LINK / QUESTION), at(100.5, LINK / answer)])
    out, back = packets
    assert (out[IP].src, out[IP].dst, out[UDP].dport) == (ADDRESS, S2, 7)
    assert (back[IP].src, back[IP].dst, back[UDP].dport) == (S2, S4, 4000)
    assert bytes(out[UDP].payload) == b"question" and bytes(back[UDP].payload) == b"answer"
    assert [float(p.time) for p in packets] == [100.25, 100.5]
    assert right(out) and right(back)
    assert (counts["read"], counts["written"]) == (2, 2)
    assert (counts["traffic"]["translated_out"], counts["traffic"]["translated_in"]) == (1, 1)
    assert sum(counts["dropped"].values()) == 0


def test_the_same_capture_gives_the_same_result_and_another_seed_another(play):
    ports = [play([LINK / QUESTION], "--seed", seed)[0][0][UDP].sport for seed in (1, 1, 2)]
    assert ports[0] == ports[1] != ports[2]


def test_time_is_the_captures(play):
    """What a stranger answers never comes in; what was asked for, only until the flow expires."""
    _, answer = question_and_answer(play)
    stranger = answer.copy()
    stranger[IP].src = "198.51.100.3"
    packets, counts = play([at(0, LINK / QUESTION), at(1, LINK / stranger),
                            at(299, LINK / answer), at(301, LINK / answer)])
    assert [float(p.time) for p in packets] == [0, 299]
    assert counts["dropped"]["no_mapping"] == 2
    assert counts["flows"] == 0


def test_timeouts_are_the_configurations(play, tmp_path):
    config = tmp_path / "short.toml"
    config.write_text("[timeouts]\nudp_s = 2\n")
    _, answer = question_and_answer(play)
    packets, _ = play([at(0, LINK / QUESTION), at(3, LINK / answer)], "--config", config)
    assert len(packets) == 1


def test_no_inner_address_goes_out(play):
    odd = [IP(src=S4, dst=S2) / TCP(sport=1, dport=80, flags="R"),
           IP(src=S4, dst=S2, proto=47) / Raw(b"\0" * 20),
           IP(src=S4, dst=S2) / ICMP(type=3, code=1) / IP(src=S2, dst=S4) / UDP(sport=7, dport=7),
           IP(src=S4, dst=S2) / ICMP(type=8, id=9) / b"ping"]
    packets, counts = play([LINK / p for p in odd])
    assert [(p[IP].src, p[ICMP].type) for p in packets] == [(ADDRESS, 8)]
    dropped = {reason: n for reason, n in counts["dropped"].items() if n}
    assert dropped == {"tcp_not_syn": 1, "unsupported_protocol": 1, "icmp_orphan": 1}


def test_the_gateway_answers_with_icmp_errors(play):
    short = QUESTION.copy()
    short[IP].ttl = 1
    [error], counts = play([LINK / short])
    # Unless told, its inner address is the first of the first inner network.
    assert (error[IP].src, error[IP].dst, error[ICMP].type) == ("10.0.0.1", S4, 11)
    assert (error[IPerror].src, error[UDPerror].sport) == (S4, 4000)
    assert counts["dropped"]["ttl_exceeded"] == 1
    [error], _ = play([LINK / short], "--inside", "192.168.2.0/24", "--inner-address", INNER)
    assert error[IP].src == INNER
    large = QUESTION / (b"x" * 1400)
    large[IP].flags = "DF"
    [error], _ = play([LINK / large], "--mtu", 1280)
    assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 1280)


def test_what_is_not_for_a_gateway_is_told_apart(play):
    within = IP(src=S4, dst="192.168.2.5") / UDP(sport=1, dport=1)
    local = IP(src=S2, dst=ADDRESS) / ICMP(type=8, id=1)
    _, counts = play([LINK / within, LINK / local, LINK / ARP()])
    assert (counts["within_inside"], counts["not_ipv4"], counts["written"]) == (1, 1, 0)
    assert counts["traffic"]["local"] == 1


def test_a_packet_captured_in_part_is_translated_in_part(play, tmp_path):
    whole = bytes(LINK / QUESTION / (b"x" * 1000))
    path = tmp_path / "cut.pcap"
    path.write_bytes(struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 64, 1)
                     + struct.pack("<IIII", 1, 0, 64, len(whole)) + whole[:64])
    [out], counts = play([], file=path)
    assert (out.wirelen, len(out)) == (len(whole) - 14, 50)
    assert out[IP].src == ADDRESS and counts["traffic"]["translated_out"] == 1
    [uncut], _ = play([LINK / QUESTION / (b"x" * 1000)])
    assert out[UDP].chksum == uncut[UDP].chksum and right(uncut)


@pytest.mark.parametrize("make", [
    lambda path: wrpcap(str(path), [QUESTION], linktype=101),
    lambda path: wrpcap(str(path), [CookedLinux(proto=0x800) / QUESTION]),
    lambda path: wrpcap(str(path), [LINK / QUESTION], endianness=">"),
    lambda path: wrpcap(str(path), [LINK / QUESTION], nano=True)],
    ids=["plain-ip", "cooked", "big-endian", "nanoseconds"])
def test_captures_of_other_kinds_are_read(play, tmp_path, make):
    make(tmp_path / "kind.pcap")
    [out], _ = play([], file=tmp_path / "kind.pcap")
    assert out[IP].src == ADDRESS


def test_tshark_reads_the_result_without_complaint(play, tmp_path):
    _, answer = question_and_answer(play)
    play([LINK / QUESTION, LINK / answer])
    done = subprocess.run(["tshark", "-n", "-r", tmp_path / "out.pcap",
                           "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
                           "-Y", "_ws.expert"],
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_counts_and_reasons_for_people(tmp_path):
    wrpcap(str(tmp_path / "in.pcap"), [LINK / QUESTION, LINK / IP(src=S4, dst=S2, proto=47)])
    done = replay(tmp_path / "in.pcap", tmp_path / "out.pcap", "--address", ADDRESS)
    assert done.returncode == 0
    assert "2 packets read: 2 from inside, 0 from outside." in done.stdout
    assert "1 packets written: 1 translated out" in done.stdout
    assert "unsupported_protocol" in done.stdout


@pytest.mark.parametrize("arguments", [
    [], ["{in}"], ["{in}", "{out}"], ["{in}", "{out}", "--address", "nowhere"],
    ["{in}", "{in}", "--address", ADDRESS], ["{in}", "{out}", "--address", "192.168.2.1"],
    ["{in}", "{out}", "--address", ADDRESS, "--inside", "192.168.2.0/33"],
    ["{in}", "{out}", "--address", ADDRESS, "--inner-address", "x"],
    ["{in}", "{out}", "--address", ADDRESS, "--mtu", "10"]])
def test_wrong_usage_answers_2(tmp_path, arguments):
    wrpcap(str(tmp_path / "in.pcap"), [LINK / QUESTION])
    names = {"in": tmp_path / "in.pcap", "out": tmp_path / "out.pcap"}
    done = replay(*(argument.format(**names) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("masq: "), done.stderr


def test_files_that_cannot_be_replayed_answer_1(tmp_path):
    captures = {name: tmp_path / name for name in ("missing", "text", "next", "cut", "link")}
    captures["text"].write_text("not a capture, whatever its name says")
    wrpcapng(str(captures["next"]), [LINK / QUESTION])
    wrpcap(str(captures["cut"]), [LINK / QUESTION])
    captures["cut"].write_bytes(captures["cut"].read_bytes()[:-3])
    captures["link"].write_bytes(struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 64, 105))
    for name, path in captures.items():
        done = replay(path, tmp_path / "out.pcap", "--address", ADDRESS)
        assert done.returncode == 1, name
        assert len(done.stderr.splitlines()) == 1 and str(path) in done.stderr, done.stderr
