"""Devices without a link header, outside and inside, in every combination with Ethernet: packets
lose a header on the way, get one, or never have one. And bridges, which have ports of their own.

tun and WireGuard here (wireguard-go where the kernel has none of its own); PPP and VLANs, which not
every kernel has, in tests/kernels.
"""

import errno
import itertools
import json
import re
import socket
import time

import pytest
from scapy.all import ICMP, IP, UDP, Ether

from cables import ETHERNET, TUN_MTU, WG_MTU, DeviceLab
from frames import assert_checksums_right
from lab import ADDRESS, GATEWAY_INNER, GATEWAY_OUTER, TRACE_TO_I1, Lab, mac_of, wait_until
from services import curl_argv, sha256
from test_commands import one_sentence, world
from traffic import (external_of, from_inside, from_outside, odd_packets, pings, receive,
                     wait_until_it_flows)

S2, S4, S6, I1 = ADDRESS["S2"], ADDRESS["S4"], ADDRESS["S6"], ADDRESS["I1"]
THIRD = "192.168.77.2"  # on a net of B's that is neither inside nor outside
OUTER_MTU = {"eth": 1500, "bridge": 1500, "tun": TUN_MTU, "wg": WG_MTU}
INNER_MTU = {"eth": 1500, "bridge": 1500, "tun": 1500, "wg": WG_MTU}

LAB_CLASS = DeviceLab
LABS = {f"{outside}-{inside}": {"outside": outside, "inside": inside}
        for outside, inside in (("eth", "tun"), ("tun", "eth"), ("tun", "tun"), ("eth", "wg"),
                                ("wg", "eth"), ("wg", "wg"))}
BRIDGES = {"outside": "bridge", "inside": "bridge"}
LABS |= {"bridge-bridge-seen": BRIDGES | {"bridges_seen": True},
         "bridge-bridge-unseen": BRIDGES | {"bridges_seen": False, "datapath": "user"}}
DATAPATHS = ["tc", "user"]


def only_where(wanted):
    """The test is for the labs of these kinds of devices, outside and inside."""
    return pytest.mark.only_labs(lambda options: wanted(options["outside"], options["inside"]))


@pytest.fixture(scope="module", autouse=True)
def running(lab):
    """All interfaces are as they were when masq has gone."""
    before = world(lab)
    up = lab.masq("up")
    assert up.returncode == 0, up.stdout + up.stderr
    wait_until_it_flows(lab)
    yield before


# --- what passes ----------------------------------------------------------------------------------


def test_the_devices_are_what_they_should_be(lab):
    for interface, kind in (("out0", lab.outside), ("in0", lab.inside_kind)):
        assert lab.has_no_link_header("B", interface) == (kind in ("tun", "wg"))
    seen = lab.bridges_are_seen()
    assert seen is not None or not lab.bridges_seen, (
        "This kernel has no br_netfilter: nftables seeing what bridges carry could not be tried.")
    assert lab.bridges_seen is None or bool(seen) == lab.bridges_seen


def test_pings_of_every_size_and_fragments(lab):
    """What is larger than an MTU goes as fragments, in order, made by the hosts."""
    fits = min(OUTER_MTU[lab.outside], INNER_MTU[lab.inside_kind]) - 28
    for size_bytes in (0, 1, fits):
        assert pings(lab, "S6", S2, 2, "-s", size_bytes), size_bytes
    for host in ("S6", "S2", "A"):  # so that hosts cut for the narrower side
        lab.ip(host, f"route replace {S2 if host == 'S6' else GATEWAY_OUTER} "
               + (f"via {GATEWAY_INNER} dev eth0" if host == "S6" else
                  "dev eth0" if host == "S2" or lab.outside in ETHERNET else "dev line0")
               + f" mtu lock {fits + 28}")
    try:
        assert pings(lab, "S6", S2, 2, "-s", 4000)
    finally:
        lab.ip("S6", f"route del {S2}")
        lab.ip("S2", f"route del {GATEWAY_OUTER}")
        if lab.outside in ETHERNET:
            lab.ip("A", f"route del {GATEWAY_OUTER}")
        else:
            lab.ip("A", f"route replace {GATEWAY_OUTER} dev line0 src {ADDRESS['A']}")


