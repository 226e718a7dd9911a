#!/usr/bin/python3
"""Calls the old commands with random and with damaged words, one call after another, on the gateway
that runs in this network namespace.

    tests/netns/old_commands.py [--seed N] [--calls N] [--seconds N]

Run where masq is up, as root. Names are looked up in files alone: the resolver's configuration is
covered, in a mount namespace of this program's own.

After each call: it has ended by itself and in time, with 0, 1 or 2; one that was refused has said
why, in one line that shows on any terminal (and for wrong usage where help is), and has changed
neither the rules nor the timers. What it finds is printed with the seed and the call; the exit code
is 0 only if nothing was found. The last line counts, so that whoever reads it sees that the calls
were not all refused, nor all taken.
"""

import argparse
import collections
import ctypes
import os
import pathlib
import random
import subprocess
import sys
import time

BINARIES = pathlib.Path(os.environ.get("MASQ_BIN_DIR",
                                       pathlib.Path(__file__).resolve().parents[2] / "build/bin"))
TIMEOUT_S = 20  # of a busy machine; a call takes a few milliseconds
CLEAN_AFTER = 60  # calls; else the rules would only grow
CLOSELY_EACH = 10  # calls: what ipchains-save says is compared too
LINE_MAX = 300  # characters of a sentence, whatever the words were
FINDINGS_MAX = 5
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000

BUILT_IN = ["input", "forward", "output"]
CHAINS = [*BUILT_IN, *BUILT_IN, "web", "dmz", "12345678"]
TARGETS = ["ACCEPT", "DENY", "REJECT", "MASQ", "RETURN", "REDIRECT", "web", "dmz", "12345678"]
ADDRESSES = ["0/0", "any/0", "192.168.2.0/24", "192.168.2.4", "10.0.0.0/255.0.0.255", "localhost",
             "0.0.0.0/0", "192.168.1.254/32", "127.0.0.1"]
PORTS = ["80", "0:1023", "1024:", ":1023", "ssh", "domain", "0", "65535"]
PROTOCOLS = ["tcp", "udp", "icmp", "all", "TCP", "47", "0", "255", "gre"]
WITH_PORTS = ["tcp", "udp", "TCP", "17"]
INTERFACES = ["out0", "in0", "in+", "+", "lo", "ppp0", "a" * 15]
ICMP = ["ping", "echo-reply", "host-unreachable", "ttl-exceeded", "redirect", "8", "3"]
NUMBERS = ["1", "1", "2", "7", "300", "0"]
ODD = ["-1", "0x10", "4294967295", "4294967296", "1e3", "007", "99999999999", "7:5", "65536", "",
       " ", "!", "-", "--", "---", "-j", "-s", "--sport", "%s%n", "\x1b[2J", "a\nb", "\t", "é",
       "x" * 70, "y" * 5000, "0/33", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4/", "/", ":", "::",
       "\udcff\udcfe", "$(reboot)", "'", '"', "\\", "*", "input ", "Input", "-ynvL", "--xyz"]


