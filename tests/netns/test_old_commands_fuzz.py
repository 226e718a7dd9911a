"""The old commands with random and with damaged words, thousands of calls one after another, where
masq is up. What must hold after each of them is in old_commands.py, which makes them; it can be run
by hand with the seed of a failure."""

import re
import subprocess

import pytest

from lab import ADDRESS, BINARIES, REPOSITORY
from traffic import pings

CALLS, SECONDS = 3000, 100
CALLS_LEAST = 1000  # of a slow machine
PROGRAMS = ["ipchains", "ipchains-restore", "ipfwadm"]

pytestmark = pytest.mark.usefixtures("masq_up")


def test_each_call_does_it_or_says_why_not(lab):
    argv = lab.argv("B", [REPOSITORY / "tests" / "netns" / "old_commands.py", "--calls", CALLS,
                          "--seconds", SECONDS])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS + 120, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = int(re.search(r"^(\d+) calls, 0 findings$", done.stdout, re.MULTILINE)[1])
    assert calls >= CALLS_LEAST
    for program in PROGRAMS:
        for what, least in (("refused", 20), ("changed", 100)):
            count = int(re.search(rf"\b{program} {what} (\d+)", done.stdout)[1])
            assert count >= calls / least, f"{program} {what} {count} of {calls}"
    # And masq is none the worse for it.
    for chain in ("input", "output", "forward"):
        for line in ("-F", f"-P {chain} {'MASQ' if chain == 'forward' else 'ACCEPT'}"):
            lab.run("B", [BINARIES / "ipchains", *line.split()], check=True)
    assert pings(lab, "S6", ADDRESS["S2"])
    assert not lab.status()["dropped"]["internal_error"]
