"""Old scripts of rules with real traffic: `masq run-script` starts the gateway with what they say,
or changes a running one, or leaves everything as it was."""

import json
import pathlib
import re
import time

import pytest

from lab import ADDRESS, BINARIES, GATEWAY_INNER, GATEWAY_OUTER, wait_until
from scripts import Script, is_running, text_of
from services import curl_argv
from traffic import external_of, knocks, pings, receive, receive_all, wait_until_it_flows

S1, S2, S4, S5, S7 = (ADDRESS[name] for name in ("S1", "S2", "S4", "S5", "S7"))
INNER_NET = "192.168.2.0/24"
DATAPATHS = ["tc", "user"]
LAB = {"second_inner": True}
on_tc = pytest.mark.only_labs(lambda options: options["datapath"] == "tc")

OPEN = f"""#!/bin/sh
echo 1 > /proc/sys/net/ipv4/ip_forward
ipchains -F
ipchains -P forward DENY
ipchains -A forward -s {INNER_NET} -j MASQ
"""
WAITING = "echo begun\nwhile [ ! -e {} ]; do sleep 0.1; done\n"


@pytest.fixture
def script(lab):
    """No gateway runs, before and afterwards."""
    assert pings(lab, "S2", GATEWAY_OUTER)  # so the watch outside has seen something
    yield Script(lab)
    down = lab.masq("down")
    assert down.returncode == 0, down.stderr


def fetch(lab, host, target=S2, **more):
    return lab.run(host, curl_argv(f"http://{target}/whoami", timeout_s=3, **more))


def is_up(lab):
    return lab.masq("status").returncode == 0


def knocking_at_inner_hosts(lab):
    """What comes in of what an outer host sends straight to inner ones."""
    inside = lab.capture("innet", "br0", filter_="ip and not arp", snap_bytes=200)
    for frame in knocks("S1"):
        lab.send_frame("S1", frame)
    time.sleep(0.3)
    inside.stop()
    return [frame for frame in inside.frames() if b"knock" in frame.data]


# --- the description -----------------------------------------------------------------------------


def test_the_script_of_the_description(lab, script):
    done = script.good(text_of("description"))
    assert done.stderr == "", done.stderr
    assert "masq is translating." in done.stdout and "is applied." in done.stdout
    assert "Modules ip_masq_ftp, ip_masq_irc, ip_masq_quake: noted." in done.stdout
    assert "ip_dynaddr 1: masq always follows its external address" in done.stdout
    for host in ("S4", "S5", "S6"):
        assert pings(lab, host, S2, 3)
        assert fetch(lab, host).stdout.split()[0] == GATEWAY_OUTER
    assert {request[0] for request in lab.services.access_log("S2")} == {GATEWAY_OUTER}
    lab.routes_inwards()
    assert not pings(lab, "S1", S4) and not pings(lab, "A", S5)
    assert knocking_at_inner_hosts(lab) == []
    assert not pings(lab, "S7", S2)  # another network: no rule names it
    status = lab.status()
    assert status["timeouts_s"]["tcp_established"] == 7200
    assert status["timeouts_s"]["tcp_closing"] == 10 and status["timeouts_s"]["udp"] == 160
    assert status["forwarding"] is True
    assert status["switches"] == {"net/ipv4/ip_forward": "1", "net/ipv4/ip_dynaddr": "1"}
    assert "switch    ip_dynaddr 1" in lab.masq("status").stdout
    assert script.chains() == (
        ":input ACCEPT\n:forward DENY\n:output ACCEPT\n"
        "-A forward -s 192.168.2.0/255.255.255.0 -d 0.0.0.0/0.0.0.0 -j MASQ\n")


@on_tc
def test_line_ends_of_another_system(lab, script):
    script.good(text_of("description").replace("\n", "\r\n"))
    assert pings(lab, "S6", S2)


