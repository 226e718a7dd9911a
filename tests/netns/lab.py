#!/usr/bin/python3
"""The network of the original description, in network namespaces of this machine.

                              I1 .10           "the Internet", 198.51.100.0/24
                               |
                               R               one more router, so that a trace has several hops
                               |               203.0.113.0/30
     S1 .1   S2 .2   S3 .3     A .250
       |       |       |       |
    ---+-------+-------+-------+-----------    outer net 192.168.1.0/24, fd00:1::/64
                               |
                               |  out0 .254
                               B               the gateway; masq runs here
                               |  in0 .1       (and in1, if there is a second inner net)
                               |        `----------------- S7 .7   192.168.3.0/24
    ---+-------+-------+-------+-----------    inner net 192.168.2.0/24, fd00:2::/64
       |       |       |
     S4 .4   S5 .5   S6 .6

The inner hosts know nothing but "default gateway 192.168.2.1". S1 to S3 and B have A as default
gateway. The two shared nets are bridges in namespaces of their own (`outnet`, `innet`). Every
namespace is named after the run, such as mq3f2a-S4, so that several labs can stand side by side.

    tests/netns/lab.py up [--second-inner]   builds it, starts the servers, and leaves it standing
    tests/netns/lab.py down NAME             removes that one
    tests/netns/lab.py list                  says which ones stand
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import frames

# What tests read is in English, and the programs that they start lie here, whoever starts them.
os.environ["LC_ALL"] = "C.UTF-8"
os.environ["PATH"] += ":/usr/sbin:/sbin"

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("MASQ_BIN_DIR", REPOSITORY / "build" / "bin"))

TCX = REPOSITORY / "tests" / "netns" / "tcx.py"
WITHOUT_BPF = REPOSITORY / "tests" / "netns" / "without_bpf.py"
OUTER_HOSTS = {"S1": "192.168.1.1", "S2": "192.168.1.2", "S3": "192.168.1.3", "A": "192.168.1.250"}
INNER_HOSTS = {"S4": "192.168.2.4", "S5": "192.168.2.5", "S6": "192.168.2.6"}
SECOND_INNER_HOST = {"S7": "192.168.3.7"}
INTERNET_HOST = {"I1": "198.51.100.10"}
ADDRESS = OUTER_HOSTS | INNER_HOSTS | SECOND_INNER_HOST | INTERNET_HOST

GATEWAY_OUTER = "192.168.1.254"
GATEWAY_INNER = "192.168.2.1"
GATEWAY_SECOND_INNER = "192.168.3.1"
GATEWAY_OUTER_MAC = "02:00:c0:a8:01:fe"
TRACE_TO_I1 = ["192.168.2.1", "192.168.1.250", "203.0.113.2", "198.51.100.10"]

IPV6 = {name: f"fd00:1::{address.rsplit('.')[-1]}" for name, address in OUTER_HOSTS.items()} | {
    name: f"fd00:2::{address.rsplit('.')[-1]}" for name, address in INNER_HOSTS.items()}
GATEWAY_OUTER_IPV6 = "fd00:1::254"
GATEWAY_INNER_IPV6 = "fd00:2::1"

NAMESPACES = ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "A", "B", "R", "I1", "outnet", "innet"]
STATE_DIRECTORY = pathlib.Path(tempfile.gettempdir())
CLONE_NEWNET = 0x40000000
MADE_RUN_SSHD = "made-run-sshd"  # a file that says: /run/sshd was not there before this lab


class LabError(Exception):
    """Something that the lab needs did not happen; the sentence says what."""


def mac_of(address):
    """The hardware address of an interface: readable, and the same in every run."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def wait_until(condition, what, timeout_s=5.0, interval_s=0.02):
    """Returns the first true value of `condition()`, and fails if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(interval_s)


def command(argv, **options):
    """Runs a command of this machine that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, **options)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Lab:
    """The network, from `with Lab() as lab:` to the end of that block, whatever happens in it."""

    def __init__(self, second_inner=False, name=None, datapath=None, without_bpf=False):
        self.name = name or self._free_name()
        self.second_inner = second_inner
        self.datapath = datapath  # what `masq up` is told, if it is told nothing else
        self.without_bpf = without_bpf  # masq runs as on a kernel that refuses bpf()
        self.directory = STATE_DIRECTORY / f"masq-lab-{self.name}"
        self._popened = []
        self._captures = []
        self._old_handlers = {}
        self.services = None

    # --- life ------------------------------------------------------------------------------------

    def __enter__(self):
        self._end_well_on_signals()
        try:
            self.build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    @staticmethod
    def _free_name():
        taken = {line.split("-")[0] for line in command(["ip", "netns", "list"]).splitlines()}
        while (name := f"mq{secrets.token_hex(2)}") in taken:
            pass
        return name

    def _end_well_on_signals(self):
        """SIGTERM ends a run as Ctrl-C does: through every clean-up on the way."""
        if threading.current_thread() is not threading.main_thread():
            return

        def interrupt(*_):
            raise KeyboardInterrupt

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._old_handlers[number] = signal.signal(number, interrupt)

    def build(self):
        self.directory.mkdir(mode=0o755)
        self.directory.chmod(0o755)  # an unprivileged user runs copies of the programs from here
        for host in self.namespaces():
            command(["ip", "netns", "add", self.ns(host)])
        for host in self.namespaces():
            self.sysctl(host, {"net.ipv6.conf.default.accept_dad": 0,
                               "net.ipv6.conf.all.accept_dad": 0,
                               "net.ipv6.conf.default.accept_ra": 0})
            self.ip(host, "link set lo up")
        for host in ("outnet", "innet"):
            self._build_bridge(host)
        self._build_outside()
        self._build_inside()
        self._build_gateway()

    def remove(self):
        """Ends every process in the namespaces, then the namespaces, then the files."""
        with self._signals_held():
            self._end_masq()
            for host in self.namespaces():
                self._end_processes(host)
            for process in self._popened:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=2)
            existing = {line.split()[0] for line in command(["ip", "netns", "list"]).splitlines()}
            for host in self.namespaces():
                if self.ns(host) in existing:
                    command(["ip", "netns", "del", self.ns(host)])
            if (self.directory / MADE_RUN_SSHD).exists():
                with contextlib.suppress(OSError):
                    os.rmdir("/run/sshd")
            shutil.rmtree(self.directory, ignore_errors=True)
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
            self._old_handlers = {}

    def _end_masq(self):
        """As its user would. What it leaves in /run if it cannot do so belongs to this lab too."""
        folder = self.run_folder()
        if folder is not None and folder.exists():
            with contextlib.suppress(LabError, OSError, subprocess.TimeoutExpired):
                self.masq("down", timeout_s=10)
            self._end_processes("B")
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _signals_held(self):
        """No second Ctrl-C may interrupt the clean-up that the first one began."""
        held = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        old = signal.pthread_sigmask(signal.SIG_BLOCK, held)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def _end_processes(self, host):
        for number, patience_s in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            for pid in self.pids(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + patience_s
            while self.pids(host) and time.monotonic() < deadline:
                for process in self._popened:
                    process.poll()  # a child that is not waited for stays in the list
                time.sleep(0.02)

    # --- shape -----------------------------------------------------------------------------------

    def namespaces(self):
        return [host for host in NAMESPACES if host != "S7" or self.second_inner]

    def inner_hosts(self):
        return list(INNER_HOSTS) + (["S7"] if self.second_inner else [])

    def ns(self, host):
        return f"{self.name}-{host}"

    def _veth(self, host, interface, address, other, other_interface):
        """One cable between two namespaces; `address` (IPv4/prefix) is that of the first end."""
        command(["ip", "link", "add", interface, "netns", self.ns(host),
                 "address", mac_of(address.split("/")[0]), "type", "veth",
                 "peer", "name", other_interface, "netns", self.ns(other)])
        self.ip(host, f"addr add {address} dev {interface}", f"link set dev {interface} up")

    def _build_bridge(self, host):
        self.sysctl(host, {"net.ipv6.conf.default.disable_ipv6": 1})
        self.ip(host, "link add br0 type bridge mcast_snooping 0 forward_delay 0",
                "link set br0 up")

    def plug_in(self, host, interface, address, net, port):
        """A cable from `host` to the bridge of `net`."""
        self._veth(host, interface, address, net, port)
        self.ip(net, f"link set dev {port} master br0", f"link set dev {port} up")

    def _build_outside(self):
        for host, address in OUTER_HOSTS.items():
            self.plug_in(host, "eth0", f"{address}/24", "outnet", host.lower())
            self.ip(host, f"addr add {IPV6[host]}/64 dev eth0 nodad",
                    f"route add fd00:2::/64 via {GATEWAY_OUTER_IPV6}")
            if host != "A":
                self.ip(host, "route add default via 192.168.1.250")
        self._veth("A", "eth1", "203.0.113.1/30", "R", "eth0")
        self.ip("R", f"link set eth0 address {mac_of('203.0.113.2')} up",
                "addr add 203.0.113.2/30 dev eth0")
        self._veth("R", "eth1", "198.51.100.1/24", "I1", "eth0")
        self.ip("I1", f"link set eth0 address {mac_of('198.51.100.10')} up",
                "addr add 198.51.100.10/24 dev eth0", "route add default via 198.51.100.1")
        self.ip("A", "route add default via 203.0.113.2")
        self.ip("R", "route add default via 203.0.113.1")
        for host in ("A", "R"):
            self.sysctl(host, {"net.ipv4.ip_forward": 1})
        for host in ("A", "R", "I1", "S2"):
            # Tests ask the same host for many errors in a row; each must be answered.
            self.without_icmp_limits(host)

    def _build_inside(self):
        for host, address in INNER_HOSTS.items():
            self.plug_in(host, "eth0", f"{address}/24", "innet", host.lower())
            self.ip(host, f"addr add {IPV6[host]}/64 dev eth0 nodad",
                    f"route add default via {GATEWAY_INNER}",
                    f"route add default via {GATEWAY_INNER_IPV6}")

    def _build_gateway(self):
        self.plug_in_gateway_outside()
        self.plug_in_gateway_inside()
        if self.second_inner:
            self._veth("B", "in1", f"{GATEWAY_SECOND_INNER}/24", "S7", "eth0")
            self.ip("S7", f"link set eth0 address {mac_of(ADDRESS['S7'])} up",
                    f"addr add {ADDRESS['S7']}/24 dev eth0",
                    f"route add default via {GATEWAY_SECOND_INNER}")

    def plug_in_gateway_outside(self):
        """B's outer leg; by itself, because tests pull it out and put it back."""
        self.plug_in("B", "out0", f"{GATEWAY_OUTER}/24", "outnet", "b")
        self.ip("B", f"addr add {GATEWAY_OUTER_IPV6}/64 dev out0 nodad",
                "route add default via 192.168.1.250")

    def plug_in_gateway_inside(self):
        self.plug_in("B", "in0", f"{GATEWAY_INNER}/24", "innet", "b")
        self.ip("B", f"addr add {GATEWAY_INNER_IPV6}/64 dev in0 nodad")

    def unplug_gateway(self, interface):
        self.ip("B", f"link del {interface}")

    def make_gateway_leg_anew(self, side):
        """B's interface on that side, deleted and made again."""
        self.unplug_gateway("in0" if side == "inside" else "out0")
        (self.plug_in_gateway_inside if side == "inside" else self.plug_in_gateway_outside)()

    # --- what hosts do ---------------------------------------------------------------------------

    def ip(self, host, *lines):
        """`ip` commands in a host, one per line."""
        argv = ["ip", "-n", self.ns(host), "-batch", "-"]
        done = subprocess.run(argv, input="\n".join(lines) + "\n", capture_output=True, text=True,
                              timeout=30)
        if done.returncode != 0:
            raise LabError(f"in {host}: ip {' / '.join(lines)}: {done.stderr.strip()}")
        return done.stdout

    def sysctl(self, host, values):
        with self.inside(host):
            for key, value in values.items():
                pathlib.Path("/proc/sys", *key.split(".")).write_text(str(value))

    def without_icmp_limits(self, host):
        self.sysctl(host, {"net.ipv4.icmp_ratelimit": 0, "net.ipv4.icmp_msgs_per_sec": 100000,
                           "net.ipv4.icmp_msgs_burst": 100000})

    def read_sysctl(self, host, key):
        with self.inside(host):
            return pathlib.Path("/proc/sys", *key.split(".")).read_text().strip()

    @contextlib.contextmanager
    def inside(self, host):
        """The calling thread is in the host's network namespace: for sockets and /proc/sys/net."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.ns(host)}", os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET) != 0:
                raise LabError(f"cannot enter the namespace of {host}")
            yield
        finally:
            libc.setns(home, CLONE_NEWNET)
            os.close(there)
            os.close(home)

    def argv(self, host, argv):
        return ["ip", "netns", "exec", self.ns(host)] + [str(word) for word in argv]

    def run(self, host, argv, timeout_s=20, check=False, **options):
        """A program in a host, to its end. Output is text; `check` makes failure an error."""
        done = subprocess.run(self.argv(host, argv), capture_output=True, text=True,
                              timeout=timeout_s, **options)
        if check and done.returncode != 0:
            raise LabError(f"in {host}: {' '.join(map(str, argv))}: exit {done.returncode}\n"
                           f"{done.stdout}{done.stderr}")
        return done

    def popen(self, host, argv, **options):
        """A program in a host that runs beside the caller; ended with the lab at the latest."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.STDOUT)
        options.setdefault("text", True)
        process = subprocess.Popen(self.argv(host, argv), start_new_session=True, **options)
        self._popened.append(process)
        return process

    def pids(self, host):
        argv = ["ip", "netns", "pids", self.ns(host)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        own = {os.getpid()}
        return [pid for pid in map(int, done.stdout.split()) if pid not in own]

    def processes(self, host, name):
        """Identifiers of the processes in a host that have this name."""
        def name_of(pid):
            with contextlib.suppress(OSError):
                return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        return [pid for pid in self.pids(host) if name_of(pid) == name]

    def kill_daemon(self):
        """masqd of the gateway dies of signal 9; returns when it has."""
        [daemon] = self.processes("B", "masqd")
        os.kill(daemon, signal.SIGKILL)
        wait_until(lambda: not self.processes("B", "masqd"), "masqd is gone")
        return daemon

    def udp(self, host, port=0, address=None, timeout_s=2.0):
        """A UDP socket of a host, in this process."""
        with self.inside(host):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((address or "0.0.0.0", port))
        s.settimeout(timeout_s)
        return s

    def tcp(self, host, port=0, listen=False, timeout_s=5.0):
        """A TCP socket of a host, in this process; listening, or ready to connect."""
        with self.inside(host):
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        if listen:
            s.listen(64)
        s.settimeout(timeout_s)
        return s

    def send_frame(self, host, frame, interface="eth0"):
        """Puts raw bytes (or what scapy builds) on a host's wire, past its stack."""
        with self.inside(host):
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with s:
            s.bind((interface, 0))
            s.send(bytes(frame))

    def capture(self, host, interface="eth0", filter_="", **options):
        capture = frames.Capture(self, host, interface, filter_, **options)
        self._captures.append(capture)
        return capture

    def capture_gateway_outside(self, filter_extra="", **options):
        """Everything on the outer net that its own hosts have not sent, so: what B sent.

        It listens on the bridge and not on B's cable, which tests pull out.
        """
        others = " and ".join(f"not ether src {mac_of(a)}" for a in OUTER_HOSTS.values())
        if filter_extra:
            others = f"({filter_extra}) and {others}"
        return self.capture("outnet", "br0", others, **options)

    def routes_inwards(self, action="replace"):
        """What the outer hosts would need to reach the inner net, if B let them."""
        for host in OUTER_HOSTS:
            for net in ("192.168.2.0/24", "192.168.3.0/24"):
                self.ip(host, f"route {action} {net} via {GATEWAY_OUTER}")

    def checksums_on_wire(self, *hosts):
        """These hosts complete their checksums themselves, so that captures elsewhere show them."""
        for host in hosts:
            for interface in ("out0", "in0") if host == "B" else ("eth0",):
                self.run(host, ["ethtool", "-K", interface, "tx", "off"], check=True)

    def run_folder(self):
        """Where masq keeps what it must know about this lab's gateway."""
        namespace = pathlib.Path(f"/run/netns/{self.ns('B')}")
        if not namespace.exists():
            return None
        return pathlib.Path(f"/run/masq/net-{namespace.stat().st_ino}")

    def programs(self, interface):
        """Identifiers of the BPF programs on the tc hooks of an interface of the gateway."""
        return {int(line) for hook in ("ingress", "egress")
                for line in self.run("B", [TCX, "list", interface, hook]).stdout.split()}

    def take_programs_off(self, interface):
        for hook in ("ingress", "egress"):
            self.run("B", [TCX, "clear", interface, hook], check=True)

    def masq(self, *args, timeout_s=30, **options):
        """`build/bin/masq` on the gateway."""
        program = BINARIES / "masq"
        if not program.exists():
            raise LabError(f"{program} is not there; build the project first")
        words = [*map(str, args)]
        starts = words[:1] in (["up"], ["run-script"])
        if self.datapath and starts and "--datapath" not in words:
            words[1:1] = ["--datapath", self.datapath]
        before = [WITHOUT_BPF] if self.without_bpf else []
        return self.run("B", [*before, program, *words], timeout_s=timeout_s, **options)

    def status(self):
        return json.loads(self.masq("status", "--json").stdout)

    def dropped(self, reason):
        """How many packets masq has refused for this reason."""
        return self.status()["dropped"].get(reason, 0)


# --- the command ---------------------------------------------------------------------------------

def standing():
    """Names of the labs that stand on this machine."""
    names = [line.split()[0] for line in command(["ip", "netns", "list"]).splitlines()]
    return sorted(name.removesuffix("-outnet") for name in names
                  if name.startswith("mq") and name.endswith("-outnet"))


def up(arguments):
    import services

    lab = Lab(second_inner=arguments.second_inner)
    lab._end_well_on_signals()
    try:
        lab.build()
        services.Services(lab).start_all()
    except BaseException:
        lab.remove()
        raise
    print(__doc__.split("\n\n", 1)[1].split("\n\nThe inner hosts")[0])
    print(f"\nThe lab {lab.name} stands. Its hosts: "
          + " ".join(lab.ns(host) for host in lab.namespaces()))
    print(f"Enter one with:         ip netns exec {lab.ns('S6')} bash")
    print(f"Start masq on B with:   ip netns exec {lab.ns('B')} build/bin/masq up")
    print(f"Remove the lab with:    tests/netns/lab.py down {lab.name}")


def down(arguments):
    if arguments.name not in standing():
        raise LabError(f"there is no lab {arguments.name}; "
                       f"standing: {' '.join(standing()) or 'none'}")
    Lab(second_inner=True, name=arguments.name).remove()


def main():
    parser = argparse.ArgumentParser(description="The test network of masq, in namespaces.")
    commands = parser.add_subparsers(required=True)
    up_parser = commands.add_parser("up", help="build the network and leave it standing")
    up_parser.add_argument("--second-inner", action="store_true", help="with 192.168.3.0/24 and S7")
    up_parser.set_defaults(function=up)
    down_parser = commands.add_parser("down", help="remove a network that stands")
    down_parser.add_argument("name")
    down_parser.set_defaults(function=down)
    list_parser = commands.add_parser("list", help="name the networks that stand")
    list_parser.set_defaults(function=lambda _: print("\n".join(standing())))
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network namespaces")
    arguments.function(arguments)


if __name__ == "__main__":
    try:
        main()
    except LabError as problem:
        sys.exit(f"lab.py: {problem}")
