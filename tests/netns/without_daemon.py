#!/usr/bin/python3
"""What still passes while the daemon is dead, kind by kind, tried out.

    tests/netns/without_daemon.py           prints the table
    tests/netns/without_daemon.py --write   puts it between the marks of README.md

Each kind is a function that prepares and returns an attempt. Every attempt is made with the daemon
alive first, and must succeed then; after that the kind is prepared anew, the daemon is killed with
-9, and the attempt made again says whether the kind goes on. test_without_daemon.py compares the
table with README.md letter by letter.
"""

import itertools
import os
import signal
import socket
import sys
import time

import scapy.all as scapy

from fragments import serves as slow_path_serves
from lab import (ADDRESS, GATEWAY_INNER, GATEWAY_OUTER, REPOSITORY, Lab, LabError, mac_of,
                 wait_until)
from services import curl_argv
from traffic import external_of, pings, receive, receive_all

README = REPOSITORY / "README.md"
MARKS = ("<!-- without the daemon -->\n", "<!-- end -->\n")
ON, OFF = "goes on", "stops"
# Column -> datapath, and which processes die.
COLUMNS = {"`masqd` dead": ("tc", ["masqd"]),
           "`masqd` and `masq-holder` dead": ("tc", ["masqd", "masq-holder"]),
           "data path `user`, `masqd` dead": ("user", ["masqd"])}

S2, S3, S4, S5, S6, S7, I1 = (ADDRESS[h] for h in ("S2", "S3", "S4", "S5", "S6", "S7", "I1"))
OPEN_HOST = "S5"  # endpoint-independent filtering: everybody may answer to its mappings
DNS_TIMEOUT_S, SWEEP_S = 1, 5
SETTLE_S, PATIENCE_S = 0.6, 0.6
FRESH_S = 1.5  # kSlowFresh in src/core/slow.h, and some more
NEW_ADDRESS = "192.168.1.253"
CONFIG = f"""internal = ["in0", "in1"]
external = "out0"
[timeouts]
dns_s = {DNS_TIMEOUT_S}
[filtering_for]
"{ADDRESS[OPEN_HOST]}" = "eif"
"""

TRIES = 2  # the machine may be busy with other things
TRIES_ALIVE = 6  # what is tried then is only whether the attempt is a good one

IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0  # Linux: may be cut

ports = itertools.count(21000)
KINDS = []


def kind(sentence, spoils=False):
    """`spoils`: afterwards masq must be started anew before anything else is tried."""
    def add(function):
        KINDS.append((sentence, function, spoils))
        return function
    return add


def udp_pair(lab, host="S6", server_host="S2", server_port=None):
    port = next(ports)
    server = lab.udp(server_host, server_port or port, timeout_s=PATIENCE_S)
    client = lab.udp(host, port, timeout_s=PATIENCE_S)
    return client, server, (ADDRESS[server_host], server_port or port)


def exchange(client, server, target):
    """There and back; the external endpoint, or None if either way is closed."""
    client.sendto(b"question", target)
    asked = receive(server)
    if asked is None:
        return None
    server.sendto(b"answer", asked[1])
    answer = receive(client)
    return asked[1] if answer == (b"answer", target) else None


def new_flow(lab, host="S6", server_host="S2"):
    client, server, target = udp_pair(lab, host, server_host)
    with client, server:
        return exchange(client, server, target)


# --- what is open ---------------------------------------------------------------------------------


@kind("TCP connections that are open, both ways")
def open_tcp(lab):
    port = next(ports)
    listener, client = lab.tcp("S2", port, listen=True), lab.tcp("S6", port)
    client.connect((S2, port))
    connection, _ = listener.accept()
    for each in (client, connection):
        each.settimeout(PATIENCE_S)

    def attempt():
        try:
            client.sendall(b"ping")
            connection.sendall(connection.recv(4))
            return client.recv(4) == b"ping"
        except TimeoutError:
            return False
    return attempt


@kind("UDP flows that are open, both ways")
def open_udp(lab):
    pair = udp_pair(lab)
    exchange(*pair)
    return lambda: exchange(*pair) is not None


def echo(lab, identifier, sequence):
    with lab.inside("S6"):
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with s:
        s.settimeout(PATIENCE_S)
        s.sendto(bytes(scapy.ICMP(id=identifier, seq=sequence)), (S2, 0))
        try:
            while True:
                answer = scapy.IP(s.recv(1000))[scapy.ICMP]
                if (answer.type, answer.id, answer.seq) == (0, identifier, sequence):
                    return True
        except TimeoutError:
            return False


