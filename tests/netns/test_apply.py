"""A configuration beside the gateway that runs: what `masq plan` says of it, that `masq apply` puts
all of it in force or nothing, and that it stays."""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from lab import ADDRESS, BINARIES, GATEWAY_OUTER, wait_until
from services import curl_argv
from traffic import pings

S1, S2, S4, S5 = (ADDRESS[name] for name in ("S1", "S2", "S4", "S5"))
NONE, FAILED, CHANGES = 0, 1, 3  # exit codes of `masq plan`
OPEN = """
[rules.forward]
policy = "deny"
rules = ["masquerade from 192.168.2.0/24"]
"""

DATAPATHS = ["tc", "user"]


def write(lab, text, name="masq.toml"):
    path = lab.directory / name
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def gateway(lab):
    """Each test begins with a gateway that was started with the rules of OPEN."""
    up = lab.masq("up", "--config", write(lab, OPEN, "begin.toml"))
    assert up.returncode == 0, up.stderr
    yield
    lab.masq("down")


def ipchains(lab, line):
    done = lab.run("B", [str(BINARIES / "ipchains"), *line.split()])
    assert done.returncode == 0, done.stderr
    return done


def plan(lab, text):
    done = lab.masq("plan", "--json", write(lab, text))
    assert done.returncode in (NONE, CHANGES), done.stderr
    said = json.loads(done.stdout)
    assert said["changes"] == (done.returncode == CHANGES)
    return said


def apply(lab, text, check=True):
    done = lab.masq("apply", write(lab, text))
    assert not check or done.returncode == 0, done.stderr
    return done


def all_of_it(lab):
    """Everything that a refused change must leave alone."""
    folder = pathlib.Path(lab.run_folder())
    return (lab.masq("rules").stdout, lab.masq("forward", "list").stdout,
            (folder / "config.toml").read_text(), (folder / "rules.json").read_text(),
            plan(lab, OPEN)["keys"])  # which are compared with what is in force


def rejoin(lab):
    """masqd dies, and the next one goes on with what is kept."""
    lab.kill_daemon()
    up = lab.masq("up")
    assert up.returncode == 0, up.stderr


def connected(lab, host, port):
    server = lab.tcp("S2", port, listen=True)
    client = lab.tcp(host)
    client.connect((S2, port))
    taken, _ = server.accept()
    return client, taken


def test_rules_are_in_force_from_the_start(lab):
    assert pings(lab, "S4", S2) == 1
    assert "policy = \"deny\"" in lab.masq("rules").stdout
    lab.masq("down")
    closed = write(lab, "[rules.forward]\npolicy = \"deny\"\n", "closed.toml")
    lab.masq("up", "--config", closed)
    assert pings(lab, "S4", S2) == 0


def test_nothing_would_change(lab):
    said = plan(lab, OPEN)
    assert said["keys"] == said["rules"] == said["forwards"] == [] and said["flows_refused"] == 0
    done = lab.masq("plan", write(lab, OPEN))
    assert (done.returncode, done.stdout) == (NONE, "Nothing would change.\n")


def test_what_would_change_is_said_and_nothing_changed(lab):
    before = all_of_it(lab)
    text = ("forwards = [\"tcp 8000 192.168.2.4:80\"]\nhost_flows = 5000\nexternal_ports = "
            "\"20000-29999\"\nexternal = \"other0\"\n[timeouts]\nudp_s = 120\n[rules.input]\n"
            "policy = \"allow\"\nrules = [\"jump web on out0\"]\n[rules.web]\nrules = "
            "[\"reject tcp port 23\"]\n[rules.forward]\npolicy = \"reject\"\n")
    said = plan(lab, text)
    assert {each["key"]: each["needs"] for each in said["keys"]} == {
        "external": "restart", "external_ports": "down", "host_flows": "live",
        "timeouts.udp_s": "live"}
    assert [each["after"] for each in said["keys"] if each["key"] == "timeouts.udp_s"] == ["120"]
    assert [(each["chain"], each["added"], each["words"]) for each in said["rules"]] == [
        ("input", True, "jump web on out0"),
        ("forward", False, "policy = \"deny\""), ("forward", True, "policy = \"reject\""),
        ("forward", False, "masquerade from 192.168.2.0/24"),
        ("web", True, "the chain itself"), ("web", True, "reject tcp port 23")]
    assert said["forwards"] == [{"added": True, "words": "tcp 8000 192.168.2.4:80"}]
    assert not said["applicable"]
    refused = apply(lab, text, check=False)
    assert refused.returncode == FAILED and refused.stdout == ""
    assert "To change external_ports, `masq down` has to come first." in refused.stderr
    assert "To change external, end masqd" in refused.stderr
    assert all_of_it(lab) == before


