"""The private view of a script: the old paths and switches are there, nothing real is touched, and
nothing is left, however the script ends."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest

from lab import BINARIES, wait_until
from view import Views

OLD_PATHS = ["/sbin/ipchains", "/sbin/ipfwadm", "/sbin/depmod", "/sbin/modprobe", "/sbin/insmod",
             "/sbin/rmmod", "/sbin/lsmod", "/sbin/ifconfig", "/usr/sbin/ipmasqadm",
             "/usr/local/sbin/ipmasqadm", "/usr/local/sbin/ipportfw", "/sbin/ipchains-save",
             "/sbin/ipchains-restore"]
GONE = ["ip_always_defrag", "ip_masq_udp_dloose", "ip_masq_debug"]


@pytest.fixture
def views(tmp_path):
    with Views(tmp_path) as views:
        yield views
        assert views.processes() == [], "something of a script lives on"


def lines(run):
    return run.stdout.splitlines()


# --- what is there -------------------------------------------------------------------------------


def test_the_old_commands_lie_where_they_lay_and_in_the_path(views):
    run = views.run("#!/bin/sh\n" + "".join(f"test -f {path} -a -x {path} || echo {path}\n"
                                            for path in OLD_PATHS)
                    + "".join(f"command -v {path.rsplit('/')[-1]} || echo no {path}\n"
                              for path in OLD_PATHS))
    assert run.returncode == 0, run.stderr
    found = [line.rsplit("/")[-1] for line in lines(run)]
    assert found == [path.rsplit("/")[-1] for path in OLD_PATHS]
    assert not [line for line in lines(run) if not line.startswith(("/usr/sbin/", "/sbin/",
                                                                    "/usr/local/sbin/"))]


def test_they_are_masqs_also_where_the_path_leads_past_them(views):
    run = views.run("#!/bin/sh\nPATH=/bin:/usr/bin\nexport PATH\n/sbin/modprobe ip_masq_irc\n"
                    "lsmod\n/usr/bin/lsmod | tail -n1\n")
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in lines(run)] == ["Module", "ip_masq_irc", "ip_masq_irc"]


def test_what_else_lies_beside_them_is_still_there(views):
    real = {folder: sorted(os.listdir(folder)) for folder in
            ("/usr/sbin", "/usr/local/sbin", "/usr/bin", "/proc/self/net")}
    ours = {path.rsplit("/")[-1] for path in OLD_PATHS} | {".masq"}
    run = views.run("#!/bin/sh\nfor f in /usr/sbin /usr/local/sbin /usr/bin; do\n"
                    "  echo $f; ls -A $f; done\nip -V\n")
    assert run.returncode == 0, run.stderr
    shown = {}
    for line in lines(run)[:-1]:
        if line.startswith("/usr/"):
            folder = shown.setdefault(line, [])
        else:
            folder.append(line)
    for folder, names in shown.items():
        assert set(names) - set(real[folder]) <= ours
        assert not set(real[folder]) - set(names), folder
    assert lines(run)[-1].startswith("ip utility")


def test_programs_of_the_covered_folders_are_the_same_files(views):
    path = "/usr/sbin/ip" if pathlib.Path("/usr/sbin/ip").exists() else "/sbin/ip"
    run = views.run(f"#!/bin/sh\nsha256sum < {path}\n{path} link | head -n1\n")
    real = subprocess.run(f"sha256sum < {path}", shell=True, capture_output=True, text=True)
    assert lines(run)[0] == real.stdout.strip()


def test_a_missing_program_of_masqs_is_said(views):
    (views.programs / "ipfwadm").unlink()
    run = views.run("#!/bin/sh\nipfwadm -I -f\necho $?\n")
    assert lines(run) == ["127"]
    assert "masq's program ipfwadm is not installed" in run.stderr
    assert not run.result["applied"] and run.failed == ["ipfwadm -I -f"]


def test_switches_that_have_gone_are_there_and_keep_what_is_written(views):
    run = views.run("#!/bin/sh\ncd /proc/sys/net/ipv4\n"
                    + "".join(f"cat {name}; echo 1 > {name}; cat {name}\n" for name in GONE))
    assert lines(run) == ["0", "1"] * len(GONE), run.stderr
    assert run.switches == dict.fromkeys(GONE, "1")
    assert run.result["applied"]


def test_forwarding_is_masqs_switch_and_not_the_kernels(views):
    views.inside("sysctl", "-qw", "net.ipv4.ip_forward=1")
    script = "#!/bin/sh\ncat /proc/sys/net/ipv4/ip_forward\n"
    assert lines(views.run(script)) == ["0"]
    assert lines(views.run(script, options=["--switch", "net/ipv4/ip_forward=1"])) == ["1"]
    views.inside("sysctl", "-qw", "net.ipv4.ip_forward=0")
    run = views.run("#!/bin/sh\necho 1 > /proc/sys/net/ipv4/ip_forward\n"
                    "cat /proc/sys/net/ipv4/ip_forward\nsysctl -n net.ipv4.ip_forward\n")
    assert lines(run) == ["1", "1"] and run.switches == {"ip_forward": "1"}
    assert views.inside("cat", "/proc/sys/net/ipv4/ip_forward") == "0\n"


def test_a_switch_counts_when_it_is_written_also_with_the_same_value(views):
    run = views.run("#!/bin/sh\necho 0 > /proc/sys/net/ipv4/ip_forward\n")
    assert run.switches == {"ip_forward": "0"}
    assert views.run("#!/bin/sh\ncat /proc/sys/net/ipv4/*forward*\n").switches == {}


def test_switches_of_each_interface(views):
    run = views.run("#!/bin/sh\nfor f in /proc/sys/net/ipv4/conf/*/rp_filter; do\n"
                    "  echo 1 > $f\ndone\necho 1 > /proc/sys/net/ipv4/conf/ppp0/rp_filter\n")
    names = [name.split("/")[1] for name in run.switches]
    assert set(names) >= {"all", "default", "eth0", "eth1", "lo"} and "ppp0" not in names
    assert {each["use"] for each in run.result["switches"]} == {"machine"}


def test_switches_that_masq_does_not_know_are_reported(views):
    real = pathlib.Path("/proc/sys/vm/swappiness").read_text().strip()
    run = views.run(f"#!/bin/sh\necho {real} > /proc/sys/vm/swappiness\n"
                    "echo 7 > /proc/sys/net/ipv4/ip_unheard_of\nsysctl -w net.core.somaxconn=77\n")
    assert {each["name"]: each["use"] for each in run.result["switches"]} == {
        "vm/swappiness": "unknown", "net/ipv4/ip_unheard_of": "unknown",
        "net/core/somaxconn": "unknown"}
    assert run.result["applied"] and len(run.result["report"]) == 3
    assert "/proc/sys/net/ipv4/ip_unheard_of, which masq knows nothing of" in run.stderr


def test_a_value_that_a_switch_does_not_take_is_a_failure(views):
    run = views.run("#!/bin/sh\necho yes > /proc/sys/net/ipv4/ip_forward\n")
    assert not run.result["applied"] and run.returncode == 101 and run.switches == {}
    assert run.result["failures"][0]["lines"] == [2]
    assert "takes a number from 0 to 1, and not `yes`" in run.stderr


def test_switches_of_other_protocols_can_be_read_and_not_written(views):
    run = views.run("#!/bin/sh\ncat /proc/sys/net/ipv6/conf/all/forwarding\n"
                    "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n"
                    "cat /proc/sys/net/ipv6/conf/all/forwarding\n"
                    "echo 1 > /proc/sys/net/ipv4/neigh/eth0/delay_first_probe_time\n")
    assert lines(run) == ["0", "0"]
    assert run.stderr.count("Read-only file system") == 2


def test_proc_net_shows_masquerading(views):
    given = ["--net", "ip_masquerade=Prc FromIP", "--net", "ip_masq/tcp=Prot SrcIP"]
    run = views.run("#!/bin/sh\ncat /proc/net/ip_masquerade; echo\n"
                    "cat /proc/net/ip_masq/tcp; echo\n"
                    "test -f /proc/net/ip_fwchains && echo chains\n"
                    "test -f /proc/net/ip_fwnames && echo names\n"
                    "ls /proc/net/ip_masq | tr '\\n' ' '\n", options=given)
    assert lines(run) == ["Prc FromIP", "Prot SrcIP", "chains", "names",
                          "app autofw icmp mfw portfw tcp udp "]


def test_proc_net_shows_the_rest_as_it_is(views):
    run = views.run("#!/bin/sh\ncut -d: -f1 /proc/net/dev | tail -n +3\nls /proc/net\n"
                    "ls -d /proc/net/stat/\nsh -c 'cat /proc/self/net/dev' | wc -l\n")
    names = {line.strip() for line in lines(run)}
    assert {"eth0", "eth1", "lo", "tcp", "udp", "route", "ip_masquerade",
            "/proc/net/stat/"} <= names


def test_ifconfig_shows_the_old_form_and_changes_nothing(views):
    run = views.run("#!/bin/sh\nifconfig eth0\n"
                    "ifconfig eth0 | grep 'inet addr' | awk '{print $2}' | sed -e 's/.*://'\n"
                    "ifconfig eth0 192.168.9.9\n/sbin/ifconfig eth9\n")
    assert lines(run)[0] == "eth0      Link encap:Ethernet  HWaddr 02:00:00:00:00:00  "
    assert lines(run)[1] == ("          inet addr:192.168.1.254  Bcast:192.168.1.255  "
                             "Mask:255.255.255.0")
    assert lines(run)[-1] == "192.168.1.254"
    assert "only shows" in run.stderr and "eth9: error fetching" in run.stderr
    assert run.failed == ["ifconfig eth0 192.168.9.9", "/sbin/ifconfig eth9"]


def test_an_address_under_a_label_is_an_interface_of_its_own(views):
    views.ip("addr", "add", "192.168.1.253/24", "label", "eth0:1", "dev", "eth0")
    run = views.run("#!/bin/sh\nifconfig eth0:1\n")
    assert lines(run)[1].split()[1] == "addr:192.168.1.253"


# --- modules -------------------------------------------------------------------------------------


def test_modules_go_into_the_table(views):
    run = views.run("#!/bin/sh\ndepmod -a\nmodprobe ip_masq_ftp ports=21,2021\n"
                    "insmod ip_masq_irc\nmodprobe ip_masq_quake 26000,27000\nrmmod ip_masq_irc\n"
                    "lsmod\n")
    assert run.result["applied"], run.stderr
    assert run.modules == {"ip_masq_ftp": {"ports": [21, 2021]},
                           "ip_masq_quake": {"ports": [26000, 27000]}}
    assert lines(run) == ["Module                  Size  Used by",
                          "ip_masq_quake              0   0 (unused)",
                          "ip_masq_ftp                0   0 (unused)"]


def test_modules_of_before_are_there(views):
    run = views.run("#!/bin/sh\nlsmod | grep ip_masq_ftp\nmodprobe ip_masq_ftp\n", options=[
        "--stage", 'modules.json=[{"module": "ip_masq_ftp", "parameters": {"ports": [21]}}]'])
    assert run.modules == {"ip_masq_ftp": {"ports": [21]}} and "ip_masq_ftp" in run.stdout


def test_wrong_modules_and_parameters_fail(views):
    ports = ",".join(map(str, range(1000, 1013)))
    run = views.run(f"#!/bin/sh\nmodprobe ip_masq_nonsense\nmodprobe ip_masq_ftp ports={ports}\n"
                    "modprobe ip_masq_irc portz=1\n")
    assert run.modules == {} and not run.result["applied"]
    assert [each["lines"] for each in run.result["failures"]] == [[2], [3], [4]]
    assert "Can't locate module ip_masq_nonsense" in run.stderr
    assert "takes at most 12 values for ports, and here are 13" in run.stderr
    assert "has no parameter portz; it knows ports, insecure and debug" in run.stderr


def test_modules_loaded_at_once_are_all_kept(views):
    names = ["ftp", "irc", "raudio", "quake", "cuseeme", "vdolive", "portfw", "autofw", "mfw"]
    run = views.run("#!/bin/sh\n" + "".join(f"modprobe ip_masq_{name} &\n" for name in names)
                    + "wait\n")
    assert set(run.modules) == {f"ip_masq_{name}" for name in names}


# --- what is said about failures -----------------------------------------------------------------


def test_the_script_goes_on_after_a_failure_and_nothing_is_applied(views):
    text = ("#!/bin/sh\nipchains -P forward DENY\nipchains -A forward exit-3\n"
            "ipchains -A forward -j MASQ\necho end\n")
    run = views.run(text)
    assert lines(run) == ["end"] and run.returncode == 101
    assert run.calls == ["ipchains -P forward DENY", "ipchains -A forward -j MASQ"]
    assert run.result["failures"] == [{
        "command": ["ipchains", "-A", "forward", "exit-3"], "exit_code": 3, "lines": [3],
        "message": "ipchains: told to fail"}]
    assert not run.result["applied"]
    assert "Nothing of it is applied" in run.result["report"][-1]
    kept = views.run(text, options=["--keep-going"])
    assert kept.result["applied"] and kept.returncode == 0 and kept.failed == run.failed


def test_a_command_that_is_killed_has_failed(views):
    run = views.run("#!/bin/sh\nipchains kill-me\n")
    assert run.returncode == 137 and run.result["failures"][0]["exit_code"] == 137


def test_failures_are_noted_whoever_runs_the_command(views):
    run = views.run("#!/bin/sh\nsh -c 'ipchains -A one exit-1'\n(ipchains -A two exit-1)\n"
                    "ipchains -A three exit-1 || true\nenv -i /sbin/ipchains -A four exit-1\n"
                    "ipchains -A five exit-1 | cat\nf() { ipchains -A six exit-1; }; f\n"
                    "find /proc/self -maxdepth 0 -exec ipchains -A seven exit-1 ';'\n:\n")
    assert [name.split()[2] for name in run.failed] == ["one", "two", "three", "four", "five",
                                                        "six", "seven"]


def test_an_exit_code_of_the_scripts_own_is_passed_on_and_counts(views):
    run = views.run("#!/bin/sh\nipchains -X\nexit 7\n")
    assert run.returncode == 7 and not run.result["applied"]
    assert run.result["report"][0].endswith("ended with exit code 7.")
    assert views.run("#!/bin/sh\nexit 7\n", options=["--keep-going"]).result["applied"]


def test_a_command_in_another_file_has_no_line(views):
    (views.folder / "more").write_text("ipchains -A forward exit-1\n")
    run = views.run("#!/bin/sh\n. ${0%/*}/more\n:\n")
    assert run.result["failures"][0]["lines"] == []
    assert "in a line that cannot be told" in run.stderr


def test_with_a_full_stage_nothing_is_applied(views):
    """256 MiB; the failure cannot even be noted then, and counts all the same."""
    run = views.run("#!/bin/sh\nhead -c 300000000 /dev/zero > $MASQ_STAGE/fill 2> /dev/null\n"
                    "modprobe ip_masq_ftp\n:\n")
    assert not run.result["applied"] and run.modules == {}
    assert "modules.json of the stage cannot be written (No space left on device)" in run.stderr
    assert "a command failed, and there was no room to note which" in run.stderr
    run = views.run("#!/bin/sh\nhead -c 250000000 /dev/zero > $MASQ_STAGE/fill\n"
                    "modprobe ip_masq_ftp\n")
    assert run.result["applied"] and run.modules == {"ip_masq_ftp": {}}, run.stderr


def test_switches_up_to_the_limit(views):
    found = views.inside("find", "/proc/sys", "-xdev", "(", "-path", "/proc/sys/net/ipv4/neigh",
                         "-o", "-path", "/proc/sys/net/ipv6", "-o", "-path", "/proc/sys/net/mpls",
                         ")", "-prune", "-o", "-type", "f", "-print")
    most = len(found.splitlines())
    run = views.run("#!/bin/sh\n:\n", options=["--switches-most", str(most)])
    assert run.returncode == 0, run.stderr
    run = views.run("#!/bin/sh\n:\n", options=["--switches-most", str(most - 1)])
    assert run.returncode == 100 and f"than a script's view copies ({most - 1})" in run.stderr


@pytest.mark.parametrize("files", [20000, 20001])
def test_files_beside_the_old_commands_up_to_the_limit(views, files):
    inside = ("mount -t tmpfs none /usr/local/sbin; cd /usr/local/sbin; "
              f'seq {files} | xargs touch; cd /; exec "$@"')
    run = views.run("#!/bin/sh\nls /usr/local/sbin | wc -l\n",
                    wrap=["unshare", "--mount", "sh", "-ec", inside, "sh"])
    if files == 20000:
        assert lines(run) == ["20002"] and run.result["applied"], run.stderr
    else:
        assert run.returncode == 100 and "more files than can be shown to a script" in run.stderr


# --- scripts as they are written -----------------------------------------------------------------


def test_carriage_returns_are_eaten_and_the_path_stays(views):
    run = views.run("#!/bin/sh\r\necho 1 > /proc/sys/net/ipv4/ip_forward\r\n"
                    "if true\r\nthen\r\n  ipchains -P forward DENY\r\nfi\r\n\r\necho $0\r\n"
                    "no_such_command\r\ntrue\r\n")
    assert run.result["applied"], run.stderr
    assert run.switches == {"ip_forward": "1"} and run.calls == ["ipchains -P forward DENY"]
    path = str(views.folder / "rc.firewall")
    assert lines(run) == [path]
    assert f"{path}: line 9: no_such_command: command not found" in run.stderr
    assert (views.folder / "rc.firewall").read_bytes().count(b"\r\n") == 10


def test_a_script_that_calls_itself_has_none_either(views):
    run = views.run("#!/bin/sh\r\n[ \"$1\" = again ] && exec ipchains -X\r\nsh $0 again\r\n")
    assert run.calls == ["ipchains -X"], run.stderr


@pytest.mark.parametrize("first, shell", [("#!/bin/sh", ""), ("#! /bin/bash", ""), ("", ""),
                                          ("#!/usr/bin/env bash", "")])
def test_first_lines(views, first, shell):
    run = views.run(f"{first}\nipchains -P forward DENY\necho \"$1\" $#\n", "a b", "c")
    assert lines(run) == ["a b 2"] and run.calls == ["ipchains -P forward DENY"], run.stderr


def test_a_shell_is_what_it_was(views):
    """What sh understood when such scripts were written, the sh of today may not."""
    run = views.run("#!/bin/sh\nif [[ abc == a* ]]; then ipchains -X &> /dev/null; fi\n"
                    "source /dev/null\n/bin/sh -c 'let x=2+3; echo $x'\n")
    assert lines(run) == ["5"] and run.calls == ["ipchains -X"], run.stderr


def test_scripts_that_cannot_begin(views):
    def refusal(text, **more):
        run = views.run(text, **more)
        assert run.returncode == 100 and run.stderr.count("\n") == 1, run.stderr
        return run.stderr
    assert "line 1: the interpreter /bin/no_such is not there" in refusal("#!/bin/no_such\r\n:\n")
    assert "by its whole path" in refusal("#!sh\n:\n")
    assert "is empty" in refusal("")
    assert "not a script but a program" in refusal(b"\x7fELF\0\0\0")
    assert "cannot be read (No such file" in refusal(views.folder / "nothing")
    assert "is not a file" in refusal(views.folder)
    big = 4 << 20
    assert "more than" in refusal("#!/bin/sh\n".ljust(big + 1, "#"))
    assert views.run("#!/bin/sh\n".ljust(big, "#")).returncode == 0


def test_a_script_need_not_be_executable(views):
    run = views.run("#!/bin/sh\nipchains -X\n", mode=0o644)
    assert run.calls == ["ipchains -X"], run.stderr


def test_relative_paths_links_and_files_beside(views):
    (views.folder / "rules").write_text("ipchains -A input -j ACCEPT\n")
    views.script("#!/bin/sh\r\n. `dirname $0`/rules\r\n", name="rc.real")
    (views.folder / "rc.link").symlink_to("rc.real")
    for path in ("./rc.real", "rc.real", "rc.link", f"../{views.folder.name}/rc.link"):
        run = views.run(pathlib.Path(path) if path != "./rc.real" else views.folder / "rc.real",
                        cwd=views.folder)
        assert run.calls == ["ipchains -A input -j ACCEPT"], run.stderr


def test_standard_streams_are_the_callers(views):
    run = views.run("#!/bin/sh\nread line\necho \"out $line\"\necho err 1>&2\n", input="in\n")
    assert run.stdout == "out in\n" and run.stderr == "err\n"


def test_shell_of_every_kind(views):
    run = views.run("""#!/bin/sh
