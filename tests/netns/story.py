#!/usr/bin/python3
"""The story that ./demo tells: what the original description promises, done with real programs.

Every step is checked; the first that does not happen ends the story with what was expected and what
was seen instead.
"""

import contextlib
import json
import os
import random
import re
import shlex
import signal
import socket
import sys
import textwrap
import time

import lab as lab_module
from frames import inner_addresses_in
from lab import ADDRESS, BINARIES, GATEWAY_INNER, GATEWAY_OUTER, TRACE_TO_I1, Lab, LabError
from services import SLOW_BYTES_PER_S, Services, curl_argv, nslookup_argv, sha256

S1, S2, S4, S5, S6, I1 = (ADDRESS[host] for host in ("S1", "S2", "S4", "S5", "S6", "I1"))
SCANNED_PORTS = 2000
POOL = [*range(1, 32768), *range(61000, 65536)]  # the external ports that mappings can have

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
BOLD, GREEN, RED, DIM, PLAIN = (("\033[1m", "\033[32m", "\033[31m", "\033[2m", "\033[0m") if COLOUR
                                else ("",) * 5)


class StoryEnds(Exception):
    """A step did not happen as it should."""


def say(text=""):
    print(text, flush=True)


def explain(text):
    say(textwrap.fill(" ".join(text.split()), 92, initial_indent="  ", subsequent_indent="  "))


def show(text, lines_max=20):
    lines = text.rstrip().splitlines()
    for line in lines[:lines_max]:
        say(f"      {line}")
    if len(lines) > lines_max:
        say(f"      ... {len(lines) - lines_max} more lines")


def check(happened, sentence, instead=""):
    if not happened:
        if instead:
            show(str(instead), lines_max=40)
        raise StoryEnds(sentence)
    say(f"  {GREEN}ok{PLAIN}  {sentence}")


def shown(argv):
    """A command as a person would type it."""
    words = [str(word) for word in argv]
    if words[0] == str(BINARIES / "masq"):
        words[0] = "masq"
    return shlex.join(words)


