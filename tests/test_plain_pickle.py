"""Reading pickles without unpickling: the same values as Python gives for plain data, and nothing else."""

import datetime
import io
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from converters.readers.plain_pickle import load, load_npy
from rdt_data.errors import SourceError

PROTOCOLS = range(6)
unpickled = pickle.loads

numbers = st_np.boolean_dtypes() | st_np.integer_dtypes(endianness="?") | st_np.floating_dtypes(endianness="?")
dtypes = numbers | st_np.unicode_string_dtypes() | st_np.byte_string_dtypes() | st_np.complex_number_dtypes()
arrays = st_np.arrays(numbers, st_np.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4))
scalars = dtypes.flatmap(lambda dtype: st_np.arrays(dtype, ())).map(lambda array: array[()])
hashables = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.tuples(st.text())
)


def object_array(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


plain = st.recursive(
    hashables | arrays | arrays.map(np.asfortranarray) | scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(hashables, inner)
        | st.dictionaries(st.text(), inner).map(OrderedDict)
        | st.sets(hashables)
        | st.frozensets(st.integers())
        | st.lists(inner, max_size=3).map(object_array)
    ),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    """Equal in type, value and dtype; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype == object:
            return all(map(same, a.flat, b.flat))
        return a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, set | frozenset):  # one with a NaN equals no other, and its order is not its own
        return sorted(map(repr, a)) == sorted(map(repr, b))
    return a == b or repr(a) == repr(b)


@given(value=plain, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_is_read_as_python_reads_it(value: Any, protocol: int):
    data = pickle.dumps(value, protocol)
    assert same(load(data), unpickled(data))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        {"language": {"ann": ["lift it"], "emb": np.ones((1, 4), np.float32)}, "info": {"indx": [(0, 64)]}},
        [{"actions": np.arange(7.0)}, {"actions": np.arange(7.0)}],  # one dtype object, used twice
        np.array([(1, 2.5), (3, 4.5)], [("x", "<i4"), ("y", ">f8")]),
        np.zeros(2, [("pose", "f4", (2, 3))]),
        np.array([["a", {"b": np.float32(1)}], [None, (b"",)]], object),
        np.array([["a", "b"], ["c", "d"]], object, order="F"),
        np.dtype(">u2"),
        {"native": np.zeros(1, "<f4"), "swapped": np.zeros(1, ">f4"), "type": np.dtype("<f4")},
        np.datetime64("2021-07-23T00:00:01", "ms"),
        np.array(["2021-07-23"], "M8[D]"),
        bytearray(b"ab"),
        datetime.datetime(2021, 7, 23, 1, 2, 3, 4),
        10**30,
        -(2**33),
    ],
)
def test_values_of_recordings(value: Any, protocol: int):
    data = pickle.dumps(value, protocol)
    assert same(load(data), unpickled(data))


def test_values_that_hold_each_other_stay_one():
    shared: list[Any] = [1]
    shared.append(shared)
    for protocol in PROTOCOLS:
        first, second = load(pickle.dumps([shared, shared], protocol))
        assert first is second is first[1]
    array = np.arange(3)
    a, b = load(pickle.dumps((array, array)))
    assert a is b


def test_names_of_older_numpy_and_python_are_known():
    data = pickle.dumps(np.arange(3), 2).replace(b"numpy._core", b"numpy.core")
    assert same(load(data), np.arange(3))
    python2 = b"\x80\x02U\x03ab\xe9q\x00."  # a byte string of Python 2
    assert load(python2) == "ab\xe9"


class Runs:
    """What an attacker pickles."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (Runs(os.system, "touch pwned"), f"{os.system.__module__}.system"),
        (Runs(eval, "1"), "eval"),
        (Runs(getattr, "a", "b"), "getattr"),
        (Runs(np.load, "a"), "numpy.load"),
        (Path("a"), "Path"),
        (complex(1, 2), "complex"),
        (np.ma.array([1]), "_mareconstruct"),
    ],
)
def test_whatever_a_file_wants_to_run_is_refused_by_name(
    attack: Any, named: str, protocol: int, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for value in (attack, {"data": [np.arange(2), attack]}):
        with pytest.raises(SourceError, match="this file wants to run .*" + named) as error:
            load(pickle.dumps(value, protocol))
        assert "leave the file out" in error.value.remedy
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"(S'touch pwned'\nios\nsystem\n.", "wants to run os.system"),
        (b"cos\nsystem\n(S'touch pwned'\ntR.", "wants to run os.system"),
        (b"\x80\x02cnumpy\nndarray\n.", "holds numpy.ndarray, which is no data"),
        (b"\x80\x02]cnumpy\nndarray\na.", "holds numpy.ndarray, which is no data"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "it is called like a function"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R.", "a dtype without its state"),
        (b"\x80\x02cnumpy\ndtype\nX\x03\x00\x00\x00f4,\x85R.", "no dtype of plain data"),
        (b"(0(l(2.", "not a sound pickle"),
        (b"(.", "holds the mark"),
        (b"Pfile\n.", "opcode PERSID"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
        (b"\x80\x02K\x01}b.", "int has no state"),
        (b"K\x01K\x02.", "leaves 2 values"),
        (b"}]K\x01s.", "unhashable"),
        (b"h\x05.", "BINGET"),
        (b"", "not a sound pickle"),
        (b"\xff\xd8\xff\xe0", "not a sound pickle"),
    ],
)
def test_hand_made_pickles_are_refused(data: bytes, problem: str):
    with pytest.raises(SourceError, match=problem):
        load(data)


