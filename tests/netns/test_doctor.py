"""`masq doctor`: one thing is broken at a time, and is what it names; nothing is changed by asking.

The nameservers of the gateway are those of a file of the test's own, in a mount namespace of each
call.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import threading
import time

import pytest

from lab import (ADDRESS, BINARIES, GATEWAY_INNER, GATEWAY_OUTER, WITHOUT_BPF, mac_of,
                 wait_until)
from maps import Maps, TablesFile
from scripts import Script
from traffic import pings

A, S2, S3, S4, S5 = (ADDRESS[name] for name in ("A", "S2", "S3", "S4", "S5"))
DATAPATHS = ["tc", "user"]
ONLY_IN_KERNEL = pytest.mark.only_labs(lambda options: options["datapath"] == "tc")
# What has nothing to do with who carries the packets is tried once.
ON_ONE = ONLY_IN_KERNEL
NOBODY, SILENT = "192.168.2.99", "192.168.1.77"
REFUSED = 5
RUNGS = ["kernel", "gateway", "interfaces", "addresses", "default route", "other firewalls",
         "next hop", "inner hosts", "kernel forwarding", "reverse path", "rules", "forwards", "mtu",
         "names", "tables", "refused"]


class Nameserver:
    """Answers every question with the same code, and nothing else."""

    def __init__(self, lab, host):
        self.code = 0
        self._socket = lab.udp(host, 53, timeout_s=None)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            question, sender = self._socket.recvfrom(512)
            if not question:
                return
            self._socket.sendto(question[:2] + bytes([0x81, 0x80 | self.code]) + question[4:],
                                sender)

    def end(self):
        self._socket.sendto(b"", ("127.0.0.1", 53))
        self._thread.join(5)
        self._socket.close()


class Patient:
    """The gateway, with the nameservers that it has at this moment."""

    def __init__(self, lab, nameserver):
        self.lab, self.nameserver = lab, nameserver
        self._resolv = lab.directory / "resolv.conf"
        self.nameservers(S2)

    def nameservers(self, *servers):
        self._resolv.write_text("".join(f"nameserver {each}\n" for each in servers))

    def run(self, *words, user=()):
        inside = f"mount --bind {self._resolv} /etc/resolv.conf && exec \"$@\""
        return self.lab.run("B", ["unshare", "-m", "sh", "-c", inside, "sh", *user,
                                  BINARIES / "masq", "doctor", *words])

    def findings(self, *words):
        done = self.run("--json", *words)
        assert done.stderr == ""
        said = json.loads(done.stdout)
        assert done.returncode == (1 if said["wrong"] else 0)
        wrong = [each["rung"] for each in said["rungs"] if each["health"] == "wrong"]
        assert said["wrong"] == len(wrong)
        assert said["first_wrong"] == (wrong[0] if wrong else None)
        return said["rungs"]

    def has(self, rung, health, words, *options):
        """One finding of that rung has these words; returned are all."""
        all_of_them = self.findings(*options)
        found = [each for each in all_of_them
                 if each["rung"] == rung and each["health"] == health and words in each["what"]]
        assert found, f"no {health} of {rung} with \"{words}\" in {all_of_them}"
        return all_of_them

    def names_first(self, rung, words, *options):
        """That is the first thing that is wrong."""
        found = self.has(rung, "wrong", words, *options)
        first = next(each for each in found if each["health"] == "wrong")
        assert first["rung"] == rung and words in first["what"], first

    def is_well(self):
        wrong = [each for each in self.findings() if each["health"] == "wrong"]
        assert not wrong, wrong


@pytest.fixture(scope="module")
def patient(lab):
    up = lab.masq("up")
    assert up.returncode == 0, up.stderr
    nameserver = Nameserver(lab, "S2")
    yield Patient(lab, nameserver)
    nameserver.end()
    lab.masq("down")


@pytest.fixture(autouse=True)
def well_before(lab, patient):
    """Inner hosts have been heard, and what the test before has broken is whole again."""
    patient.nameservers(S2)
    patient.nameserver.code = 0
    wait_until(lambda: pings(lab, "S4", GATEWAY_INNER) and pings(lab, "S4", S2), "S4 is heard")


@contextlib.contextmanager
def broken(lab, host, breaking, *mending):
    lab.ip(host, breaking)
    try:
        yield
    finally:
        lab.ip(host, *mending)


@contextlib.contextmanager
def without_daemon(lab):
    lab.kill_daemon()
    try:
        yield
    finally:
        assert lab.masq("up").returncode == 0


@contextlib.contextmanager
def nftables(lab, *lines):
    lab.run("B", ["nft", "; ".join(lines)], check=True)
    try:
        yield
    finally:
        family_and_table = lines[0].split()[2:4]
        lab.run("B", ["nft", "delete", "table", *family_and_table], check=True)


def ipchains(lab, line):
    lab.run("B", [BINARIES / "ipchains", *line.split()], check=True)


@contextlib.contextmanager
def rule(lab, line):
    ipchains(lab, f"-A {line}")
    try:
        yield
    finally:
        ipchains(lab, f"-D {line}")


@contextlib.contextmanager
def forward(lab, words):
    said = lab.masq("forward", "add", *words.split())
    assert said.returncode == 0, said.stderr
    try:
        yield
    finally:
        lab.masq("forward", "remove", re.match(r"Forward (\d+)", said.stdout).group(1))


# --- well -----------------------------------------------------------------------------------------


def test_a_gateway_that_is_well(lab, patient):
    done = patient.run()
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "Nothing is wrong that masq can see."
    shape = re.compile(r"(ok|note)  +(" + "|".join(RUNGS) + r")  +\S.*[.]$")
    assert all(shape.match(line) for line in lines[:-2]), done.stdout
    found = [each["rung"] for each in patient.findings()]
    assert list(dict.fromkeys(found)) == RUNGS


def test_nothing_is_changed_by_asking(lab, patient):
    """But for what the gateway says itself: its counts of packets are not looked at, for the
    question to the nameserver is one."""
    pings(lab, "S4", S2)
    maps = TablesFile(lab) if lab.datapath == "user" else Maps(lab)

    def state():
        counted = maps.read()
        counted.pop("mq_counters", None)
        counted.pop("mq_drops", None)
        rules = lab.run("B", ["nft", "-s", "list", "ruleset"], check=True).stdout
        routes = lab.ip("B", "addr show", "route show table all", "rule show")
        settings = lab.run("B", ["sysctl", "-a", "--pattern", "^net.ipv4.(conf|ip_forward)"]).stdout
        files = {path.name: path.read_bytes() for path in sorted(lab.run_folder().iterdir())
                 if path.is_file() and path.name not in ("tables", "log")}
        return counted | {"nft": rules, "routes": re.sub(r"\w+sec", "", routes),
                          "sysctl": settings, "files": files}

    for _ in range(5):
        before = state()
        patient.is_well()
        after = state()
        changed = [name for name in before if before[name] != after[name]]
        if not changed:
            return
        if changed == ["tables"]:  # masqd's own counts are in the same file
            differing = sum(a != b for a, b in zip(before["tables"], after["tables"]))
            if differing < 16:
                return
        time.sleep(0.3)
    raise AssertionError(f"asking has changed {changed}")


def test_nobody_learns_anything_by_being_asked(lab, patient):
    """Asked is without a sender's address (RFC 5227), and for what has to be asked alone."""
    capture = lab.capture("A", filter_="arp")
    patient.is_well()
    own = mac_of(GATEWAY_OUTER)
    asked = {(each["ARP"].psrc, each["ARP"].pdst) for each in capture.packets()
             if each.src == own and each["ARP"].op == 1}
    assert ("0.0.0.0", A) in asked
    assert asked <= {("0.0.0.0", A), ("0.0.0.0", GATEWAY_OUTER), (GATEWAY_OUTER, A),
                     (GATEWAY_OUTER, S2)}


