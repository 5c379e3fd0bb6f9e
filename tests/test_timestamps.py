"""Timestamps: what is measured of them, where they come from, and that every store, old or new, says it rightly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import converters.plan
from converters.checks.check import check_spec
from converters.clock import ClockReader
from converters.drafts.draft import draft_spec
from converters.exports.export import export_store
from converters.plan import Request
from converters.readers import bridge_raw
from converters.run import convert_dataset
from converters.spec import parse_spec
from converters.verify import verify_store
from rdt_data.clock import COLUMNS, TICKS, Clock, columns_of, measure
from rdt_data.errors import SourceError, SpecError
from rdt_data.merge import merge_stores
from rdt_data.store import open_dataset
from stats.lint import lint

HZ, STEPS = 20, 40
SPEC = """
title: An arm with a clock
reader: hdf5
control_hz: 20
timestamps: {from: time_ns, unit: ns}
instruction: {text: Wave.}
state:
  - {from: joints, cols: [0, 6], unit: rad, to: right_arm_joint_pos}
"""
NAMES = ("timestamp_rate", "timestamp_gap", "timestamp_order")


def even(hz: float = HZ, start: int = 1_764_000_000_000_000_000) -> np.ndarray:
    """Nanoseconds since 1970."""
    return start + np.arange(STEPS) * round(1e9 / hz)


def lost(after: int, seconds: float) -> np.ndarray:
    times = even()
    times[after + 1 :] += round(1e9 * seconds)
    return times


def swapped(step: int) -> np.ndarray:
    times = even()
    times[[step - 1, step]] = times[[step, step - 1]]
    return times


def source(folder: Path, clocks: list[Any], key: str = "time_ns") -> Path:
    """An HDF5 file for each clock; None: without one."""
    folder.mkdir(parents=True)
    for number, times in enumerate(clocks):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file["joints"] = (
                np.random.default_rng(number).normal(size=(STEPS, 6)).cumsum(axis=0).astype(np.float32) / 50
            )
            if times is not None:
                file[key] = times
    return folder


def spec(*edits: tuple[str, str]) -> Any:
    text = SPEC
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return parse_spec(text, "lab/clocked.yaml")


OPTIONAL = ("unit: ns}", "unit: ns, optional: true}")


def converted(recordings: Path, dest: Path, *edits: tuple[str, str], workers: int = 1) -> Path:
    convert_dataset(recordings, dest, Request.of(spec(*edits)), workers=workers)
    return dest


@given(
    hz=st.sampled_from([3, 5, 12.5, 30, 50, 200]),
    unit=st.sampled_from(list(TICKS)),
    start=st.floats(0, 1e4),
    steps=st.integers(2, 60),
)
def test_an_even_clock_gives_its_rate_in_any_unit_from_any_start(hz, unit, start, steps):
    clock = measure((start + np.arange(steps) / hz) * TICKS[unit], unit)
    assert clock.measured_hz == pytest.approx(hz, rel=1e-6)
    assert clock.largest_gap == pytest.approx(1 / hz, rel=1e-6)
    assert (clock.clock_faults, clock.clock_fault_step) == (0, -1)
    assert clock.known


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_nanoseconds_since_1970_are_compared_exactly(kind):
    times = even().astype(kind)
    times[7] += 1  # a float64 cannot tell
    assert measure(times, "ns") == Clock(20.0, 0.050000001, 6, 0, -1)


@given(times=st.lists(st.integers(0, 2**63 - 1), max_size=9), up=st.integers(0, 2**63))
def test_unsigned_times_beyond_the_signed_range_are_those_below_it(times, up):
    below, above = np.array(times, np.uint64), np.array([time + up for time in times], np.uint64)
    assert measure(above, "ns").same(measure(below, "ns"))


NAN = np.nan
BROKEN: dict[str, tuple[list[float], Clock]] = {
    "no step": ([], Clock()),
    "one step": ([5.0], Clock()),
    "a gap": ([0, 1, 2, 6, 7], Clock(1.0, 4.0, 2, 0, -1)),
    "jitter": ([0, 0.9, 2, 3.1, 4], Clock(1.0, 1.1, 1, 0, -1)),
    "a time twice": ([0, 1, 1, 2, 3], Clock(1.0, 1.0, 0, 1, 2)),
    "set back": ([0, 1, 2, 0, 1], Clock(1.0, 1.0, 0, 1, 3)),
    "no number": ([0, NAN, 2, 3, 4], Clock(1.0, 1.0, 2, 1, 1)),
    "no number at first": ([np.inf, 1, 2, 3, 4], Clock(1.0, 1.0, 1, 1, 0)),
    "no number at all": ([NAN, NAN, NAN], Clock(NAN, NAN, -1, 3, 0)),
    "standing still": ([3, 3, 3], Clock(NAN, NAN, -1, 2, 1)),
    "mostly standing still": ([3, 3, 3, 4], Clock(NAN, 1.0, 2, 2, 1)),
    "backwards": ([3, 2, 1], Clock(NAN, NAN, -1, 2, 1)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_clock_is_measured_as_it_is(what):
    times, expected = BROKEN[what]
    got = measure(np.array(times, np.float64), "s")
    assert all(isinstance(value, float | int) for value in (got.measured_hz, got.largest_gap_step))
    np.testing.assert_allclose([getattr(got, n) for n in COLUMNS], [getattr(expected, n) for n in COLUMNS], atol=1e-9)
    assert got.known == (what not in ("no step", "one step"))


def test_seconds_since_1970_in_float32_stand_still():
    clock = measure((1.764e9 + np.arange(STEPS) / HZ).astype(np.float32), "s")
    assert np.isnan(clock.measured_hz)
    assert clock.clock_faults > STEPS / 2


def test_without_any_clock_nothing_is_stored():
    assert columns_of([Clock(), Clock()]) == {}
    assert set(columns_of([Clock(), Clock(20.0)])) == set(COLUMNS)


def test_the_short_form_means_seconds_that_must_be_there():
    short = spec(("{from: time_ns, unit: ns}", "time"))
    assert short.timestamps == spec(("time_ns, unit: ns", "time, unit: s, optional: false")).timestamps
    assert "timestamps       time in s\n" in str(short)
    assert "timestamps       time_ns in ns, optional\n" in str(spec(OPTIONAL))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("unit: ns", "unit: nanoseconds"), ["timestamps", "unit", "'nanoseconds'", "choose one of ms, ns, s, us"]),
        (("from: time_ns, unit", "form: time_ns, unit"), ["timestamps", "did you mean 'from'"]),
        (("{from: time_ns, unit: ns}", "[time]"), ["timestamps"]),
    ],
)
def test_what_is_wrong_in_a_spec_is_said(edit, said):
    with pytest.raises(SpecError) as caught:
        spec(edit)
    assert all(words in str(caught.value) for words in said), str(caught.value)


class Recorded:
    """A raw episode of these arrays."""

    number, name = 0, "episode_0"

    def __init__(self, **arrays: Any) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return STEPS

    def keys(self) -> list[str]:
        return sorted(self.arrays)

    def array(self, key: str) -> Any:
        if isinstance(self.arrays[key], str):
            raise SourceError("it is text", remedy="read it as text", field=key)
        return self.arrays[key]


def clock_of(edits: tuple[tuple[str, str], ...] = (), **arrays: Any) -> Clock:
    return ClockReader(spec(*edits))(Recorded(**arrays))


def test_what_the_spec_names_is_read_whatever_else_there_is():
    assert clock_of(time_ns=even(), timestamp=np.arange(STEPS)) == Clock(20.0, 0.05, 0, 0, -1)
    assert clock_of(time_ns=even().reshape(-1, 1)).measured_hz == 20.0


def test_what_the_spec_names_and_is_not_there_is_an_error_unless_it_is_optional():
    with pytest.raises(SourceError) as caught:
        clock_of(time_nss=even())
    assert caught.value.field == "time_ns"
    assert "did you mean 'time_nss'" in caught.value.remedy
    assert clock_of((OPTIONAL,), joints=np.zeros((STEPS, 6))).same(Clock())


@pytest.mark.parametrize(
    "value",
    [np.zeros((STEPS, 2)), np.zeros(STEPS - 1), np.zeros(STEPS, np.bool_), np.array(["12:30"] * STEPS), "12:30"],
)
def test_what_is_no_time_of_each_step_is_an_error_where_the_spec_names_it(value):
    with pytest.raises(SourceError) as caught:
        clock_of(time_ns=value)
    assert caught.value.field == "time_ns"
    assert caught.value.remedy


BRIDGE = (("reader: hdf5", "reader: bridge_raw"), ("timestamps: {from: time_ns, unit: ns}\n", ""))


def test_what_a_container_has_by_itself_is_used_where_it_is_fit():
    key, _ = bridge_raw.TIMESTAMPS
    assert clock_of(BRIDGE, **{key: np.arange(STEPS) / 5}).measured_hz == pytest.approx(5)
    for unfit in ("12:30", np.zeros((STEPS, 2)), np.array(["12:30"] * STEPS)):
        assert clock_of(BRIDGE, **{key: unfit}).same(Clock())
    assert clock_of(BRIDGE, joints=np.zeros((STEPS, 6))).same(Clock())
    own = (BRIDGE[0],)
    assert clock_of(own, **{key: np.arange(STEPS) / 5, "time_ns": even()}).measured_hz == 20.0


CLOCKS = {
    "good": even(),
    "half as fast": even(10),
    "late": lost(11, 0.9),
    "out of order": swapped(25),
    "none": None,
    "in ms": even() // 1_000_000,
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    return source(tmp_path_factory.mktemp("source") / "recordings", list(CLOCKS.values()))


@pytest.fixture(scope="module")
def store(recordings, tmp_path_factory) -> Path:
    return converted(recordings, tmp_path_factory.mktemp("store") / "clocked.zarr", OPTIONAL)


def test_a_store_keeps_what_was_measured_and_a_broken_clock_loses_no_episode(store):
    dataset = open_dataset(str(store))
    assert [episode.control_hz for episode in dataset] == [20.0] * 6
    rates = [episode.clock.measured_hz for episode in dataset]
    np.testing.assert_array_equal(rates, [20, 10, 20, 20, np.nan, 20e6])
    assert dataset[2].clock.largest_gap == pytest.approx(0.95)
    assert dataset[2].clock.largest_gap_step == 11
    assert (dataset[3].clock.clock_faults, dataset[3].clock.clock_fault_step) == (1, 25)
    assert dataset[4].clock.same(Clock())
    assert dataset.listed("quarantined") == []


def test_plain_zarr_reads_it(store):
    group = zarr.open_group(store, mode="r")["parts/0/episodes"]
    assert group["measured_hz"][:2].tolist() == [20.0, 10.0]
    assert {name: group[name].dtype for name in COLUMNS} == dict(COLUMNS)


def test_lint_lists_each_episode_that_is_not_right_and_says_why(store):
    found = lint(str(store), only=NAMES).findings
    assert [(finding.check, finding.episode, finding.step) for finding in found] == [
        ("timestamp_rate", 1, None),
        ("timestamp_rate", 5, None),
        ("timestamp_gap", 2, 11),
        ("timestamp_order", 3, 25),
    ]
    assert "run at 10 Hz" in found[0].value
    assert "20 Hz, as stated" in found[0].expected
    assert "unit of `timestamps`" in found[1].remedy
    assert "1e6" in found[1].remedy
    assert "19 periods" in found[2].value
    assert "1 of 40 times" in found[3].value


def test_the_bytes_are_the_same_for_any_number_of_workers(recordings, tmp_path, tree, monkeypatch):
    monkeypatch.setattr(converters.plan, "SMALLEST_PART", 1)
    one, two = (converted(recordings, tmp_path / f"{n}.zarr", OPTIONAL, workers=n) for n in (1, 2))
    assert len(open_dataset(str(one)).parts) > 2
    assert tree(one) == tree(two)
    timed = [open_dataset(str(one)).table(part).timed for part in range(len(open_dataset(str(one)).parts))]
    assert True in timed


def test_verify_measures_the_source_again(store, recordings, tmp_path):
    assert verify_store(str(store), recordings).problems == []
    other = converted(source(tmp_path / "other", [even(25), *list(CLOCKS.values())[1:]]), tmp_path / "o.zarr", OPTIONAL)
    problems = verify_store(str(other), recordings).problems
    assert any("what its timestamps say differs" in problem for problem in problems), problems


def test_a_store_without_timestamps_has_no_such_arrays_and_says_so(recordings, tmp_path):
    made = converted(recordings, tmp_path / "made.zarr", ("timestamps: {from: time_ns, unit: ns}\n", ""))
    assert not any(name in COLUMNS for name in zarr.open_group(made, mode="r")["parts/0/episodes"])
    assert all(episode.clock.same(Clock()) for episode in open_dataset(str(made)))
    report = lint(str(made))
    assert not {finding.check for finding in report.findings} & set(NAMES)
    assert all("timestamps in the source" in report.not_applicable[name] for name in NAMES)
    assert verify_store(str(made), recordings).problems == []


def test_a_store_from_before_they_were_looked_at_still_equals_its_source(recordings, tmp_path, monkeypatch):
    by_reader = ("timestamps: {from: time_ns, unit: ns}\n", "")
    made = converted(recordings, tmp_path / "old.zarr", by_reader)
    monkeypatch.setattr(
        "converters.readers.hdf5.TIMESTAMPS", ("time_ns", "ns")
    )  # as if the reader had learned it since
    assert verify_store(str(made), recordings).problems == []
    new = converted(recordings, tmp_path / "new.zarr", by_reader)
    assert open_dataset(str(new))[0].clock.measured_hz == 20.0
    report = merge_stores([str(made), str(new)], tmp_path / "both.zarr")
    assert report.episodes == 12
    both = open_dataset(str(tmp_path / "both.zarr"))
    np.testing.assert_array_equal([e.clock.measured_hz for e in both][5:9], [np.nan, 20, 10, 20])
    assert {finding.episode for finding in lint(str(tmp_path / "both.zarr"), only=NAMES).findings} == {7, 8, 9, 11}


def test_exports_carry_it(store, tmp_path):
    export_store(str(store), tmp_path / "flat", "parquet")
    flat = pq.read_table(tmp_path / "flat/episodes.parquet").to_pydict()
    assert flat["measured_hz"] == [20, 10, 20, 20, None, 20e6]
    assert flat["clock_faults"] == [0, 0, 0, 1, None, 0]
    assert flat["clock_fault_step"] == [None, None, None, 25, None, None]
    assert flat["largest_gap_step"][2] == 11
    export_store(str(store), tmp_path / "lerobot", "lerobot")
    (path,) = (tmp_path / "lerobot/meta/episodes").glob("*/*.parquet")
    episodes = pq.read_table(path).to_pydict()
    np.testing.assert_array_equal(episodes["rdt/measured_hz"], [20, 10, 20, 20, np.nan, 20e6])
    assert episodes["rdt/clock_fault_step"] == [-1, -1, -1, 25, -1, -1]
    assert pq.read_schema(path).field("rdt/largest_gap").type == "double"


def test_a_lerobot_dataset_is_timed_without_a_word_in_its_spec(store, tmp_path):
    export_store(str(store), tmp_path / "lerobot", "lerobot")
    text = (tmp_path / "lerobot/meta/rdt_spec.yaml").read_text()
    for hz, checks in ((20, set()), (25, {"timestamp_rate"})):
        stated = parse_spec(text.replace("control_hz: 20", f"control_hz: {hz}"), "lab/back.yaml")
        convert_dataset(tmp_path / "lerobot", tmp_path / f"{hz}.zarr", Request.of(stated))
        back = open_dataset(str(tmp_path / f"{hz}.zarr"))
        np.testing.assert_allclose([episode.clock.measured_hz for episode in back], 20, rtol=1e-4)
        assert {finding.check for finding in lint(back.url, only=NAMES).findings} == checks


def test_inspect_shows_the_measured_rate(store, recordings, tmp_path, command):
    assert "20 Hz, by the timestamps 10 to 2e+07 Hz" in command("inspect", store).out
    one = converted(source(tmp_path / "one", [even(19.8)]), tmp_path / "one.zarr")
    assert "20 Hz, by the timestamps 19.8 Hz" in command("inspect", one).out


@pytest.mark.parametrize("unit", list(TICKS))
def test_a_draft_proposes_the_value_that_looks_like_time(tmp_path, unit):
    times = even(start=0) * (TICKS[unit] / 1e9)
    made = source(tmp_path / "one", [times, times, None], key="obs/timestamp")
    text = draft_spec(made).text
    assert f"timestamps: {{from: obs/timestamp, unit: {unit}, optional: true}}" in text
    assert "control_hz: 20\n" in text
    assert "timestamps" not in draft_spec(source(tmp_path / "two", [None])).text


def checked(tmp_path: Path, times: Any, *edits: tuple[str, str]) -> list[tuple[str, str, str]]:
    findings = check_spec(spec(*edits), source(tmp_path / "recordings", [times] * 2)).findings
    return [(found.where, found.problem, found.remedy) for found in findings if "time_ns" in found.problem]


CHECKED: dict[str, tuple[Callable[[], Any], tuple[tuple[str, str], ...], str, str, str]] = {
    "the rate": (lambda: even(30), (), "control_hz", "runs at 30 Hz", "control_hz: 30"),
    "the unit": (even, (("unit: ns", "unit: ms"),), "timestamps", "when it is in ms", "unit: ns"),
    "a fault": (lambda: swapped(9), (), "timestamps", "2 of 80 times", "lint"),
}


@pytest.mark.parametrize("what", CHECKED)
def test_spec_check_compares_the_rate_with_the_named_timestamps(tmp_path, what):
    times, edits, where, problem, remedy = CHECKED[what]
    ((found_where, found_problem, found_remedy),) = checked(tmp_path, times(), *edits)
    assert found_where == where
    assert problem in found_problem
    assert remedy in found_remedy


def test_spec_check_is_silent_about_a_clock_that_fits(tmp_path):
    assert checked(tmp_path, even()) == []