exec 3> /dev/null
for chain in input output; do ipchains -F $chain; done
while read way address; do
  ipchains -A $way -s $address -j DENY
done <<END
input 10.0.0.0/8
output 172.16.0.0/12
END
ipchains-restore <<'END'
:input ACCEPT
END
case `uname` in Linux) ( cd /sbin && ./ipchains -N mine ) ;; esac
ipchains -X & wait
exec /sbin/ipchains -P forward DENY
""")
    assert run.result["applied"], run.stderr
    assert run.calls == [
        "ipchains -F input", "ipchains -F output", "ipchains -A input -s 10.0.0.0/8 -j DENY",
        "ipchains -A output -s 172.16.0.0/12 -j DENY", "ipchains-restore", "ipchains -N mine",
        "ipchains -X", "ipchains -P forward DENY"]


# --- nothing real is touched ---------------------------------------------------------------------

# On switches of the namespace, and in folders that a throw-away layer covers: if a view were no
# view, only those would change.
GREEDY = """#!/bin/sh
for f in `find /proc/sys/net/ipv4 -type f`; do echo 1 > $f; done
echo 1 > /proc/sys/net/ipv4/a_new_one
for d in /sbin /usr/sbin /usr/local/sbin; do
  echo x > $d/new_file; rm -f $d/ip $d/ipchains; mkdir $d/folder; chmod 700 $d