def test_the_script_as_printed_fails_and_lets_nothing_out(lab, script):
    text = text_of("description_as_printed")
    line = 1 + text.splitlines().index("/sbin/ipchains -A forward -s -j MASQ")
    outside = lab.capture_gateway_outside(filter_extra="ip")
    done = script.run(text)
    assert done.returncode == 1
    path = lab.directory / "rc.firewall"
    [failed, ended, applied] = [said for said in done.stderr.splitlines()
                                if said.startswith("masq: ")]
    assert failed == (f"masq: {path}, line {line}: `/sbin/ipchains -A forward -s -j MASQ` failed "
                      "with exit code 2: ipchains: host/network `-j' not found; has the address "
                      "after -s been lost?")
    assert ended.endswith(" ended with exit code 2.")
    assert applied.startswith("masq: Nothing of it is applied")
    assert not is_up(lab) and not pings(lab, "S4", S2)
    outside.stop()
    assert outside.packets() == []


@on_tc
def test_as_printed_it_changes_nothing_of_a_running_gateway(lab, script):
    script.good(OPEN)
    before, chains = script.kept(), script.chains()
    timeouts = lab.status()["timeouts_s"]
    assert script.run(text_of("description_as_printed")).returncode == 1
    assert script.kept() == before and script.chains() == chains
    assert lab.status()["timeouts_s"] == timeouts
    assert fetch(lab, "S4").returncode == 0


# --- other scripts -------------------------------------------------------------------------------


@on_tc
def test_a_simple_set_run_twice(lab, script):
    script.good(text_of("simple"))
    chains = script.chains()
    assert ":forward DENY" in chains and "-i out0 -j MASQ" in chains
    assert fetch(lab, "S5").stdout.split()[0] == GATEWAY_OUTER
    assert not pings(lab, "S7", S2)
    again = script.good(text_of("simple"))
    assert script.chains() == chains and "twice" not in again.stdout
    assert fetch(lab, "S5").returncode == 0


@on_tc
def test_a_strong_set(lab, script):
    done = script.good(text_of("strong"))
    assert "tcp_syncookies 1" in done.stdout and "conf/out0/rp_filter 1" in done.stdout
    assert lab.read_sysctl("B", "net.ipv4.conf.out0.rp_filter") == "1"
    assert fetch(lab, "S4").stdout.split()[0] == GATEWAY_OUTER
    assert pings(lab, "B", S2) and pings(lab, "S2", GATEWAY_OUTER)
    assert not pings(lab, "S7", S2) and not pings(lab, "S7", S4)
    # Its own rule against what says that it comes from inside. masq itself would refuse it too.
    assert "-s 192.168.2.0/255.255.255.0 -d 0.0.0.0/0.0.0.0 -i out0 -j REJECT" in script.chains()
    assert lab.status()["timeouts_s"]["udp"] == 60


@on_tc
def test_three_legs(lab, script):
    lab.services.nginx("S7")
    done = script.good(text_of("three_legged"))
    assert "external ports 61000 to 65095 of Linux 2.2" in done.stdout
    # Inside to the servers: web and ping, nothing else.
    assert fetch(lab, "S4", S7).returncode == 0
    server = lab.tcp("S7", 8080, listen=True)
    client = lab.tcp("S4", timeout_s=0.7)
    with pytest.raises(OSError):
        client.connect((S7, 8080))
    server.close()
    # Inside to outside: web, ssh, ping. Servers begin nothing, in no direction.
    address, port = fetch(lab, "S4").stdout.split()
    assert address == GATEWAY_OUTER and 61000 <= int(port) <= 65095
    assert pings(lab, "S5", S2)
    assert not pings(lab, "S7", S4) and not pings(lab, "S7", S2)
    sender, receiver = lab.udp("S4"), lab.udp("S2", 5000, timeout_s=0.5)
    sender.sendto(b"not a service of the list", (S2, 5000))
    assert receive(receiver) is None
    # The gateway answers inside, and not outside.
    assert pings(lab, "S4", GATEWAY_INNER) and not pings(lab, "S2", GATEWAY_OUTER)