def test_udp_goes_out_and_comes_back_with_right_checksums(lab):
    server, client = lab.udp("S2", 7200), lab.udp("S6", 7200)
    at_s2 = lab.capture("S2", filter_=f"udp and src {GATEWAY_OUTER}")
    at_s6 = lab.capture("S6", filter_=f"udp and src {S2}")
    lab.run("S6", ["ethtool", "-K", "eth0", "tx", "off"], check=True)  # S6 completes its own
    host, port = external_of(client, server, (S2, 7200))
    assert host == GATEWAY_OUTER
    server.sendto(b"answer", (host, port))
    assert receive(client) == (b"answer", (S2, 7200))
    assert len(at_s2.packets()) == len(at_s6.packets()) == 1
    assert_checksums_right(at_s2, "udp")
    lab.run("S6", ["ethtool", "-K", "eth0", "tx", "on"])  # where the device can do otherwise at all


def test_tcp_both_ways_is_whole(lab):
    """Segments as large as the devices take them, cut where the next one takes less."""
    path = lab.directory / f"down-{lab.datapath}"
    lab.run("S5", curl_argv(f"http://{S2}/5m", "-o", path), check=True)
    assert sha256(path) == lab.services.sha256_of("5m")
    lab.run("S4", curl_argv(f"http://{S2}/upload/up", "-T", lab.services.files / "5m"), check=True)
    assert sha256(lab.services.uploaded("S2", "up")) == lab.services.sha256_of("5m")
    assert {address for address, *_ in lab.services.access_log("S2")} == {GATEWAY_OUTER}


# Ethernet has a test of its own, and wireguard-go takes none.
@only_where(lambda outside, inside: (outside, inside) == ("tun", "tun"))
def test_large_segments_stay_whole_between_tun_devices(lab):
    at_a = lab.capture("A", "line0", f"tcp and src {GATEWAY_OUTER}", snap_bytes=100)
    lab.run("S4", curl_argv(f"http://{S2}/upload/big", "-T", lab.services.files / "5m"), check=True)
    at_a.stop()
    lengths = [int.from_bytes(frame.data[16:18], "big") for frame in at_a.frames()]
    assert max(lengths) > 3 * TUN_MTU


def test_a_trace_shows_every_hop(lab):
    for method in (["-U"], ["-I"]):
        argv = ["traceroute", "-n", "-q1", "-w2", "-N4", "-m8", *method, I1]
        output = lab.run("S6", argv, check=True).stdout
        assert re.findall(r"^ *\d+  (\S+)", output, re.MULTILINE) == TRACE_TO_I1, output


def test_errors_come_from_outside_and_from_the_gateway(lab):
    s = lab.udp("S6")
    s.connect((S2, 4))
    s.send(b"is anybody there")
    with pytest.raises(ConnectionRefusedError):
        s.recv(100)
    output = lab.run("S6", ["ping", "-n", "-c1", "-W2", "-t1", S2]).stdout
    assert f"From {GATEWAY_INNER} icmp_seq=1 Time to live exceeded" in output


def test_an_error_of_an_inner_host_goes_out_in_its_name(lab):
    """The port is closed before the answer comes; what S6 says of it names the gateway."""
    server, client = lab.udp("S2", 7201), lab.udp("S6", 7201)
    peer = external_of(client, server, (S2, 7201))
    client.close()
    server.connect(peer)
    server.send(b"too late")
    with pytest.raises(ConnectionRefusedError):
        server.recv(100)


@only_where(lambda outside, inside: OUTER_MTU[outside] < INNER_MTU[inside])
def test_what_does_not_fit_outside_is_told_the_size(lab):
    mtu = OUTER_MTU[lab.outside]
    lab.ip("S6", "route flush cache")
    output = lab.run("S6", ["ping", "-n", "-c1", "-W1", "-M", "do", "-s", mtu - 27, S2]).stdout
    assert re.search(rf"From {GATEWAY_INNER} .*mtu ?=? ?{mtu}\b", output), output
    lab.ip("S6", "route flush cache")


@only_where(lambda outside, inside: INNER_MTU[inside] < OUTER_MTU[outside])
def test_what_does_not_fit_inside_is_told_the_size(lab):
    mtu = INNER_MTU[lab.inside_kind]
    server, client = lab.udp("S2", 7202), lab.udp("S6", 7202)
    _, port = external_of(client, server, (S2, 7202))
    errors = lab.capture("S2", filter_="icmp[icmptype] == icmp-unreach")
    lab.send_frame("S2", from_outside("S2") / IP(src=S2, dst=GATEWAY_OUTER, flags="DF")
                   / UDP(sport=7202, dport=port) / (b"x" * (mtu - 27)))
    [error] = errors.packets()
    assert (error[ICMP].code, error[ICMP].nexthopmtu, error[IP].src) == (4, mtu, GATEWAY_OUTER)
    assert (error[ICMP].payload.dst, error[ICMP].payload.payload.dport) == (GATEWAY_OUTER, port)


