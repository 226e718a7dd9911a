#!/usr/bin/python3
"""The cases, inside the virtual machine; tests/kernels/run starts it there and reads what it says.

Lines for the runner begin with "@masq": a case that has passed or failed, a figure of the verifier,
and the end. All other lines are for whoever looks for the cause of a failure.
"""

import json
import os
import platform
import re
import subprocess
import sys
import time
import traceback

REPOSITORY = "/masq"
sys.path.insert(0, f"{REPOSITORY}/tests/netns")

import devices  # noqa: E402  (these lie where the line above says)
import tcx  # noqa: E402
from devices import (BRIDGE, CABLE, INNER_LINE, INNER_LINE_OF_B,  # noqa: E402
                     INNER_LINE_OF_S7, OUTSIDE, PPP_MTU, UPLINK, UPLINK_VLAN, VLAN, DevicesLab,
                     classifiers)
from frames import assert_checksums_right  # noqa: E402
from lab import (ADDRESS, BINARIES, GATEWAY_OUTER, TRACE_TO_I1, mac_of,  # noqa: E402
                 wait_until)
from scapy.all import IP, UDP, Dot1Q, Ether  # noqa: E402
from services import Services, curl_argv, nslookup_argv, sha256  # noqa: E402
from traffic import external_of, receive  # noqa: E402

# Of the million that the verifier allows: its walk through the same program is up to three times
# as long here as on newer kernels.
BUDGET = 700000
S2, I1 = ADDRESS["S2"], ADDRESS["I1"]
INNER = {"S4": ("the VLAN", "192.168.2.1"), "S7": ("the bridge", "192.168.3.1")}
STORY_S = 500


def tell(*words):
    print("@masq", *words, flush=True)


def case(name, check, *arguments):
    """Runs one and says how it went; True if it passed."""
    try:
        check(*arguments)
    except Exception as problem:
        traceback.print_exc(file=sys.stdout)
        why = " ".join(str(problem).split()) or type(problem).__name__
        tell("failed", f"{name}: {why[:300]}")
        return False
    tell("ok", name)
    return True


def run(*argv, timeout_s=60):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    print("$", *argv, "\n" + done.stdout + done.stderr, flush=True)
    return done


# --- the kernel itself ---------------------------------------------------------------------------


def kernel_is_another(other):
    """Older than tcx, so that the other way onto the hooks is the one that is tried."""
    assert platform.release() == other, platform.release()
    try:
        tcx.bpf(tcx.PROG_QUERY, b"\1\0\0\0\x2e\0\0\0" + bytes(32))
    except OSError:
        return
    raise AssertionError("this kernel has tcx")


def programs_load():
    done = run(str(BINARIES / "verifier_budget"), str(BUDGET), timeout_s=300)
    for line in done.stdout.splitlines():
        tell("figure", line)
    assert done.returncode == 0, (done.stdout + done.stderr)[-280:]


def kernel_has_not_complained():
    log = run("dmesg").stdout
    found = re.findall(r"^.*\b(?:WARNING|BUG|Oops|stall)\b.*$", log, re.MULTILINE)
    assert not found, found[0]


# --- the story -----------------------------------------------------------------------------------