done
echo x > /proc/net/ip_masquerade
for m in ip_masq_ftp ip_masq_irc; do modprobe $m; done
rmmod ip_masq_irc
ifconfig eth0 down
"""


@pytest.fixture
def layered(views):
    """What starts a program where writes into the folders of commands land in a layer, which must
    be empty afterwards. A container's root file system is made so too."""
    layer = views.folder / "layer"
    layer.mkdir()
    inside = [f"mount -t tmpfs none {layer}"]
    uppers = []
    for folder in ("usr/sbin", "usr/local/sbin"):
        upper, work = f"{layer}/{folder}/upper", f"{layer}/{folder}/work"
        inside += [f"mkdir -p {upper} {work}", "mount -t overlay none -o "
                   f"lowerdir=/{folder},upperdir={upper},workdir={work} /{folder}"]
        uppers.append(upper)
    # What was written is looked for whatever the program answers, and that answer is passed on.
    inside += ["answer=0", '"$@" || answer=$?',
               f"find {' '.join(uppers)} -mindepth 1 > {views.folder}/written", "exit $answer"]
    yield ["unshare", "--mount", "sh", "-ec", "\n".join(inside), "sh"]
    assert (views.folder / "written").read_text() == ""


def test_the_layer_would_show_what_is_written(views, layered):
    subprocess.run(["ip", "netns", "exec", views.name, *layered, "touch", "/usr/sbin/new_file",
                    "/usr/local/sbin/new_file"], check=True, timeout=30)
    written = views.folder / "written"
    assert written.read_text().count("new_file") == 2
    written.write_text("")


