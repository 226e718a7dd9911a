#!/usr/bin/python3
"""The programs on an interface's tc hooks, whichever way they were put there.

Debian 12's tools know only the older of the two ways (a classifier of the clsact qdisc); this asks
the kernel for the other (tcx, Linux 6.6) by the system call.

    tcx.py list INTERFACE HOOK     identifiers, one a line; HOOK is ingress or egress
    tcx.py clear INTERFACE HOOK    takes all of them off
    tcx.py put INTERFACE HOOK NAME puts one of this name on that does nothing

Works in the network namespace that it is started in.
"""

import ctypes
import os
import platform
import re
import socket
import struct
import subprocess
import sys

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, PROG_ATTACH, PROG_DETACH, PROG_GET_FD_BY_ID, PROG_QUERY = 5, 8, 9, 13, 16
SCHED_CLS = 3
LET_PASS = struct.pack("=BBhi", 0xb7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0)  # return 0
ATTACH_TYPE = {"ingress": 46, "egress": 47}
PROGRAMS_MAX = 64


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 64))
    result = ctypes.CDLL(None, use_errno=True).syscall(SYS_BPF, command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result, buffer.raw


def tcx_programs(interface, hook):
    ids = (ctypes.c_uint32 * PROGRAMS_MAX)()
    attributes = struct.pack("=IIIIQII", socket.if_nametoindex(interface), ATTACH_TYPE[hook], 0, 0,
                             ctypes.addressof(ids), PROGRAMS_MAX, 0)
    try:
        _, answer = bpf(PROG_QUERY, attributes)
    except OSError:
        return []  # a kernel without tcx
    return list(ids[:struct.unpack_from("=I", answer, 24)[0]])


def clsact_programs(interface, hook):
    shown = subprocess.run(["tc", "filter", "show", "dev", interface, hook], check=False,
                           capture_output=True, text=True).stdout
    return [int(number) for number in re.findall(r"\bid (\d+)\b", shown)]


def clear(interface, hook):
    for program in tcx_programs(interface, hook):
        fd, _ = bpf(PROG_GET_FD_BY_ID, struct.pack("=I", program))
        bpf(PROG_DETACH, struct.pack("=IIII", socket.if_nametoindex(interface), fd,
                                     ATTACH_TYPE[hook], 0))
        os.close(fd)
    subprocess.run(["tc", "filter", "del", "dev", interface, hook], check=False,
                   capture_output=True)


def put(interface, hook, name):
    code, licence = ctypes.create_string_buffer(LET_PASS), ctypes.create_string_buffer(b"GPL")
    fd, _ = bpf(PROG_LOAD, struct.pack("=IIQQIIQII16s", SCHED_CLS, len(LET_PASS) // 8,
                                       ctypes.addressof(code), ctypes.addressof(licence),
                                       0, 0, 0, 0, 0, name.encode()))
    bpf(PROG_ATTACH, struct.pack("=IIII", socket.if_nametoindex(interface), fd,
                                 ATTACH_TYPE[hook], 0))
    os.close(fd)


def main():
    what, interface, hook, *name = sys.argv[1:]
    if what == "clear":
        clear(interface, hook)
    elif what == "put":
        put(interface, hook, *name)
    else:
        for program in tcx_programs(interface, hook) + clsact_programs(interface, hook):
            print(program)


if __name__ == "__main__":
    main()