# --- what is wrong --------------------------------------------------------------------------------


@ON_ONE
def test_wrong_usage(patient):
    for words in (["nonsense"], ["--colour"], ["--external"]):
        done = patient.run(*words)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    patient.names_first("interfaces", "There is no interface out9", "--external", "out9")
    patient.names_first("interfaces", "not taken up in0 as an external", "--external", "in0",
                        "--internal", "out0")


def test_without_root_it_says_what_it_could_not_look_at(lab, patient):
    copy = lab.directory / "masq-for-all"
    shutil.copy(BINARIES / "masq", copy)
    copy.chmod(0o755)
    pings(lab, "B", A)  # so that the kernel knows it
    done = lab.run("B", ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", copy,
                         "doctor", "--json"])
    said = json.loads(done.stdout)
    unseen = {each["rung"] for each in said["rungs"] if each["health"] == "unseen"}
    assert {"kernel", "gateway", "other firewalls", "rules", "forwards"} <= unseen
    assert said["unseen"] >= len(unseen)
    assert {each["rung"] for each in said["rungs"] if each["health"] == "wrong"} <= {"names"}
    assert any(each["rung"] == "next hop" and each["health"] == "ok" for each in said["rungs"])


def test_the_daemon_is_dead(lab, patient):
    with without_daemon(lab):
        patient.names_first("gateway", "masqd" if lab.datapath == "tc" else "nothing passes")
    patient.is_well()