def test_live_flows_that_would_be_refused_are_named(lab):
    one, at_one = connected(lab, "S4", 7200)
    other, at_other = connected(lab, "S5", 7201)
    text = OPEN.replace("[\"masq", f"[\"deny tcp from {S4}\", \"masq")
    said = plan(lab, text)
    assert said["flows_refused"] == 1
    [flow] = said["flows_refused_named"]
    assert flow["internal"].split(":")[0] == S4 and flow["remote"] == f"{S2}:7200"
    assert (flow["protocol"], flow["reason"]) == ("tcp", "rules_deny")
    done = lab.masq("plan", write(lab, text))
    assert done.returncode == CHANGES
    assert "1 live flow would be refused by the new rules:" in done.stdout
    assert "rules.forward: + deny tcp from 192.168.2.4" in done.stdout
    apply(lab, text)
    other.sendall(b"goes on")
    assert at_other.recv(20) == b"goes on"
    one.sendall(b"is refused")
    at_one.settimeout(1.0)
    with pytest.raises(TimeoutError):
        at_one.recv(20)
    assert plan(lab, text)["flows_refused"] == 0  # by the rules in force they are refused already


def test_answers_are_judged_too(lab):
    connected(lab, "S4", 7210)
    output = "[rules.output]\npolicy = \"allow\"\nrules = [\"deny to {} on in0\"]\n"
    assert plan(lab, OPEN + output.format(S4))["flows_refused"] == 1
    assert plan(lab, OPEN + output.format(S5))["flows_refused"] == 0


def test_all_is_applied_and_outlives_masqd(lab):
    lab.services.nginx("S5")
    apply(lab, "forwards = [\"tcp 8000 192.168.2.5:80\"]\nhost_flows = 5000\n[timeouts]\n"
               "udp_s = 120\n" + OPEN.replace("192.168.2.0/24", f"{S5}"))
    for restart in (False, True):
        if restart:
            rejoin(lab)
        assert pings(lab, "S4", S2) == 0
        assert pings(lab, "S5", S2) == 1
        page = lab.run("S1", curl_argv(f"http://{GATEWAY_OUTER}:8000/whoami"))
        assert page.stdout.split(" ")[0] == S1
        udp = lab.udp("S5", 7300)
        udp.sendto(b"x", (S2, 7301))
        wait_until(lambda: expiring(lab, f"{S2}:7301"), "the flow is there")
        assert 100 < expiring(lab, f"{S2}:7301")[0] <= 120
        assert f"masquerade from {S5}" in lab.masq("rules").stdout
        udp.close()
    said = plan(lab, OPEN)
    assert [each["words"] for each in said["forwards"]] == ["tcp 8000 192.168.2.5:80"]
    apply(lab, OPEN)
    assert lab.masq("forward", "list").stdout == "There are no forwards.\n"
    assert pings(lab, "S4", S2) == 1


def expiring(lab, remote):
    """In how many seconds each flow to there will."""
    flows = json.loads(lab.masq("flows", "--json").stdout)
    return [flow["expires_s"] for flow in flows if flow["remote"] == remote]


@pytest.mark.parametrize("text, line, word", [
    ("[rules.forward]\npolicy = \"deny\"\nrules = [\n\"masquerade\",\n\"jump away\",\n]\n",
     5, "away"),
    ("[rules.forward]\npolicy = \"deny\"\nrules = [\"quickly\"]\n", 3, "quickly"),
    ("[rules.input]\npolicy = \"deny\"\nrules = [\n\"allow copy 60\"]\n", 4, "Copies"),
    ("forwards = [\"tcp 80\"]\n", 1, "inner host"),
    ("[timeouts]\nudp_s = 0\n", 2, "udp_s"),
    ("this is not TOML\n", 1, "TOML")])
def test_bad_files_change_nothing(lab, text, line, word):
    before = all_of_it(lab)
    path = write(lab, text)
    for command in ("check", "plan", "apply", "up --config"):
        done = lab.masq(*command.split(), path)
        assert done.returncode == FAILED and done.stdout == ""
        assert done.stderr.startswith(f"{path}:{line}: ") and word in done.stderr, done.stderr
    assert all_of_it(lab) == before


def test_a_forward_that_meets_one_made_by_hand_changes_nothing(lab):
    lab.masq("forward", "add", "tcp", "8100", S4)
    before = all_of_it(lab)
    done = apply(lab, "forwards = [\"tcp 8100 192.168.2.5\"]\n[timeouts]\nudp_s = 99\n",
                 check=False)
    assert done.returncode == FAILED and "8100" in done.stderr
    assert all_of_it(lab) == before