class Story:
    def __init__(self, lab):
        self.lab = lab
        self.title = ""
        self.number = 0

    def step(self, title, why=""):
        self.number += 1
        self.title = title
        say(f"\n{BOLD}{self.number}. {title}{PLAIN}")
        if why:
            explain(why)

    def run(self, host, argv, quiet=False, timeout_s=20, lines_max=20):
        say(f"  {DIM}{host}${PLAIN} {shown(argv)}")
        done = self.lab.run(host, argv, timeout_s=timeout_s)
        if not quiet:
            show(done.stdout + done.stderr, lines_max)
        return done

    def masq(self, *arguments, **options):
        return self.run("B", [BINARIES / "masq", *arguments], timeout_s=30, **options)

    def answers(self, host, target, count=1):
        argv = ["ping", "-n", "-c", count, "-i", "0.1", "-W", "0.7", target]
        return self.lab.run(host, argv).returncode == 0

    # --- the steps -------------------------------------------------------------------------------

    def closed_before(self):
        self.step("Without masq the two networks are apart",
                  """B does not forward packets (net.ipv4.ip_forward is 0, and stays so). Inner
                  hosts know nothing but their default gateway.""")
        route = self.run("S6", ["ip", "route"])
        check(f"default via {GATEWAY_INNER}" in route.stdout, "S6's default gateway is B")
        ping = self.run("S6", ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "0.7", S2])
        check(ping.returncode != 0, "S6 cannot reach S2")

    def up(self):
        self.step("masq starts", "No configuration; it says what it has chosen and why.")
        up = self.masq("up")
        check(up.returncode == 0, "`masq up` answers 0", up.stderr)
        check("out0 is external" in up.stdout and "in0 is internal" in up.stdout,
              "it has found out by itself which side is which")
        check(self.lab.read_sysctl("B", "net.ipv4.ip_forward") == "0",
              "the kernel of B still forwards nothing by itself")

    def ping(self):
        self.step("S6 pings S2", "Outside, the packets come from B. S6 sees S2's own address.")
        at_s2 = self.lab.capture("S2", filter_="icmp")
        ping = self.run("S6", ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", S2])
        check(ping.returncode == 0, "S6 gets its replies", ping.stdout)
        check(f"from {S2}" in ping.stdout, "and they come from S2, not from B")
        explain("What tcpdump on S2 saw:")
        seen = at_s2.text()
        show(seen)
        check(f"{GATEWAY_OUTER} > {S2}: ICMP echo request" in seen, "S2 was pinged by B's address")
        check("192.168.2." not in seen, "S2 never saw an inner address")

    def same_port(self):
        self.step("S4, S5 and S6 download from S2 at once, all from source port 40000",
                  "One address for all of them, and each gets its own bytes.")
        files = {host: self.lab.directory / f"story-{host}" for host in ("S4", "S5", "S6")}
        running = []
        for host, path in files.items():
            argv = curl_argv(f"http://{S2}/5m", "--local-port", "40000", "-o", path.name)
            say(f"  {DIM}{host}${PLAIN} {shown(argv)} &")
            running.append(self.lab.popen(host, argv, cwd=self.lab.directory))
        outputs = [process.communicate(timeout=20)[0] for process in running]
        check(all(process.returncode == 0 for process in running), "all three are done", outputs)
        hashes = {sha256(path) for path in files.values()}
        check(hashes == {self.lab.services.sha256_of("5m")},
              "all three files are S2's, to the last bit")
        log = self.lab.services.access_log("S2")[-3:]
        explain("The access log of nginx on S2 (address, port, request):")
        show("\n".join(" ".join(line) for line in log))
        check({address for address, *_ in log} == {GATEWAY_OUTER}, "nginx knows B and nobody else")
        check(len({port for _, port, *_ in log}) == 3, "and tells them apart by three ports of B")

    def names(self):
        self.step("S4 asks S2 for a name", "DNS over UDP.")
        found = self.run("S4", nslookup_argv("www.lab"))
        check(f"Address: {S2}" in found.stdout, "the answer came back to S4", found.stdout)

    def traces(self):
        self.step("S6 traces the way into the Internet",
                  "The errors of routers on the way find back to S6, by UDP and by ICMP.")
        for method in ("-U", "-I"):
            trace = self.run("S6", ["traceroute", "-n", "-q", "1", "-w", "2", method, I1])
            hops = re.findall(r"^ *\d+  (\S+)", trace.stdout, re.MULTILINE)
            check(hops == TRACE_TO_I1, f"{len(hops)} hops, the first is B's inner address",
                  trace.stdout + trace.stderr)

    def big_ping(self):
        self.step("S5 pings S2 with 4000 bytes", "The packets cross B in fragments, both ways.")
        ping = self.run("S5", ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-s", "4000", S2])
        check(ping.returncode == 0, "whole and in time", ping.stdout)

    def knock(self):
        self.step("S1 tries to get in",
                  "It even has a route to 192.168.2.0/24 through B, as an attacker would set it.")
        self.run("S1", ["ip", "route", "add", "192.168.2.0/24", "via", GATEWAY_OUTER])
        inside = self.lab.capture("innet", "br0", "ip and src net 192.168.1.0/24")
        for target in (S4, S6, GATEWAY_INNER):
            ping = self.run("S1", ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "0.5", target],
                            quiet=True)
            check(ping.returncode != 0, f"no answer from {target}", ping.stdout)
        connect = self.run("S1", ["nc", "-n", "-v", "-z", "-w", "1", S5, "22"], quiet=True)
        check(connect.returncode != 0, "no connection to S5")
        arp = self.run("S1", ["arping", "-c", "1", "-w", "1", "-I", "eth0", GATEWAY_INNER],
                       quiet=True)
        check(arp.returncode != 0, "B does not own up to its inner address", arp.stdout)
        check(inside.packets() == [], "nothing of all this arrived inside")
        self.scan()

    def scan(self):
        explain(f"""S1 scans: a SYN to {SCANNED_PORTS} of the ports from which B speaks for its
                inner hosts, and one to port 50000, which belongs to B's own kernel.""")
        answers = self.lab.capture("S1", filter_=f"tcp and src {GATEWAY_OUTER}")
        ports = random.sample(POOL, SCANNED_PORTS) + [50000]
        self.send_syns(ports)
        heard = re.findall(rf"{re.escape(GATEWAY_OUTER)}\.(\d+) >", answers.text())
        check("50000" in heard, "port 50000 says `closed`: the scan works", heard)
        check(set(heard) == {"50000"},
              "the others say nothing: nobody can tell that they are in use", heard)

    def send_syns(self, ports):
        """Past the stack of S1, which would wait for each answer."""
        import scapy.all as scapy

        with self.lab.inside("S1"):
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with s:
            s.bind(("eth0", 0))
            frame = (scapy.Ether(src=lab_module.mac_of(S1), dst=lab_module.GATEWAY_OUTER_MAC)
                     / scapy.IP(src=S1, dst=GATEWAY_OUTER))
            for port in ports:
                s.send(bytes(frame / scapy.TCP(sport=50001, dport=port, flags="S")))

    def look(self):
        self.step("What masq itself has to say")
        self.answers("S4", S2)
        status = self.masq("status")
        check(status.returncode == 0 and "translating" in status.stdout, "it is translating")
        check("not_for_us" in status.stdout and "no_mapping" in status.stdout,
              "it has counted S1's attempts, and says why it refused them")
        flows = self.masq("flows", lines_max=8)
        check(S4 in flows.stdout, "it lists the flows")
        mappings = self.masq("mappings", lines_max=8)
        check(S4 in mappings.stdout and GATEWAY_OUTER in mappings.stdout, "and the mappings")

    def in_user_space(self):
        return json.loads(self.lab.masq("status", "--json").stdout)["datapath"] == "user"

    def transfer_during(self, what):
        """A slow download of 20 MB to S6; in its middle masqd is killed and `what` done."""
        path = self.lab.directory / "story-slow"
        argv = curl_argv(f"http://{S2}/slow/20m", "-o", path.name, "--local-port", "40001",
                         timeout_s=25)
        say(f"  {DIM}S6${PLAIN} {shown(argv)} &")
        transfer = self.lab.popen("S6", argv, cwd=self.lab.directory)
        time.sleep(1)
        daemons = self.lab.processes("B", "masqd")
        check(len(daemons) == 1, "masqd is running", daemons)
        say(f"  {DIM}B${PLAIN} kill -9 {daemons[0]}")
        os.kill(daemons[0], signal.SIGKILL)
        time.sleep(0.2)
        check(self.lab.processes("B", "masqd") == [], "masqd is gone")
        check(transfer.poll() is None,
              f"the transfer ({SLOW_BYTES_PER_S // 10**6} MB/s) is under way")
        what()
        check(not self.answers("S1", S4), "S1 still cannot get in")
        up = self.masq("up")
        check(up.returncode == 0, "`masq up` takes over what is running", up.stderr)
        flows = json.loads(self.lab.masq("flows", "--json").stdout)
        check(any(flow["internal"] == f"{S6}:40001" for flow in flows),
              "the transfer's flow is still listed")
        transfer.communicate(timeout=25)
        check(transfer.returncode == 0 and sha256(path) == self.lab.services.sha256_of("20m"),
              "the transfer is complete: 20 MB, not a bit lost")

    def daemon_dies(self):
        if self.in_user_space():
            self.step("The daemon is killed in the middle of a transfer",
                      """This kernel lets no BPF programs be loaded, so masqd itself carries the
                      packets. Without it nothing passes; what it knew is kept for the next.""")
            self.transfer_during(lambda: check(not self.answers("S4", S2), "B is closed"))
            return
        self.step("The daemon is killed in the middle of a transfer",
                  """masqd ends without a chance to clean up. What it has set going lives in the
                  kernel and goes on.""")

        def connect_anew():
            new = self.run("S4", curl_argv(f"http://{S2}/whoami"))
            check(new.returncode == 0 and new.stdout.split()[0] == GATEWAY_OUTER,
                  "a new connection works without a daemon", new.stderr)

        self.transfer_during(connect_anew)

    def down(self, before):
        self.step("masq ends", "Closed again, and the machine is as it was.")
        down = self.masq("down")
        check(down.returncode == 0, "`masq down` answers 0", down.stderr)
        check(not self.answers("S6", S2), "S6 can no longer reach S2")
        check(state_of_gateway(self.lab) == before,
              "no program, device, rule, sysctl or process of masq is left on B",
              f"before: {before}\nnow:    {state_of_gateway(self.lab)}")

    def tell(self):
        before = state_of_gateway(self.lab)
        outside = self.lab.capture_gateway_outside(snap_bytes=600)
        self.closed_before()
        self.up()
        self.ping()
        self.same_port()
        self.names()
        self.traces()
        self.big_ping()
        self.knock()
        self.look()
        self.daemon_dies()
        self.down(before)
        self.step("And all the time",
                  "a capture ran of everything that B has sent to the outer network.")
        outside.stop()
        leaks = inner_addresses_in(outside)
        check(outside.dropped == 0 and outside.frames(), "it has missed nothing")
        check(not leaks, f"of {len(outside.frames())} frames not one names an inner host",
              "\n".join(leaks))


def state_of_gateway(lab):
    """What masq changes on its machine while it runs."""
    def run(*argv):
        return lab.run("B", argv).stdout
    hooks = [lab.programs(dev) for dev in ("out0", "in0")]
    keys = ["net.ipv4.ip_forward", "net.ipv4.conf.lo.forwarding", "net.ipv4.conf.all.forwarding",
            "net.ipv4.ip_local_reserved_ports"]
    return {"hooks": hooks, "qdiscs": run("tc", "qdisc", "show"),
            "rules": run("nft", "list", "ruleset"),
            "devices": re.findall(r"^\d+: (\S+?)[:@]", run("ip", "-o", "link"), re.MULTILINE),
            "sysctls": {key: lab.read_sysctl("B", key) for key in keys},
            "processes": sorted(lab.pids("B"))}


@contextlib.contextmanager
def network():
    with Lab() as lab:
        services = Services(lab)
        services.nginx("S2")
        services.dnsmasq("S2")
        lab.tcp("S5", 22, listen=True)  # something to find, if S1 could
        yield lab


def main():
    began = time.monotonic()
    story = None
    try:
        say("\nThe network, in namespaces of this machine (nothing outside of them is touched):\n")
        say(lab_module.__doc__.split("\n\n", 1)[1].split("\n\nThe inner hosts")[0])
        with network() as lab:
            story = Story(lab)
            story.tell()
    except (StoryEnds, LabError) as problem:
        where = f"step {story.number} ({story.title})" if story else "setting up the network"
        say(f"\n{RED}{BOLD}The demo failed{PLAIN} in {where}: {problem}")
        return 1
    except KeyboardInterrupt:
        say("\nThe demo was interrupted; everything that it had set up is removed.")
        return 130
    took_s = time.monotonic() - began
    say(f"\n{BOLD}All of it happened{PLAIN} ({took_s:.0f} s). Next: `build/bin/masq up` as root on "
        "your own gateway, or `tests/netns/lab.py up` to play in this network.")
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except BrokenPipeError:
        # Whoever listened has gone (`./demo | head`); everything that was set up is removed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)
