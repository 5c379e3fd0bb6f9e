"""Workers: a function gives the same results in a loop and in processes, and no failure is silent."""

import math
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdt_data.errors import RdtError
from rdt_data.jobs import Workers

PID_OF_WORKER = "__import__('time').sleep(0.2) or __import__('os').getpid()"


@given(items=st.lists(st.integers(), max_size=20))
def test_a_loop_gives_the_results_in_order(items):
    with Workers() as workers:
        assert list(workers.map(operator.neg, items)) == [(n, -item) for n, item in enumerate(items)]


@settings(max_examples=3, deadline=None)
@given(items=st.lists(st.integers(), max_size=20), count=st.integers(2, 3))
def test_processes_give_the_same_results_in_any_order(items, count):
    with Workers(count) as workers:
        assert sorted(workers.map(operator.neg, items)) == [(n, -item) for n, item in enumerate(items)]


def test_workers_can_be_used_for_one_function_after_another():
    with Workers(2) as workers:
        assert dict(workers.map(operator.neg, [1, 2])) == {0: -1, 1: -2}
        assert dict(workers.map(str, [1, 2, 3])) == {0: "1", 1: "2", 2: "3"}


def test_results_come_as_they_are_finished():
    with Workers(2) as workers:
        assert [position for position, _ in workers.map(time.sleep, [0.4, 0.0])] == [1, 0]


def test_processes_work_at_the_same_time():
    with Workers(2) as workers:
        list(workers.map(abs, [0]))  # they have started
        began = time.monotonic()
        list(workers.map(time.sleep, [0.5, 0.5]))
        assert time.monotonic() - began < 0.9


@pytest.mark.parametrize("count", [1, 2])
def test_after_the_last_wanted_result_nothing_new_begins_and_what_has_begun_is_yielded(count):
    with Workers(count) as workers:
        found = dict(workers.map(operator.neg, range(100), until=lambda result: result == -5))
    assert found[5] == -5
    assert set(range(6)) <= set(found) <= set(range(6 + count - 1))


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_worker_is_refused(count):
    with pytest.raises(RdtError, match=f"{count} workers\n  fix: use --workers 1 or more"):
        Workers(count)


@pytest.mark.parametrize("item", [0, 1, 9])
def test_a_worker_that_dies_is_told(item):
    with pytest.raises(RdtError, match=r"a worker process died \(killed, or out of memory\)"), Workers(2) as workers:
        list(workers.map(os._exit, [item, item]))


def test_workers_of_which_one_has_died_run_nothing_more():
    with Workers(2) as workers:
        for function, items in ((os._exit, [1]), (abs, [1, 2, 3])):
            with pytest.raises(RdtError, match="a worker process died"):
                list(workers.map(function, items))


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_the_function_is_the_callers(count):
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"), Workers(count) as workers:
        list(workers.map(math.sqrt, [-1]))


def raise_after(workers: Workers, seconds: list[float], error: BaseException) -> None:
    """Raise when the first of some sleeps is over."""
    for _ in workers.map(time.sleep, seconds):
        raise error


def test_an_interruption_does_not_wait_for_what_is_running():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Workers(2) as workers:
        raise_after(workers, [0, 60, 60], KeyboardInterrupt())
    assert time.monotonic() - began < 10


def test_an_error_lets_what_is_running_finish():
    began = time.monotonic()
    with pytest.raises(RdtError, match="enough"), Workers(2) as workers, workers.stopped_first():
        raise_after(workers, [0, 0.5], RdtError("enough", remedy="none"))
    assert time.monotonic() - began >= 0.5


def test_an_interruption_ends_the_workers_before_outer_blocks_are_left():
    with Workers(2) as workers:
        pids = {pid for _, pid in workers.map(eval, [PID_OF_WORKER] * 2)}
        with pytest.raises(KeyboardInterrupt), workers.stopped_first():
            raise_after(workers, [0, 60, 60], KeyboardInterrupt())
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_process_with_threads_spawns_its_workers():
    """Forking a process with threads can copy a lock that nobody will ever release."""
    code = """
import operator, threading
from rdt_data.jobs import Workers

if __name__ == "__main__":
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with Workers(2) as workers:
        assert workers._pool.method == "spawn"
        print(sorted(workers.map(operator.neg, [1, 2])))
    stop.set()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[(0, -1), (1, -2)]\n"


def run_until_told(workers: Workers) -> None:
    while True:
        list(workers.map(abs, [1, 2]))


def test_a_worker_killed_while_it_waits_blocks_nobody():
    """With the shared queues of concurrent.futures the other worker, and with it this process, could wait for ever."""
    for victim in (0, 1, 0, 1):
        with Workers(2) as workers:
            list(workers.map(abs, [1, 2]))
            os.kill(workers._pool.pids[victim], signal.SIGKILL)
            with pytest.raises(RdtError, match="a worker process died"):
                run_until_told(workers)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379", "auto"])
def test_a_cluster_that_does_not_answer_is_told_at_once(address):
    if address == "auto" and any(
        stat.read_text().startswith("gcs_server") for stat in Path("/proc").glob("[0-9]*/comm")
    ):
        pytest.skip("another Ray runs on this machine, and would answer")
    began = time.monotonic()
    with pytest.raises(RdtError, match=f"no Ray cluster answers at {address} "), Workers(ray=address) as workers:
        list(workers.map(abs, [1]))
    assert time.monotonic() - began < 10