def test_a_greedy_script_changes_nothing_real(views, layered):
    before = views.world()
    run = views.run(GREEDY, wrap=layered)
    after = views.world()
    assert run.result["end"] == "exited" and len(run.result["switches"]) > 100, run.stderr
    for what, value in before.items():
        assert after[what] == value, what


def test_the_covered_folders_cannot_be_written_to(views, layered):
    run = views.run("#!/bin/sh\necho x > /sbin/new\necho x > /usr/local/sbin/new\n"
                    "rm /sbin/ipchains\necho $?\n", wrap=layered)
    assert run.stderr.count("Read-only file system") == 3 and lines(run) == ["1"]


def test_several_at_once_do_not_see_each_other(views):
    before = views.world()
    text = ("#!/bin/sh\nmodprobe ip_masq_irc ports=$1\nipchains -A input -s 10.0.0.$1 -j DENY\n"
            "echo $1 > /proc/sys/net/ipv4/tcp_fin_timeout\nsleep 0.3\nlsmod | wc -l\n"
            "cat /proc/sys/net/ipv4/tcp_fin_timeout\n")
    path = views.script(text)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda i: views.run(path, str(i)), range(1, 7)))
    for number, run in enumerate(runs, 1):
        assert run.result["applied"], run.stderr
        assert run.calls == [f"ipchains -A input -s 10.0.0.{number} -j DENY"]
        assert run.modules == {"ip_masq_irc": {"ports": [number]}}
        assert lines(run) == ["2", str(number)]
    assert views.world() == before