def test_what_is_changed_by_hand_stays_until_the_next_change(lab):
    ipchains(lab, f"-I forward 1 -s {S4} -j DENY")
    rejoin(lab)
    assert pings(lab, "S4", S2) == 0
    assert [each["words"] for each in plan(lab, OPEN)["rules"]] == [f"deny from {S4}"]
    apply(lab, OPEN)
    assert pings(lab, "S4", S2) == 1


def test_rules_of_commands_stay_where_the_configuration_has_none(lab):
    apply(lab, "")  # and those of the configuration before go
    assert "policy = \"masquerade\"" in lab.masq("rules").stdout
    assert pings(lab, "S4", S2) == 1
    ipchains(lab, f"-A forward -s {S4} -j DENY")
    said = plan(lab, "")
    assert not said["changes"] and "made by commands" in said["remarks"][0]
    apply(lab, "")
    rejoin(lab)
    assert pings(lab, "S4", S2) == 0


def test_rules_in_force_are_shown_as_configuration(lab):
    for line in (f"-A input -i ppp+ -p tcp -s ! {S1} 1024: -d 0/0 22 -y -j REJECT -l",
                 "-N web", "-A web -p icmp -s 0/0 echo-request -j RETURN",
                 "-A forward -p udp -t 0x01 0x10 -m 7 -j web", "-A output -f -i ! in0"):
        ipchains(lab, line)
    shown = lab.masq("rules").stdout
    assert plan(lab, shown)["rules"] == []
    ipchains(lab, "-F")
    assert plan(lab, shown)["rules"] != []
    apply(lab, shown)
    assert lab.masq("rules").stdout == shown


def test_rules_that_stay_go_on_counting(lab):
    assert pings(lab, "S4", S2) == 1
    apply(lab, OPEN.replace("[\"masq", f"[\"deny from {S5}\", \"masq"))
    chains = json.loads(lab.masq("rules", "--json").stdout)["chains"]
    [forward] = [each for each in chains if each["name"] == "forward"]
    assert [each.get("packets", 0) for each in forward["rules"]] == [0, 1]


def test_commands_at_the_same_time_lose_nothing(lab):
    """Each change is made whole, one after the other: the last rule set is one of the two, and what
    `ipchains` adds is not lost in between."""
    def add():
        for number in range(10):
            ipchains(lab, f"-A output -p tcp -d 0/0 {9000 + number} -j DENY")
    apply(lab, "")
    adding = threading.Thread(target=add)
    adding.start()
    for _ in range(5):
        apply(lab, "[timeouts]\nudp_s = 77\n")
        apply(lab, "[timeouts]\nudp_s = 78\n")
    adding.join()
    assert lab.masq("rules").stdout.count("deny tcp port 90") == 10


def test_killed_at_any_moment_it_is_all_or_nothing(lab):
    """Half by half: the rules are the old or the new ones, the forwards too; and the next masqd
    puts in force what the kept configuration says."""
    one = OPEN
    other = "forwards = [\"tcp 8300 192.168.2.5\"]\n" + OPEN.replace("192.168.2.0/24", S4)
    paths = {name: write(lab, text, name) for name, text in (("one", one), ("other", other))}
    texts = {}
    for name in ("other", "one"):
        apply(lab, (lab.directory / name).read_text())
        texts[name] = lab.masq("rules").stdout
    began = time.monotonic()
    apply(lab, one)
    takes_s = time.monotonic() - began
    killed = 0
    for number in range(24):
        name = ("other", "one")[number % 2]
        process = lab.popen("B", [str(BINARIES / "masq"), "apply", str(paths[name])],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=takes_s * (0.2 + number / 24))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        assert lab.masq("rules").stdout in texts.values()
        if number % 3 == 2:
            rejoin(lab)
            is_other = "8300" in (pathlib.Path(lab.run_folder()) / "config.toml").read_text()
            assert lab.masq("rules").stdout == texts["other" if is_other else "one"]
            assert ("8300" in lab.masq("forward", "list").stdout) == is_other
    assert killed > 5
    apply(lab, one)
    assert pings(lab, "S5", S2) == 1


def test_without_a_gateway_there_is_nothing_to_compare(lab):
    lab.masq("down")
    for command in ("plan", "apply"):
        done = lab.masq(command, write(lab, OPEN))
        assert done.returncode == FAILED and "masq up --config" in done.stderr


def test_scripts_of_rules_and_a_configuration_with_rules_are_not_mixed(lab):
    lab.masq("down")
    script = write(lab, "#!/bin/sh\n/sbin/ipchains -P forward DENY\n", "rc.firewall")
    done = lab.masq("run-script", "--config", write(lab, OPEN), script)
    assert done.returncode == 2 and "one of them is enough" in done.stderr