@on_tc
def test_the_language_of_2_0_run_twice(lab, script):
    done = script.good(text_of("ipfwadm"))
    assert f"tcp {GATEWAY_OUTER}:80 -> {S5}:80" in done.stdout
    lab.services.nginx("S5")
    assert fetch(lab, "S2", GATEWAY_OUTER).stdout.split()[0] == S2
    chains = script.chains()
    assert fetch(lab, "S4").stdout.split()[0] == GATEWAY_OUTER
    assert not pings(lab, "S7", S2)
    script.good(text_of("ipfwadm"))
    assert script.chains() == chains


@on_tc
def test_a_script_that_does_not_flush_adds_and_is_told_so(lab, script):
    script.good(text_of("description"))
    chains = script.chains()
    again = script.good(text_of("description"))
    assert "The chain forward has rules twice" in again.stdout
    assert script.chains().count("-j MASQ") == 2
    script.good(text_of("description"), "--as-at-boot")
    assert script.chains() == chains


# --- ip_forward ----------------------------------------------------------------------------------


def test_nothing_passes_until_ip_forward_is_1(lab, script):
    """It is 0 as after a boot, so a script that says nothing of it opens nothing."""
    done = script.good(OPEN.replace("echo 1 >", "cat"))
    assert done.stdout.startswith("0\n") and "ip_forward is 0: nothing passes" in done.stdout
    assert "masq is up, and forwarding is off" in done.stdout
    assert "forwarding is off: ip_forward is 0" in lab.masq("status").stdout
    assert lab.status()["forwarding"] is False
    outside = lab.capture_gateway_outside(filter_extra="ip")
    for host, target in (("S4", S2), ("S4", S7), ("S7", S4)):
        assert not pings(lab, host, target)
    assert fetch(lab, "S5").returncode != 0
    outside.stop()
    assert outside.packets() == []
    assert lab.dropped("forwarding_off") > 0
    assert pings(lab, "S4", GATEWAY_INNER) and pings(lab, "B", S2) and pings(lab, "B", S4)
    script.good(OPEN)
    assert pings(lab, "S4", S2) and fetch(lab, "S5").returncode == 0
    assert lab.status()["forwarding"] is True


def test_open_flows_stand_still_while_it_is_0_and_go_on_afterwards(lab, script):
    script.good(OPEN)
    server = lab.tcp("S2", 7300, listen=True)
    client = lab.tcp("S4")
    client.connect((S2, 7300))
    taken, _ = server.accept()
    client.sendall(b"one")
    assert taken.recv(10) == b"one"
    script.good("#!/bin/sh\necho 0 > /proc/sys/net/ipv4/ip_forward\n")
    assert "-j MASQ" in script.chains()  # no rule has gone
    for sender, receiver in ((client, taken), (taken, client)):
        sender.sendall(b"two")
        receiver.settimeout(0.7)
        with pytest.raises(TimeoutError):
            receiver.recv(10)
    script.good("#!/bin/sh\necho 1 > /proc/sys/net/ipv4/ip_forward\n")
    for receiver in (client, taken):
        receiver.settimeout(10)
        assert receiver.recv(10) == b"two"  # the retransmission


@pytest.mark.parametrize("mode, inner_port, gets_in", [(1, 1024, True), (1, 1023, False),
                                                       (2, 1023, True), (0, 5000, False)])
def test_a_script_chooses_who_may_send_to_udp_mappings(lab, script, mode, inner_port, gets_in):
    script.good(OPEN + "echo 1 > /proc/sys/net/ipv4/ip_forward\n"
                f"echo {mode} > /proc/sys/net/ipv4/ip_masq_udp_dloose\n")
    with (lab.udp("S4", inner_port) as client, lab.udp("S2", 9130) as asked,
          lab.udp("S3", 9130) as stranger):
        external = external_of(client, asked, (S2, 9130))
        stranger.sendto(b"from a stranger", external)
        stranger.sendto(b"and again", external)
        assert [word for word, _ in receive_all(client)] == (
            [b"from a stranger", b"and again"] if gets_in else [])
        asked.sendto(b"from the one that was asked", external)
        client.settimeout(2)
        assert receive(client)[0] == b"from the one that was asked"
    lab.kill_daemon()
    assert lab.masq("up").returncode == 0  # the next daemon knows it too
    with lab.udp("S5", inner_port) as client, lab.udp("S2", 9131) as asked, lab.udp("S3") as other:
        other.sendto(b"knock", external_of(client, asked, (S2, 9131)))
        assert (receive_all(client) != []) == gets_in


