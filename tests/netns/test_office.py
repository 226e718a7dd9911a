"""An office behind one address: 50 hosts with 10 new TCP connections a second each, in real time.

After ten minutes of that, 121000 connections are there at once: those that have closed keep their
ports for 240 seconds, and there are 36280. Here the ports are as short after 20 seconds, because
masq has so many less. (All ten minutes, with all the ports: tests/unit/office_test.cpp.)
"""

import json

import pytest

from lab import GATEWAY_OUTER, REPOSITORY

OFFICE = REPOSITORY / "tests" / "netns" / "office.py"
DATAPATHS = ["tc", "user"]
HOSTS = [f"192.168.2.{100 + i}" for i in range(50)]
SERVERS = [f"192.168.1.{100 + i}" for i in range(20)]
EACH_PER_S, SECONDS, PORT = 10, 20, 9443
CONNECTIONS = len(HOSTS) * EACH_PER_S * SECONDS
FIRST, PORTS = 20000, 3000  # ten connections for three ports, as 121000 for 36280


@pytest.fixture(scope="module", autouse=True)
def office(lab):
    up = lab.masq("up", "--external-ports", f"{FIRST}-{FIRST + PORTS - 1}")
    assert up.returncode == 0, up.stderr
    lab.ip("S6", *(f"addr add {host}/24 dev eth0" for host in HOSTS))
    lab.ip("S2", *(f"addr add {server}/24 dev eth0" for server in SERVERS))


def told(lab, command):
    return json.loads(lab.masq(command, "--json").stdout)


def test_nobody_is_refused(lab):
    server = lab.popen("S2", [OFFICE, "serve", PORT, *SERVERS])
    assert server.stdout.readline() == "ready\n"
    client = lab.popen("S6", [OFFICE, "open", EACH_PER_S, SECONDS, PORT, ",".join(HOSTS),
                              ",".join(SERVERS)])
    said, _ = client.communicate(timeout=6 * SECONDS)
    done = json.loads(said)
    assert (done["opened"], done["failed"]) == (CONNECTIONS, {}), done
    assert done["took_s"] < 1.5 * SECONDS, "the clients could not keep up"
    # All that was translated is still there, so none of it had the endpoint of another.
    assert done["endpoints"] == CONNECTIONS, done
    assert done["addresses"] == [GATEWAY_OUTER] and done["external"] <= PORTS, done

    status = told(lab, "status")
    assert not any(status["dropped"].values()), status["dropped"]
    assert status["traffic"]["flows_sharing_port"] >= CONNECTIONS - PORTS, status["traffic"]
    each = {h["host"]: (h["flows"], h["refused"]) for h in told(lab, "hosts")}
    assert {host: each.get(host) for host in HOSTS} == dict.fromkeys(
        HOSTS, (EACH_PER_S * SECONDS, 0))