class Generator(random.Random):
    def some(self, *choices):
        return [self.choice(each) if isinstance(each, list) else each for each in choices]

    def maybe(self, chance, words):
        return words if self.random() < chance else []

    def address(self, option, ports):
        return [option, *self.maybe(0.1, ["!"]), self.choice(ADDRESSES),
                *self.maybe(0.5 if ports else 0.01, [*self.maybe(0.1, ["!"]), self.choice(PORTS)])]

    def rule(self):
        """Mostly one that can be."""
        ports = self.random() < 0.4
        protocol = self.some("-p", WITH_PORTS if ports else PROTOCOLS)
        parts = [self.maybe(1.0 if ports else 0.5, protocol),
                 self.maybe(0.5, self.address("-s", ports)),
                 self.maybe(0.5, self.address("-d", ports)),
                 self.maybe(0.4, self.some("-i", INTERFACES)),
                 self.maybe(0.7, self.some("-j", TARGETS)),
                 self.maybe(0.3 if protocol[1] in ("tcp", "TCP") and ports else 0.01,
                            self.choice([["-y"], ["!", "-y"]])),
                 self.maybe(0.01 if ports else 0.1, ["-f"]), self.maybe(0.1, ["-b"]),
                 self.maybe(0.1, self.some("-m", NUMBERS)), self.maybe(0.01, ["-l"]),
                 self.maybe(0.1, self.some("-t", ["01", "0x1", "fe"], ["10", "0x10", "04"])),
                 self.maybe(0.2 if ports else 0.01, self.some(["--sport", "--dport"], PORTS)),
                 self.maybe(0.02, self.some("--icmp-type", ICMP)), self.maybe(0.1, ["-v"])]
        self.shuffle(parts)
        return [word for part in parts for word in part]

    def ipchains(self):
        kind = self.randrange(16)
        if kind < 6:
            return [*self.some(["-A", "-A", "-A", "--append"], CHAINS), *self.rule()]
        if kind == 6:
            return [*self.some("-I", CHAINS), *self.maybe(0.5, self.some(NUMBERS)), *self.rule()]
        if kind == 7:
            return [*self.some(["-D", "-R"], CHAINS), *self.maybe(0.6, self.some(NUMBERS)),
                    *self.maybe(0.6, self.rule())]
        if kind == 8:
            return ["-C", self.choice(CHAINS), "-p", self.choice(WITH_PORTS),
                    "-s", "192.168.2.4", self.choice(PORTS), "-d", "10.0.0.1", self.choice(PORTS),
                    "-i", self.choice(INTERFACES), *self.maybe(0.1, ["-y"])]
        shown = [*self.maybe(0.5, self.some(CHAINS)), "-n", *self.maybe(0.5, ["-v"])]
        return self.choice([
            self.some("-N", CHAINS), self.some("-N", CHAINS), self.some("-X", CHAINS),
            self.some("-F", CHAINS), self.some("-Z", CHAINS), self.some("-P", CHAINS, TARGETS),
            ["-L", *shown], ["-M", "-L", "-n"], ["-X"], ["-L", "-Z", "-n"], ["-h", "icmp"],
            ["-M", "-S", *self.some(NUMBERS, NUMBERS, NUMBERS)]])

    def ipfwadm(self):
        place = self.choice(["-I", "-O", "-F", "-F", "-A", "-M"])
        protocol = self.choice(["tcp", "udp", "icmp", "all"])
        most = [0, 0, 1, 2, 11] if protocol in WITH_PORTS else [0] * 20 + [1]
        ends = [word for option in ("-S", "-D") for word in self.maybe(0.6, [
            option, self.choice(ADDRESSES), *self.choices(PORTS, k=self.choice(most))])]
        rule = [*self.maybe(1.0 if len(ends) > 4 else 0.6, ["-P", protocol]), *ends,
                *self.maybe(0.4, self.some("-W", INTERFACES)),
                *self.maybe(0.1, ["-V", "192.168.2.1"]), *self.maybe(0.1, ["-b"]),
                *(self.maybe(0.3, self.some(["-k", "-y"])) if protocol == "tcp" else []),
                *self.maybe(0.1 if place == "-F" else 0.01, ["-m"]), *self.maybe(0.01, ["-o"])]
        policies = ["accept", "deny", "reject", "a", *(["m", "masq"] if place == "-F" else [])]
        policy = [] if place == "-A" else self.maybe(0.95, self.some(policies))
        if place == "-M":
            return self.choice([["-M", "-l", "-n"],
                                ["-M", "-s", *self.some(NUMBERS, NUMBERS, NUMBERS)]])
        accounting = self.some(["in", "out", "both"]) if place == "-A" else []
        return [place, *accounting, *self.choice([
            ["-a", *policy, *rule], ["-a", *policy, *rule], ["-i", *policy, *rule],
            ["-d", *policy, *rule], ["-p", *policy], ["-f"], ["-l", "-n"], ["-z"],
            ["-c", *rule]])]

    def restored(self):
        """What ipchains-restore reads: chains, then rules."""
        lines = [f":{self.choice(BUILT_IN)} {self.choice(['ACCEPT', 'DENY', 'REJECT'])}"
                 for _ in range(self.randrange(3))]
        lines += [f":{self.choice(['web', 'dmz'])} -" for _ in range(self.randrange(2))]
        lines += [" ".join(["-A", self.choice(CHAINS), *self.rule()])
                  for _ in range(self.randrange(5))]
        return "\n".join(lines) + self.choice(["\n", "\n", "\r\n", ""])

    def damaged(self, words):
        """The same with one to three mistakes."""
        words = list(words)
        for _ in range(self.randint(1, 3)):
            at = self.randrange(len(words) + 1)
            kind = self.randrange(6)
            if kind == 0:
                words.insert(at, self.choice(ODD))
            elif kind == 1 and words:
                words.pop(at % len(words))
            elif kind == 2 and words:
                words.insert(at, self.choice(words))
            elif kind == 3 and words:
                other = self.randrange(len(words))
                words[at % len(words)], words[other] = words[other], words[at % len(words)]
            elif words:
                words[at % len(words)] = self.scratched(words[at % len(words)])
        return words

    def scratched(self, text):
        """One character more, less or another."""
        at = self.randrange(len(text) + 1)
        new = self.choice([chr(self.randrange(1, 256)), self.choice("!-:/.0+\n\t"), ""])
        return text[:at] + new + text[at + self.randrange(2):]

    def call(self):
        """The program, its words and what it reads."""
        program = self.choice(["ipchains", "ipchains", "ipfwadm", "ipchains-restore"])
        if program == "ipchains-restore":
            words = self.choice([[], ["-f"], ["-f", "-p"], ["-v", "-f"]])
            text = self.restored()
            for _ in range(self.choice([0, 0, 1, 2])):
                text = self.scratched(text)
            return program, self.damaged(words) if self.random() < 0.1 else words, text
        words = self.ipchains() if program == "ipchains" else self.ipfwadm()
        return program, self.damaged(words) if self.random() < 0.5 else words, ""


