"""A kernel that lacks what the programs need: masqd carries the packets itself, or is refused.
One that lacks nftables is taken while it does not forward.

The functions that an older kernel lacks are taken away by a library before libbpf
(tests/netns/older_kernel.cpp), the kernel's types by a mount that only the command sees.
"""

import json

import pytest

from lab import ADDRESS, BINARIES
from traffic import pings

HIDE_TYPES = 'mount --bind /dev/null /sys/kernel/btf/vmlinux && exec "$0" "$@"'


OLDER = pytest.mark.parametrize(("before", "missing"), [
    (["env", f"LD_PRELOAD={BINARIES / 'older_kernel.so'}"], "lacks bpf_loop"),
    (["unshare", "--mount", "sh", "-c", HIDE_TYPES], "does not tell its types"),
])


def up(lab, *before, datapath="auto"):
    return lab.run("B", [*before, BINARIES / "masq", "up", "--datapath", datapath])


@OLDER
def test_masqd_carries_the_packets_itself_and_says_why(lab, before, missing):
    started = up(lab, *before)
    assert started.returncode == 0, started.stderr
    [line] = [line for line in started.stdout.splitlines() if missing in line]
    assert line.startswith("This kernel (Linux ") and "So masqd itself carries the packets" in line
    assert json.loads(lab.masq("status", "--json").stdout)["datapath"] == "user"
    lab.masq("down")


@OLDER
def test_it_is_refused_in_one_sentence_and_nothing_is_changed(lab, before, missing):
    def state():
        return [lab.run("B", argv).stdout for argv in (
            ["ip", "link"], ["tc", "qdisc"], ["sysctl", "net.ipv4.conf.lo.forwarding"],
            ["sysctl", "net.ipv4.ip_local_reserved_ports"])] + [lab.programs("out0")]

    was = state()
    refused = up(lab, *before, datapath="tc")
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert line.startswith("masq: This kernel (Linux ") and missing in line, line
    assert "its programs need Linux 6.1 or newer" in line
    assert state() == was
    assert not lab.processes("B", "masqd") and not lab.processes("B", "masq-holder")


@pytest.mark.parametrize("forwards", [False, True])
def test_without_nftables_the_kernel_must_not_forward(lab, forwards):
    lab.sysctl("B", {"net.ipv4.ip_forward": int(forwards)})
    try:
        started = up(lab, "env", f"LD_PRELOAD={BINARIES / 'no_nftables.so'}", datapath="tc")
        said = started.stderr if forwards else started.stdout
        [line] = [line for line in said.splitlines() if "masq_belt" in line]
        assert "cannot be made (Could not process rule: Operation not supported)." in line
        assert started.returncode == int(forwards)
        if forwards:
            assert not lab.programs("out0")
        else:
            assert "Leave the kernel's forwarding off" in line
            assert pings(lab, "S6", ADDRESS["S2"])
    finally:
        lab.masq("down")
        lab.sysctl("B", {"net.ipv4.ip_forward": 0})


def test_the_kernel_at_hand_is_taken(lab):
    taken = up(lab)
    assert taken.returncode == 0, taken.stderr
    assert pings(lab, "S6", ADDRESS["S2"])
    lab.masq("down")
