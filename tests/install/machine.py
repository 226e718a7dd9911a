"""A machine that boots with systemd: its own processes, mounts and network, and the files of this.

Its root is this machine's, read-only, under a layer in memory that outlives a reboot; of what is
enabled here nothing is. It has two cables, to a host outside and one inside, each a network
namespace. Nothing of this machine is changed but these: a folder in /dev/shm, three network
namespaces, and a control group, all with this process's number in their names, and all gone after
`close`, also after a failure. It takes root, cgroup2 and overlayfs; CannotBoot says what is
missing.
"""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time

BOOTS_WITHIN_S = 60
MASKED = ("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-networkd.service",
          "systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "getty.target")

# Run in the new namespaces as `sh -c`, with the folder and the root as $1 and $2.
PREPARE = """set -e
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$2"
cd "$2"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for at in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $at; done
mkdir dev/net dev/shm dev/pts
for node in null zero full random urandom tty net/tun; do
  touch dev/$node
  mount --bind /dev/$node dev/$node
done
exec chroot . /usr/bin/env -i container=masq PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=multi-user.target
"""


class CannotBoot(AssertionError):
    """Why no machine can be made here."""


def run(argv, timeout_s=60, **options):
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True,
                          timeout=timeout_s, check=False, stdin=subprocess.DEVNULL, **options)


def must(argv, **options):
    done = run(argv, **options)
    if done.returncode != 0:
        raise CannotBoot(f"{shlex.join(map(str, argv))}: {(done.stdout + done.stderr)[-1000:]}")
    return done.stdout


class Machine:
    """Off, until `boot`."""

    def __init__(self):
        number = os.getpid()
        self.folder = pathlib.Path(f"/dev/shm/mqmachine{number}")
        self.net, self.outside, self.inside = (f"mq{name}{number}" for name in ("mc", "mo", "mi"))
        self.group = None
        self.process = None  # unshare; systemd is its only child
        self.init = 0
        self.upper = self.folder / "upper"
        self.root = self.folder / "root"

    def make(self):
        for path in (self.upper, self.folder / "work", self.root):
            path.mkdir(parents=True)
        units = self.upper / "etc" / "systemd" / "system"
        units.mkdir(parents=True)
        os.setxattr(units, "trusted.overlay.opaque", b"y")  # what is enabled here is not there
        for unit in MASKED:
            (units / unit).symlink_to("/dev/null")
        self.group = self.make_group()

    def make_network(self, external):
        """As a network manager would; anew, so that nothing in it is of the machine's last life."""
        for name in (self.net, self.outside, self.inside):
            must(["ip", "netns", "add", name])
        for here, there, space in ((external, "out1", self.outside), ("in0", "in1", self.inside)):
            must(["ip", "-n", self.net, "link", "add", here, "type", "veth", "peer", "name", there,
                  "netns", space])
            must(["ip", "-n", self.net, "link", "set", here, "up"])
        self.ip("address", "add", "203.0.113.2/24", "dev", external)
        self.ip("address", "add", "192.168.2.1/24", "dev", "in0")
        self.ip("link", "set", "lo", "up")
        self.ip("route", "add", "default", "via", "203.0.113.1")
        for space, name, address, gateway in (
                (self.outside, "out1", "203.0.113.1/24", "203.0.113.2"),
                (self.inside, "in1", "192.168.2.4/24", "192.168.2.1")):
            ip = ["ip", "-n", space]
            must([*ip, "link", "set", "lo", "up"])
            must([*ip, "address", "add", address, "dev", name])
            must([*ip, "link", "set", name, "up"])
            # Also outside: what comes untranslated is answered, and so is seen.
            must([*ip, "route", "add", "default", "via", gateway])

    def ip(self, *words):
        return must(["ip", "-n", self.net, *words])

    def make_group(self):
        mounts = pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8")
        found = re.search(r"^\S+ (\S+) cgroup2 ", mounts, re.MULTILINE)
        if not found:
            raise CannotBoot("there is no cgroup2 file system")
        group = pathlib.Path(found.group(1)) / f"mqmachine{os.getpid()}"
        group.mkdir()
        return group

    def boot(self, external="out0"):
        """Until all that is to start has been started, or has failed; `external` is the name of the
        interface to the outside."""
        self.make_network(external)
        enter = f"echo $$ > {self.group}/cgroup.procs && exec \"$@\""
        self.process = subprocess.Popen(
            ["sh", "-c", enter, "sh", "nsenter", f"--net=/run/netns/{self.net}", "unshare",
             "--mount", "--propagation", "private", "--pid", "--uts", "--ipc", "--cgroup", "--fork",
             "--kill-child", "sh", "-c", PREPARE, "sh", self.folder, self.root],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        ends = time.monotonic() + BOOTS_WITHIN_S
        while time.monotonic() < ends and self.process.poll() is None:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            words = children.read_text(encoding="utf-8").split()
            self.init = int(words[0]) if words else 0
            if self.init and self.sh("systemctl is-system-running").stdout.strip() in (
                    "running", "degraded"):
                return
            time.sleep(0.1)
        said = b"" if self.process.poll() is None else self.process.stderr.read()
        raise CannotBoot(f"it has not booted: {said.decode()[-500:]}")

    def sh(self, script, timeout_s=60):
        """Runs it on the machine, as root."""
        return run(["nsenter", f"--target={self.init}", "--mount", "--pid", "--net", "--uts",
                    "--ipc", "--cgroup", "--root", "--wd", "sh", "-c", script], timeout_s)

    def must(self, script, timeout_s=60):
        done = self.sh(script, timeout_s)
        assert done.returncode == 0, f"{script}: {(done.stdout + done.stderr)[-2000:]}"
        return done.stdout

    def off(self):
        """The power is cut."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.process = None
        self.init = 0
        for name in (self.net, self.outside, self.inside):
            self.remove_network(name)
        self.remove_groups()

    def remove_groups(self):
        """Those that systemd has made. The last processes take a moment; until then one stays."""
        for _ in range(100):
            groups = sorted(self.group.rglob("*"), reverse=True) if self.group else []
            left = [each for each in groups if each.is_dir() and not self.remove(each)]
            if not left:
                return
            time.sleep(0.05)

    @staticmethod
    def remove_network(name):
        if pathlib.Path(f"/run/netns/{name}").exists():
            for process in run(["ip", "netns", "pids", name]).stdout.split():
                with contextlib.suppress(ProcessLookupError):  # it ends by itself
                    os.kill(int(process), signal.SIGKILL)
            run(["ip", "netns", "del", name])

    @staticmethod
    def remove(group):
        try:
            group.rmdir()
        except OSError:
            return not group.exists()
        return True

    def close(self):
        self.off()
        self.remove_groups()
        if self.group is not None:
            self.remove(self.group)
        for name in (self.net, self.outside, self.inside):  # of half a boot
            self.remove_network(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def left(self):
        """What `close` has not removed, in words."""
        things = [self.folder, *(pathlib.Path("/run/netns") / name
                                 for name in (self.net, self.outside, self.inside))]
        return [str(each) for each in [*things, self.group] if each is not None and each.exists()]