@kind("pings that have begun")
def open_icmp(lab):
    identifier = next(ports)
    echo(lab, identifier, 1)
    return lambda: echo(lab, identifier, 2)


# --- what is new ----------------------------------------------------------------------------------


@kind("new TCP connections")
def new_tcp(lab):
    argv = curl_argv(f"http://{S2}/whoami", timeout_s=PATIENCE_S)
    return lambda: lab.run("S6", argv).stdout.startswith(GATEWAY_OUTER)


@kind("new UDP flows")
def new_udp(lab):
    return lambda: new_flow(lab) is not None


@kind("new pings")
def new_icmp(lab):
    return lambda: echo(lab, next(ports), 1)


@kind("answers of strangers to hosts whose filtering allows them")
def open_filter(lab):
    client, server, target = udp_pair(lab, OPEN_HOST)
    external = exchange(client, server, target)

    def attempt():
        with lab.udp("S3") as stranger:
            stranger.sendto(b"stranger", external)
            came = receive(client)
        return came is not None and came[0] == b"stranger"
    return attempt


@kind("fragments that come in order, both ways")
def fragments(lab):
    return lambda: pings(lab, "S6", S2, 1, "-s", "4000", timeout_s=PATIENCE_S)


@kind("fragments that come before the first one of their datagram")
def fragments_backwards(lab):
    return lambda: slow_path_serves(lab)


@kind("datagrams that are cut for a smaller link")
def cutting(lab):
    lab.ip("B", "link set in1 mtu 1000")
    time.sleep(SETTLE_S)
    port = next(ports)
    receiver, sender = lab.udp("S7", port, timeout_s=PATIENCE_S), lab.udp("S4", port)
    sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)

    def attempt():
        sender.sendto(b"x" * 1400, (S7, port))
        return receive(receiver) is not None
    return attempt


@kind("inner hosts that meet by their external endpoints")
def hairpin(lab):
    port = next(ports)
    server = lab.udp("S2", port)
    one, other = lab.udp("S4", port), lab.udp("S6", port)
    one_outside, other_outside = (external_of(s, server, (S2, port)) for s in (one, other))
    one.sendto(b"opens the filter", other_outside)
    receive_all(other, wait_s=0.05)
    one.settimeout(PATIENCE_S)

    def attempt():
        other.sendto(b"hello", one_outside)
        return receive(one) == (b"hello", other_outside)
    return attempt


@kind("packets between two inner networks")
def between_inner_networks(lab):
    return lambda: pings(lab, "S4", S7, timeout_s=PATIENCE_S)


# --- ICMP errors ----------------------------------------------------------------------------------


def is_refused(s, payload=b"anybody?"):
    """Does an ICMP error come to the socket's program?"""
    s.settimeout(PATIENCE_S)
    s.send(payload)
    try:
        s.recv(100)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        pass
    return False


@kind("ICMP errors from outside about what inner hosts sent")
def errors_in(lab):
    client, server, target = udp_pair(lab)
    exchange(client, server, target)
    server.close()
    client.connect(target)
    return lambda: is_refused(client)


@kind("ICMP errors of inner hosts about what came to them")
def errors_out(lab):
    client, server, target = udp_pair(lab)
    external = exchange(client, server, target)
    client.close()
    server.connect(external)
    return lambda: is_refused(server)


@kind("ICMP errors of the gateway itself (time exceeded, fragmentation needed)")
def own_errors(lab):
    def attempt():
        argv = ["ping", "-n", "-c1", "-W", PATIENCE_S, "-t1", S2]
        return f"From {GATEWAY_INNER}" in lab.run("S6", argv).stdout
    return attempt


# --- the gateway ----------------------------------------------------------------------------------


@kind("the gateway's own traffic, also from ports that mappings could have")
def own_traffic(lab):
    def attempt():
        return pings(lab, "B", S2, timeout_s=PATIENCE_S) and new_flow(lab, "B") is not None
    return attempt


@kind("services of the gateway, asked from both sides")
def own_services(lab):
    def attempt():
        port = next(ports)
        with lab.udp("B", port, timeout_s=PATIENCE_S) as server:
            for host, address in (("S1", GATEWAY_OUTER), ("S4", GATEWAY_INNER)):
                with lab.udp(host) as client:
                    client.sendto(b"question", (address, port))
                    if receive(server) is None:
                        return False
        return True
    return attempt


