"""The network of lab.py with other devices at the gateway B.

`DeviceLab(outside=KIND, inside=KIND)` builds each of B's two sides of one KIND:

    eth     as in lab.py: Ethernet
    bridge  a bridge of B's own; one port leads to the net of that side, and one straight to S6
            or S3, as to a virtual machine of B's; nftables sees what it carries or not, as
            `bridges_seen` says
    tun     tun devices, and a program (`cables.py hub`, below) that carries packets between them,
            large segments and unfinished checksums as they are
    wg      WireGuard: the kernel's where it has it, else Debian's wireguard-go

Outside, the line leads to A, which answers for B's address on the outer net (proxy ARP); the hosts
S1 to S3 do not know the difference. Inside, every inner host has the device in place of its cable,
still called eth0. What WireGuard itself sends goes through a cable called under0, with addresses
that are nobody's (RFC 5737), of which masq is told nothing.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import struct
import subprocess
import sys

from lab import (ADDRESS, CLONE_NEWNET, GATEWAY_INNER, GATEWAY_OUTER, INNER_HOSTS, Lab, mac_of,
                 wait_until)

LINE = "line0"  # A's end of the outer line
ETHERNET = ("eth", "bridge")
BRIDGES_SEEN = "net.bridge.bridge-nf-call-iptables"  # there if the kernel has br_netfilter
TUN_MTU, WG_MTU = 1400, 1420
UNDER_OUTSIDE, UNDER_INSIDE = "192.0.2.{}", "198.18.0.{}"
WG_PORT = {"out0": 51820, "in0": 51821}  # B has one of each

TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454ca, 0x400454d0, 0x400454d8
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x1, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 1, 2, 4
VNET_BYTES = 10  # struct virtio_net_hdr, before the packet
FRAME_BYTES = 65536 + VNET_BYTES


# --- the hub --------------------------------------------------------------------------------------


def open_tun(namespace, name):
    """A tun device of that name in that network namespace; it lives as long as the descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(fd, TUNSETIFF, request)
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_BYTES))
        fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
        return fd
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(there)


def hub(ends):
    """Carries packets between tun devices. The first end gets what has the address of no other; of
    two ends, each gets what the other sends."""
    fds, by_address, first = {}, {}, None
    for end in ends:
        namespace, name, *address = end.split(",")
        fd = open_tun(namespace, name)
        fds[fd] = name
        if first is None:
            first = fd
        if address:
            by_address[bytes(map(int, address[0].split(".")))] = fd
    print("ready", flush=True)
    while True:
        for fd in select.select(list(fds), [], [])[0]:
            with contextlib.suppress(BlockingIOError, OSError):
                while packet := os.read(fd, FRAME_BYTES):
                    to = by_address.get(packet[VNET_BYTES + 16:VNET_BYTES + 20], first)
                    if len(fds) == 2:
                        [to] = set(fds) - {fd}
                    # An end that is down, or that has no room, loses it, as a cable would.
                    if to != fd and packet[VNET_BYTES] >> 4 == 4:
                        with contextlib.suppress(OSError):
                            os.write(to, packet)


# --- the lab --------------------------------------------------------------------------------------


def has_kernel_wireguard(lab):
    done = lab.run("R", ["ip", "link", "add", "wgtry", "type", "wireguard"])
    if done.returncode == 0:
        lab.ip("R", "link del wgtry")
    return done.returncode == 0


