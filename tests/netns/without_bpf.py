#!/usr/bin/python3
"""Runs a program as on a kernel that lets no BPF programs be loaded.

    tests/netns/without_bpf.py PROGRAM ARGUMENTS...

bpf() answers EPERM to it and to all that it starts, as in a container without the right to it.
"""

import ctypes
import os
import platform
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, REFUSE = 0x7fff0000, 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_OF_BPF = {"x86_64": 321, "aarch64": 280}


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def refuse_bpf():
    steps = [(LOAD, 0, 0, 0),  # the number of the system call
             (JUMP_IF_EQUAL, 0, 1, NUMBER_OF_BPF[platform.machine()]),
             (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    # As root no "no new privileges" is needed, and programs that change their user go on working.
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
                  ctypes.byref(Program(len(steps), code)), 0, 0) != 0:
        sys.exit(f"without_bpf.py: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    refuse_bpf()
    os.execvp(sys.argv[1], sys.argv[1:])
