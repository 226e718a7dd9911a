"""What masq answers when something was asked wrongly, is not as it should be, or runs already."""

import json
import re
import shutil
import subprocess
import time

import pytest

from lab import ADDRESS, BINARIES, GATEWAY_OUTER, REPOSITORY, wait_until
from traffic import wait_until_it_flows

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


@pytest.fixture(autouse=True)
def masq_is_down_afterwards(lab):
    yield
    lab.masq("down")


def check(lab, text):
    """(exit code, [(line, sentence)]) of `masq check`."""
    path = lab.directory / "checked.toml"
    path.write_text(text)
    done = lab.masq("check", path)
    found = [line.removeprefix(f"{path}:").split(": ", 1) for line in done.stderr.splitlines()]
    return done.returncode, [(int(line), sentence) for line, sentence in found]


def first_line(lab):
    return lab.masq("status").stdout.splitlines()[0]


def interface(lab, name):
    [one] = [each for each in lab.status()["interfaces"] if each["name"] == name]
    return one


# --- wrong names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["external", "internal"])
@pytest.mark.parametrize("names", [[""], ["sixteen-letters-"], ["a/b"], ["a b"], ["out0", "out0"]])
def test_up_and_check_refuse_the_same_names_in_the_same_words(lab, key, names):
    options = [word for name in names for word in (f"--{key}", name)]
    up = lab.masq("up", *options)
    assert up.returncode == 2, up.stdout + up.stderr
    code, mistakes = check(lab, f"{key} = {json.dumps(names)}\n")
    assert code == 1
    assert [f"masq: {sentence}" for _, sentence in mistakes] == up.stderr.splitlines()
    assert len(mistakes) == 1 and mistakes[0][0] == 1


def test_an_empty_list_of_interfaces_is_a_mistake(lab):
    code, [(line, sentence)] = check(lab, "ipv6 = \"auto\"\nexternal = []\n")
    assert code == 1 and line == 2 and "external" in sentence


def test_mistakes_come_in_the_order_of_lines(lab):
    _, mistakes = check(lab, 'zebra = 1\nudp_refresh_inbound = 3\nexternal = "out0"\n'
                             'internal = ["in0",\n  "out0"]\nant = 1\n[timeouts]\nudp_s = 0\n')
    assert [line for line, _ in mistakes] == [1, 2, 5, 6, 8]
    assert "external and internal at once" in mistakes[2][1]


@pytest.mark.parametrize("value", ['"on"', "87", "65496", "-1", "true", '""'])
def test_what_is_no_mss_is_a_mistake_in_file_and_option(lab, value):
    code, [(line, sentence)] = check(lab, f"mss_clamp = {value}\n")
    assert code == 1 and line == 1 and "from 88 to 65495" in sentence
    up = lab.masq("up", f"--mss-clamp={value.strip(chr(34)) or 'none'}")
    assert up.returncode == 2 and "from 88 to 65495" in up.stderr


@pytest.mark.parametrize("value", ['"auto"', '"off"', "88", "65495", '"1200"'])
def test_what_is_an_mss_is_none(lab, value):
    assert check(lab, f"mss_clamp = {value}\ntake_over_streams = true\n")[0] == 0
    assert check(lab, f"mss_clamp = {value}\ntake_over_streams = 1\n")[0] == 1


def test_a_daemon_that_ends_at_once_is_quoted(lab):
    folder = lab.directory / "broken"
    folder.mkdir()
    shutil.copy(BINARIES / "masq", folder)
    (folder / "masqd").write_text("#!/bin/sh\necho one >&2\necho no room for two >&2\nexit 1\n")
    (folder / "masqd").chmod(0o755)
    up = lab.run("B", [folder / "masq", "up"])
    assert up.returncode == 1
    assert "no room for two" in up.stderr and "one\n" not in up.stderr
    assert "/run" not in up.stderr
    assert not lab.run_folder().exists()


# --- status --------------------------------------------------------------------------------------


def test_status_names_the_process_and_none_when_there_is_none(lab):
    assert lab.masq("up").returncode == 0
    [daemon] = lab.processes("B", "masqd")
    assert lab.status()["daemon"] == {"alive": True, "process": daemon}
    assert str(daemon) in lab.masq("status").stdout
    lab.kill_daemon()
    assert lab.status()["daemon"] == {"alive": False, "process": None}


