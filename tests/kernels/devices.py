"""The network of tests/netns/lab.py with other devices at the gateway B.

    outside   a PPP line to gateway A, which answers for B's address on the outer net (proxy ARP).
              The line is a pseudo terminal with a pppd at each end; it carries 1400 bytes at once.
              Or VLAN 35 of a cable to A, as providers have it, with the same size.
    inside    the inner net is VLAN 7 of a trunk, and the second inner net is behind a bridge that
              filters VLANs.

Nothing of it exists before Linux has its modules for it, which the kernel of the virtual machine
has and that of a machine for builds may lack.
"""

import contextlib
import os
import re
import signal
import struct
import subprocess

from frames import inner_address_in_ipv4
from lab import ADDRESS, GATEWAY_OUTER, GATEWAY_SECOND_INNER, Lab, wait_until

OUTSIDE, VLAN, BRIDGE = "ppp0", "trunk0.7", "lan0"
INNER_LINE, INNER_LINE_OF_B, INNER_LINE_OF_S7 = "ppp9", "192.168.4.1", "192.168.4.7"
VLAN_NUMBER = 7
PPP_MTU = 1400
CABLE, UPLINK_VLAN = "up0", 35
UPLINK = f"{CABLE}.{UPLINK_VLAN}"
LINE = ["nodetach", "noauth", "local", "nolock", "noccp", "novj", "noipv6",
        "mtu", str(PPP_MTU), "mru", str(PPP_MTU)]
# What a capture file calls its link layer.
RAW_IPV4, ETHERNET, COOKED, COOKED_2 = (12, 101, 228), 1, 113, 276


class DevicesLab(Lab):
    def __init__(self, outside=OUTSIDE):
        self.outside = outside
        super().__init__(second_inner=True)

    def _build_gateway(self):
        super()._build_gateway()
        self.ip("B", "addr flush dev in1",
                f"link add {BRIDGE} type bridge forward_delay 0 vlan_filtering 1",
                f"link set in1 master {BRIDGE}", f"link set {BRIDGE} up",
                f"addr add {GATEWAY_SECOND_INNER}/24 dev {BRIDGE}")

    def plug_in_gateway_outside(self):
        self.ip("A", f"neigh add proxy {GATEWAY_OUTER} dev eth0")
        if self.outside == UPLINK:
            self.plug_in_uplink()
            return
        subprocess.run(["modprobe", "--all", "ppp_async"], check=True, timeout=30)
        self.dial()

    def plug_in_uplink(self):
        """What comes by the cable without a tag is for a device of which masq is told nothing."""
        self._veth("B", CABLE, "192.0.2.5/30", "A", CABLE)
        self.ip("B", f"addr flush dev {CABLE}")
        self.ip("A", f"link set {CABLE} up")
        for host, near, far in (("B", GATEWAY_OUTER, ADDRESS["A"]),
                                ("A", ADDRESS["A"], GATEWAY_OUTER)):
            self.ip(host, f"link add link {CABLE} name {UPLINK} mtu {PPP_MTU} "
                          f"type vlan id {UPLINK_VLAN}",
                    f"addr add {near} peer {far} dev {UPLINK}", f"link set {UPLINK} up")
        self.ip("B", f"route add default via {ADDRESS['A']} dev {UPLINK}")

    def dial(self):
        far = self.argv("A", ["pppd", *LINE, "notty", f"{ADDRESS['A']}:{GATEWAY_OUTER}"])
        near = ["pppd", *LINE, "pty", " ".join(far), "defaultroute",
                f"{GATEWAY_OUTER}:{ADDRESS['A']}"]
        with open(self.directory / "pppd.log", "a") as log:
            self.popen("B", near, stdout=log)

        def is_up():
            links = self.run("B", ["ip", "-o", "-4", "addr", "show", "dev", OUTSIDE]).stdout
            return GATEWAY_OUTER in links and self.run(
                "A", ["ip", "route", "show", GATEWAY_OUTER]).stdout
        wait_until(is_up, "the PPP line is up", timeout_s=30, interval_s=0.2)

    def dial_inside(self):
        """A second line, from B to S7, which then has that way out and no other."""
        if self.run("B", ["ip", "link", "show", "dev", INNER_LINE]).returncode == 0:
            self.ip("S7", "route replace default dev ppp0")
            return
        far = self.argv("S7", ["pppd", *LINE, "notty", f"{INNER_LINE_OF_S7}:{INNER_LINE_OF_B}"])
        near = ["pppd", *LINE, "pty", " ".join(far), "unit", INNER_LINE.removeprefix("ppp"),
                f"{INNER_LINE_OF_B}:{INNER_LINE_OF_S7}"]
        with open(self.directory / "pppd.log", "a") as log:
            self.popen("B", near, stdout=log)

        def is_up():
            return all(address in self.run(host, ["ip", "-o", "-4", "addr", "show", "up"]).stdout
                       for host, address in (("B", INNER_LINE_OF_B), ("S7", INNER_LINE_OF_S7)))
        wait_until(is_up, "the inner PPP line is up", timeout_s=30, interval_s=0.2)
        self.ip("S7", "route replace default dev ppp0")

    def hang_up(self):
        for host in ("B", "A"):  # not S7's line
            for pid in self.processes(host, "pppd"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        wait_until(lambda: self.run("B", ["ip", "link", "show", "dev", OUTSIDE]).returncode != 0,
                   "the PPP line is down", timeout_s=30, interval_s=0.2)

    def plug_in_gateway_inside(self):
        """The trunk carries the inner net with a tag, and another net of which B knows nothing."""
        self._veth("B", "trunk0", "192.0.2.1/30", "innet", "b")
        self.ip("B", "addr flush dev trunk0",
                f"link add link trunk0 name {VLAN} type vlan id {VLAN_NUMBER}",
                f"addr add 192.168.2.1/24 dev {VLAN}", f"link set {VLAN} up")
        self.ip("innet", "link set dev b up",
                f"link add link b name b.{VLAN_NUMBER} type vlan id {VLAN_NUMBER}",
                f"link set dev b.{VLAN_NUMBER} master br0", f"link set dev b.{VLAN_NUMBER} up")


def datagrams_in(capture):
    """The IPv4 packets of a capture on a device that need not be Ethernet."""
    with open(capture.path, "rb") as file:
        kind = struct.unpack("=I", file.read(24)[20:])[0] & 0xffff
    skipped = 0 if kind in RAW_IPV4 else {ETHERNET: 14, COOKED: 16, COOKED_2: 20}[kind]
    return [frame.data[skipped:] for frame in capture.frames()
            if len(frame.data) >= skipped + 20 and frame.data[skipped] >> 4 == 4]


def inner_addresses_on_the_line(capture):
    """One line for each packet of the outer line that names an inner host."""
    named = ((inner_address_in_ipv4(data), data) for data in datagrams_in(capture))
    return [f"{how}: {data[:60].hex(' ')}" for how, data in named if how]


def classifiers(lab, interface, hook):
    """Names of masq's programs among the clsact classifiers of a gateway's interface."""
    shown = lab.run("B", ["tc", "filter", "show", "dev", interface, hook]).stdout
    return re.findall(r"\bname (masq_\w+)", shown)
