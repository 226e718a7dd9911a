"""Which system calls a process was left: its seccomp filters, as the kernel has them.

They are read by ptrace, which stops the process for a moment, and walked through for each call.
Needs root, and a kernel with CONFIG_CHECKPOINT_RESTORE, as distributions have it. Whoever reads may
have no filter of his own. Of the filters' language only what masq uses is understood; anything else
is an error.
"""

import ctypes
import errno
import os
import platform
import re
import struct
import subprocess

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
PTRACE_SECCOMP_GET_FILTER = 0x420c
WALL = 0x40000000  # of waitpid: whoever's child it is
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW = 0x7fff0000  # SECCOMP_RET_ALLOW
ARCHITECTURE = {"x86_64": 0xc000003e, "aarch64": 0xc00000b7}[platform.machine()]
CALLS_MOST = 1024
X32 = 0x40000000  # the other numbers of the same calls on x86-64
INSTRUCTIONS_MOST = 4096

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, process, address=0, data=None):
    result = libc.ptrace(request, process, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of process {process}")
    return result


def filters_of(process):
    """Each as a list of (code, if true, if false, k)."""
    ptrace(PTRACE_SEIZE, process)
    try:
        ptrace(PTRACE_INTERRUPT, process)
        os.waitpid(process, WALL)
        found = []
        while True:
            room = ctypes.create_string_buffer(8 * INSTRUCTIONS_MOST)
            try:
                count = ptrace(PTRACE_SECCOMP_GET_FILTER, process, len(found), room)
            except OSError as problem:
                if problem.errno == errno.ENOENT:
                    return found
                raise
            found.append(list(struct.iter_unpack("=HBBI", room.raw[:8 * count])))
    finally:
        ptrace(PTRACE_DETACH, process)


def allows(steps, number, architecture):
    """Does the filter let this call pass?"""
    data = {0: number, 4: architecture}  # struct seccomp_data; masq asks for no arguments
    value, at = 0, 0
    while True:
        code, if_true, if_false, k = steps[at]
        at += 1
        if code == LOAD:
            value = data[k]
        elif code == JUMP_IF_EQUAL:
            at += if_true if value == k else if_false
        elif code == RETURN:
            return k == ALLOW
        else:
            raise ValueError(f"an unknown instruction: {steps[at - 1]}")


def names_of_calls():
    """Number -> name, on this machine."""
    text = subprocess.run(["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"],
                          capture_output=True, text=True, check=True).stdout
    return {int(number): name
            for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", text, re.MULTILINE)}


def calls_left_to(process):
    """Names of the system calls that do not end the process. With numbers, what has no name."""
    filters = filters_of(process)
    names = names_of_calls()
    numbers = [base + n for base in (0, X32) for n in range(CALLS_MOST)]
    left = {names.get(n, str(n)) for n in numbers
            if all(allows(steps, n, ARCHITECTURE) for steps in filters)}
    others = {n for n in numbers if all(allows(steps, n, ARCHITECTURE ^ 1) for steps in filters)}
    return left | {f"{n} of another architecture" for n in others}
