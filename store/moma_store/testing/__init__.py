"""Faults for tests of the store and of whatever uses it.

A store takes its file system as an argument (``Store.open(path, files=…)``). Those here refuse
calls, stop the process at one, or record everything, so that a power cut can be simulated at any
moment and with any of what was not forced to disk lost.
"""

from moma_store.testing.damage import count_bits, flip_bit, truncate
from moma_store.testing.faults import FaultyFiles
from moma_store.testing.power import Disk, Event, EventKind, RecordingFiles

__all__ = [
    "Disk",
    "Event",
    "EventKind",
    "FaultyFiles",
    "RecordingFiles",
    "count_bits",
    "flip_bit",
    "truncate",
]
