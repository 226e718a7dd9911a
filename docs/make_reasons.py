#!/usr/bin/env python3
"""Makes docs/reasons.md from src/core/reasons.h and from the advice below.

    docs/make_reasons.py            writes docs/reasons.md
    docs/make_reasons.py --print    writes to the standard output

A reason without advice, and advice without a reason, is a mistake; tests/tidy looks for both, and
for a document that is not up to date.
"""

import pathlib
import re
import sys
import textwrap

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

HEAD = """\
# Why a packet was refused

masq lets a packet through or refuses it, and every refusal has one of the reasons below. The list
comes from the source (`src/core/reasons.h`), so it is the whole list.

`masq status` names the reasons that have occurred, with a count for each, and `masq explain --last`
the packets ([explain.md](explain.md)). `masq status --json` has
them all under `dropped`: the counter of the reason `no_route` is `dropped.no_route`
([json.md](json.md) has the other fields). Each count is the sum over all processors since the
gateway was started; a take-over by a new daemon does not reset it, `masq down` does. Only packets
that masq itself refuses are counted: what the kernel loses later, or another program's filter
drops, is not.

A refused packet is dropped in silence unless its entry says that the sender gets an ICMP error, or
a RST. At most 200 such answers a second are sent per processor, 50 at once (RFC 1812 section
4.3.2.8); the rest are counted as `traffic.icmp_errors_limited`.
"""