def test_inner_hosts_meet_by_their_external_endpoints(lab):
    server = lab.udp("S2", 7203)
    s4, s5 = lab.udp("S4", 7203), lab.udp("S5", 7203)
    external4, external5 = (external_of(s, server, (S2, 7203)) for s in (s4, s5))
    s4.sendto(b"opens the filter of S4", external5)
    external_of(s4, server, (S2, 7203))  # by when the one before has passed
    s5.sendto(b"to S4", external4)
    assert receive(s4) == (b"to S4", external5)
    s4.sendto(b"to S5", external5)
    assert receive(s5) == (b"to S5", external4)
    # and an error about what comes that way
    s5.close()
    s4.connect(external5)
    s4.send(b"to a closed port")
    with pytest.raises(ConnectionRefusedError):
        s4.recv(100)


def test_neighbours_reach_each_other_past_masq(lab):
    """By the switch of their net, or by the gateway's own bridge: with their own addresses."""
    for host, other in (("S4", "S6"), ("S1", "S3")):
        server, client = lab.udp(other, 7209), lab.udp(host, 7209)
        assert external_of(client, server, (ADDRESS[other], 7209)) == (ADDRESS[host], 7209)
        assert pings(lab, other, ADDRESS[host], 1, "-s", 4000)


def test_the_gateways_own_traffic(lab):
    assert pings(lab, "B", S2) and pings(lab, "B", S4)
    assert pings(lab, "S6", GATEWAY_INNER) and pings(lab, "S6", GATEWAY_OUTER)
    assert pings(lab, "S1", GATEWAY_OUTER)
    answer = lab.run("B", curl_argv(f"http://{S2}/whoami"), check=True).stdout
    assert answer.split()[0] == GATEWAY_OUTER
    server, client = lab.udp("S2", 7204), lab.udp("B", 20002)  # a port that mappings could have
    server.settimeout(2)
    peer = external_of(client, server, (S2, 7204))
    server.sendto(b"answer", peer)
    assert receive(client) == (b"answer", (S2, 7204))


def test_which_devices_are_found(lab, running):
    """A tunnel is the outside where the default route leads there, and never found to be inside."""
    assert lab.masq("down").returncode == 0
    found = Lab.masq(lab, "up")  # without what the lab would add
    if lab.inside_kind in ("tun", "wg"):
        assert found.returncode == 1 and one_sentence(found.stderr), found.stderr
        assert "--internal" in found.stderr
        assert lab.masq("up").returncode == 0
    else:
        assert found.returncode == 0, found.stderr
        assert "in0 is internal" in found.stdout
        assert "out0 is external: the default route leads there" in found.stdout
    wait_until_it_flows(lab)


# --- what does not --------------------------------------------------------------------------------


def test_nobody_comes_in_and_nothing_odd_goes_out(lab):
    """The watch over the outer net judges what S4 sends."""
    lab.routes_inwards()
    inside = lab.capture("S6", filter_=f"ip and host {ADDRESS['S1']} or host {ADDRESS['A']}")
    before = lab.status()["dropped"]
    try:
        for host in ("S1", "A"):
            assert not pings(lab, host, S6, timeout_s=0.3)
            assert not pings(lab, host, GATEWAY_INNER, timeout_s=0.3)
    finally:
        lab.routes_inwards("del")
    assert not inside.packets()
    for frame in odd_packets("S4"):
        lab.send_frame("S4", frame)
    wait_until(lambda: lab.status()["dropped"]["unsupported_protocol"]
               >= before.get("unsupported_protocol", 0) + 6, "odd packets are counted")
    after = lab.status()["dropped"]
    # The rules beside the packet sockets take some of what a bridge carries before masq counts it,
    # and WireGuard itself takes nothing with a source that is not the peer's.
    by_rules = (lab.outside, lab.datapath) == ("bridge", "user")
    for reason, at_least in (("not_for_us", 0 if by_rules else 2), ("tcp_not_syn", 3),
                             ("ip_options", 1),
                             ("spoofed_source", 1 if lab.inside_kind != "wg" else 0)):
        assert after.get(reason, 0) >= before.get(reason, 0) + at_least, (reason, after)