@ON_ONE
def test_another_daemon(lab, patient):
    program = lab.directory / "masqd"
    shutil.copy("/bin/sleep", program)
    other = lab.popen("B", [program, "60"])
    wait_until(lambda: len(lab.processes("B", "masqd")) == 2, "the other one runs")
    patient.names_first("gateway", "Another masqd runs")
    other.terminate()
    other.wait()
    patient.is_well()


@ONLY_IN_KERNEL
def test_the_sweeper_stands_still(lab, patient):
    with without_daemon(lab):
        [holder] = lab.processes("B", "masq-holder")
        os.kill(holder, signal.SIGKILL)
        patient.has("gateway", "wrong", "sweeper stands still")
    patient.is_well()


@ONLY_IN_KERNEL  # in user space masqd must not be stopped: it carries the packets
def test_the_slow_path_is_gone(lab, patient):
    [daemon] = lab.processes("B", "masqd")
    os.kill(daemon, signal.SIGSTOP)
    try:
        for process in lab.processes("B", "masq-slow"):
            os.kill(process, signal.SIGKILL)
        wait_until(lambda: any("slow path" in each["what"] for each in patient.findings()),
                   "it is noticed", timeout_s=20)
    finally:
        os.kill(daemon, signal.SIGCONT)


@ON_ONE
@pytest.mark.parametrize("name", ["out0", "in0"])
def test_an_interface_is_down(lab, patient, name):
    mending = ["link set out0 up", f"route replace default via {A}"]
    with broken(lab, "B", f"link set {name} down", f"link set {name} up", *mending):
        patient.names_first("interfaces", f"interface {name} is down")


@ON_ONE
@pytest.mark.parametrize("net, name", [("outnet", "out0"), ("innet", "in0")])
def test_a_cable_is_out(lab, patient, net, name):
    with broken(lab, net, "link set dev b down", "link set dev b up"):
        wait_until(lambda: "LOWER_UP" not in lab.ip("B", f"link show {name}"), "it is noticed")
        patient.names_first("interfaces", f"interface {name} has no carrier")


@ON_ONE
def test_an_interface_has_gone(lab, patient):
    lab.unplug_gateway("in0")
    try:
        patient.names_first("interfaces", "internal interface in0 is not there")
    finally:
        lab.plug_in_gateway_inside()


@ON_ONE
@pytest.mark.parametrize("name, address", [("out0", GATEWAY_OUTER), ("in0", GATEWAY_INNER)])
def test_an_address_is_missing(lab, patient, name, address):
    with broken(lab, "B", f"addr del {address}/24 dev {name}", f"addr add {address}/24 dev {name}",
                f"route replace default via {A}"):
        patient.names_first("addresses", f"{name} has no IPv4 address")