def reduced(name: str, *arguments: Any) -> bytes:
    """A pickle that calls `name`."""
    return b"\x80\x02c" + name.encode() + b"\n" + pickletools.optimize(pickle.dumps(arguments, 2))[2:-1] + b"R."


FLOATS, OBJECTS = np.dtype("f8"), np.dtype(object)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (reduced("numpy.core.multiarray\nscalar", OBJECTS, b"12345678"), "a scalar of objects"),
        (pickle.dumps(np.zeros(1, [("a", object)])), "a structured dtype that holds objects"),
        (reduced("numpy.core.multiarray\nscalar", FLOATS, b"1234"), r"4 bytes cannot be \(\) of float64"),
        (reduced("numpy.core.numeric\n_frombuffer", b"12345678", OBJECTS, (1,), "C"), "cannot be made of bytes"),
        (reduced("numpy.core.numeric\n_frombuffer", b"12345678", FLOATS, (2,), "C"), "8 bytes cannot be"),
        (reduced("numpy.core.numeric\n_frombuffer", np.zeros(8), FLOATS, (8,), "C"), "made of bytes, not ndarray"),
        (reduced("numpy.core.numeric\n_frombuffer", b"12345678", FLOATS, (-1,), "C"), "no shape"),
    ],
)
def test_bytes_never_become_objects_nor_reach_past_their_end(data: bytes, problem: str):
    with pytest.raises(SourceError, match=problem):
        load(data)


def filled(*states: Any) -> bytes:
    """A pickle of an array that is given these states one after the other."""
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return empty + b"".join(pickletools.optimize(pickle.dumps(state, 2))[2:-1] + b"b" for state in states) + b"."


def test_the_state_of_an_array_must_fit():
    floats, objects = (1, (2,), FLOATS, False, b"0" * 16), (1, (2,), OBJECTS, False, ["a", "b"])
    assert load(filled(objects)).tolist() == ["a", "b"]
    for states, problem in [
        ([floats, floats], "filled twice"),
        ([(1, (3,), OBJECTS, False, ["a", "b"])], "needs a list of 3 elements"),
        ([(1, (2,), OBJECTS, False, b"0" * 16)], "needs a list of 2 elements"),
        ([(1, (3,), FLOATS, False, b"0" * 16)], r"16 bytes cannot be \(3,\) of float64"),
        ([(1, (2,), "f8", False, b"0" * 16)], "stands where a dtype belongs"),
    ]:
        with pytest.raises(SourceError, match=problem):
            load(filled(*states))


@given(value=plain, protocol=st.sampled_from(PROTOCOLS), cut=st.floats(0, 1, exclude_max=True))
def test_a_cut_pickle_is_refused(value: Any, protocol: int, cut: float):
    data = pickle.dumps(value, protocol)
    with pytest.raises(SourceError, match="not a sound pickle"):
        load(data[: int(cut * len(data))])


@given(data=st.binary() | st.binary().map(lambda end: b"\x80\x04" + end))
def test_any_bytes_give_plain_data_or_a_source_error(data: bytes):
    try:
        load(data)
    except SourceError:
        return


@given(
    data=st.sampled_from(
        [pickle.dumps([{"a": np.arange(3.0), "b": ("c", {1})}, np.array([None])], p) for p in PROTOCOLS]
    ),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_pickles_give_plain_data_or_a_source_error(data: bytes, flips: list[tuple[int, int]]):
    damaged = bytearray(data)
    for position, byte in flips:
        damaged[position % len(damaged)] = byte
    try:
        load(bytes(damaged))
    except SourceError:
        return


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "value", [{"a": {"b": np.arange(3)}}, np.arange(6.0).reshape(2, 3), object_array(["a", {"b": 1}])]
)
def test_npy_files(value: Any, tmp_path: Path):
    path = tmp_path / "a.npy"
    path.write_bytes(saved(value))
    assert same(load_npy(path), value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (saved({"a": np.arange(30)})[:-4], "not a sound pickle"),
        (saved(np.arange(30))[:-4], "not a sound .npy file"),
        (saved(np.arange(30))[:30], "not a sound .npy file"),
        (saved({"a": Runs(os.system, "x")}), "wants to run posix.system"),
        (saved(object_array([1, 2])).replace(b"(2,)", b"(3,)"), r"says an array of shape \(3,\)"),
        (pickle.dumps({}), "no .npy file"),
        (None, "cannot be read: No such file"),
    ],
)
def test_npy_files_that_are_not_sound_are_refused(data: bytes | None, problem: str, tmp_path: Path):
    path = tmp_path / "a.npy"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SourceError, match=problem):
        load_npy(path)


def test_a_real_pickled_trajectory(shared: Path):
    paths = sorted((shared / "goldens/bridgev2/source").rglob("*.pkl"))
    assert paths
    for path in paths:
        data = path.read_bytes()
        assert same(load(data), unpickled(data))