def test_the_switch_outlives_the_daemon(lab, script):
    script.good(OPEN)
    script.good("#!/bin/sh\necho 0 > /proc/sys/net/ipv4/ip_forward\n"
                "echo 1 > /proc/sys/net/ipv4/ip_masq_udp_dloose\n")
    lab.kill_daemon()
    assert not pings(lab, "S4", S2)
    up = lab.masq("up")
    assert up.returncode == 0 and "forwarding is off" in up.stdout
    assert not pings(lab, "S4", S2)
    status = lab.status()
    assert status["forwarding"] is False
    assert status["switches"]["net/ipv4/ip_masq_udp_dloose"] == "1"
    # Rules that change by a command leave it as it is, too.
    lab.run("B", [BINARIES / "ipchains", "-P", "forward", "MASQ"], check=True)
    assert not pings(lab, "S4", S2)
    explained = lab.masq("explain", "udp", f"{S4}:5000", f"{S2}:9")
    assert "forwarding_off" in explained.stdout, explained.stdout + explained.stderr


@on_tc
def test_plain_masq_up_forwards(lab, script):
    assert lab.masq("up").returncode == 0
    assert lab.status()["forwarding"] is True and lab.status()["switches"] == {}
    assert pings(lab, "S4", S2)
    # And a script finds it so, with what masq does anyway.
    done = script.good("#!/bin/sh\ncat /proc/sys/net/ipv4/ip_forward\nipchains -L forward\n")
    assert done.stdout.startswith("1\nChain forward (policy MASQ)")
    assert pings(lab, "S4", S2)


# --- all or nothing ------------------------------------------------------------------------------


def test_no_packet_leaves_before_the_rules_are_in_force(lab, script):
    """S5 is not allowed out, and tries so all the time while the gateway starts."""
    pinger = lab.popen("S5", ["ping", "-n", "-q", "-i", "0.01", S2])
    at_s2 = lab.capture("S2", filter_="icmp[icmptype] == icmp-echo")
    with is_running(pinger):
        script.good(OPEN.replace(INNER_NET, S4))
        assert pings(lab, "S4", S2, 3)
        pinger.send_signal(2)
        sent = int(re.search(r"(\d+) packets transmitted", pinger.communicate(timeout=10)[0])[1])
    assert sent > 20
    at_s2.stop()
    assert len(at_s2.packets()) == 3


def test_half_a_script_changes_nothing_while_a_transfer_goes_on(lab, script):
    script.good(OPEN)
    chains = script.chains()
    transfer = lab.popen("S4", curl_argv(f"http://{S2}/slow/5m", "-o", lab.directory / "got-5m",
                                         timeout_s=30))
    with is_running(transfer):
        half = ("#!/bin/sh\necho 0 > /proc/sys/net/ipv4/ip_forward\n/sbin/ipchains -F\n"
                "/sbin/ipchains -P forward DENY\n/sbin/ipchains -P input DENY\nsleep 0.3\n"
                "/sbin/ipchains -A forward -s 192.168.2.0/24 -j MASK\n")
        done = script.run(half)
        assert done.returncode == 1 and ", line 7: `/sbin/ipchains" in done.stderr
        assert "Nothing of it is applied" in done.stderr
        assert script.chains() == chains
        assert transfer.wait(timeout=30) == 0, transfer.communicate()
    assert (lab.directory / "got-5m").read_bytes() == (lab.services.files / "5m").read_bytes()


@on_tc
def test_keep_going_applies_what_succeeded(lab, script):
    text = OPEN + "ipchains -A forward -j NOWHERE\n"
    assert script.run(text).returncode == 1 and not is_up(lab)
    done = script.run(text, "--keep-going")
    assert done.returncode == 3, done.stderr
    assert "What succeeded is applied" in done.stderr
    assert pings(lab, "S4", S2)