@kind("flows that time out end, and free their ports")
def expiry(lab):
    client, server, target = udp_pair(lab, "S6", "S2", 53)
    with client, server:
        exchange(client, server, target)
        internal = f"{S6}:{client.getsockname()[1]}"

    def in_table():
        return internal in lab.masq("mappings", "--json").stdout

    def attempt():
        time.sleep(DNS_TIMEOUT_S + SWEEP_S)
        return not in_table()
    assert in_table(), "the mapping that is to end is not there"
    return attempt


# --- what changes around it -----------------------------------------------------------------------


@kind("next hops whose hardware address is not known yet, or has changed")
def neighbours(lab):
    lab.ip("B", "neigh flush dev out0", "neigh flush dev in0")

    def attempt():
        if not pings(lab, "S6", S2, timeout_s=PATIENCE_S):
            return False
        try:
            lab.ip("S3", "link set eth0 address 02:00:00:00:00:99")
            lab.ip("B", "neigh flush dev out0")
            return pings(lab, "S6", S3, 3, timeout_s=PATIENCE_S)
        finally:
            lab.ip("S3", f"link set eth0 address {mac_of(S3)}",
                   "route replace default via 192.168.1.250")
            lab.ip("B", "neigh flush dev out0")
    return attempt


@kind("routes that change")
def routes(lab):
    """To I1 by another next hop."""
    def attempt():
        lab.ip("B", f"route add {I1} via {S3}")
        lab.sysctl("S3", {"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.send_redirects": 0,
                          "net.ipv4.conf.eth0.send_redirects": 0})
        seen = lab.capture("S3", filter_=f"icmp and src {GATEWAY_OUTER} and dst {I1}")
        try:
            time.sleep(SETTLE_S)
            answered = pings(lab, "S6", I1, 2, timeout_s=PATIENCE_S)
        finally:
            lab.ip("B", f"route del {I1} via {S3}")
            lab.sysctl("S3", {"net.ipv4.ip_forward": 0})
        return answered and len(seen.packets()) > 0
    return attempt


@kind("an interface that goes down and comes up")
def flap(lab):
    def attempt():
        lab.ip("B", "link set out0 down", "link set in0 down", "link set out0 up",
               "link set in0 up", f"route replace default via {ADDRESS['A']}")
        time.sleep(SETTLE_S)
        return new_flow(lab) is not None
    return attempt


@kind("a smaller MTU of the external interface: the sender is told of it")
def smaller_mtu(lab):
    def attempt():
        lab.ip("B", "link set out0 mtu 1400")
        try:
            time.sleep(SETTLE_S)
            lab.ip("S6", "route flush cache")
            argv = ["ping", "-n", "-c1", "-W", PATIENCE_S, "-M", "do", "-s", "1450", S2]
            return f"From {GATEWAY_INNER}" in lab.run("S6", argv).stdout
        finally:
            lab.ip("B", "link set out0 mtu 1500")
            lab.ip("S6", "route flush cache")
            time.sleep(SETTLE_S)
    return attempt


@kind("the external interface gets another address", spoils=True)
def other_address(lab):
    def attempt():
        lab.ip("B", f"addr add {NEW_ADDRESS}/24 dev out0",
               f"addr del {GATEWAY_OUTER}/24 dev out0", f"addr replace {NEW_ADDRESS}/24 dev out0",
               f"route replace default via {ADDRESS['A']}")
        try:
            time.sleep(SETTLE_S)
            external = new_flow(lab)
            return external is not None and external[0] == NEW_ADDRESS
        finally:
            lab.ip("B", f"addr add {GATEWAY_OUTER}/24 dev out0",
                   f"addr del {NEW_ADDRESS}/24 dev out0",
                   f"addr replace {GATEWAY_OUTER}/24 dev out0",
                   f"route replace default via {ADDRESS['A']}")
    return attempt


@kind("the external interface loses its address and gets the same one again")
def same_address_again(lab):
    def attempt():
        lab.ip("B", f"addr del {GATEWAY_OUTER}/24 dev out0")
        time.sleep(SETTLE_S)
        lab.ip("B", f"addr add {GATEWAY_OUTER}/24 dev out0",
               f"route replace default via {ADDRESS['A']}")
        time.sleep(SETTLE_S)
        return new_flow(lab) is not None
    return attempt


@kind("the external interface is deleted and made again", spoils=True)
def outer_again(lab):
    def attempt():
        lab.unplug_gateway("out0")
        time.sleep(SETTLE_S)
        lab.plug_in_gateway_outside()
        time.sleep(SETTLE_S)
        return new_flow(lab) is not None
    return attempt