def knock(lab, *targets):
    """From outside, to every hardware address that may be B's. Returns the addresses and hops whose
    frames came in, and how often the senders were told anything."""
    inside = [lab.capture(host, interface, "udp and dst port 7210")
              for host, interface in (("S6", "eth0"), ("I1", "third0"))]
    told = [lab.capture(host, interface, "icmp[icmptype] != icmp-echo and "
                        "icmp[icmptype] != icmp-echoreply")
            for host, interface in lab.outer_neighbours()]
    for (host, interface), address, target, hops in itertools.product(
            lab.outer_neighbours(), lab.outer_hardware_addresses(), targets, (1, 64)):
        frame = (Ether(src=mac_of(ADDRESS[host]), dst=address)
                 / IP(src=ADDRESS[host], dst=target, ttl=hops) / UDP(sport=7210, dport=7210)
                 / f"{address} {hops}".encode())
        lab.send_frame(host, frame, interface)
    time.sleep(0.3)
    return ({packet[UDP].load.decode() for capture in inside for packet in capture.packets()},
            sum(len(capture.packets()) for capture in told))


def test_where_the_machine_forwards_nobody_comes_in(lab):
    """Nor goes through to a third net, nor hears of it, whichever of B's addresses the frame has.
    test_forwarding_machine.py and test_user_datapath.py have the rest."""
    assert lab.masq("down").returncode == 0
    lab.sysctl("B", {"net.ipv4.ip_forward": 1})
    lab._veth("B", "third0", "192.168.77.1/24", "I1", "third0")
    lab.ip("I1", "link set third0 up", f"addr add {THIRD}/24 dev third0")
    try:
        came, told = knock(lab, THIRD)
        assert came == {f"{address} 64" for address in lab.outer_hardware_addresses()} and told
        assert lab.masq("up", "--internal", "in0").returncode == 0
        wait_until_it_flows(lab)
        for daemon in ("alive", "dead"):
            assert knock(lab, S6, THIRD) == (set(), 0), daemon
            assert pings(lab, "S1", ADDRESS["S3"])
            assert lab.inside_kind == "wg" or pings(lab, "S4", S6)  # there by way of the gateway
            if daemon == "alive":
                lab.kill_daemon()
    finally:
        lab.ip("B", "link del third0")
        assert lab.masq("down").returncode == 0
        lab.sysctl("B", {"net.ipv4.ip_forward": 0})
        assert lab.masq("up").returncode == 0
    wait_until_it_flows(lab)


def test_rules_of_others_for_connections_leave_alone_what_masq_carries(lab):
    """As Docker's, which lead ports to containers. What masq does not carry is tracked. Limit:
    where nftables sees what bridges carry, it does so before the kernel programs of `tc`."""
    carried = not (lab.bridges_seen and lab.datapath == "tc")
    lab.run("B", ["nft", "-f", "-"], check=True, input=f"""table ip others {{
        chain elsewhere {{ type nat hook prerouting priority -100;
            iifname "out0" ip daddr {GATEWAY_OUTER} meta l4proto udp dnat to 192.0.2.9
            iifname "in0" udp dport 7211 dnat to 192.0.2.9
        }}
        chain carried {{ type filter hook prerouting priority 0;
            ip saddr {S4} ip daddr {S6} ct state untracked counter
        }}
    }}""")
    try:
        server, client = lab.udp("S2", 7211), lab.udp("S6", 7211)
        client.sendto(b"question", (S2, 7211))
        arrived = receive(server)
        assert (arrived is not None) == carried
        if carried:
            server.sendto(b"answer", arrived[1])
            assert receive(client) == (b"answer", (S2, 7211))
        assert lab.inside_kind == "wg" or pings(lab, "S4", S6)  # there by way of the gateway
        assert "packets 0 " in lab.run("B", ["nft", "list", "chain", "ip", "others",
                                             "carried"]).stdout
    finally:
        lab.run("B", ["nft", "delete", "table", "ip", "others"], check=True)


def test_no_port_without_a_mapping_answers(lab):
    """Nor does the kernel in place of masq, whichever way the question came."""
    asking = []
    for host in ("S1", "S3", "S4", "S6"):
        with lab.udp(host) as datagrams, lab.tcp(host) as connection:
            for s in (datagrams, connection):
                s.setblocking(False)
                assert s.connect_ex((GATEWAY_OUTER, 30002)) in (0, errno.EINPROGRESS)
                asking.append(s.dup())
            datagrams.send(b"is anybody there")
    time.sleep(0.3)
    for s in asking:
        with s:
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, s


def test_refused_packets_are_remembered_with_their_addresses(lab):
    lab.send_frame("S4", from_inside("S4") / IP(src=S4, dst=I1, proto=47) / (b"\0" * 8))
    wait_until(lambda: f"inside in0: gre {S4} > {I1}" in lab.masq("explain", "--last", S4).stdout,
               "the refusal is remembered")
    stranger = lab.udp("S3", 7205)
    stranger.sendto(b"unasked", (GATEWAY_OUTER, 30001))
    wait_until(lambda: f"outside out0: udp {ADDRESS['S3']}:7205 > {GATEWAY_OUTER}:30001"
               in lab.masq("explain", "--last").stdout, "the refusal is remembered")