def mount(source, target, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, None, flags, None) != 0:
        sys.exit(f"old_commands.py: mount: {os.strerror(ctypes.get_errno())}")


def look_names_up_in_files_alone():
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        sys.exit(f"old_commands.py: unshare: {os.strerror(ctypes.get_errno())}")
    mount(None, b"/", MS_REC | MS_PRIVATE)
    mount(b"/dev/null", b"/etc/resolv.conf", MS_BIND)


def run(program, words, text=""):
    argv = [os.fsencode(BINARIES / program), *(word.encode("utf-8", "surrogateescape")
                                               for word in words)]
    return subprocess.run(argv, input=text.encode("utf-8", "surrogateescape"), capture_output=True,
                          timeout=TIMEOUT_S, check=False, start_new_session=True)


def saved():
    return run("ipchains-save", []).stdout


class Gateway:
    """What a refused call must leave alone."""

    def __init__(self):
        self._folder = pathlib.Path(f"/run/masq/net-{os.stat('/proc/self/ns/net').st_ino}")

    def files(self):
        found = {}
        for name in ("rules.json", "config.toml"):
            path = self._folder / name
            found[name] = path.read_bytes() if path.exists() else None
        return found

    @staticmethod
    def clean():
        for words in (["-F"], ["-X"], ["-P", "input", "ACCEPT"], ["-P", "output", "ACCEPT"],
                      ["-P", "forward", "MASQ"], ["-N", "web"], ["-N", "dmz"]):
            done = run("ipchains", words)
            if done.returncode != 0:
                return f"ipchains {' '.join(words)}: {done.stderr}"
        return ""


def what_is_wrong(program, done):
    """With how it has ended and what it has said; nothing if all is well."""
    said = done.stderr.decode("utf-8", "replace")
    if "Sanitizer" in said or "runtime error" in said:
        return "a report of a sanitizer"
    if done.returncode not in (0, 1, 2):
        return f"ended with {done.returncode}"
    if done.returncode == 0:
        return ""
    lines = said.split("\n")
    helps = done.returncode == 2 and program != "ipfwadm"
    if lines[1:] != [*([f"Try `{program} -h' for more information."] if helps else []), ""]:
        return "is not refused in one line"
    if not lines[0].startswith(f"{program}: ") or len(lines[0]) > LINE_MAX:
        return "is refused in a line of another form"
    if not lines[0].isprintable() or "\ufffd" in lines[0]:
        return "is refused in a line that no terminal shows"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    generator, gateway = Generator(options.seed), Gateway()
    look_names_up_in_files_alone()
    counts = collections.Counter()
    findings = 0
    end = time.monotonic() + options.seconds
    number = 0
    while number < options.calls and time.monotonic() < end and findings < FINDINGS_MAX:
        if number % CLEAN_AFTER == 0 and (mistake := gateway.clean()):
            sys.exit(mistake)
        number += 1
        program, words, text = generator.call()
        looks_closely = number % CLOSELY_EACH == 0
        before = gateway.files(), saved() if looks_closely else b""
        code, said = None, b""
        try:
            done = run(program, words, text)
            wrong, code, said = what_is_wrong(program, done), done.returncode, done.stderr
        except subprocess.TimeoutExpired:
            wrong = f"has not ended after {TIMEOUT_S} s"
        after = gateway.files(), saved() if looks_closely else b""
        if code != 0 and after != before:
            wrong = wrong or "is refused and has changed something"
        counts[program, "taken" if code == 0 else "refused"] += 1
        counts[program, "changed"] += code == 0 and after[0] != before[0]
        if wrong:
            findings += 1
            print(f"call {number}: {wrong}\n  {[program, *words]!r}\n  reads {text!r}\n"
                  f"  says {said!r}", flush=True)
    print(", ".join(f"{program} {what} {count}"
                    for (program, what), count in sorted(counts.items())))
    print(f"{number} calls, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
