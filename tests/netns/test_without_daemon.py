"""README.md says what still passes while the daemon is dead; here each kind is tried.

Whatever stops, stops closed: the watch over the outer net sees no inner address meanwhile, and
nobody comes in.
"""

import pytest

from conftest import WATCH_SNAP_BYTES
from frames import inner_addresses_in
from lab import Lab
from services import Services
from traffic import KNOCK, knocks
from without_daemon import (COLUMNS, KINDS, OFF, ON, column_in_readme, measure, table,
                            table_in_readme)


def test_readme_has_the_table_as_the_program_writes_it():
    columns = {name: {sentence: word == ON for sentence, word in column_in_readme(name).items()}
               for name in COLUMNS}
    assert table_in_readme() == table(columns)


@pytest.mark.parametrize("column", COLUMNS)
def test_readme_says_what_goes_on(column):
    datapath, dying = COLUMNS[column]
    with Lab(second_inner=True, datapath=datapath) as lab:
        Services(lab).nginx("S2")
        outside = lab.capture_gateway_outside(snap_bytes=WATCH_SNAP_BYTES)
        found = measure(lab, dying)
        assert not lab.processes("B", "masqd")
        inside = lab.capture("innet", "br0", "ip", snap_bytes=WATCH_SNAP_BYTES)
        for frame in knocks("S1"):
            lab.send_frame("S1", frame)
        came_in = [frame for frame in inside.stop().frames() if KNOCK in frame.data]
        assert not came_in, "somebody came in"
        assert outside.stop().dropped == 0 and outside.frames()
        assert not inner_addresses_in(outside)
    assert {sentence: ON if on else OFF for sentence, on in found.items()} == \
        column_in_readme(column)
    assert len(found) == len(KINDS)