# What it means for the administrator, and what to do. Paragraphs of plain sentences.
ADVICE = {
    "malformed": """\
The header checksum, the lengths or the version do not fit the bytes that came, or the transport
header is incomplete; also fragments that would hide part of a TCP header (RFC 3128), and IPv4
segments larger than 64 KiB between virtual interfaces ("big TCP"). A few come from noise and scans.
If many come from one inner host, look at that host's network card and cable; if bulk transfers
between virtual interfaces are affected, set `gso_ipv4_max_size` of those interfaces to 65536 (`ip
link set`, iproute2 6.3 or later).""",
    "ip_options": """\
IP options such as record route and source route can carry inner addresses outside, so no packet
with options is translated. Ordinary programs send none. `ping -R` does: leave the `-R` away.""",
    "spoofed_source": """\
An inner host has sent with a source address to which no inner interface leads back. Either the host
has a wrong address, or it lies behind another inner router whose network this machine has no route
to: add the route, for example `ip route add 192.168.5.0/24 via 192.168.2.9`. If neither is so, some
program on the inner network forges addresses. Or somebody outside has sent under an inner address,
one of the gateway's own, or one that no host has: a forgery, about which nothing needs to be
done. Only where the outer network really has addresses that the inner one has too, as some
providers' machines do, the inner network needs other ones.""",
    "not_for_us": """\
Somebody outside sends packets for other addresses to this gateway, perhaps for the inner network
itself, to find out whether it is there. Nothing needs to be done. If a provider routes further
addresses to you on purpose, give them to the external interface.""",
    "no_mapping": """\
This is the refusal that hides the inside: scans, late answers to flows that have expired, and
whatever else nobody asked for. Nothing needs to be done. If an answer was expected, its flow may
have expired before it came: see the timeouts in [configuration.md](configuration.md), or the
answer came from another address or port than was asked, which the filtering does not let in.""",
    "unsupported_protocol": """\
GRE (PPTP), ESP and AH without UDP (IPsec), SCTP, IGMP and the like have no port that masq could
translate yet. IPsec works with NAT traversal, which every IPsec program has (UDP port 4500).""",
    "tcp_not_syn": """\
A connection is known from its first segment (SYN) on. This segment belongs to none that is known:
the connection is older than the gateway, or it was idle for longer than `tcp_established_s`, or the
packets of its other direction take another way. Long idle connections should use keepalives of
less than two hours. A rule of thumb: some after a start are normal, many later are not.
With `take_over_streams` ([configuration.md](configuration.md)) such connections go on instead.""",
    "icmp_orphan": """\
ICMP errors go in or out only if the packet that they quote belongs to a known flow and the error
goes to the end that sent it. Errors about flows that have just expired are normal; others are scans
or forgeries.""",
    "icmp_type": """\
Echo and timestamp queries with their replies, and the errors destination unreachable, time exceeded
and parameter problem are translated. Redirects, source quench and the rest are not, on purpose (RFC
5508 REQ-10).""",
    "fragment_without_first": """\
Only the first fragment of a datagram carries the ports, so the others are passed on by what the
first one decided. One that overtakes its first one waits for it in the slow path, for 2 seconds;
then it is refused, as are those that come more than 30 seconds after it. Some are normal where
packets get lost. The sender should send smaller datagrams; for DNS set its EDNS size to 1232.""",
    "slow_path_down": """\
Fragments that overtake the first one of their datagram, and packets that must be cut to fit the
next link, need the process masq-slow. masqd starts it anew within seconds if it has gone; look into
masqd's log if the count grows. If masqd has died too, `masq up`.""",
    "slow_path_busy": """\
More than 256 packets of one source in 17 ms overtook the first fragment of their datagram or had to
be cut. `masq explain --last` says whose they were. If it is a transfer that must be cut, lower the
MTU of the hosts to that of the external interface.""",
    "slow_path_full": """\
A fragment waited for the first one of its datagram, and had to make room for another one: too many
come without. That is an attack, or much loss on the way; `masq explain --last` says whose.""",
    "fragment_table_full": """\
A fragment overtook the first one of its datagram, and found no place to wait: more than 16384
datagrams were begun within 30 seconds, or too many of them fell into one place of the table. Those
that begin with their first fragment always find a place, at the expense of whoever has most.""",
    "ttl_exceeded": """\
The sender gets an ICMP "time exceeded". traceroute works by this, so it is normal. If the count
grows all the time there is a routing loop: look with `traceroute` where packets go in circles.""",
    "too_big": """\
The packet is larger than the interface that it must leave by carries. If it may not be cut (DF) the
sender gets "fragmentation needed" with the right size and adapts: normal, a few for each new path.
A packet that may be cut is cut, by the slow path, unless it carries IP options or there is no slow
path (`masq status` says so).""",
    "no_route": """\
The sender gets "network unreachable". Look at `ip route get ADDRESS`; most often the default route
is missing.""",
    "other_interface": """\
The sender gets "network unreachable". `ip route get ADDRESS` names the interface. If it leads
outside, name it with `--external` (`masq down` first, unless the daemon has ended); if it is an
inner network, with `--internal`. If the kernel is to forward between the inner network and that
interface (a VPN, containers), switch `net.ipv4.ip_forward` on before `masq up`: masq then keeps
only inside and outside apart, and leaves the rest to the kernel.""",
    "wrong_zone": """\
A mapping exists, but its inner host is no longer reached through an inner interface: a route or an
interface has changed while flows were open. They will expire. Look at `ip route get` for the inner
address; an interface that should be internal can be named with `--internal`.""",
    "no_external_address": """\
The external interface has no IPv4 address, so nothing can be sent from it. masq waits; as soon as
DHCP or somebody else sets one, packets are translated. The sender gets an ICMP error, unless the
address went less than 10 seconds ago and may be back at once.""",
    "address_replaced": """\
The external address has changed, and the packet belongs to a TCP connection by the old one, which
cannot go on. The inner host is told by a RST, so that its program connects again. Nothing needs to
be done. If it happens often, look at the uplink: its address comes and goes. `dead_address` in
[configuration.md](configuration.md) says how such connections end.""",
    "forwarding_off": """\
The switch `ip_forward` of the gateway is 0, as it is when a script of rules begins that runs before
`masq up`: nothing passes between interfaces, in no direction, and open flows stand still. What the
gateway itself sends and gets goes on. `masq status` says so too. A line `echo 1 >
/proc/sys/net/ipv4/ip_forward` in the script that `masq run-script` runs switches it on
([run-script.md](run-script.md)); the real sysctl of that name has nothing to do with it.""",
    "rules_deny": """\
A rule with the target DENY or REJECT, or a chain's policy. `ipchains -L -n -v` shows how often each
rule and policy was met; `masq explain` says which chains a packet passes
([rules.md](rules.md)).""",
    "rules_not_masqueraded": """\
What goes from inside to outside has to meet the target MASQ in the chain forward, or MASQ as its
policy. ACCEPT there would send it out with its inner address, and masq never does that. Write MASQ
instead: `ipchains -A forward -s 192.168.2.0/24 -j MASQ`.""",
    "rules_misplaced": """\
MASQ means something in the chain forward only, REDIRECT in the chain input. In a chain of your own
both may stand, and the chain may be entered from the wrong place: look at who leads there, by
`ipchains -L`.""",
    "rules_loop": """\
A chain leads to itself, by way of others or not; or more than 16 chains lead into each other, or
more than 16384 rules were tried for one packet. `ipchains -L -v` shows by its counters where.""",
    "flow_table_full": """\
As many flows exist as the table may hold, or (rarely) no free place was found where this flow's
record would have to lie. The sender gets "communication administratively prohibited" (RFC 5508
REQ-8); open flows are not touched. `masq status` shows how many flows there are. Raise `flows_max`,
which needs `masq down` first; but look at `masq flows` before, whether one host has most of
them.""",
    "ports_exhausted": """\
Every external port of this protocol that a mapping may have is in use at the external address, or
eight tries found none. TCP connections then share ports; of them only those are refused that go to
a remote endpoint to which every port leads already, or for which 64 tries found none. The sender
gets "communication administratively prohibited" (RFC 5508 REQ-8). See `masq mappings` for who has
them. Shorter `udp_s` frees ports sooner; a narrower `net.ipv4.ip_local_port_range` leaves more to
mappings, at the next start. A host that has a block of ports (`port_blocks`) gets none but those;
`masq explain` of its packet names them, and those that have no block get what blocks leave.""",
    "host_flows": """\
One inner host has as many flows as one may have (`host_flows`), and wanted another. What it has
goes on, and other hosts are not concerned. The sender gets "communication administratively
prohibited", as for all limits per host. `masq hosts` shows which host it is; most often it scans,
or shares files with very many others. If it is right that it has so many, perhaps because a whole
network lies behind it, raise `--host-flows`.""",
    "host_ports": """\
One inner host has as many external ports as one may have (`host_ports`, RFC 6888 REQ-4). Each of
its sockets takes one, whatever the number of remote ends. `masq hosts` shows which host it is. If
it is right that it has so many, as for a busy name server, raise `--host-ports`.""",
    "host_opening": """\
One inner host has as many TCP connections that nobody has answered yet as one may have
(`host_opening`). That is what a scan looks like, and a flood. Connections that were answered do not
count. `masq hosts` shows which host it is. If it is right, raise `--host-opening`.""",
    "host_rate": """\
One inner host begins flows faster than `host_new_per_s` allows, and has used up `host_new_burst`. A
retransmission a moment later will pass. `masq hosts` shows which host it is. If it is right, as for
a proxy or a load generator, raise `--host-new-per-s` and `--host-new-burst`.""",
    "hosts_full": """\
There was no place to count the flows of another inner host. There are as many places as flows, so
this needs a table in which most flows are each another host's: somebody inside forges the addresses
of his neighbours, or `flows_max` is much too small for so many hosts.""",
    "contention": """\
Two processors made a mapping for the same inner endpoint at once, and one of them gave up. The
sender will try again. It should be rare; if it is not, please report it.""",
    "hairpin": """\
Two inner hosts meet through the gateway's external address. The second half of that way is a
program which the kernel unlinks when both masqd and masq-holder have died. `masq up` links it
again.""",
    "egress_guard": """\
The last check before the external interface. Something on the gateway (another program's routing,
a container, a VPN) was about to send a packet with an inner or a foreign source address outside. It
was stopped; find out who sends it with `tcpdump` on the interfaces of the gateway.""",
    "ipv6_blocked": """\
IPv6 is not translated. If inner hosts could use it past masq they would be open to the world, so it
is blocked unless the machine forwarded IPv6 before masq started. `--ipv6 leave` leaves it to the
kernel and its filters. Where the kernel forwards IPv6, the nftables table `masq_belt` refuses it
first and counts it: `nft list table inet masq_belt`.""",
    "arp_not_external": """\
A host outside has asked by ARP for an address that the external interface does not have, perhaps
the inner one, or this machine was about to speak of one there. A question for a neighbour's address
is counted too, since every host on the network hears it: a count that grows slowly is normal.""",
    "internal_error": """\
This should not happen. The packet was dropped, nothing else. Please report it with the output of
`masq status --json`.""",
}


