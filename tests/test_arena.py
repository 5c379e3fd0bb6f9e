"""The arena: shared memory that others write into, of which nothing is left, however its processes end."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.arena import Arena, Attached, available
from rdt_data.errors import RdtError
from rdt_data.slot import SlotShape
from rdt_data.window import WindowShape

WRITE = """
import sys
from rdt_data.arena import Attached

arena = Attached(sys.argv[1], 3, 4096)
arena.slot(1)[:5] = b"hello"
"""


def test_another_process_writes_in_place_and_only_its_slot():
    arena = Arena(3, 4096)
    before = set(os.listdir("/dev/shm"))
    subprocess.run([sys.executable, "-c", WRITE, arena.address], check=True)
    assert bytes(arena.slot(1)[:6]) == b"hello\0"
    assert not any(arena.slot(0))
    assert not any(arena.slot(2))
    assert set(os.listdir("/dev/shm")) <= before, "nothing is ever there that could be left"
    arena.close()


def test_what_is_still_used_stays_valid_after_the_end():
    arena = Arena(1, 4096)
    row = np.frombuffer(arena.slot(0), np.uint8)
    row[:] = 7
    arena.close()
    arena.close()
    assert row.sum() == 7 * 4096


def test_an_arena_that_is_gone_is_told():
    arena = Arena(1, 4096)
    address = arena.address
    arena.close()
    with pytest.raises(RdtError, match=f"cannot be reached at {address}: No such file"):
        Attached(address, 1, 4096)


def test_memory_that_is_not_there_is_told_before_anything_is_taken():
    slots = available() // 4096 + 1_000_000
    with pytest.raises(
        RdtError, match=r"the feed needs [\d.]+ GB of shared memory: [\d.]+ GB of memory are available"
    ) as caught:
        Arena(slots, 4096)
    assert "shuffle_gb" in caught.value.remedy


@pytest.mark.parametrize("number", [-1, 3])
def test_there_is_no_slot_beyond_the_last(number):
    arena = Arena(3, 4096)
    with pytest.raises(IndexError, match="there are 3 slots"):
        arena.slot(number)
    arena.close()


@given(st.integers(1, 4), st.integers(1, 70), st.integers(1, 40), st.integers(0, 3), st.integers(1, 9))
def test_the_arrays_of_a_slot_do_not_overlap_and_fill_no_more_than_it(history, horizon, rows, cameras, size):
    shape = SlotShape(WindowShape(history, horizon), rows, ("exterior", "right_wrist", "left_wrist")[:cameras], size)
    memory = memoryview(bytearray(shape.bytes))
    slot = shape.over(memory)
    arrays = [getattr(slot, name) for name in slot.__slots__]
    for value, array in enumerate(arrays, 1):
        array[...] = value if array.dtype != np.bool_ else True
    for value, array in enumerate(arrays, 1):
        assert (array == (value if array.dtype != np.bool_ else True)).all()
    assert slot.images.shape == (rows + history - 1, cameras, size, size, 3)
    assert slot.action.shape == (rows + horizon - 1, 128)
    assert shape.bytes % 4096 == 0