def test_the_callers_umask_is_no_harm(views):
    run = views.run("#!/bin/sh\nsu -s /bin/sh nobody -c 'cat /proc/sys/net/ipv4/ip_forward; "
                    "/sbin/ipchains -L || echo refused'\numask\n:\n",
                    wrap=["sh", "-c", 'umask 077; exec "$@"', "sh"])
    assert lines(run)[0] == "0" and lines(run)[-1] == "0077", run.stderr


# --- how it ends ---------------------------------------------------------------------------------


def gone(views):
    wait_until(lambda: views.processes() == [], "everything of the script has ended")


def started(views, process, marker):
    wait_until(lambda: marker.exists() or process.poll() is not None, "the script is on its way",
               timeout_s=30)
    assert process.poll() is None, process.stderr.read()


DAEMON = "setsid sh -c 'setsid sleep 300 & exec sleep 300' > /dev/null 2>&1 &\n"


def test_a_background_job_that_ends_in_time_counts(views):
    run = views.run("#!/bin/sh\n(sleep 0.3; ipchains -X) &\n")
    assert run.calls == ["ipchains -X"] and run.result["applied"]


def test_background_jobs_that_outlive_the_script_are_ended(views):
    began = time.monotonic()
    run = views.run("#!/bin/sh\nipchains -X\n" + DAEMON + "sleep 301 &\n")
    assert time.monotonic() - began < 10
    assert run.result["left_running"] == ["sleep"] * 3 and not run.result["applied"]
    assert "left sleep running" in run.stderr and run.calls == ["ipchains -X"]
    assert views.processes() == []