def test_status_tells_of_an_interface_that_is_down(lab):
    assert lab.masq("up").returncode == 0
    assert first_line(lab) == "masq is translating."
    assert "left to the kernel" not in lab.masq("status").stdout
    lab.ip("B", "link set out0 down")
    try:
        assert "out0 is down" in first_line(lab)
        assert interface(lab, "out0")["state"] == "down"
        assert lab.status()["translating"] is False
    finally:
        lab.ip("B", "link set out0 up", f"route replace default via {ADDRESS['A']}")
    wait_until(lambda: first_line(lab) == "masq is translating.", "out0 is back")
    lab.ip("outnet", "link set dev b down")
    try:
        wait_until(lambda: "out0 has no carrier" in first_line(lab), "the cable is seen to be out")
    finally:
        lab.ip("outnet", "link set dev b up")


def test_status_tells_of_an_interface_that_has_no_address(lab):
    assert lab.masq("up").returncode == 0
    lab.ip("B", f"addr del {GATEWAY_OUTER}/24 dev out0")
    try:
        wait_until(lambda: "out0 has no address" in first_line(lab), "it is seen")
        assert "yet" not in lab.masq("status").stdout
        # The route went with the address: the address is what is missing.
        lab.run("S6", ["ping", "-n", "-c", "1", "-W", "1", ADDRESS["S2"]])
        dropped = lab.status()["dropped"]
        assert dropped["no_external_address"] >= 1 and dropped["no_route"] == 0
    finally:
        lab.ip("B", f"addr add {GATEWAY_OUTER}/24 dev out0",
               f"route replace default via {ADDRESS['A']}")
    wait_until_it_flows(lab)


def test_status_lists_what_has_gone(lab):
    assert lab.masq("up").returncode == 0
    lab.unplug_gateway("out0")
    try:
        wait_until(lambda: "out0 has gone" in first_line(lab), "it is seen")
        assert interface(lab, "out0") == {"name": "out0", "zone": "external", "state": "gone",
                                          "shared_addresses": [], "mtu": None, "address": None}
        log = wait_until(lambda: (lab.run_folder() / "log").read_text(), "the log has lines")
        assert re.search(f"^{STAMP}out0 has gone", log, re.MULTILINE), log
        assert all(re.match(STAMP, line) for line in log.splitlines()), log
    finally:
        lab.plug_in_gateway_outside()
    wait_until_it_flows(lab)


# --- masq runs already ---------------------------------------------------------------------------


@pytest.mark.parametrize("options, differs", [
    ([], None), (["--external", "out0", "--internal", "in0"], None), (["--ipv6", "block"], None),
    (["--external", "in0", "--internal", "out0"], "external"), (["--ipv6", "leave"], "ipv6"),
    (["--flows-max", "99"], "flows_max")])
def test_up_while_it_runs_says_what_it_keeps(lab, options, differs):
    assert lab.masq("up").returncode == 0
    again = lab.masq("up", *options)
    if differs is None:
        assert again.returncode == 0 and "already" in again.stdout, again.stderr
    else:
        assert again.returncode == 1
        assert differs in again.stderr and "masq down" in again.stderr
        assert len(again.stderr.splitlines()) == 1
    assert lab.status()["ipv6"] == "blocked"


def test_up_while_it_runs_looks_into_the_file(lab):
    config = lab.directory / "first.toml"
    config.write_text("[timeouts]\nudp_s = 120\n")
    daemon = lab.popen("B", [BINARIES / "masqd", "--config", config])
    wait_until_it_flows(lab)
    try:
        assert lab.masq("up").returncode == 0
        assert lab.masq("up", "--config", config).returncode == 0
        config.write_text("[timeouts]\nudp_s = 121\n")
        again = lab.masq("up", "--config", config)
        assert again.returncode == 1 and "udp_s" in again.stderr
    finally:
        daemon.kill()
        daemon.wait()
    # A take-over keeps what the daemon in the foreground had, but for what is named.
    assert lab.masq("up", "--ipv6", "leave").returncode == 0
    assert lab.status()["timeouts_s"]["udp"] == 120
    assert lab.status()["ipv6"] == "left"
    assert "IPv6      left to the kernel" in lab.masq("status").stdout


def test_a_take_over_uses_what_is_named_and_keeps_the_rest(lab):
    assert lab.masq("up", "--ipv6", "leave", "--flows-max", "1000").returncode == 0
    lab.kill_daemon()
    up = lab.masq("up", "--ipv6", "block", "--flows-max", "2000")
    assert up.returncode == 0 and "table for 1000 flows is kept" in up.stdout, up.stdout
    after = lab.status()
    assert (after["ipv6"], after["flows"]["max"]) == ("blocked", 1000)
    assert [each["name"] for each in after["interfaces"]] == ["out0", "in0"] or len(
        after["interfaces"]) == 2


