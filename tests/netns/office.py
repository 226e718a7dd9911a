#!/usr/bin/python3
"""An office at work: many inner addresses that open TCP connections at a steady rate.

    office.py serve PORT SERVER...      answers at each of these addresses, until it is ended
    office.py open RATE SECONDS PORT HOST,... SERVER,...
                                        each HOST opens RATE connections a second for SECONDS, all
                                        together at even distances, and holds each for a second

A client says who it is; the server answers with that and with the endpoint that it sees. So the
client knows whether the answer is its own, and which external port it had. Servers are of
different popularity (the i-th has a share as 1 to the root of i), chosen by dice that are the same
in every run. `open` ends with one line of JSON:

    opened      connections that got their answer and were closed by the client
    failed      those that did not, by what went wrong
    endpoints   how many pairs of external endpoint and server they had
    external    how many external endpoints those are, and `addresses` of which addresses
    longest_s   from a SYN to the answer
    took_s      from the first SYN to the last
"""

import collections
import errno
import json
import random
import resource
import select
import socket
import sys
import time

HOLD_S = 1.0
PATIENCE_S = 10.0  # four SYNs: after 0, 1, 3 and 7 seconds
FIRST_PORT = 32768  # no endpoint twice


def serve(port, addresses):
    poll = select.epoll()
    listeners, open_ = {}, {}
    for address in addresses:
        s = socket.create_server((address, port), backlog=1024)
        s.setblocking(False)
        listeners[s.fileno()] = s
        poll.register(s, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd in listeners:
                try:
                    s, peer = listeners[fd].accept()
                except BlockingIOError:
                    continue
                s.setblocking(False)
                open_[s.fileno()] = s, peer
                poll.register(s, select.EPOLLIN)
                continue
            s, peer = open_[fd]
            try:
                said = s.recv(100)
            except OSError:
                said = b""
            if said:
                s.send(said + b" %s:%d" % (peer[0].encode(), peer[1]))
            else:
                del open_[fd]
                s.close()


class Client:
    def __init__(self, port, servers):
        self.port, self.servers = port, servers
        self.weights = [(i + 1) ** -0.5 for i in range(len(servers))]
        self.dice = random.Random(1)
        self.poll = select.epoll()
        self.waiting = {}  # by descriptor: socket, who, server, since
        self.holding = collections.deque()  # until when, socket
        self.seen = set()
        self.opened, self.failed, self.longest_s = 0, collections.Counter(), 0.0

    def open(self, host, local_port, now_s):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setblocking(False)
        s.bind((host, local_port))
        [server] = self.dice.choices(self.servers, self.weights)
        self.waiting[s.fileno()] = s, f"{host}:{local_port}".encode(), server, now_s
        code = s.connect_ex((server, self.port))
        if code not in (0, errno.EINPROGRESS):
            self.end(s.fileno(), errno.errorcode[code])
            return
        self.poll.register(s, select.EPOLLOUT)

    def end(self, fd, why):
        s = self.waiting.pop(fd)[0]
        self.failed[why] += 1
        s.close()

    def hear(self, fd, events, now_s):
        s, who, server, since_s = self.waiting[fd]
        code = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code != 0:
            self.end(fd, errno.errorcode[code])
        elif events & select.EPOLLOUT:
            s.send(who)
            self.poll.modify(fd, select.EPOLLIN)
        else:
            echo, _, external = s.recv(100).partition(b" ")
            if echo != who:
                self.end(fd, "another's answer")
                return
            self.seen.add((external.decode(), server))
            self.longest_s = max(self.longest_s, now_s - since_s)
            self.poll.unregister(fd)
            del self.waiting[fd]
            self.holding.append((now_s + HOLD_S, s))

    def turn(self, until_s):
        """Waits until then at most for something to happen, and sees to it."""
        now_s = time.monotonic()
        if self.holding:
            until_s = min(until_s, self.holding[0][0])
        for fd, events in self.poll.poll(max(0.0, until_s - now_s)):
            self.hear(fd, events, time.monotonic())
        now_s = time.monotonic()
        while self.holding and self.holding[0][0] <= now_s:
            self.holding.popleft()[1].close()
            self.opened += 1
        for fd in [fd for fd, each in self.waiting.items() if each[3] < now_s - PATIENCE_S]:
            self.end(fd, "no answer")

    def report(self, took_s):
        external = {endpoint for endpoint, _ in self.seen}
        return {"opened": self.opened, "failed": self.failed, "endpoints": len(self.seen),
                "external": len(external), "longest_s": round(self.longest_s, 3),
                "addresses": sorted({each.split(":")[0] for each in external}),
                "took_s": round(took_s, 1)}


def open_all(rate, seconds, port, hosts, servers):
    client = Client(port, servers)
    per_s = rate * len(hosts)
    began_s = time.monotonic()
    for number in range(per_s * seconds):
        due_s = began_s + number / per_s
        while time.monotonic() < due_s:
            client.turn(due_s)
        client.open(hosts[number % len(hosts)], FIRST_PORT + number // len(hosts),
                    time.monotonic())
    took_s = time.monotonic() - began_s
    while client.waiting or client.holding:
        client.turn(time.monotonic() + 0.1)
    print(json.dumps(client.report(took_s)))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), sys.argv[3:])
    elif sys.argv[1:2] == ["open"] and len(sys.argv) == 7:
        open_all(*map(int, sys.argv[2:5]), *(each.split(",") for each in sys.argv[5:7]))
    else:
        sys.exit("usage: office.py serve PORT SERVER... | open RATE SECONDS PORT HOSTS SERVERS")