def test_a_background_job_that_holds_the_output_does_not_hold_the_caller(views):
    began = time.monotonic()
    run = views.run("#!/bin/sh\nsleep 300 &\necho out\n")
    assert lines(run) == ["out"] and time.monotonic() - began < 10


def test_killed_with_9_nothing_is_left(views, tmp_path):
    before = views.world()
    marker = tmp_path / "begun"
    process = views.start("#!/bin/sh\n" + DAEMON + f"touch {marker}\nsleep 300\nipchains -X\n")
    started(views, process, marker)
    process.kill()
    process.wait()
    gone(views)
    assert not (tmp_path / "result.json").exists()
    assert views.world() == before


def keeper_of(process):
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if children.exists():
        return int(children.read_text().split()[0])
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return int(found.stdout.split()[0])


def test_the_keeper_killed_with_9_nothing_is_left_or_applied(views, tmp_path):
    marker = tmp_path / "begun"
    process = views.start("#!/bin/sh\nipchains -X\n" + DAEMON + f"touch {marker}\nsleep 300\n",
                          options=["--keep-going"])
    started(views, process, marker)
    os.kill(keeper_of(process), signal.SIGKILL)
    _, said = process.communicate(timeout=20)
    assert views.processes() == []
    assert "was killed, and the script with it" in said and "Nothing of it is applied." in said