class DeviceLab(Lab):
    def __init__(self, outside="eth", inside="eth", bridges_seen=None, **options):
        super().__init__(**options)
        self.outside, self.inside_kind = outside, inside
        self.bridges_seen = bridges_seen  # None: as the machine has it
        self._line = []  # the processes that are the outer line

    # --- building

    def _build_inside(self):
        if self.inside_kind in ETHERNET:
            super()._build_inside()

    def _build_gateway(self):
        super()._build_gateway()
        if self.bridges_seen is not None and self.bridges_are_seen() is not None:
            self.sysctl("B", {BRIDGES_SEEN: int(self.bridges_seen)})

    def bridges_are_seen(self):
        """Does nftables at B see what bridges carry? None if the kernel has no such thing."""
        with contextlib.suppress(FileNotFoundError):
            return self.read_sysctl("B", BRIDGES_SEEN) == "1"
        return None

    def plug_in(self, host, interface, address, net, port):
        kind = {"out0": self.outside, "in0": self.inside_kind}.get(interface)
        if kind != "bridge":
            super().plug_in(host, interface, address, net, port)
            return
        name, neighbour = f"port-{interface}", {"out0": "s3", "in0": "s6"}[interface]
        super().plug_in("B", name, "192.0.2.1/32", net, port)
        if self.run(net, ["ip", "link", "show", neighbour]).returncode == 0:
            self.ip(net, f"link set {neighbour} netns {self.ns('B')}")
        self.ip("B", f"addr flush dev {name}",
                f"link add {interface} address {mac_of(address.split('/')[0])} type bridge "
                "forward_delay 0",
                *(f"link set {each} master {interface} up" for each in (name, neighbour)),
                f"addr add {address} dev {interface}", f"link set {interface} up")

    def plug_in_gateway_inside(self):
        if self.inside_kind in ETHERNET:
            super().plug_in_gateway_inside()
            return
        if self.inside_kind == "tun":
            self._run_hub(("B", "in0", GATEWAY_INNER),
                          *((host, "eth0", address) for host, address in INNER_HOSTS.items()))
        else:
            hosts = {"B": UNDER_INSIDE.format(1)} | {
                host: UNDER_INSIDE.format(number + 2) for number, host in enumerate(INNER_HOSTS)}
            for number, (host, address) in enumerate(hosts.items()):
                name = "under1" if host == "B" else "under0"
                self.plug_in(host, name, f"{address}/24", "innet", f"u{number}")
            self._wireguard("in0", "eth0", hosts, {host: INNER_HOSTS[host] for host in INNER_HOSTS})
        self.ip("B", f"addr add {GATEWAY_INNER}/24 dev in0", "link set in0 up")
        for host, address in INNER_HOSTS.items():
            self.ip(host, f"addr add {address}/24 dev eth0",
                    f"link set eth0 up mtu {WG_MTU if self.inside_kind == 'wg' else 1500}",
                    f"route add default via {GATEWAY_INNER} dev eth0")

    def plug_in_gateway_outside(self):
        if self.outside in ETHERNET:
            super().plug_in_gateway_outside()
            return
        self.run("A", ["ip", "neigh", "replace", "proxy", GATEWAY_OUTER, "dev", "eth0"],
                 check=True)
        if self.outside == "tun":
            self._line = [self._run_hub(("A", LINE, ""), ("B", "out0", GATEWAY_OUTER))]
            mtu = TUN_MTU
        else:
            hosts = {"A": UNDER_OUTSIDE.format(1), "B": UNDER_OUTSIDE.format(2)}
            if "under0" not in self.run("A", ["ip", "-o", "link"]).stdout:
                self._veth("A", "under0", f"{hosts['A']}/24", "B", "under0")
                self.ip("B", f"addr add {hosts['B']}/24 dev under0", "link set under0 up")
            self._line = self._wireguard(LINE, "out0", hosts, {"B": GATEWAY_OUTER})
            mtu = WG_MTU
        for host, name, near, far in (("A", LINE, ADDRESS["A"], GATEWAY_OUTER),
                                      ("B", "out0", GATEWAY_OUTER, ADDRESS["A"])):
            self.ip(host, f"addr add {near} peer {far} dev {name}", f"link set {name} up mtu {mtu}")
        self.ip("B", "route add default dev out0")

    def _run_hub(self, *ends):
        words = [",".join([f"/run/netns/{self.ns(host)}", name, *([address] if address else [])])
                 for host, name, address in ends]
        # In B's namespace, so that it ends with the lab whatever happens.
        process = self.popen("R", ["/usr/bin/python3", __file__, "hub", *words])
        said = process.stdout.readline()
        assert said == "ready\n", said + process.stdout.read()
        return process

    def _wireguard(self, centre_name, leaf_name, under, inner):
        """A device at the first host of `under`, one at each other, which reach it alone."""
        centre, *leaves = under
        port = WG_PORT["in0" if centre == "B" else "out0"]
        keys, processes = {}, []
        for host in under:
            keys[host] = subprocess.run(["wg", "genkey"], capture_output=True, text=True,
                                        check=True, timeout=10).stdout.strip()
        public = {host: subprocess.run(["wg", "pubkey"], input=key, capture_output=True, text=True,
                                       check=True, timeout=10).stdout.strip()
                  for host, key in keys.items()}
        in_kernel = has_kernel_wireguard(self)
        for host in under:
            name = centre_name if host == centre else leaf_name
            final = name
            if not in_kernel:  # its control socket's name is the device's, for the whole machine
                name = f"{self.name}{host}{'o' if host in ('A',) or name == 'out0' else 'i'}"
                with open(self.directory / f"{name}.log", "w") as log:
                    processes.append(self.popen(host, ["wireguard-go", "-f", name], stdout=log))
                control = f"/var/run/wireguard/{name}.sock"
                wait_until(lambda control=control: os.path.exists(control),
                           f"wireguard-go at {host} is ready", timeout_s=15)
            else:
                self.ip(host, f"link add {name} type wireguard")
            settings = f"[Interface]\nPrivateKey = {keys[host]}\nListenPort = {port}\n"
            others = leaves if host == centre else [centre]
            for other in others:
                # A takes whatever B sends, and sends it what is for the inner net: else WireGuard
                # itself would stop what masq is to be tried with.
                allowed = (f"{inner[other]}/32" if centre == "B" else "192.168.0.0/16") \
                    if host == centre else "0.0.0.0/0"
                settings += (f"[Peer]\nPublicKey = {public[other]}\nAllowedIPs = {allowed}\n"
                             f"Endpoint = {under[other]}:{port}\n")
            file = self.directory / f"{name}.conf"
            file.write_text(settings)
            self.run(host, ["wg", "setconf", name, file], check=True)
            if final != name:
                self.ip(host, f"link set {name} name {final}")
        return processes

    # --- what is different with such devices

    def cut_line(self):
        """The outer line's device at B goes, as when a VPN or a modem hangs up."""
        if self.outside in ETHERNET:
            for name in ("out0", *(["port-out0"] if self.outside == "bridge" else [])):
                self.unplug_gateway(name)
            return
        for process in self._line:
            process.terminate()
            process.wait(timeout=5)
        for host, name in (("B", "out0"), ("A", LINE)):
            self.run(host, ["ip", "link", "del", name])  # the kernel's own has no process
            wait_until(lambda h=host, n=name: self.run(h, ["ip", "link", "show", n]).returncode,
                       f"{name} is gone")

    def masq(self, *args, **options):
        """Devices of these kinds are not found to be inside by themselves."""
        words = [*map(str, args)]
        tunnel = self.inside_kind in ("tun", "wg")
        if words[:1] == ["up"] and "--internal" not in words and tunnel:
            words[1:1] = ["--internal", "in0"]
        return super().masq(*words, **options)

    def outer_neighbours(self):
        """(host, interface): the frames of these reach B as they are."""
        return [("S1", "eth0"), ("S3", "eth0")] if self.outside in ETHERNET else [("A", LINE)]

    def outer_hardware_addresses(self):
        """What B takes for its own outside: the address of the device, and those of its ports."""
        links = json.loads(self.run("B", ["ip", "-j", "link"], check=True).stdout)
        return [link.get("address") or "00:00:00:00:00:00" for link in links
                if "out0" in (link["ifname"], link.get("master"))]

    def send_frame(self, host, frame, interface="eth0"):
        data = bytes(frame)
        if self.has_no_link_header(host, interface):
            data = data[14:]
        super().send_frame(host, data, interface)

    def has_no_link_header(self, host, interface):
        shown = self.run(host, ["ip", "-o", "link", "show", interface], check=True).stdout
        return "link/none" in shown

    def capture_gateway_outside(self, filter_extra="", **options):
        if self.outside in ETHERNET:
            return super().capture_gateway_outside(filter_extra, **options)
        sent = (f"not dst host {GATEWAY_OUTER} and "
                f"(src host {GATEWAY_OUTER} or not src net 192.168.1.0/24)")
        return self.capture("A", LINE, f"({filter_extra}) and {sent}" if filter_extra else sent,
                            **options)


if __name__ == "__main__":
    if sys.argv[1:2] != ["hub"]:
        sys.exit("usage: cables.py hub /run/netns/NAMESPACE,DEVICE[,ADDRESS]...")
    hub(sys.argv[2:])