@on_tc
def test_a_script_that_is_too_slow_or_interrupted_applies_nothing(lab, script):
    done = script.run(OPEN + "sleep 30\n", "--time-limit", "1")
    assert done.returncode == 1 and "took longer than its time limit" in done.stderr
    assert not is_up(lab)
    running = script.start(OPEN + "echo begun\nsleep 30\n")
    with is_running(running):
        assert running.stdout.readline() == "begun\n"
        running.terminate()
        assert running.wait(timeout=10) == 1
    assert not is_up(lab) and not pings(lab, "S4", S2)


@on_tc
def test_rules_that_somebody_else_has_changed_meanwhile_stay(lab, script):
    script.good(OPEN)
    running = script.start(OPEN + WAITING.format(lab.directory / "goes-on"))
    with is_running(running):
        assert running.stdout.readline() == "begun\n"
        lab.run("B", [BINARIES / "ipchains", "-A", "input", "-s", S1, "-j", "DENY"], check=True)
        (lab.directory / "goes-on").touch()
        assert running.wait(timeout=20) == 1
        assert "Somebody else has changed the rules" in running.stdout.read()
    assert f"-A input -s {S1}" in script.chains()


@on_tc
def test_a_dry_run_says_what_would_be_and_does_nothing(lab, script):
    done = script.good(OPEN, "--dry-run")
    assert ":forward DENY\n" in done.stdout and "-j MASQ\n" in done.stdout
    assert "ip_forward: 1\n" in done.stdout and "Nothing is applied (--dry-run)." in done.stdout
    assert not is_up(lab) and not lab.run_folder().exists()
    script.good(OPEN)
    chains = script.chains()
    assert script.run(text_of("three_legged"), "--dry-run").returncode == 0
    assert script.chains() == chains


@on_tc
def test_a_gateway_that_cannot_start_leaves_everything_as_it_was(lab, script):
    cookies = lab.read_sysctl("B", "net.ipv4.tcp_syncookies")
    other = "0" if cookies != "0" else "1"
    text = OPEN + f"echo {other} > /proc/sys/net/ipv4/tcp_syncookies\n"
    lab.run("B", [BINARIES / "ipchains", "-P", "input", "REJECT"], check=True)
    kept = script.kept()
    done = script.run(text, "--internal", "out0", "--external", "out0")
    assert done.returncode != 0 and "applied" in done.stderr or done.returncode == 2, done.stderr
    lab.ip("B", "route del default")
    try:
        done = script.run(text)
        assert done.returncode == 1, done.stdout
        assert "The gateway could not be started. Nothing of it is applied." in done.stderr
    finally:
        lab.ip("B", "route add default via 192.168.1.250")
    assert lab.read_sysctl("B", "net.ipv4.tcp_syncookies") == cookies
    assert script.kept() == kept and not is_up(lab)
    script.good(text)
    assert lab.read_sysctl("B", "net.ipv4.tcp_syncookies") == other
    lab.sysctl("B", {"net.ipv4.tcp_syncookies": cookies})


# --- a running gateway ---------------------------------------------------------------------------


def test_while_the_daemon_is_dead(lab, script):
    script.good(OPEN)
    lab.kill_daemon()
    done = script.good(OPEN.replace(INNER_NET, S5))
    assert "Took over the running gateway" in done.stdout
    assert pings(lab, "S5", S2) and not pings(lab, "S4", S2)
    assert lab.processes("B", "masqd")


@on_tc
def test_interfaces_that_are_not_those_of_the_running_gateway_are_refused_first(lab, script):
    script.good(OPEN)
    marker = pathlib.Path(lab.directory / "has-run")
    done = script.run(f"#!/bin/sh\ntouch {marker}\n", "--internal", "in1")
    assert done.returncode == 1 and "to change internal, `masq down` comes first" in done.stderr
    assert not marker.exists()


@on_tc
def test_a_gateway_that_is_named_its_interfaces(lab, script):
    script.good(OPEN.replace(INNER_NET, "0/0"), "--external", "out0", "--internal", "in0")
    assert pings(lab, "S4", S2)
    assert {each["name"] for each in lab.status()["interfaces"]} == {"out0", "in0"}


