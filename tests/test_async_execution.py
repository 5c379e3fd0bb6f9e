"""Asynchronous execution: committed actions are done as they were promised, latency decides how many, nobody stands still."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.errors import RdtError
from rdt_model.async_execution import REMEMBERED, ChunkRunner, ChunkSchedule, Pace


def drawn(number, horizon, plan, committed):
    """A chunk as a policy in-paints it: its own numbers, the committed ones as they were given."""
    chunk = np.random.default_rng(number).normal(size=(horizon, 2)).astype(np.float32)
    if plan is not None:
        chunk[:committed] = plan[:committed]
    return chunk


def simulate(pace, horizon, latencies, steps):
    """A control loop in which nothing takes time but chunks: what was done, what was promised, where it stood still."""
    schedule, done, promised, still, open_ = ChunkSchedule(pace), [], {}, [], None
    for step in range(steps):
        if open_ is not None and step / pace.control_hz >= open_[2] - 1e-9:
            schedule.answer(*open_[:2], open_[3], step)
            open_ = None
        if open_ is None and (question := schedule.question(step)) is not None:
            number = len(promised)
            seconds = latencies[number % len(latencies)]
            plan, committed = question.plan, question.committed
            promised[step] = () if plan is None else tuple(map(tuple, plan[:committed]))
            open_ = question, drawn(number, horizon, plan, committed), step / pace.control_hz + seconds, seconds
        action = schedule.action(step)
        if action is None:  # the robot stands still, and time passes
            still.append(step)
            schedule.answer(*open_[:2], open_[3], step)
            open_, action = None, schedule.action(step)
        done.append(tuple(action))
    return schedule, done, promised, still


PACES = st.builds(Pace, every=st.integers(1, 12), control_hz=st.just(10.0), blend=st.integers(0, 4))


@given(PACES, st.integers(12, 20), st.lists(st.floats(0.001, 0.4), min_size=1, max_size=8))
def test_what_was_committed_is_done_to_the_bit(pace, horizon, latencies):
    _, done, promised, _ = simulate(pace, horizon, latencies, steps=60)
    for step, actions in promised.items():
        if step + len(actions) <= len(done):
            assert tuple(done[step : step + len(actions)]) == actions


@given(PACES, st.integers(12, 20), st.floats(0.01, 1))
def test_with_a_latency_of_at_most_half_a_chunk_nobody_stands_still_after_the_first_one(pace, horizon, share):
    latency = share * (horizon // 2) / pace.control_hz
    schedule, _, _, still = simulate(pace, horizon, [latency], steps=80)
    assert still == [0]
    assert schedule.late == 0, "as many were committed as were done in the meantime"


def test_latency_decides_how_many_actions_are_committed():
    for latency, expected in ((0.001, 1), (0.1, 1), (0.101, 2), (0.39, 4), (0.4, 4)):
        schedule, _, promised, _ = simulate(Pace(6, control_hz=10.0), 16, [latency], steps=40)
        counts = [len(actions) for actions in promised.values()]
        assert counts[0] == 0, "there is nothing to commit at first"
        assert set(counts[1:]) == {expected} == {schedule.committed}


def test_the_longest_of_the_last_latencies_counts():
    schedule = ChunkSchedule(Pace(4, control_hz=10.0))
    chunk = np.zeros((16, 2), np.float32)
    counted = []
    for number in range(REMEMBERED + 2):
        question = schedule.question(4 * number)
        schedule.answer(question, chunk, 0.55 if number == 0 else 0.05, 4 * number)
        counted.append(schedule.committed)
    assert counted == [6] * REMEMBERED + [1, 1]


def test_a_plan_holds_the_committed_actions_and_those_to_blend_as_far_as_the_chunk_reaches():
    schedule = ChunkSchedule(Pace(4, control_hz=10.0, blend=3))
    chunk = np.arange(20, dtype=np.float32).reshape(10, 2)
    schedule.answer(schedule.question(0), chunk, 0.15, 0)
    assert schedule.question(3) is None
    question = schedule.question(4)
    assert (question.step, question.committed) == (4, 2)
    np.testing.assert_array_equal(question.plan, chunk[4:9])
    np.testing.assert_array_equal(schedule.question(8).plan, chunk[8:])


def test_a_chunk_that_is_later_than_ever_is_counted_and_goes_on_in_step():
    pace = Pace(4, control_hz=10.0)
    schedule, done, _, still = simulate(pace, 16, [0.1, 0.1, 0.5, 0.1], steps=14)
    assert (schedule.late, still) == (1, [0])
    late = drawn(2, 16, np.array(done[8:9]), 1)
    assert done[13] == tuple(late[5]), "its first actions belong to steps that are over"


@given(st.integers(1, 8), st.floats(0.001, 0.5))
def test_blocking_stands_still_for_every_chunk_and_commits_nothing(every, latency):
    _, done, promised, still = simulate(Pace(every, control_hz=10.0, blocking=True), 8, [latency], steps=32)
    assert still == list(promised) == list(range(0, 32, every))
    assert not any(promised.values())
    assert done[every] == tuple(drawn(1, 8, None, 0)[0])


def run(pace, latency, steps, horizon=16):
    calls, done = [], []

    def infer(observation, plan, committed):
        calls.append(observation)
        time.sleep(latency)
        return drawn(len(calls) - 1, horizon, plan, committed)

    with ChunkRunner(infer, pace) as runner:
        began = time.perf_counter()
        for step in range(steps):
            done.append(runner.step(lambda step=step: step))
            time.sleep(max(0.0, began + runner.report.first_s + (step + 1) / pace.control_hz - time.perf_counter()))
        return runner.report, done, calls


def test_in_real_time_the_next_chunk_is_computed_while_the_last_one_runs():
    pace = Pace(6, control_hz=50.0)
    report, done, calls = run(pace, latency=0.05, steps=60)
    assert report.idle_s == 0.0
    assert report.first_s >= 0.05
    assert (report.steps, report.chunks, len(done)) == (60, len(calls), 60)
    assert all(count >= math.ceil(0.05 * 50) for count in report.committed[1:])
    assert calls[:2] == [0, 6], "what is seen is asked for only when it is needed"


def test_in_real_time_blocking_stands_still():
    report, _, calls = run(Pace(6, control_hz=50.0, blocking=True), latency=0.05, steps=18)
    assert calls == [0, 6, 12]
    assert report.idle_s >= 2 * 0.05
    assert report.committed == [0, 0, 0]


def test_an_error_of_the_policy_is_raised_to_who_steps_and_the_next_step_asks_again():
    broken = [True]

    def infer(observation, plan, committed):
        if broken[0]:
            raise RdtError("the camera is gone", remedy="plug it in")
        return drawn(0, 8, plan, committed)

    with ChunkRunner(infer, Pace(4, control_hz=10.0)) as runner:
        for _ in range(2):
            with pytest.raises(RdtError, match="the camera is gone"):
                runner.step(dict)
        broken[0] = False
        np.testing.assert_array_equal(runner.step(dict), drawn(0, 8, None, 0)[0])
        runner.reset()
        assert runner.report.steps == 0
        np.testing.assert_array_equal(runner.step(dict), drawn(0, 8, None, 0)[0])


def test_a_pace_that_cannot_be_is_refused():
    for wrong in ({"every": 0}, {"control_hz": 0.0}, {"control_hz": math.inf}, {"blend": -1}):
        with pytest.raises(RdtError, match="give at least 1 step"):
            Pace(**{"every": 4, "control_hz": 10.0, **wrong})
