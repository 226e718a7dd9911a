"""Old scripts of rules on the lab's gateway, as `masq run-script` runs them."""

import contextlib
import re

from lab import BINARIES, REPOSITORY

SCRIPTS = REPOSITORY / "tests" / "scripts"
# What the scripts of tests/scripts call outside, inside and the third leg.
NAMES_HERE = {"eth0": "out0", "eth1": "in0", "eth2": "in1", "192.168.3.80": "192.168.3.7"}


def text_of(name):
    """A script of tests/scripts with the names of the lab's interfaces."""
    text = (SCRIPTS / name).read_text()
    for there, here in NAMES_HERE.items():
        text = text.replace(there, here)
    return text


class Script:
    """Writes scripts into the lab's folder and has masq run them."""

    def __init__(self, lab):
        self.lab = lab

    def write(self, text, name="rc.firewall"):
        path = self.lab.directory / name
        path.write_bytes(text.encode())
        path.chmod(0o755)
        return path

    def run(self, text, *options, name="rc.firewall", **more):
        return self.lab.masq("run-script", *options, self.write(text, name), **more)

    def good(self, text, *options, **more):
        done = self.run(text, *options, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, text, *options, name="rc.firewall"):
        """Beside the caller."""
        words = ["--datapath", self.lab.datapath] if self.lab.datapath else []
        return self.lab.popen("B", [BINARIES / "masq", "run-script", *words, *options,
                                    self.write(text, name)])

    def chains(self):
        """The rules in force as ipchains-save prints them."""
        return self.lab.run("B", [BINARIES / "ipchains-save"], check=True).stdout

    def kept(self):
        """What lies in the run folder and says what is in force, without counters."""
        text = (self.lab.run_folder() / "rules.json").read_text()
        return re.sub(r'"(packets|bytes|generation)": \d+', "", text)


@contextlib.contextmanager
def is_running(process):
    """Ends it if the block has not seen it end."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=10)
