"""Whole scripts of rules in the view (tests/scripts): every step of theirs is taken, none fails,
and the one that the description prints fails with a sentence. What their rules mean is not tried
here: programs that only write down how they were called stand in for ipchains and its like."""

import pytest

from view import SCRIPTS, Views


@pytest.fixture
def views(tmp_path):
    with Views(tmp_path) as views:
        yield views
        assert views.processes() == [], "something of a script lives on"


def text_of(name):
    return (SCRIPTS / name).read_text()


def test_the_script_of_the_description(views):
    """With the line ends of another system, as it went from hand to hand."""
    run = views.run(text_of("description").replace("\n", "\r\n"))
    assert run.result["applied"] and run.returncode == 0 and run.stderr == "", run.stderr
    assert run.modules == {"ip_masq_ftp": {}, "ip_masq_irc": {},
                           "ip_masq_quake": {"ports": [26000, 27000, 27910, 27960]}}
    assert run.switches == {"ip_forward": "1", "ip_dynaddr": "1"}
    assert run.calls == ["ipchains -M -S 7200 10 160", "ipchains -P forward DENY",
                         "ipchains -A forward -s 192.168.2.0/24 -j MASQ"]


def test_the_script_of_the_description_as_printed(views):
    text = text_of("description_as_printed")
    line = 1 + text.splitlines().index("/sbin/ipchains -A forward -s -j MASQ")
    run = views.run(text)
    assert run.returncode == 2 and not run.result["applied"]
    [failure] = run.result["failures"]
    assert failure["exit_code"] == 2 and failure["lines"] == [line]
    path = str(views.folder / "rc.firewall")
    assert run.result["report"] == [
        f"{path}, line {line}: `/sbin/ipchains -A forward -s -j MASQ` failed with exit code 2: "
        "ipchains: host/network `-j' not found.",
        f"{path} ended with exit code 2.",
        "Nothing of it is applied, since a part of a firewall is none; --keep-going applies what "
        "succeeded."]
    kept = views.run(text, options=["--keep-going"])
    assert kept.result["applied"] and "ipchains -P forward DENY" in kept.calls


def test_a_simple_set(views):
    run = views.run(text_of("simple"))
    assert run.result["applied"] and run.stderr == "", run.stderr
    assert run.stdout == ("Outer interface: eth0, inner interface: eth1\n"
                          "Modules: ip_masq_ftp ip_masq_irc ip_masq_raudio \nDone.\n")
    assert set(run.modules) == {"ip_masq_ftp", "ip_masq_irc", "ip_masq_raudio"}
    assert run.switches == {"ip_forward": "1", "ip_always_defrag": "1", "ip_masq_udp_dloose": "0"}
    assert run.calls == [
        "ipchains -P input ACCEPT", "ipchains -P output ACCEPT", "ipchains -P forward REJECT",
        "ipchains -F input", "ipchains -F output", "ipchains -F forward",
        "ipchains -M -S 7200 10 160", "ipchains -P forward DENY",
        "ipchains -A forward -i eth0 -s 192.168.2.0/24 -j MASQ"]


def test_a_strong_set(views):
    run = views.run(text_of("strong"))
    assert run.result["applied"] and run.stderr == "", run.stderr
    assert run.modules == {"ip_masq_ftp": {"ports": [21, 2021]}}
    assert {name: value for name, value in run.switches.items() if "/" not in name} == {
        "ip_forward": "1", "ip_always_defrag": "1", "tcp_syncookies": "1"}
    assert run.switches["conf/eth0/rp_filter"] == "1"
    assert len(run.calls) == 22
    # The address was cut out of what ifconfig shows.
    assert "ipchains -A input -i eth0 -s 0.0.0.0/0 -d 192.168.1.254/32 -j ACCEPT" in run.calls
    assert "ipmasqadm portfw -a -P tcp -L 192.168.1.254 80 -R 192.168.2.5 80" in run.calls
    assert run.calls[-1] == "ipchains -A forward -s 0.0.0.0/0 -d 0.0.0.0/0 -l -j REJECT"


def test_a_strong_set_without_an_address_applies_nothing(views):
    views.ip("addr", "flush", "dev", "eth0")
    run = views.run(text_of("strong"))
    assert run.returncode == 1 and not run.result["applied"] and run.calls == []
    assert "eth0 has no address" in run.stderr and "ended with exit code 1." in run.stderr


def test_three_legs(views):
    run = views.run(text_of("three_legged"))
    assert run.result["applied"] and run.stderr == "", run.stderr
    assert run.modules == {"ip_masq_ftp": {}}
    assert run.switches["ip_forward"] == "1" and run.switches["conf/eth2/rp_filter"] == "1"
    assert run.calls[0] == "ipchains -I input 1 -i ! lo -j DENY"
    assert run.calls[-3:] == ["ipchains -D input 1", "ipchains -D forward 1",
                              "ipchains -D output 1"]
    assert sum(call.startswith("ipchains -N ") for call in run.calls) == 10
    assert "ipchains -A good-bad -p udp --dport 33434:33500 -j MASQ" in run.calls


def test_the_language_of_2_0(views):
    run = views.run(text_of("ipfwadm"))
    assert run.result["applied"] and run.stderr == "", run.stderr
    assert run.modules["ip_masq_quake"] == {"ports": [26000, 27000, 27910, 27960]}
    assert run.calls[0] == "ipfwadm -M -s 7200 10 160"
    assert "ipfwadm -F -a m -S 192.168.2.0/24 -D 0.0.0.0/0 -W eth0" in run.calls
    assert run.calls[-2:] == ["ipportfw -C", "ipportfw -A -t 192.168.1.254/80 -R 192.168.2.5/80"]