def make(header):
    """(document, mistakes) for the text of src/core/reasons.h."""
    # A sentence may be cut into several strings, on lines that the macro continues.
    joined = re.sub(r'"\s*\\\n\s*"', "", header)
    found = dict(re.findall(r'^ *X\((\w+), *"((?:[^"\\]|\\.)*)"\)', joined, re.MULTILINE))
    mistakes = [f"no advice for the reason `{name}`" for name in found if name not in ADVICE]
    mistakes += [f"advice for `{name}`, which is no reason" for name in ADVICE if name not in found]
    if mistakes:
        return "", mistakes
    parts = [HEAD]
    for name, sentence in found.items():
        line = textwrap.fill(f"Refused because {sentence}. Counter: `dropped.{name}`.", 100,
                             break_long_words=False, break_on_hyphens=False)
        parts.append(f"## {name}\n\n{line}\n\n{ADVICE[name]}\n")
    return "\n".join(parts), []


def main(arguments):
    header = (REPOSITORY / "src" / "core" / "reasons.h").read_text(encoding="utf-8")
    document, mistakes = make(header)
    for mistake in mistakes:
        print(f"docs/make_reasons.py: {mistake}", file=sys.stderr)
    if mistakes:
        return 1
    if arguments == ["--print"]:
        sys.stdout.write(document)
    else:
        (REPOSITORY / "docs" / "reasons.md").write_text(document, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