def test_a_full_table_leaves_open_connections_alone(lab):
    assert lab.masq("up", "--flows-max", "16", "--host-flows", "0").returncode == 0
    wait_until_it_flows(lab)
    listener, client = lab.tcp("S2", 9300, listen=True), lab.tcp("S4")
    client.connect((ADDRESS["S2"], 9300))
    server, _ = listener.accept()
    filler = lab.udp("S6")
    for port in range(20000, 20040):
        filler.sendto(b"a flow each", (ADDRESS["S2"], port))
    wait_until(lambda: lab.status()["flows"]["now"] == 16, "the table is full")
    assert lab.dropped("flow_table_full") > 0
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(b"still here")
        assert receiver.recv(100) == b"still here"
    # And the gateway has some flows for itself.
    assert lab.run("B", ["ping", "-c1", "-W2", ADDRESS["S2"]]).returncode == 0
    late = lab.tcp("S5", timeout_s=1)
    with pytest.raises(OSError):
        late.connect((ADDRESS["S2"], 9300))


# --- the programs --------------------------------------------------------------------------------


def test_a_wrong_command_is_named(lab):
    done = lab.masq("foo")
    assert done.returncode == 2 and '"foo"' in done.stderr


def test_an_output_that_cannot_be_written_is_a_failure(lab):
    assert lab.masq("up").returncode == 0
    for words in ("flows --json", "status", "--help"):
        done = lab.run("B", ["sh", "-c", f"{BINARIES / 'masq'} {words} >/dev/full"])
        assert done.returncode == 1, words
        assert done.stderr.startswith("masq: The output cannot be written"), done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_masqd_tells_its_version_and_its_name(lab):
    masqd = BINARIES / "masqd"
    version = lab.run("B", [masqd, "--version"])
    assert version.returncode == 0
    assert version.stdout == lab.masq("--version").stdout.replace("masq ", "masqd ")
    config = lab.directory / "nosuch.toml"
    config.write_text('external = "nosuch0"\n')
    for words in (["--config", config], ["--config", lab.directory / "none.toml"], ["--foo"]):
        done = lab.run("B", [masqd, *words])
        assert done.returncode != 0
        assert [line[:7] for line in done.stderr.splitlines()] == ["masqd: "], done.stderr


def test_an_up_beside_a_starting_one_answers_when_that_is_ready(lab):
    masq = BINARIES / "masq"
    for _ in range(3):
        ups = [lab.popen("B", ["sh", "-c", f"{masq} up >/dev/null && {masq} mappings"])
               for _ in range(4)]
        for each in ups:
            said, _ = each.communicate(timeout=30)
            assert each.returncode == 0, said
        assert lab.masq("down").returncode == 0


def test_down_takes_the_configuration_of_a_killed_up_away_too(lab):
    assert lab.masq("up").returncode == 0
    folder = lab.run_folder()
    with subprocess.Popen("true") as ended:
        pass
    (folder / f"config.{ended.pid}.toml").write_text("")
    assert lab.masq("down").returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["{", None])
def test_down_names_what_a_damaged_state_may_leave(lab, damage):
    assert lab.masq("up").returncode == 0
    lab.kill_daemon()
    if damage is None:
        (lab.run_folder() / "state.json").unlink()
    else:
        (lab.run_folder() / "state.json").write_text(damage)
    down = lab.masq("down")
    assert down.returncode == 0
    for word in ("net.ipv4.conf.out0.arp_announce", "net.ipv4.conf.lo.forwarding",
                 "qdiscs on", "in0"):
        assert word in down.stdout, down.stdout
    assert "masq_" not in lab.run("B", ["nft", "list", "tables"]).stdout
    lab.sysctl("B", {"net.ipv4.conf.lo.forwarding": 0, "net.ipv4.conf.out0.arp_announce": 0})


def test_the_demo_takes_no_arguments_and_ends_well_without_a_listener(lab):
    demo = REPOSITORY / "demo"
    shown = lab.run("B", [demo, "--help"])
    assert shown.returncode == 0 and "./demo" in shown.stdout
    wrong = lab.run("B", [demo, "foo"])
    assert wrong.returncode == 2 and wrong.stdout == "" and len(wrong.stderr.splitlines()) == 1
    story = REPOSITORY / "tests" / "netns" / "story.py"
    began = time.monotonic()
    piped = lab.run("B", ["sh", "-c", f"/usr/bin/python3 {story} | head -n 2"], timeout_s=60)
    assert "Traceback" not in piped.stderr, piped.stderr
    assert time.monotonic() - began < 60
