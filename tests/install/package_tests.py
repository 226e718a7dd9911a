"""The Debian package on a machine that boots with systemd (machine.py): installed, started,
rebooted, upgraded in place, removed and purged, with traffic through it. One test builds on the
other, as one day of that machine. The kernel of the machine forwards, so that whatever is not held
back shows.
"""

import contextlib
import re
import subprocess
import time

from machine import Machine

CONFIGURATION = 'external = "out0"\ninternal = ["in0"]\ntake_over_streams = true\n'
FILE = "/etc/masq/masq.toml"

# Told when the network managers of a real machine would begin: what was closed by then?
WITNESS = """[Unit]
DefaultDependencies=no
After=network-pre.target
Wants=network-pre.target
Before=network.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'nft list table inet masq_closed; systemctl is-active masq.service; true'
StandardOutput=file:/var/lib/witness
[Install]
WantedBy=multi-user.target
"""


def inside(m, *words, **options):
    return subprocess.run(["ip", "netns", "exec", m.inside, *words], capture_output=True, text=True,
                          timeout=20, check=False, **options)


def comes_from(m):
    """Whom the host outside sees when the inner one sends to it; None if nothing gets there."""
    capture = subprocess.Popen(
        ["ip", "netns", "exec", m.outside, "tcpdump", "-n", "-l", "-c", "1", "-i", "out1",
         "--immediate-mode", "icmp[icmptype] == icmp-echo"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while "listening on" not in capture.stderr.readline():
            pass
        inside(m, "ping", "-c", "2", "-i", "0.2", "-W", "1", "203.0.113.1")
        try:
            seen, _ = capture.communicate(timeout=0.5)
        except subprocess.TimeoutExpired:
            return None
        return re.search(r"IP (\S+) >", seen).group(1)
    finally:
        capture.kill()
        capture.wait()


def within(seconds, what):
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, f"not within {seconds} s"
        time.sleep(0.05)


def is_active(m, unit):
    return m.sh(f"systemctl is-active {unit}").stdout.strip()


def main_process(m):
    return m.must("systemctl show -p MainPID --value masq").strip()


@contextlib.contextmanager
def connection(m):
    """A TCP connection from inside to outside; yields a call that says whether a line arrives."""
    server = subprocess.Popen(["ip", "netns", "exec", m.outside, "nc", "-l", "-p", "5000"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    client = None
    try:
        within(5, lambda: ":5000" in subprocess.run(
            ["ip", "netns", "exec", m.outside, "ss", "-tln"], capture_output=True, text=True,
            check=False).stdout)
        client = subprocess.Popen(["ip", "netns", "exec", m.inside, "nc", "203.0.113.1", "5000"],
                                  stdin=subprocess.PIPE, text=True, bufsize=1)

        def passes(line):
            client.stdin.write(line + "\n")
            return server.stdout.readline().strip() == line

        yield passes
    finally:
        for process in (client, server):
            if process is not None:
                process.kill()
                process.wait()


# --- the tests, in this order --------------------------------------------------------------------


def test_the_package_is_made_and_says_what_it_needs(it):
    done = subprocess.run([it.source / "packaging" / "make-deb", it.build], capture_output=True,
                          text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    it.package = done.stdout.strip()
    depends = subprocess.run(["dpkg-deb", "--field", it.package, "Depends"], capture_output=True,
                             text=True, check=True).stdout
    for name in ("nftables", "libbpf1", "libmnl0", "libnftables1", "libc6"):
        assert re.search(rf"(^|, ){name}\b", depends), depends
    content = subprocess.run(["dpkg-deb", "--contents", it.package], capture_output=True, text=True,
                             check=True).stdout
    assert not re.search(r" (?!root/root)\S+/\S+ +\d+ \d{4}-", content), content
    assert "./usr/share/doc/masq/copyright" in content, content


def test_the_machine_boots_and_forwards_untranslated_without_masq(it):
    it.machine = Machine()
    it.machine.make()
    m = it.machine
    (m.upper / "etc" / "sysctl.d").mkdir()
    (m.upper / "etc" / "sysctl.d" / "forward.conf").write_text("net.ipv4.ip_forward = 1\n")
    (m.upper / "etc" / "systemd" / "system" / "witness.service").write_text(WITNESS)
    (m.upper / "srv").mkdir()
    (m.upper / "srv" / "masq.deb").write_bytes(open(it.package, "rb").read())
    m.boot()
    m.must("systemctl enable --quiet witness")
    assert comes_from(m) == "192.168.2.4"


def test_installed_it_is_enabled_and_starts_nothing_by_itself(it):
    m = it.machine
    m.must("dpkg --install /srv/masq.deb")
    assert m.must("systemctl is-enabled masq masq-closed").split() == ["enabled", "enabled"]
    m.must("systemctl start masq")  # with the configuration as it was installed
    assert [is_active(m, unit) for unit in ("masq", "masq-closed")] == ["inactive"] * 2
    assert comes_from(m) == "192.168.2.4"
    m.must("masq check /etc/masq/masq.toml")


def test_systemd_finds_the_units_in_order(it):
    done = it.machine.sh("systemd-analyze verify masq.service masq-closed.service")
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr


def test_the_old_commands_and_the_pages_are_where_they_are_looked_for(it):
    m = it.machine
    for name in ("ipchains", "ipfwadm", "ipmasqadm", "ipportfw"):
        assert m.must(f"command -v {name}").strip() in (f"/usr/sbin/{name}", f"/sbin/{name}")
    for page in ("masq.8", "masqd.8", "ipchains.8", "masq.toml.5"):
        assert m.must(f"zgrep -c . /usr/share/man/man{page[-1]}/{page}.gz")


def test_started_it_translates(it):
    m = it.machine
    m.must(f"printf '%s' '{CONFIGURATION}' >> {FILE}")
    m.must("systemctl start masq")
    assert comes_from(m) == "203.0.113.2"
    assert "masq is translating" in m.must("masq status")


def test_killed_masqd_is_started_again_and_flows_live(it):
    m = it.machine
    with connection(m) as passes:
        assert passes("before")
        holder = m.must("pgrep -x masq-holder").strip()
        was = main_process(m)
        m.must(f"kill -KILL {was}")
        assert passes("at once")
        within(10, lambda: main_process(m) not in ("0", was) and is_active(m, "masq") == "active")
        assert passes("after")
        assert m.must("pgrep -x masq-holder").strip() == holder
    assert m.must("journalctl -u masq").count("Took over the running gateway") == 1


def test_reload_takes_the_new_configuration_and_keeps_flows(it):
    m = it.machine
    with connection(m) as passes:
        assert passes("before")
        was = main_process(m)
        m.must(f"printf '[timeouts]\\nudp_s = 77\\n' >> {FILE} && systemctl reload masq")
        within(10, lambda: "udp_s = 77" in m.must("cat /run/masq/net-*/config.toml"))
        assert passes("after")
    assert main_process(m) == was and is_active(m, "masq") == "active"


def test_a_wrong_configuration_is_not_taken(it):
    m = it.machine
    was = main_process(m)
    m.must(f"cp {FILE} /srv/good.toml && echo 'udp_x = 1' >> {FILE}")
    assert m.sh("systemctl reload masq").returncode != 0
    m.must(f"cp /srv/good.toml {FILE}")
    assert main_process(m) == was and comes_from(m) == "203.0.113.2"
    assert "udp_x" in m.must("journalctl -u masq")


def test_an_upgrade_takes_the_gateway_over(it):
    m = it.machine
    with connection(m) as passes:
        assert passes("before")
        m.must("dpkg --install /srv/masq.deb")
        # And not the program that has been deleted.
        within(10, lambda: m.sh("test /proc/$(systemctl show -p MainPID --value masq)/exe -ef "
                                "/usr/sbin/masqd").returncode == 0)
        assert passes("after")
    assert "udp_s = 77" in m.must(f"cat {FILE}")


def test_stopped_it_is_gone_and_the_machine_closed(it):
    m = it.machine
    m.must("systemctl stop masq")
    assert m.sh("pgrep -l masq").stdout == ""
    assert m.sh("ls /run/masq").returncode != 0
    assert comes_from(m) is None
    m.must("systemctl start masq")
    assert comes_from(m) == "203.0.113.2"


def test_ended_by_masq_down_it_stays_down_and_closed(it):
    m = it.machine
    m.must("masq down")
    within(10, lambda: is_active(m, "masq") == "inactive")
    time.sleep(1)  # more than RestartSec
    assert is_active(m, "masq") == "inactive" and comes_from(m) is None


def test_after_a_reboot_it_was_closed_before_the_network_and_translates(it):
    m = it.machine
    m.off()
    m.boot()
    within(10, lambda: is_active(m, "masq") == "active")
    witness = m.must("cat /var/lib/witness")
    assert re.search(r"counter packets \d+ bytes \d+ drop", witness), witness
    assert "\nactive" not in witness, witness
    assert comes_from(m) == "203.0.113.2"


def test_without_its_interface_it_is_closed_until_that_comes(it):
    m = it.machine
    m.off()
    m.boot(external="late0")
    assert is_active(m, "masq") != "active"
    assert comes_from(m) is None
    m.ip("link", "set", "late0", "down")
    m.ip("link", "set", "late0", "name", "out0")
    m.ip("link", "set", "out0", "up")
    m.ip("route", "replace", "default", "via", "203.0.113.1")
    within(10, lambda: is_active(m, "masq") == "active")
    assert comes_from(m) == "203.0.113.2"


def test_the_sandbox_lets_the_data_path_in_user_space_work(it):
    m = it.machine
    m.must(f"systemctl stop masq && sed -i '1i datapath = \"user\"' {FILE} && systemctl start masq")
    assert comes_from(m) == "203.0.113.2"
    with connection(m) as passes:
        assert passes("before")
        was = main_process(m)
        m.must(f"kill -KILL {was}")
        within(10, lambda: main_process(m) not in ("0", was) and is_active(m, "masq") == "active")
        assert passes("after")


def test_removed_it_leaves_nothing_that_runs(it):
    m = it.machine
    m.must("dpkg --remove masq")
    assert m.sh("pgrep -l masq").stdout == ""
    assert m.must("nft list tables") == ""
    for gone in ("/usr/sbin/masq", "/usr/sbin/ipchains", "/run/masq", "/usr/share/masq",
                 "/lib/systemd/system/masq.service"):
        assert m.sh(f"test ! -e {gone}").returncode == 0, gone
    assert "udp_s = 77" in m.must(f"cat {FILE}")
    assert m.must("tc qdisc show dev out0").count("clsact") == 0
    assert comes_from(m) == "192.168.2.4"


def test_purged_it_leaves_no_state(it):
    m = it.machine
    m.must("test -e /var/lib/masq/secret && dpkg --purge masq")
    left = m.must("find / -xdev ( -name 'masq*' -o -name ipchains* ) -not -path '/srv/*' "
                  "-newer /var/lib/witness 2>/dev/null".replace("(", r"\(").replace(")", r"\)"))
    assert left == "", left
    for gone in ("/etc/masq", "/var/lib/masq"):
        assert m.sh(f"test ! -e {gone}").returncode == 0, gone
    enabled = m.must("find /etc/systemd /var/lib/systemd -name '*masq*'")
    assert enabled == "", enabled


def test_the_machine_leaves_nothing_here(it):
    it.machine.close()
    assert it.machine.left() == []
