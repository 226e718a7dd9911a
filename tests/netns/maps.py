"""What is in the gateway's maps, byte for byte, read past masq by the system call; with the data
path `user`, what is in the file of its tables."""

import ctypes
import json
import os
import pathlib
import re
import struct
import time

from lab import command
from tcx import bpf

MAP_LOOKUP_ELEM, MAP_GET_NEXT_KEY, MAP_GET_FD_BY_ID = 1, 4, 14

# The sweeper's own place in the table moves all the time; what stands before it are the counts.
COUNTS_BYTES = 8


def possible_processors():
    text = open("/sys/devices/system/cpu/possible", encoding="ascii").read().strip()
    return int(text.split("-")[-1]) + 1


def maps_held(process):
    """Identifiers of the maps that a process has open."""
    said = [path.read_text() for path in pathlib.Path(f"/proc/{process}/fdinfo").iterdir()]
    return {int(number) for text in said for number in re.findall(r"^map_id:\s+(\d+)$", text, re.M)}

# With the data path `user`: the sweeper's place, how often it came round, and the slow path's beat.
WORDS_THAT_MOVE_MAX = 3
SWEEP_TURN_S = 4


class Maps:
    """The maps of the programs on an interface of the gateway, by name."""

    NAMES = ("mq_records", "mq_inner", "mq_outer", "mq_used", "mq_full", "mq_ports",
             "mq_fragments", "mq_shared", "mq_settings", "mq_own", "mq_counters", "mq_drops")

    def __init__(self, lab, interfaces=("in0", "out0")):
        self._maps = {}
        for interface in interfaces:
            for program in lab.programs(interface):
                shown = json.loads(command(["bpftool", "-j", "prog", "show", "id", str(program)]))
                for number in shown["map_ids"]:
                    one = json.loads(command(["bpftool", "-j", "map", "show", "id", str(number)]))
                    self._maps[one["name"]] = one
        missing = set(self.NAMES) - set(self._maps)
        assert not missing, f"the programs have no map {sorted(missing)}"

    def read(self):
        """name -> {key: value}, all of it."""
        return {name: self._read(self._maps[name]) for name in self.NAMES}

    @staticmethod
    def _read(shown):
        fd, _ = bpf(MAP_GET_FD_BY_ID, struct.pack("=III", shown["id"], 0, 0))
        try:
            size = shown["bytes_value"]
            if shown["type"].startswith("percpu"):
                size = (size + 7) // 8 * 8 * possible_processors()
            found = {}
            key = ctypes.create_string_buffer(shown["bytes_key"])
            following = ctypes.create_string_buffer(shown["bytes_key"])
            value = ctypes.create_string_buffer(size)
            at = 0
            while True:
                try:
                    bpf(MAP_GET_NEXT_KEY,
                        struct.pack("=IIQQ", fd, 0, at, ctypes.addressof(following)))
                except FileNotFoundError:
                    return found
                key.raw = following.raw
                at = ctypes.addressof(key)
                bpf(MAP_LOOKUP_ELEM,
                    struct.pack("=IIQQQ", fd, 0, at, ctypes.addressof(value), 0))
                cut = COUNTS_BYTES if shown["name"] == "mq_shared" else None
                found[key.raw] = value.raw[:cut]
        finally:
            os.close(fd)


class TablesFile:
    """The file of the tables by which masqd carries packets: all of it but the words that masqd
    changes while nothing passes, which are found by looking for a turn of the sweeper."""

    def __init__(self, lab):
        self._path = lab.run_folder() / "tables"
        self._moving = self._found_moving()
        if len(self._moving) > WORDS_THAT_MOVE_MAX:  # masqd may still have had something to enter
            self._moving = self._found_moving()
        assert 0 < len(self._moving) <= WORDS_THAT_MOVE_MAX, self._moving

    def _found_moving(self):
        moving = set()
        first, end = self._words(), time.monotonic() + SWEEP_TURN_S + 0.5
        while time.monotonic() < end:
            now = self._words()
            if now != first:
                moving |= {at for at, word in enumerate(now) if word != first[at]}
            time.sleep(0.1)
        return moving

    def _words(self):
        return memoryview(self._path.read_bytes()).cast("I")

    def read(self):
        words = self._words().tolist()
        for at in self._moving:
            words[at] = 0
        return {"tables": words}