@kind("an internal interface is deleted and made again", spoils=True)
def inner_again(lab):
    def attempt():
        lab.unplug_gateway("in0")
        time.sleep(SETTLE_S)
        lab.plug_in_gateway_inside()
        time.sleep(SETTLE_S)
        return new_flow(lab) is not None
    return attempt


@kind("interfaces that get other names")
def other_names(lab):
    def rename(*pairs):
        for old, new in pairs:
            lab.ip("B", f"link set {old} down", f"link set {old} name {new}", f"link set {new} up")
        lab.ip("B", f"route replace default via {ADDRESS['A']}")

    def attempt():
        rename(("out0", "wan7"), ("in0", "lan7"))
        time.sleep(SETTLE_S)
        try:
            return new_flow(lab) is not None
        finally:
            rename(("wan7", "out0"), ("lan7", "in0"))
            time.sleep(SETTLE_S)
    return attempt


@kind("the kernel's own forwarding is switched on and off again", spoils=True)
def forwarding_on_and_off(lab):
    """That also switches it off for the loopback interface, for which masq looks up routes."""
    def attempt():
        for on in (1, 0):
            lab.sysctl("B", {"net.ipv4.ip_forward": on})
            time.sleep(SETTLE_S)
        return new_flow(lab) is not None
    return attempt


@kind("another inner network on an internal interface")
def another_network(lab):
    def attempt():
        lab.ip("B", "addr add 10.77.0.1/24 dev in0")
        lab.ip("S4", "addr add 10.77.0.4/24 dev eth0")
        try:
            time.sleep(SETTLE_S)
            return pings(lab, "S4", S2, 1, "-I", "10.77.0.4", timeout_s=PATIENCE_S)
        finally:
            lab.ip("S4", "addr del 10.77.0.4/24 dev eth0")
            lab.ip("B", "addr del 10.77.0.1/24 dev in0")
    return attempt


# --- the table ------------------------------------------------------------------------------------


def up(lab):
    path = lab.directory / "without_daemon.toml"
    path.write_text(CONFIG, encoding="utf-8")
    done = lab.masq("up", "--config", path)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: new_flow(lab), "it flows", timeout_s=10)


def kill(lab, names):
    """And waits until nothing lives on what one of them has said just before."""
    for name in names:
        for pid in lab.processes("B", name):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda name=name: not lab.processes("B", name), f"{name} is gone")
    time.sleep(FRESH_S)


def measure(lab, dying):
    """Sentence -> does it go on; for a lab where masq is not running yet."""
    up(lab)
    for sentence, prepare, _ in KINDS:
        attempt = prepare(lab)
        works = any(attempt() for _ in range(TRIES_ALIVE))
        assert works, f"with the daemon alive it must work: {sentence}"
    found = {}
    steady = [each for each in KINDS if not each[2]]
    attempts = [(sentence, prepare(lab)) for sentence, prepare, _ in steady]
    kill(lab, dying)
    for sentence, attempt in attempts:
        found[sentence] = any(attempt() for _ in range(TRIES))
    for sentence, prepare, spoils in KINDS:
        if spoils:
            up(lab)
            attempt = prepare(lab)
            kill(lab, dying)
            found[sentence] = any(attempt() for _ in range(TRIES))
    return {sentence: found[sentence] for sentence, _, _ in KINDS}


def table(columns):
    """The lines between the marks, for column -> what `measure` has found."""
    lines = ["| what | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for sentence, _, _ in KINDS:
        words = [ON if found[sentence] else OFF for found in columns.values()]
        lines.append(f"| {sentence} | " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def table_in_readme():
    return README.read_text(encoding="utf-8").split(MARKS[0])[1].split(MARKS[1])[0]


def column_in_readme(name):
    """Sentence -> what README.md says of it in that column."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in table_in_readme().splitlines()]
    at = rows[0].index(name)
    return {row[0]: row[at] for row in rows[2:]}


def measure_all():
    columns = {}
    for name, (datapath, dying) in COLUMNS.items():
        with Lab(second_inner=True, datapath=datapath) as lab:
            from services import Services
            Services(lab).nginx("S2")
            columns[name] = measure(lab, dying)
    return columns


def main(arguments):
    text = table(measure_all())
    if arguments == ["--write"]:
        before, rest = README.read_text(encoding="utf-8").split(MARKS[0])
        after = rest.split(MARKS[1], 1)[1]
        README.write_text(before + MARKS[0] + text + MARKS[1] + after, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except LabError as problem:
        sys.exit(f"without_daemon.py: {problem}")