def test_explain_foretells_what_happens(lab):
    """The way out and back by these devices, and what is too large for them."""
    ask = lambda *words: lab.masq("explain", "--json", *words)
    server, client = lab.udp("S2", 7206), lab.udp("S6", 7206)
    _, port = external_of(client, server, (S2, 7206))
    out = json.loads(ask("udp", f"{S6}:7206", f"{S2}:7206").stdout)
    assert (out["interface"], out["zone"]) == ("in0", "inside"), out
    assert "out0" in out["sentence"] and f"{GATEWAY_OUTER}:{port} > " in out["after"], out
    back = json.loads(ask("udp", f"{S2}:7206", f"{GATEWAY_OUTER}:{port}").stdout)
    assert (back["interface"], back["zone"]) == ("out0", "outside"), back
    assert "in0" in back["sentence"] and f" > {S6}:7206" in back["after"], back


# --- life -----------------------------------------------------------------------------------------


def test_the_daemon_dies_and_is_replaced(lab):
    listener, client = lab.tcp("S2", 7207, listen=True), lab.tcp("S6", 7207)
    client.connect((S2, 7207))
    connection, _ = listener.accept()
    connection.settimeout(5)
    lab.kill_daemon()
    assert pings(lab, "S5", S2, timeout_s=0.5) == (lab.datapath == "tc")
    assert pings(lab, "S1", ADDRESS["S3"])
    if lab.inside_kind != "wg":  # there the gateway is the way from each host to the next
        assert pings(lab, "S4", S6)
    assert lab.masq("up").returncode == 0
    client.sendall(b"still here")
    assert connection.recv(100) == b"still here"


def test_a_device_that_goes_and_comes_back_is_taken_again(lab):
    lab.cut_line()
    wait_until(lambda: any("out0" in remark for remark in lab.status().get("remarks", []))
               or not pings(lab, "S6", S2, timeout_s=0.2), "the line is down")
    lab.plug_in_gateway_outside()
    wait_until_it_flows(lab, timeout_s=15)
    assert pings(lab, "B", S2)


def test_a_renamed_device_stays_masqs(lab):
    for old, new in (("in0", "lan7"), ("out0", "wan7")):
        lab.ip("B", f"link set {old} down", f"link set {old} name {new}", f"link set {new} up")
    lab.ip("B", *(["route replace default via 192.168.1.250"] if lab.outside in ETHERNET else
                  ["route replace default dev wan7"]))
    try:
        wait_until_it_flows(lab)
        assert pings(lab, "S4", S2, 2)
    finally:
        for old, new in (("in0", "lan7"), ("out0", "wan7")):
            lab.ip("B", f"link set {new} down", f"link set {new} name {old}", f"link set {old} up")
        lab.ip("B", *(["route replace default via 192.168.1.250"] if lab.outside in ETHERNET else
                      ["route replace default dev out0"]))
    wait_until_it_flows(lab)


def test_down_under_other_names_leaves_nothing(lab, running):
    """What was changed for an interface is put back at the interface, whatever it is called."""
    lab.ip("B", "link set in0 name lan7", "link set out0 name wan7")
    try:
        lab.kill_daemon()  # which would follow
        down = lab.masq("down")
        assert down.returncode == 0, down.stderr
        assert lab.read_sysctl("B", "net.ipv4.conf.wan7.arp_announce") == "0"
        assert "clsact" not in lab.run("B", ["tc", "qdisc", "show"]).stdout
        assert not lab.programs("wan7") and not lab.programs("lan7")
    finally:
        lab.ip("B", "link set lan7 name in0", "link set wan7 name out0")
    assert lab.masq("up").returncode == 0
    wait_until_it_flows(lab)


def test_down_leaves_nothing_and_closes(lab, running):
    down = lab.masq("down")
    assert down.returncode == 0, down.stderr
    after = world(lab)
    for what in ("nftables", "programs", "filters", "rules"):
        assert after[what] == running[what]
    assert sorted(after["qdiscs"].splitlines()) == sorted(running["qdiscs"].splitlines())
    differ = after["sysctls"] ^ running["sysctls"]  # a device made again has another secret
    assert not {line for line in differ if "stable_secret" not in line}
    assert not lab.processes("B", "masqd") and not lab.run_folder().exists()
    assert not pings(lab, "S6", S2, timeout_s=0.3)