@ON_ONE
def test_both_sides_have_the_same_network(lab, patient):
    with broken(lab, "B", "addr add 192.168.1.201/28 dev in0", "addr del 192.168.1.201/28 dev in0"):
        patient.names_first("addresses", "both sides have the same network")


@ON_ONE
@pytest.mark.parametrize("host, address, name", [("S3", GATEWAY_OUTER, "out0"),
                                                 ("S5", GATEWAY_INNER, "in0")])
def test_somebody_else_has_the_address(lab, patient, host, address, name):
    with broken(lab, host, f"addr add {address}/32 dev eth0", f"addr del {address}/32 dev eth0"):
        twin = mac_of(ADDRESS[host])
        patient.names_first("addresses", f"{address} of {name} is also the address of {twin}")
    # Who has asked the twin meanwhile must find the gateway again.
    for each in ("A", "S1", "S2", "S3", "S4", "S5", "S6"):
        lab.ip(each, "neigh flush dev eth0")


@ON_ONE
def test_there_is_no_default_route(lab, patient):
    with broken(lab, "B", "route del default", f"route add default via {A}"):
        patient.names_first("default route", "There is no default route")


@ON_ONE
def test_the_default_route_leads_elsewhere(lab, patient):
    lab.ip("B", "link add vpn0 type veth peer name vpn1", "link set vpn1 up",
           "addr add 10.9.0.1/24 dev vpn0", "link set vpn0 up")
    try:
        lab.ip("B", "route del default", f"route add default via {A} metric 100",
               "route add default via 10.9.0.5")
        patient.names_first("default route", "leads to vpn0, which is not external")
        lab.sysctl("B", {"net.ipv4.conf.out0.rp_filter": 1})
        patient.has("reverse path", "note", "strict on out0")
    finally:
        lab.sysctl("B", {"net.ipv4.conf.out0.rp_filter": 0})
        lab.ip("B", "link del vpn0", f"route del default via {A} metric 100",
               f"route add default via {A}")


@ON_ONE
def test_another_filter_drops_arp(lab, patient):
    with nftables(lab, "add table arp other",
                  "add chain arp other in { type filter hook input priority 0; policy drop; }"):
        patient.names_first("other firewalls", "arp other in drops by default")
    with nftables(lab, "add table netdev other", "add chain netdev other out { type filter hook "
                  "egress device out0 priority 0; policy drop; }"):
        patient.names_first("other firewalls", "other out drops by default at egress on out0")
    with nftables(lab, "add table netdev other", "add chain netdev other out { type filter hook "
                  "egress device lo priority 0; policy drop; }"):
        patient.is_well()


@ON_ONE
def test_another_filter_is_noted(lab, patient):
    with nftables(lab, "add table ip nat", "add chain ip nat DOCKER", "add chain ip nat out "
                  "{ type nat hook postrouting priority 100; }"):
        patient.has("other firewalls", "note", "table ip nat (docker) hooks postrouting")
        patient.is_well()
    with nftables(lab, "add table ip own", "add chain ip own in { type filter hook input priority "
                  "0; policy drop; }", "add rule ip own in ip protocol udp accept"):
        patient.has("other firewalls", "note", "ip own in drops by default what is for the gateway")


@ON_ONE
def test_the_next_hop_does_not_answer(lab, patient):
    with broken(lab, "A", "link set eth0 arp off", "link set eth0 arp on",
                "route replace default via 203.0.113.2"):
        patient.names_first("next hop", f"{A} on out0 does not answer")


@ON_ONE
def test_no_inner_host_was_heard(lab, patient):
    lab.ip("B", "neigh flush dev in0")
    for found in [each for each in patient.findings() if each["rung"] == "inner hosts"]:
        assert found["health"] == "note" and GATEWAY_INNER in found["advice"]


@ONLY_IN_KERNEL
def test_the_kernel_s_forwarding_is_as_masq_must_not_have_it(lab, patient):
    with without_daemon(lab):
        lab.sysctl("B", {"net.ipv4.conf.lo.forwarding": 0, "net.ipv4.conf.in0.forwarding": 1})
        patient.has("kernel forwarding", "wrong", "lo.forwarding is 0")
        patient.has("kernel forwarding", "wrong", "in0.forwarding is 1")
    patient.is_well()


