"""How chunks become actions: receding horizon by definition, temporal ensembling against ACT's own arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.errors import RdtError
from rdt_model.execution import Chunks, Execution, ensemble, ensembling, receding

HORIZON = 6


def chunk(start, horizon=HORIZON):
    """Actions (H, 2) that tell which chunk and which step they are from."""
    return np.array([[start, start + n] for n in range(horizon)], np.float32)


def drive(execution, steps):
    """What is done at each step, (steps, 2), with a new chunk whenever one is due."""
    chunks, done = Chunks(execution), []
    for step in range(steps):
        if execution.plans_at(step):
            chunks.add(step, chunk(step))
        done.append(chunks.action(step))
    return np.array(done)


@given(st.integers(1, HORIZON))
def test_a_receding_horizon_does_the_first_actions_of_each_chunk(every):
    done = drive(receding(HORIZON, every), 20)
    np.testing.assert_array_equal(done[:, 1], np.arange(20), "each step's action is one that was meant for it")
    np.testing.assert_array_equal(done[:, 0], np.arange(20) // every * every, "from the newest chunk")


def test_by_default_whole_chunks_are_done_and_ensembling_asks_at_every_step():
    assert receding(HORIZON) == Execution(HORIZON)
    assert ensembling(HORIZON) == Execution(1, 0.01)


def act_as_published(horizon, steps, decay):
    """ACT's evaluation loop: a table of all chunks, a column of it at each step, weights from the oldest on."""
    table = np.full((steps, steps + horizon, 2), np.nan)
    done = []
    for step in range(steps):
        table[step, step : step + horizon] = chunk(step, horizon)
        column = table[:, step]
        actions = column[~np.isnan(column).any(axis=1)]
        weights = np.exp(-decay * np.arange(len(actions)))
        done.append((actions * (weights / weights.sum())[:, None]).sum(axis=0))
    return np.array(done)


@given(st.integers(1, 8), st.floats(0, 2))
def test_temporal_ensembling_is_what_act_does(horizon, decay):
    execution = ensembling(horizon, decay=decay)
    chunks, done = Chunks(execution), []
    for step in range(12):
        chunks.add(step, chunk(step, horizon))
        done.append(chunks.action(step))
    np.testing.assert_allclose(done, act_as_published(horizon, 12, decay), rtol=1e-5)


def test_the_oldest_chunk_weighs_most_and_a_large_decay_leaves_it_alone():
    old, new = np.array([0.0]), np.array([1.0])
    assert ensemble([old, new], 0.0) == pytest.approx(0.5)
    assert ensemble([old, new], 0.01)[0] == pytest.approx(np.exp(-0.01) / (1 + np.exp(-0.01)))
    assert ensemble([old, new], 50.0) == pytest.approx(0.0)


def test_ensembling_may_ask_less_often():
    done = drive(ensembling(HORIZON, every=3, decay=0.0), 9)
    np.testing.assert_allclose(done[:, 1], np.arange(9))
    np.testing.assert_allclose(done[:, 0], [0, 0, 0, 1.5, 1.5, 1.5, 4.5, 4.5, 4.5])


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 30))
def test_frames_are_wanted_where_a_chunk_that_is_asked_for_soon_is_shown_them(every, history, step):
    execution = Execution(every)
    shown = {plan - age for plan in range(0, 60, every) for age in range(history)}
    assert execution.sees_at(step, history) == (step in shown)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: receding(6, 7), "a new chunk every 7 steps, and a chunk has 6 actions"),
        (lambda: ensembling(6, 7), "a chunk has 6 actions"),
        (lambda: receding(6, 0), "a new chunk every 0 steps"),
        (lambda: ensembling(6, decay=-1.0), "decay -1"),
        (lambda: ensembling(6, decay=float("nan")), "decay nan"),
    ],
)
def test_what_cannot_be_executed_is_refused(make, told):
    with pytest.raises(RdtError, match=told):
        make()


def test_a_step_that_no_chunk_reaches_is_an_error():
    chunks = Chunks(receding(2))
    chunks.add(0, chunk(0, 2))
    with pytest.raises(RdtError, match="no chunk has an action for step 2"):
        chunks.action(2)
