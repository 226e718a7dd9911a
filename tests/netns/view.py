"""Scripts in their private view, without a gateway: a network namespace with three interfaces,
programs that only write down how they were called, and what must be as it was afterwards."""

import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess

from lab import BINARIES, REPOSITORY, command

SCRIPTS = REPOSITORY / "tests" / "scripts"

# ipchains and the others: one line in the stage for each call. They fail as the originals do where
# an address is missing, and when they are told to.
RECORDER = r"""#!/bin/sh
name=${0##*/}
line=$name
previous=
for word; do
  line="$line $word"
  case $previous in
    -s | -d) case $word in -*) bad=$word ;; esac ;;
  esac
  previous=$word
done
if [ -n "$bad" ]; then
  echo "$name: host/network \`$bad' not found" 1>&2
  echo "Try \`$name -h' or '$name --help' for more information." 1>&2
  exit 2
fi
case $line in
  *exit-*) code=${line##*exit-}; echo "$name: told to fail" 1>&2; exit ${code%% *} ;;
  *kill-me*) kill -9 $$ ;;
esac
echo "$line" >> "$MASQ_STAGE/rules.json"
"""
RECORDED = ("ipchains", "ipfwadm", "ipmasqadm", "ipportfw", "ipchains-save", "ipchains-restore")


class Run:
    """A script that has run: what it said, and what it would have done."""

    def __init__(self, done, result):
        self.returncode, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr
        self.result = json.loads(result.read_text()) if result.exists() else {}

    @property
    def calls(self):
        return self.result["rules"].splitlines()

    @property
    def switches(self):
        return {each["name"].removeprefix("net/ipv4/"): each["value"]
                for each in self.result["switches"]}

    @property
    def modules(self):
        return {each["module"]: each["parameters"] for each in self.result["modules"]}

    @property
    def failed(self):
        return [" ".join(each["command"]) for each in self.result["failures"]]


class Views:
    """Runs scripts in a network namespace of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.name = f"mqview{secrets.token_hex(3)}"
        self.programs = folder / "programs"

    def __enter__(self):
        command(["ip", "netns", "add", self.name])
        for interface, address in (("eth0", "192.168.1.254/24"), ("eth1", "192.168.2.1/24"),
                                   ("eth2", "192.168.3.1/24")):
            self.ip("link", "add", interface, "address", "02:00:00:00:00:0" + interface[-1], "type",
                    "veth", "peer", "name", f"{interface}far")
            self.ip("addr", "add", address, "broadcast", "+", "dev", interface)
            self.ip("link", "set", interface, "up")
        self.ip("link", "set", "lo", "up")
        self.programs.mkdir()
        shutil.copy(BINARIES / "masq-shim", self.programs)
        for name in RECORDED:
            (self.programs / name).write_text(RECORDER)
            (self.programs / name).chmod(0o755)
        return self

    def __exit__(self, *_):
        for number in self.processes():  # of a script that would not go
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        command(["ip", "netns", "del", self.name])

    def ip(self, *words):
        command(["ip", "-n", self.name, *words])

    def script(self, text, name="rc.firewall", mode=0o755):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def argv(self, path, *words, options=(), result=None, wrap=()):
        """`wrap` is what starts it in the namespace, such as `setpriv ...`."""
        result = result or self.folder / "result.json"
        result.unlink(missing_ok=True)
        return ["ip", "netns", "exec", self.name, *wrap, BINARIES / "run_view", "--result", result,
                "--programs", self.programs, *options, path, *words]

    def run(self, text, *words, options=(), mode=0o755, name="rc.firewall", wrap=(), **more):
        path = text if isinstance(text, pathlib.Path) else self.script(text, name, mode)
        result = self.folder / f"result-{secrets.token_hex(4)}.json"
        argv = self.argv(path, *words, options=options, result=result, wrap=wrap)
        more = {"timeout": 60, "stdin": subprocess.DEVNULL} | more
        if "input" in more:
            del more["stdin"]
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True,
                              check=False, **more)
        return Run(done, result)

    def start(self, text, *words, options=(), **more):
        path = self.script(text)
        argv = self.argv(path, *words, options=options)
        return subprocess.Popen([str(word) for word in argv], text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def inside(self, *argv):
        return command(["ip", "netns", "exec", self.name, *argv])

    def processes(self):
        """Those in the namespace, by number; nothing may be left of a script."""
        return sorted(map(int, command(["ip", "netns", "pids", self.name]).split()))

    def world(self):
        """What no script may change: the real switches, folders, mounts and interfaces."""
        volatile = re.compile(r"nf_conntrack_count|random|\.nr|-nr|-state|ns_last_pid|pty|"
                              r"drop_caches|stat_refresh|numa|sched_domain|aio|sunrpc|cdrom")
        folders = ["/sbin/", "/usr/sbin/", "/usr/local/sbin/", "/bin/", "/usr/bin/"]
        return {
            "switches": [line for line in self.inside("sysctl", "-a").splitlines()
                         if not volatile.search(line)],
            "real switches": {path: path.read_text() for path in
                              (pathlib.Path("/proc/sys/net/ipv4") / name
                               for name in ("ip_forward", "ip_dynaddr", "tcp_syncookies"))},
            "folders": command(["find", *folders, "-printf", "%p %y %i %s %m %T@ %C@ %l\n"]),
            "mounts": pathlib.Path("/proc/self/mountinfo").read_text(),
            "interfaces": self.inside("ip", "addr"),
            "routes": self.inside("ip", "route", "show", "table", "all"),
            "run": sorted(set(os.listdir("/run")) - {"mount"}),  # which mount(8) makes
            "modules": sorted(os.listdir("/sys/module")),
        }


@contextlib.contextmanager
def views_in(folder):
    with Views(folder) as views:
        yield views
