"""Windows: what they hold, and what stands where the episode has no step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data.errors import RdtError
from rdt_data.window import WindowShape, nearest


def test_the_first_window_repeats_the_first_frame_and_the_last_window_the_last_action():
    shape = WindowShape(history=3, horizon=4)
    steps, real = shape.frames(0, 2, length=10)
    assert steps.tolist() == [0, 0, 0, 1]
    assert real.tolist() == [False, False, True, True]
    steps, real = shape.actions(8, 10, length=10)
    assert steps.tolist() == [8, 9, 9, 9, 9]
    assert real.tolist() == [True, True, False, False, False]


@given(st.integers(1, 5), st.integers(1, 70), st.integers(1, 100), st.data())
def test_each_window_of_a_run_is_a_slice_of_the_runs_steps(history, horizon, length, data):
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    shape = WindowShape(history, horizon)
    frames, frames_real = shape.frames(start, stop, length)
    actions, actions_real = shape.actions(start, stop, length)
    for i, t in enumerate(range(start, stop)):
        wanted = [max(t - back, 0) for back in reversed(range(history))]
        assert frames[i : i + history].tolist() == wanted
        assert frames_real[i : i + history].tolist() == [t - back >= 0 for back in reversed(range(history))]
        wanted = [min(t + ahead, length - 1) for ahead in range(horizon)]
        assert actions[i : i + horizon].tolist() == wanted
        assert actions_real[i : i + horizon].tolist() == [t + ahead < length for ahead in range(horizon)]


@given(st.integers(-50, 50), st.integers(1, 50), st.integers(1, 30))
def test_a_real_step_stands_for_itself(first, count, length):
    steps, real = nearest(first, first + count, length)
    assert (steps[real] == np.arange(first, first + count)[real]).all()
    assert ((steps >= 0) & (steps < length)).all()


@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_a_window_holds_the_present(shape):
    with pytest.raises(RdtError, match=r"(history|horizon)=0\n  fix: .* 1 or more"):
        WindowShape(*shape)