def test_the_script_killed_with_9_is_not_applied(views):
    run = views.run("#!/bin/sh\nipchains -X\n" + DAEMON + "kill -9 $$\n", options=["--keep-going"])
    assert run.result["end"] == "killed" and not run.result["applied"] and run.returncode == 137
    assert "was killed (Killed)" in run.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupted_nothing_is_applied_and_traps_run(views, tmp_path, number):
    marker, trapped = tmp_path / "begun", tmp_path / "trapped"
    process = views.start(f"#!/bin/sh\ntrap 'touch {trapped}; exit 0' TERM\n" + DAEMON
                          + f"touch {marker}\nwhile :; do sleep 0.05; done\n",
                          options=["--keep-going"],  # whoever runs the tests may ignore signals
                          preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    started(views, process, marker)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert trapped.exists() and views.processes() == []
    assert "was interrupted" in said and "Nothing of it is applied." in said


def test_nohup_stays_nohup(views, tmp_path):
    marker = tmp_path / "begun"
    process = views.start(f"#!/bin/sh\ntouch {marker}\nsleep 0.5\nipchains -X\n",
                          preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    started(views, process, marker)
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said


def test_time_limit(views):
    began = time.monotonic()
    run = views.run("#!/bin/sh\nipchains -X\n" + DAEMON + "sleep 300\n",
                    options=["--time-limit", "1", "--keep-going"])
    assert 0.9 < time.monotonic() - began < 10
    assert run.result["end"] == "too_slow" and not run.result["applied"]
    assert "took longer than its time limit" in run.stderr
    quick = views.run("#!/bin/sh\nipchains -X\n", options=["--time-limit", "5"])
    assert quick.result["applied"]


def test_one_that_ignores_signals_ends_too(views):
    run = views.run("#!/bin/sh\ntrap '' TERM INT HUP\nsleep 300\n", options=["--time-limit", "1"])
    assert run.result["end"] == "too_slow" and views.processes() == []


# --- where it runs -------------------------------------------------------------------------------


def test_without_the_right_to_mount_there_is_a_sentence(views):
    run = views.run("#!/bin/sh\nipchains -X\n", wrap=[
        "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--"])
    assert run.returncode == 100 and "CAP_SYS_ADMIN" in run.stderr
    assert run.stderr.count("\n") == 1


def test_in_a_user_namespace_of_its_own(views):
    """As in a container without rights on the machine."""
    run = views.run("#!/bin/sh\nipchains -X\necho 1 > /proc/sys/net/ipv4/ip_forward\nlsmod\n",
                    wrap=["unshare", "--user", "--map-root-user", "--mount"])
    assert run.result.get("applied"), run.stderr
    assert run.calls == ["ipchains -X"] and run.switches == {"ip_forward": "1"}


@contextlib.contextmanager
def other_root(folder, with_local):
    """A root file system with /sbin apart from /usr/sbin, and perhaps without /usr/local."""
    root = folder / "root"
    root.mkdir()
    inside = [f"mount -t tmpfs none {root}", f"cd {root}",
              "mkdir usr sbin etc proc dev tmp run sys",
              "mkdir usr/lib usr/lib64 usr/bin usr/sbin usr/share",
              "ln -s usr/bin bin", "ln -s usr/lib lib", "ln -s usr/lib64 lib64",
              "cp /usr/sbin/ip sbin/real_tool", "echo only > usr/sbin/real_file",
              "for d in usr/lib usr/lib64 usr/bin usr/share etc dev tmp run sys; do "
              "test ! -d /$d || mount --rbind /$d $d; done",
              "mount --rbind /proc proc", "mkdir -p ./" + str(BINARIES), f"mount --bind {BINARIES} "
              f"./{BINARIES}"]
    if with_local:
        inside.append("mkdir -p usr/local/sbin")
    inside.append('exec chroot . "$@"')
    yield ["unshare", "--mount", "sh", "-ec", "\n".join(inside), "sh"]


@pytest.mark.parametrize("with_local", [True, False])
def test_where_sbin_is_a_folder_of_its_own(views, with_local):
    with other_root(views.folder, with_local) as wrap:
        run = views.run("#!/bin/sh\n" + "".join(f"test -x {path} || echo {path}\n"
                                                for path in OLD_PATHS)
                        + "/sbin/ipchains -X\n/usr/local/sbin/ipportfw -L\n/usr/sbin/ipmasqadm -l\n"
                        "test -x /sbin/real_tool || echo real_tool\ncat /usr/sbin/real_file\n"
                        "ls /usr/lib > /dev/null || echo lib\nls /usr | wc -l\n", wrap=wrap)
    assert run.result.get("applied"), run.stderr
    assert lines(run)[0] == "only" and len(lines(run)) == 2, run.stdout
    assert run.calls == ["ipchains -X", "ipportfw -L", "ipmasqadm -l"]


def test_a_script_that_lies_in_a_covered_folder(views):
    path = views.script("#!/bin/sh\r\n./ipportfw -L\r\ncd $OLDPWD\r\necho $0\r\n")
    inside = (f"mount -t tmpfs none /usr/local/sbin; cp {path} /usr/local/sbin/; "
              'cd /usr/local/sbin; exec "$@"')
    run = views.run(pathlib.Path("./rc.firewall"), wrap=["unshare", "--mount", "sh", "-ec", inside,
                                                        "sh"])
    assert run.result.get("applied"), run.stderr
    assert run.calls == ["ipportfw -L"]


def test_masqs_programs_may_lie_in_a_covered_folder(views):
    """As they do where masq is installed."""
    inside = (f"mount -t tmpfs none /usr/local/sbin; cp {views.programs}/* /usr/local/sbin/; "
              'exec "$@"')
    views.programs = pathlib.Path("/usr/local/sbin")
    run = views.run("#!/bin/sh\nipchains -X\n/usr/local/sbin/ipportfw -L\nlsmod\n",
                    wrap=["unshare", "--mount", "sh", "-ec", inside, "sh"])
    assert run.result.get("applied"), run.stderr
    assert run.calls == ["ipchains -X", "ipportfw -L"]


def test_the_stand_in_outside_of_a_script_says_so(views):
    shim = views.folder / "modprobe"
    shim.symlink_to(BINARIES / "masq-shim")
    done = subprocess.run([shim, "ip_masq_ftp"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "`masq run-script`" in done.stderr
    done = subprocess.run([BINARIES / "masq-shim"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "`masq run-script`" in done.stderr