def test_the_belt_is_gone(lab, patient):
    with without_daemon(lab):
        lab.sysctl("B", {"net.ipv4.ip_forward": 1})
        try:
            patient.has("kernel forwarding", "note", "forwards by itself for others")
            lab.run("B", ["nft", "delete", "table", "inet", "masq_belt"], check=True)
            patient.has("kernel forwarding", "wrong", "masq_belt")
        finally:
            lab.sysctl("B", {"net.ipv4.ip_forward": 0})
    patient.is_well()


# --- rules and forwards ---------------------------------------------------------------------------


def test_rules_that_let_nothing_out(lab, patient):
    for policy in ("DENY", "ACCEPT"):
        ipchains(lab, f"-P forward {policy}")
        try:
            patient.names_first("rules", "No rule of the chain forward leads to MASQ")
            ipchains(lab, "-N mine")
            ipchains(lab, "-A mine -j MASQ")
            patient.names_first("rules", "No rule of the chain forward leads to MASQ")
            with rule(lab, "forward -i out0 -j mine"):
                patient.is_well()
        finally:
            ipchains(lab, "-F mine")
            ipchains(lab, "-X mine")
            ipchains(lab, "-P forward MASQ")


@ON_ONE
def test_a_rule_about_an_address_that_is_gone(lab, patient):
    with rule(lab, "input -i out0 -d 192.168.1.99 -p tcp -j DENY"):
        patient.names_first("rules", "Rule 1 of input is about 192.168.1.99, which the gateway has")
    with rule(lab, "output -i out+ -s 192.168.1.99 -p tcp -j DENY"):
        patient.names_first("rules", "Rule 1 of output is about 192.168.1.99")
    for line in (f"input -i out0 -d {GATEWAY_OUTER} -p tcp -j ACCEPT",
                 "input -i out0 -d 192.168.1.255 -p udp -j DENY",
                 "input -i in0 -d 198.51.100.10 -p tcp -j ACCEPT",
                 "input -d 198.51.100.10 -p tcp -j ACCEPT",
                 "input -i out0 -d 192.168.1.0/24 -p tcp -j ACCEPT",
                 "input -i out0 -d 224.0.0.1 -j DENY",
                 "output -i out0 -d 198.51.100.10 -p tcp -j ACCEPT"):
        with rule(lab, line):
            patient.is_well()


@ON_ONE
def test_a_rule_about_an_interface_that_is_not_there(lab, patient):
    with rule(lab, "input -i ppp0 -p tcp -j DENY"):
        patient.has("rules", "note", "about the interface ppp0")
        patient.is_well()
    with rule(lab, "input -i ou+ -p tcp -y -j DENY"):
        assert not [each for each in patient.findings()
                    if each["rung"] == "rules" and each["health"] != "ok"]


@ON_ONE
def test_forwarding_is_switched_off(lab, patient):
    scripts = Script(lab)
    scripts.good("echo 0 > /proc/sys/net/ipv4/ip_forward\n")
    try:
        patient.names_first("rules", "switch ip_forward of the gateway is 0")
    finally:
        scripts.good("echo 1 > /proc/sys/net/ipv4/ip_forward\n")


def test_a_forward_to_nobody(lab, patient):
    with forward(lab, f"tcp 8080 {NOBODY}:80"):
        patient.names_first("forwards", f"{NOBODY} on in0, where a forward leads, does not answer")
    with forward(lab, f"tcp 8080 {S5}:80"):
        patient.is_well()
    with forward(lab, f"tcp 8080 {S5}:80 --at 192.168.1.99"):
        patient.names_first("forwards", "192.168.1.99, which the gateway has not")
    with forward(lab, "tcp 8080 10.66.0.1:80"):
        patient.has("forwards", "note", "10.66.0.1, where")