def tell_story():
    """One case for each of its steps."""
    story = subprocess.Popen(["/usr/bin/timeout", "-k", "5", str(STORY_S),
                              f"{REPOSITORY}/tests/netns/story.py"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
    step = None
    last_line = ""
    for line in story.stdout:
        print(line, end="", flush=True)
        last_line = line.strip() or last_line
        if found := re.match(r"\d+\. (.*)", line):
            if step is not None:
                tell("ok", f"story: {step}")
            step = found[1]
    if story.wait() == 0 and step is not None:
        tell("ok", f"story: {step}")
    else:
        tell("failed", f"story: {step or 'the network'}: {last_line}")


# --- other devices -------------------------------------------------------------------------------


def devices_are_found(lab):
    up = lab.masq("up")
    print(up.stdout, up.stderr)
    assert up.returncode == 0, up.stderr
    for expected in (f"{lab.outside} is external", f"{VLAN} is internal", f"{BRIDGE} is internal"):
        assert expected in up.stdout, up.stdout


def programs_are_classifiers(lab):
    for interface, first, second in ((lab.outside, "masq_outside", "masq_leaving"),
                                     (VLAN, "masq_inside", "masq_entering"),
                                     (BRIDGE, "masq_inside", "masq_entering")):
        found = [classifiers(lab, interface, hook) for hook in ("ingress", "egress")]
        assert found == [[first], [second]], f"{interface}: {found}"


def icmp(lab, host):
    ping = lab.run(host, ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", S2])
    assert ping.returncode == 0, ping.stdout
    trace = lab.run(host, ["traceroute", "-n", "-q", "1", "-w", "2", "-U", I1]).stdout
    hops = re.findall(r"^ *\d+  (\S+)", trace, re.MULTILINE)
    assert hops == [INNER[host][1], *TRACE_TO_I1[1:]], trace


def udp(lab, host):
    found = lab.run(host, nslookup_argv("www.lab"))
    assert S2 in found.stdout, found.stdout


def sent_again(lab, host):
    """How many TCP segments the host has sent more than once."""
    shown = lab.run(host, ["nstat", "-asz", "TcpRetransSegs"], check=True).stdout
    return int(re.search(r"TcpRetransSegs +(\d+)", shown)[1])


def tcp(lab, host, name=None, timeout_s=15, again_most=60):
    """Both ways; segments that are too big for the line become smaller. A few may get lost in the
    queue of so slow a line, but not every large one that is to be cut. `name`: of the files."""
    name = name or host
    before = sent_again(lab, host)
    path = lab.directory / f"download-{name}"
    argv = curl_argv(f"http://{S2}/1m", "-o", path, timeout_s=timeout_s)
    lab.run(host, argv, check=True, timeout_s=timeout_s + 10)
    assert sha256(path) == lab.services.sha256_of("1m")
    argv = curl_argv(f"http://{S2}/upload/{name}", "-T", lab.services.files / "1m",
                     timeout_s=timeout_s)
    lab.run(host, argv, check=True, timeout_s=timeout_s + 10)
    assert sha256(lab.services.uploaded("S2", name)) == lab.services.sha256_of("1m")
    again = sent_again(lab, host) - before
    assert again <= again_most, f"{again} of 760 segments were sent again"
    clients = {address for address, *_ in lab.services.access_log("S2")}
    assert clients == {GATEWAY_OUTER}, clients


def too_big(lab, host):
    lab.ip(host, "route flush cache")
    argv = ["ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1450", S2]
    output = lab.run(host, argv).stdout
    assert re.search(rf"From {re.escape(INNER[host][1])} .*mtu ?=? ?{PPP_MTU}\b", output), output


def errors_are_whole(lab):
    """The VLAN's card completes no checksums, and the host has left its own to be completed."""
    lab.run("B", ["ethtool", "-K", "trunk0", "tx", "off"], check=True)
    errors = lab.capture("S4", filter_="icmp and src 192.168.2.1")
    lab.run("S4", ["traceroute", "-n", "-q", "3", "-m", "1", "-w", "1", "-U", I1])
    assert_checksums_right(errors, "icmp")


def peers_meet(lab):
    """Hairpinning, from one inner device to the other by way of one that has no link header."""
    server = lab.udp("S2", 7100)
    s4, s7 = lab.udp("S4", 7100), lab.udp("S7", 7100)
    external4 = external_of(s4, server, (S2, 7100))
    external7 = external_of(s7, server, (S2, 7100))
    s4.sendto(b"opens the filter of S4", external7)
    external_of(s4, server, (S2, 7100))  # by when the one before has passed
    s7.sendto(b"to S4", external4)
    assert receive(s4) == (b"to S4", external7)
    s4.sendto(b"to S7", external7)
    assert receive(s7) == (b"to S7", external4)


def nobody_gets_in(lab):
    """Not even A, which has a route inwards along the line."""
    lab.ip("A", f"route replace 192.168.2.0/24 via {GATEWAY_OUTER} dev {lab.outside}")
    inside = lab.capture("innet", "br0", "ip and host 192.168.1.250")
    for target in (ADDRESS["S4"], "192.168.2.1"):
        ping = lab.run("A", ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "0.5", target])
        assert ping.returncode != 0, ping.stdout
    connect = lab.run("S1", ["nc", "-n", "-z", "-w", "1", GATEWAY_OUTER, "22"])
    assert connect.returncode != 0
    assert not inside.stop().frames(), "something of it arrived inside"
    dropped = json.loads(lab.masq("status", "--json").stdout)["dropped"]
    assert dropped["not_for_us"] >= 4, dropped


def only_its_vlan_counts(lab):
    """An answer comes in by the uplink's VLAN, and by no other, nor without a tag."""
    server, client = lab.udp("S2", 7400), lab.udp("S4", 7400)
    _, port = external_of(client, server, (S2, 7400))
    link = json.loads(lab.run("B", ["ip", "-j", "link", "show", UPLINK], check=True).stdout)
    for tags in ([], [UPLINK_VLAN + 1], [UPLINK_VLAN]):
        frame = Ether(src=mac_of(ADDRESS["A"]), dst=link[0]["address"])
        for tag in tags:
            frame = frame / Dot1Q(vlan=tag)
        lab.send_frame("A", frame / IP(src=S2, dst=GATEWAY_OUTER) / UDP(sport=7400, dport=port)
                       / str(tags).encode(), CABLE)
    assert receive(client) == (str([UPLINK_VLAN]).encode(), (S2, 7400))


def inner_networks_are_routed(lab, address_of_s7, port):
    """From the VLAN to S7 and back, with the hosts' own addresses."""
    s4, s7 = lab.udp("S4", port), lab.udp("S7", port)
    s4.sendto(b"there", (address_of_s7, port))
    data, sender = s7.recvfrom(100)
    assert (data, sender) == (b"there", (ADDRESS["S4"], port))
    s7.sendto(b"and back", sender)
    assert s4.recvfrom(100)[0] == b"and back"


def daemon_dies(lab):
    lab.kill_daemon()
    new = lab.run("S7", curl_argv(f"http://{S2}/whoami"))
    assert new.stdout.startswith(GATEWAY_OUTER), new.stdout + new.stderr
    ping = lab.run("A", ["ping", "-n", "-c", "1", "-W", "0.5", ADDRESS["S4"]])
    assert ping.returncode != 0, ping.stdout
    up = lab.masq("up")
    assert up.returncode == 0 and "Took over" in up.stdout, up.stdout + up.stderr


def line_comes_back(lab):
    """A line that went comes back as another device; the daemon sees to it."""
    lab.hang_up()
    lab.dial()
    wait_until(lambda: classifiers(lab, OUTSIDE, "egress"), "the new line is masq's", timeout_s=10)
    ping = lab.run("S4", ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", S2])
    assert ping.returncode == 0, ping.stdout


BAD_LINE = "netem delay 5ms 2ms loss 1% duplicate 1% reorder 20% 50%"


def line_is_bad(lab):
    """Loss, duplicates and reordering on both sides of B: bytes arrive as they were sent."""
    subprocess.run(["modprobe", "sch_netem"], check=True, timeout=30)
    ends = (("A", OUTSIDE), ("S4", "eth0"))
    try:
        for host, device in ends:
            lab.run(host, ["tc", "qdisc", "add", "dev", device, "root", *BAD_LINE.split()],
                    check=True)
        tcp(lab, "S4", "bad", timeout_s=120, again_most=760)
        # In three fragments each, which the line makes four of; all have to come.
        ping = lab.run("S4", ["ping", "-n", "-c", "20", "-i", "0.2", "-W", "2", "-s", "4000", S2])
        [received] = re.findall(r"(\d+) received", ping.stdout)
        status = json.loads(lab.masq("status", "--json").stdout)
        dropped = {reason: n for reason, n in status["dropped"].items() if n}
        assert int(received) >= 10, f"{received} of 20; {dropped} {status['traffic']}"
        assert status["traffic"]["fragments_ordered"] > 0
    finally:
        for host, device in ends:
            lab.run(host, ["tc", "qdisc", "del", "dev", device, "root"])


def ppp_inside(lab, name="ppp"):
    """An inner host at the end of a PPP line: everything, between two devices without headers."""
    lab.masq("down")
    lab.dial_inside()
    up = lab.masq("up", "--external", OUTSIDE, "--internal", VLAN, "--internal", INNER_LINE)
    assert up.returncode == 0, up.stderr
    ping = lab.run("S7", ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-s", "4000", S2])
    assert ping.returncode == 0, ping.stdout
    trace = lab.run("S7", ["traceroute", "-n", "-q", "1", "-w", "2", "-U", I1]).stdout
    hops = re.findall(r"^ *\d+  (\S+)", trace, re.MULTILINE)
    assert hops == [INNER_LINE_OF_B, *TRACE_TO_I1[1:]], trace
    tcp(lab, "S7", name)
    inner_networks_are_routed(lab, INNER_LINE_OF_S7, 7200)


def masq_goes(lab, qdiscs_before):
    down = lab.masq("down")
    assert down.returncode == 0, down.stderr
    ping = lab.run("S4", ["ping", "-n", "-c", "1", "-W", "0.5", S2])
    assert ping.returncode != 0, ping.stdout
    assert qdiscs(lab) == qdiscs_before
    assert not lab.processes("B", "masqd") and not lab.processes("B", "masq-holder")
    assert lab.read_sysctl("B", "net.ipv4.conf.lo.forwarding") == "0"
    assert not lab.run_folder().exists()


def nothing_leaked(captures):
    for capture in captures:
        capture.stop()
        assert capture.dropped == 0 and devices.datagrams_in(capture), "the capture saw nothing"
        leaks = devices.inner_addresses_on_the_line(capture)
        assert not leaks, leaks[0]


def qdiscs(lab):
    shown = lab.run("B", ["tc", "qdisc"]).stdout
    return sorted(re.findall(r"^qdisc clsact.*", shown, re.MULTILINE))


def other_datapath(lab):
    """The same devices where masqd itself carries the packets, through packet sockets; and where
    nftables sees what bridges carry, as Docker has it."""
    lab.datapath = "user"
    subprocess.run(["modprobe", "br_netfilter"], check=True, timeout=30)
    lab.ip("S7", f"route replace default via {INNER['S7'][1]}")  # no more by PPP
    if not case("packet sockets: masq up", devices_are_found, lab):
        return
    for host, (where, _) in INNER.items():
        for check in (icmp, udp, too_big, tcp):
            words = (f"{host}-user",) if check is tcp else ()
            case(f"packet sockets: from {where} through PPP: {check.__name__}", check, lab, host,
                 *words)
    for name, check, *words in (
            ("checksums of errors", errors_are_whole),
            ("between the VLAN and the bridge, untranslated", inner_networks_are_routed,
             ADDRESS["S7"], 7300),
            ("between the VLAN and the bridge, by external endpoints", peers_meet),
            ("through PPP nobody gets in", nobody_gets_in),
            ("PPP inside too", ppp_inside, "ppp-user")):
        case(f"packet sockets: {name}", check, lab, *words)


def other_devices():
    with DevicesLab() as lab:
        services = Services(lab)
        services.nginx("S2")
        services.dnsmasq("S2")
        before = qdiscs(lab)
        sent_by_b = f"src {GATEWAY_OUTER} or src net 192.168.2.0/23"
        captures = [lab.capture("A", OUTSIDE, sent_by_b, snap_bytes=600)]
        if not case("PPP outside, VLAN and bridge inside: masq up", devices_are_found, lab):
            return
        case("programs hang on clsact classifiers", programs_are_classifiers, lab)
        for host, (where, _) in INNER.items():
            for check in (icmp, udp, tcp, too_big):
                case(f"from {where} through PPP: {check.__name__}", check, lab, host)
        case("from the VLAN: checksums of errors", errors_are_whole, lab)
        case("between the VLAN and the bridge: untranslated", inner_networks_are_routed, lab,
             ADDRESS["S7"], 7000)
        case("between the VLAN and the bridge: by external endpoints", peers_meet, lab)
        case("through PPP nobody gets in", nobody_gets_in, lab)
        case("the daemon dies", daemon_dies, lab)
        captures[0].stop()
        case("the PPP line goes and comes back", line_comes_back, lab)
        case("a line with losses, duplicates and reordering", line_is_bad, lab)
        case("PPP inside too", ppp_inside, lab)
        case("masq down leaves nothing behind", masq_goes, lab, before)
        captures.append(lab.capture("A", OUTSIDE, sent_by_b, snap_bytes=600))
        other_datapath(lab)
        case("packet sockets: masq down leaves nothing behind", masq_goes, lab, before)
        case("no inner address on the PPP line", nothing_leaked, captures)


def vlan_outside():
    with DevicesLab(UPLINK) as lab:
        services = Services(lab)
        services.nginx("S2")
        services.dnsmasq("S2")
        before = qdiscs(lab)
        capture = lab.capture("A", UPLINK, f"src {GATEWAY_OUTER} or src net 192.168.2.0/23",
                              snap_bytes=600)
        for lab.datapath, words in (("tc", "VLAN outside"),
                                    ("user", "packet sockets: VLAN outside")):
            if not case(f"{words}: masq up", devices_are_found, lab):
                return
            if lab.datapath == "tc":
                case(f"{words}: programs", programs_are_classifiers, lab)
            for host, (where, _) in INNER.items():
                for check in (icmp, udp, too_big):
                    case(f"{words}: from {where}: {check.__name__}", check, lab, host)
            for name, check, *more in (
                    ("tcp", tcp, "S4", f"S4-{lab.datapath}"),
                    ("checksums of errors", errors_are_whole),
                    ("by external endpoints", peers_meet),
                    ("no other VLAN counts", only_its_vlan_counts),
                    ("nobody gets in", nobody_gets_in),
                    ("masq down leaves nothing behind", masq_goes, before)):
                case(f"{words}: {name}", check, lab, *more)
        case("VLAN outside: no inner address on it", nothing_leaked, [capture])


# --- scripts -------------------------------------------------------------------------------------

# What a view needs most of a kernel: covers, and links on links. Few, since each takes long.
SCRIPTS = ["test_run_scripts.py::test_the_script_of_the_description",
           "test_run_script_view.py::test_proc_net_shows_masquerading",
           "test_run_script_view.py::test_they_are_masqs_also_where_the_path_leads_past_them"]


def scripts_run():
    done = run("/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider",
               *(f"{REPOSITORY}/tests/netns/{each}" for each in SCRIPTS), timeout_s=300)
    assert done.returncode == 0, done.stdout[-280:]


def main():
    began = time.monotonic()
    # What systemd does on a whole Debian, so that whoever opens /dev/net/tun loads it.
    subprocess.run(["modprobe", "tun"], check=True, timeout=30)
    case("this kernel is Debian 12's, without tcx", kernel_is_another, os.environ["MASQ_KERNEL"])
    if case("every program loads, for the smallest and the largest table", programs_load):
        parts = os.environ["MASQ_PARTS"].split(",")
        if "story" in parts:
            tell_story()
        if "devices" in parts:
            case("a network with a PPP line, a VLAN and a bridge stands", other_devices)
        if "uplink" in parts:
            case("a network with a VLAN outside stands", vlan_outside)
        if "scripts" in parts:
            case("scripts run in a view of their own", scripts_run)
    case("the kernel has not complained", kernel_has_not_complained)
    tell("end", f"{time.monotonic() - began:.0f}")


if __name__ == "__main__":
    main()
