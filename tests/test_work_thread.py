"""Work beside the caller's own: nothing asked for is lost, nothing that went wrong is silent."""

import threading
import time

import pytest

from rdt_data.errors import RdtError
from rdt_model.background import Background
from rdt_model.work_thread import WorkThread


def test_a_closed_thread_has_done_all_and_handed_on_every_result():
    for _ in range(200):
        thread = WorkThread("test")
        begun = [thread.begin(lambda number=number: number) for number in range(3)]
        thread.close()
        assert all(one.done() for one in begun)
        assert [one.result()[0] for one in begun] == [0, 1, 2]


def test_the_end_of_the_background_waits_for_its_work():
    done = []
    with Background() as background:
        for number in range(3):
            background(lambda number=number: (time.sleep(0.02), done.append((number, threading.current_thread().name))))
    assert done == [(0, "checkpoint"), (1, "checkpoint"), (2, "checkpoint")]


def fail() -> None:
    raise RdtError("the disk is full", remedy="make room")


def in_background(*work, then=lambda: None) -> None:
    with Background() as background:
        for one in work:
            background(one)
        then()


def test_what_went_wrong_is_raised_by_the_next_work_or_at_the_end():
    with pytest.raises(RdtError, match="disk is full"):
        in_background(fail)
    later = []
    with pytest.raises(RdtError, match="disk is full"):
        in_background(fail, lambda: later.append(1))
    assert not later, "nothing is written after a checkpoint that was not"


def test_an_error_of_the_caller_is_not_replaced_and_the_work_is_still_done():
    done = []
    with pytest.raises(KeyError):
        in_background(lambda: (time.sleep(0.05), done.append(1), fail()), then=lambda: {}["mine"])
    assert done == [1]