def test_a_forward_that_hides_a_service(lab, patient):
    with lab.tcp("B", 8022, listen=True), forward(lab, f"tcp 8000-8100 {S5}"):
        patient.has("forwards", "note", "listens at tcp port 8022")
        patient.is_well()
    with lab.tcp("B", 8022, listen=True), forward(lab, f"udp 8022 {S5}"):
        assert not any("listens" in each["what"] for each in patient.findings())


# --- sizes and names ------------------------------------------------------------------------------


@ON_ONE
def test_a_route_takes_less_than_its_interface(lab, patient):
    with broken(lab, "B", f"route replace default via {A} mtu 1400",
                f"route replace default via {A}"):
        patient.has("mtu", "note", "takes 1400 bytes, and out0 1500")


@ON_ONE
def test_nameservers(lab, patient):
    patient.nameservers(SILENT)
    patient.names_first("names", SILENT)
    patient.nameservers()
    patient.names_first("names", "names no nameserver")
    patient.nameservers(SILENT, S2)
    patient.has("names", "note", SILENT)
    patient.is_well()
    patient.nameservers(S3)  # is there, and serves no names
    patient.names_first("names", f"Nothing answers as a nameserver at {S3}")
    patient.nameserver.code = REFUSED
    patient.nameservers(S2)
    patient.has("names", "note", "refuses")
    patient.is_well()


@ON_ONE
def test_a_nameserver_for_the_inner_hosts(lab, patient):
    patient.has("names", "note", f"No nameserver runs at {GATEWAY_INNER}")
    with contextlib.closing(lab.udp("B", 53, address="127.0.0.1")):
        patient.has("names", "note", f"No nameserver runs at {GATEWAY_INNER}")
    with contextlib.closing(lab.udp("B", 53, address=GATEWAY_INNER)):
        assert not any("No nameserver" in each["what"] for each in patient.findings())


# --- with another gateway, or none ----------------------------------------------------------------


@contextlib.contextmanager
def ended(lab):
    assert lab.masq("down").returncode == 0
    try:
        yield
    finally:
        lab.masq("down")
        assert lab.masq("up").returncode == 0


def test_a_full_table(lab, patient):
    with ended(lab):
        assert lab.masq("up", "--flows-max", "16", "--host-flows", "0").returncode == 0
        with contextlib.closing(lab.udp("S4")) as sender:
            for port in range(7000, 7020):
                sender.sendto(b"x", (S2, port))
            wait_until(lambda: lab.dropped("flow_table_full"), "the table is full")
            patient.nameservers(S2)
            patient.has("tables", "wrong", "16 of 16 flows are in use")
            found = patient.has("refused", "note", "flow_table_full")
            assert all(each["advice"] for each in found if each["rung"] == "refused")


@ONLY_IN_KERNEL
def test_the_kernel_takes_no_programs(lab, patient):
    with ended(lab):
        lab.run("B", [WITHOUT_BPF, BINARIES / "masq", "up"], check=True)
        patient.has("kernel", "note", "took no programs")


@ON_ONE
def test_two_of_our_interfaces_are_on_the_same_net(lab, patient):
    """Then the kernel answers itself, which is no other machine."""
    lab.plug_in("B", "out5", "192.168.1.199/32", "outnet", "b5")
    try:
        patient.is_well()
    finally:
        lab.unplug_gateway("out5")


def test_without_a_gateway(lab, patient):
    with ended(lab):
        patient.names_first("gateway", "is not running")
        found = patient.findings()
        assert [each["rung"] for each in found if each["health"] == "wrong"] == ["gateway"]
        patient.has("interfaces", "ok", "in0 to the outside and out0 to the inside", "--external",
                    "in0", "--internal", "out0")
        config = lab.directory / "masq.toml"
        config.write_text('external = ["out0"]\ninternal = ["in0"]\nmss_clamp = "off"\n')
        with broken(lab, "B", "link set out0 mtu 1400", "link set out0 mtu 1500"):
            patient.has("mtu", "wrong", "--mss-clamp is off", "--config", config)
            patient.has("mtu", "ok", "TCP is told")
        config.write_text("colour = 1\n")
        done = patient.run("--config", config)
        assert done.returncode == 1 and done.stdout == "" and "colour" in done.stderr