@on_tc
def test_wrong_usage(lab, script):
    for words in ([], ["--no-such-option"], ["--time-limit", "0", "x"]):
        done = lab.masq("run-script", *words)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    done = lab.masq("run-script", "/no/such/file")
    assert done.returncode == 1 and "/no/such/file cannot be read" in done.stderr


@on_tc
def test_what_comes_behind_the_script_is_for_the_script(lab, script):
    path = script.write("#!/bin/sh\necho \"$@\"\n" + OPEN)
    done = lab.masq("run-script", path, "--dry-run", "two words")
    assert done.returncode == 0 and done.stdout.startswith("--dry-run two words\n")
    assert is_up(lab)


@on_tc
def test_commands_in_a_script_touch_nothing_of_the_running_gateway(lab, script):
    script.good(OPEN)
    chains = script.chains()
    asked = f"{BINARIES}/ipchains-save"
    done = script.run(f"""#!/bin/sh
ipchains -F
ipchains -N mine
ipmasqadm portfw -a -P tcp -L {GATEWAY_OUTER} 80 -R {S5} 80
ipmasqadm portfw -l -n
ipchains -M -S 100 20 30
{{ sleep 0.2; ipchains-save; }} | ipchains-restore -f
env -u MASQ_STAGE {asked}
exit 1
""")
    assert done.returncode == 1
    assert done.stdout.endswith(chains), done.stdout
    assert f"{S5}" in done.stdout
    assert script.chains() == chains and lab.status()["timeouts_s"]["udp"] == 300


@on_tc
def test_a_script_that_runs_masq_run_script_fails(lab, script):
    inner = script.write(OPEN, "inner")
    done = script.run(f"#!/bin/sh\n{BINARIES}/masq run-script {inner}\n")
    assert done.returncode == 1 and "cannot run another one" in done.stderr
    assert not is_up(lab)


@on_tc
def test_a_gateway_that_somebody_starts_meanwhile_keeps_what_it_has(lab, script):
    running = script.start(OPEN + WAITING.format(lab.directory / "go"))
    with is_running(running):
        assert running.stdout.readline() == "begun\n"
        assert lab.masq("up").returncode == 0
        (lab.directory / "go").touch()
        assert running.wait(timeout=20) == 1
        assert "Somebody else has started the gateway" in running.stdout.read()
    assert ":forward MASQ" in script.chains()


def test_forwards_that_a_script_does_not_speak_of_stay(lab, script):
    def listed():
        return json.loads(lab.masq("forward", "list", "--json").stdout)["forwards"]

    script.good(OPEN)
    lab.run("B", [BINARIES / "ipmasqadm", "portfw", "-a", "-P", "tcp", "-L", GATEWAY_OUTER, "81",
                  "-R", S5, "80"], check=True)
    before = listed()
    assert [each["first_port"] for each in before] == [81]
    script.good(OPEN)
    assert listed() == before
    script.good(OPEN + "/usr/local/sbin/ipportfw -C\n")
    assert listed() == []


# --- DHCP outside --------------------------------------------------------------------------------


@on_tc
def test_the_documented_rule_lets_a_lease_in(lab, script):
    """Policy DENY for what comes in; the rule of the description for answers of DHCP servers."""
    server = ADDRESS["A"]
    deny = OPEN + "ipchains -P input DENY\nipchains -A input -i in0 -j ACCEPT\n"
    rule = "/sbin/ipchains -A input -j ACCEPT -i out0 -s 0/0 67 -d 0/0 68 -p udp\n"

    def answered():
        with lab.udp(server_host, 67) as s, lab.udp("B", 68, timeout_s=0.7) as client:
            s.sendto(b"a lease", (GATEWAY_OUTER, 68))
            return receive(client)

    server_host = "A"
    script.good(deny)
    assert answered() is None and lab.dropped("rules_deny") > 0
    script.good(deny + rule)
    assert answered() == (b"a lease", (server, 67))
    assert not pings(lab, "B", S2)  # the rest is still denied
