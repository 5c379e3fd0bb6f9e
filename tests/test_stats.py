"""Statistics of stores against NumPy on everything at once, whatever the parts, the workers and the order."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rdt_data import open_dataset
from rdt_data.episode import Episode, same_in_all_steps
from rdt_data.errors import StoreError
from rdt_data.layout import preferred_name
from rdt_data.ledger import Ledger, commit
from rdt_data.parts import PartWriter
from stats.compare import compare
from stats.document import PER_CENT
from stats.measure import as_json, combined, measure_stores
from stats.part_stats import QUANTITIES, PartStats, measure_part
from stats.published import published_entry
from stats.reducers import REDUCERS, STEP_REDUCERS, Lengths

USED = np.arange(128) < 8


def episode(number: int, steps: int, *, gaps: bool = False) -> Episode:
    """Adversarial columns: offset, constant, two-valued, heavy-tailed, zeros, tiny, one that jumps, one with gaps."""
    rng = np.random.default_rng(number)
    state, action = np.zeros((2, steps, 128), np.float32)
    for rows in (state, action):
        rows[:, 0] = 1e4 + rng.normal(size=steps) * 1e-2
        rows[:, 1] = 0.25
        rows[:, 2] = rng.integers(0, 2, steps)
        rows[:, 3] = rng.standard_cauchy(steps) ** 3
        rows[:, 4] = 0
        rows[:, 5] = rng.normal(size=steps) * 1e-20
        rows[:, 6] = np.cumsum(rng.normal(size=steps))
        rows[:, 7] = rng.normal(size=steps)
    mask = USED.copy()
    if gaps:
        mask = np.tile(USED, (steps, 1))
        mask[:, 7] = rng.random(steps) < 0.6
        state[~mask], action[~mask] = 0, 0
        mask = same_in_all_steps(mask)
    return Episode(f"e{number}", f"f#{number}", state, action, mask, mask, "Go.", "Go.", 10.0)


def make_store(dest: Path, parts: list[list[Episode]], *, robot: str = "arm", hz: float = 10.0) -> str:
    header = {"dataset": dest.stem, "control_hz": hz, "cameras": {}, "request": {}, "spec": {"robot": robot}, "spec_text": ""}  # fmt: skip
    with Ledger(dest, header, [{"sources": [str(n)]} for n in range(len(parts))]) as ledger:
        for number, episodes in enumerate(parts):
            writer = PartWriter(ledger.path(number), {})
            for one in episodes:
                writer.add(one, {})
            writer.close({"filtered": [], "quarantined": []})
            commit(ledger.path(number), dest, number)
        ledger.finish({"parts": [[len(part), sum(map(len, part))] for part in parts]})
    return str(dest)


EPISODES = [episode(n, steps, gaps=n % 3 == 0) for n, steps in enumerate([40, 1, 7, 300, 2, 1, 90, 13])]


def whole(episodes: list[Episode], what: str) -> list[np.ndarray]:
    """The valid values of each of the eight slots, float64, of all episodes together."""
    found: list[list[np.ndarray]] = [[] for _ in range(8)]
    for one in episodes:
        values = {"state": one.state, "action": one.action}
        x = (values["action"].astype(float) - values["state"]) if what == "action_minus_state" else values[what]
        there = np.broadcast_to(one.state_mask, one.state.shape)
        for slot in range(8):
            found[slot].append(x[there[:, slot], slot].astype(float))
    return [np.concatenate(parts) for parts in found]


@pytest.fixture
def store(tmp_path) -> str:
    return make_store(tmp_path / "made.zarr", [EPISODES[:3], EPISODES[3:4], EPISODES[4:]])


@pytest.mark.parametrize("what", ["state", "action", "action_minus_state"])
def test_every_number_is_numpys_on_the_concatenated_float64_arrays(store: str, what: str):
    (measured,) = measure_stores([store])
    slots = measured.document["stats"][what]
    assert [*slots] == [preferred_name(slot) for slot in range(8)]
    for x, found in zip(whole(EPISODES, what), slots.values(), strict=True):
        assert found["count"] == len(x)
        scale = np.abs(x).max()
        assert found["mean"] == pytest.approx(x.mean(), rel=1e-6, abs=1e-12 * scale)
        assert found["std"] == pytest.approx(np.std(x - x.mean()), rel=1e-6, abs=1e-30)
        assert (found["min"], found["max"]) == (x.min(), x.max())
        assert found["zero_fraction"] == np.mean(x == 0)
        true = np.quantile(x.astype(np.float32).astype(float), np.array(PER_CENT) / 100)
        got = np.array([*found["quantiles"].values()])
        assert (np.abs(got - true) <= found["quantile_error"] + 1e-9 * np.abs(true)).all()
        assert found["exact"]  # fewer than 4096 values
        assert sum(found["histogram"]["counts"]) == len(x)


def test_the_change_of_a_step_is_taken_within_an_episode_and_between_real_steps(store: str):
    (measured,) = measure_stores([store])
    for slot in range(8):
        changes = []
        for one in EPISODES:
            there = np.broadcast_to(one.state_mask, one.state.shape)[:, slot]
            both = there[1:] & there[:-1]
            changes.append(np.diff(one.state[:, slot].astype(float))[both])
        x = np.concatenate(changes)
        found = measured.document["stats"]["state"][preferred_name(slot)]["step"]
        assert found["count"] == len(x)
        assert found["mean"] == pytest.approx(x.mean(), rel=1e-6, abs=1e-12 * np.abs(x).max())
        assert found["std"] == pytest.approx(x.std(), rel=1e-6, abs=1e-30)
        assert found["max"] == np.abs(x).max()


def test_lengths_are_counted(store: str):
    found = measure_stores([store])[0].document["stats"]
    lengths = [len(one) for one in EPISODES]
    assert (found["episodes"], found["steps"]) == (len(lengths), sum(lengths))
    assert (found["lengths"]["min"], found["lengths"]["max"], found["lengths"]["mean"]) == (1, 300, np.mean(lengths))
    assert found["lengths"]["quantiles"]["50"] == np.median(lengths)


def test_any_split_into_parts_any_order_and_any_workers_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("stats.part_stats.ROWS", 37)  # pieces end within episodes
    splits = [[EPISODES], [[one] for one in EPISODES], [EPISODES[5:], EPISODES[:2], EPISODES[2:5]]]
    written = []
    for number, parts in enumerate(splits):
        url = make_store(tmp_path / str(number) / "made.zarr", parts)
        for workers in (1, 2) if number == 1 else (1,):
            for kept in (Path(url) / "stats" / "parts").glob("*"):
                kept.unlink()
            written.append(as_json(combined(measure_stores([url], workers=workers))))
    assert len(set(written)) == 1


@pytest.mark.parametrize("kind", [*REDUCERS, "lengths"])
def test_a_reducer_is_associative_commutative_and_is_restored(kind: str):
    rng = np.random.default_rng(0)
    data = [rng.standard_cauchy((1, n)) for n in (5, 1, 3000)]
    if kind == "lengths":
        x, y, z = (Lengths.of(np.abs(part[0]).astype(np.int64)) for part in data)
        together = Lengths.of(np.abs(np.concatenate(data, axis=1)[0]).astype(np.int64))
    else:
        x, y, z = (REDUCERS[kind].of_rows(part)[0] for part in data)
        together = REDUCERS[kind].of_rows(np.concatenate(data, axis=1))[0]
    sums = [(x + y) + z, x + (y + z), (z + x) + y, together, type(x).restored(json.loads(json.dumps(together.state())))]
    assert len({json.dumps(one.state()) for one in sums}) == 1


def test_the_statistics_of_a_part_are_restored_from_what_is_kept(store: str):
    stats = measure_part(open_dataset(store), 1)
    again = PartStats.restored(json.loads(json.dumps(stats.state())))
    assert again.state() == stats.state()
    assert {name: set(next(iter(columns.values()))) for name, columns in stats.columns.items()} == {
        name: set(reducers) for name, reducers in QUANTITIES.items()
    }
    assert set(STEP_REDUCERS) < set(REDUCERS)


def test_what_is_known_is_not_measured_again_and_damage_is_told(store: str):
    assert measure_stores([store])[0].parts_measured == 3
    assert measure_stores([store])[0].parts_measured == 0
    kept = sorted((Path(store) / "stats" / "parts").glob("*"))
    kept[0].unlink()
    assert measure_stores([store])[0].parts_measured == 1
    kept[0].write_text("{}")
    with pytest.raises(StoreError, match=r"is damaged[\s\S]*delete it"):
        measure_stores([store])


def test_groups_and_the_whole_are_the_sums_of_their_stores(tmp_path):
    urls = [
        make_store(tmp_path / "a.zarr", [EPISODES[:2]], robot="arm"),
        make_store(tmp_path / "b.zarr", [EPISODES[2:5]], robot="arm"),
        make_store(tmp_path / "c.zarr", [EPISODES[5:]], robot="other"),
    ]
    document = combined(measure_stores(urls))
    assert [*document["datasets"]] == ["a", "b", "c"]
    (one,) = measure_stores([make_store(tmp_path / "ab.zarr", [EPISODES[:5]])])
    assert document["groups"]["arm"] == one.document["stats"]
    (every,) = measure_stores([make_store(tmp_path / "abc.zarr", [EPISODES])])
    assert document["overall"] == every.document["stats"]


def test_the_published_statistics_are_those_of_the_published_code(store: str):
    """Its formulas, written out again: sums of all steps, slots that are not real being 0."""
    states = np.concatenate([one.state for one in EPISODES]).astype(float)
    large = np.abs(states) > 1e-8
    cut = np.where(large, states, 0)
    many = np.maximum(large.sum(0), 1)
    (measured,) = measure_stores([store])
    entry = published_entry("made", measured.stats)
    np.testing.assert_allclose(entry["state_mean"], states.mean(0), rtol=1e-9, atol=1e-12)
    for slot in range(8):  # in fractions: float64 would lose what an offset of 1e4 leaves of a std of 0.01
        x, m, steps = [Fraction(v) for v in cut[:, slot].tolist()], int(many[slot]), len(states)
        variance = sum(v * v for v in x) / m - (sum(x) / steps) ** 2 * Fraction(steps, m)
        assert entry["state_std"][slot] == pytest.approx(float(max(variance, 0)) ** 0.5, rel=1e-6, abs=1e-9)
    np.testing.assert_array_equal(entry["state_min"], states.min(0))
    np.testing.assert_array_equal(entry["state_max"], states.max(0))


def test_a_value_that_is_not_finite_is_refused_by_name(tmp_path):
    broken = replace(EPISODES[0], state=np.where(USED, np.float32("nan"), 0).astype(np.float32) * EPISODES[0].state)
    url = make_store(tmp_path / "made.zarr", [EPISODES[1:2], [broken]])
    with pytest.raises(StoreError, match=f"part 1: state of {preferred_name(0)} is not finite"):
        measure_stores([url])


def test_a_store_without_episodes_has_empty_statistics(tmp_path):
    found = measure_stores([make_store(tmp_path / "made.zarr", [[]])])[0].document["stats"]
    assert (found["episodes"], found["state"], found["lengths"]) == (0, {}, {})


def shifted(shift: float, *, slots: int = 8, steps: int = 400) -> Episode:
    rng = np.random.default_rng(9)
    mask = np.arange(128) < slots
    rows = np.where(mask, rng.normal(size=(steps, 128)) + shift, 0).astype(np.float32)
    rows[:, 7] = 0.5 if slots > 7 else 0  # constant
    return Episode("e", "f", rows, rows, mask, mask, "Go.", "Go.", 10.0)


@pytest.mark.parametrize(
    ("other", "hz", "verdict", "said"),
    [
        (shifted(0.0), 10.0, "safe", None),
        (shifted(1.5), 10.0, "check", "stds away"),
        (shifted(4.0), 10.0, "unsafe", "stds away"),
        (shifted(0.0, slots=9), 10.0, "unsafe", "A never had it"),
        (shifted(0.0, slots=7), 10.0, "check", "B lacks it"),
        (shifted(0.0), 5.0, "check", "control rate"),
        (replace(shifted(0.0), state=shifted(0.0).state + (np.arange(128) == 7).astype(np.float32)), 10.0, "unsafe", "constant in A"),
    ],
)  # fmt: skip
def test_a_comparison_gives_its_verdict_and_its_reason(tmp_path, other, hz, verdict, said):
    a = make_store(tmp_path / "a.zarr", [[shifted(0.0)]])
    b = make_store(tmp_path / "b.zarr", [[other]], hz=hz)
    result = compare(*measure_stores([a, b]))
    assert result.verdict == verdict
    assert (said is None) == (result.findings == [])
    if said:
        assert any(said in finding.problem for finding in result.findings)
        assert all(finding.expected for finding in result.findings)


def test_the_command_prints_writes_and_compares(tmp_path, command):
    a = make_store(tmp_path / "a.zarr", [[shifted(0.0)]])
    b = make_store(tmp_path / "b.zarr", [[shifted(4.0)]])
    shown = command("stats", a)
    assert (shown.code, "1 parts measured, 0 known" in shown.out) == (0, True)
    assert preferred_name(3) in shown.out
    assert json.loads((Path(a) / "stats" / "stats.json").read_text())["dataset"] == "a"
    assert command("stats", a, b, "--out", tmp_path / "all.json", "--json").json["overall"]["episodes"] == 2
    assert json.loads((tmp_path / "all.json").read_text())["groups"]["arm"]["steps"] == 800
    command("stats", a, "--out", tmp_path / "dataset_stat.json", "--format", "rdt")
    assert [*json.loads((tmp_path / "dataset_stat.json").read_text())] == ["a"]
    compared = command("stats", "compare", a, b)
    assert compared.code == 4
    assert "run on b: unsafe" in compared.out
    assert command("stats", "compare", a, a).code == 0
    assert command("stats", "compare", a, b, "--json").json["verdict"] == "unsafe"
    assert command("stats", "compare", a).code == 2
