"""Parquet: each type as NumPy or as a list, any range of rows, only what is asked for; files and columns that do not fit."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdt_data import parquet
from rdt_data.errors import SourceError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

COLUMNS = {
    "float": (pa.array([0.5, 1.5], pa.float32()), np.array([0.5, 1.5], np.float32)),
    "int": (pa.array([3, 4], pa.int64()), np.array([3, 4])),
    "flag": (pa.array([True, False]), np.array([True, False])),
    "fixed": (pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)), np.array([[1, 2], [3, 4]], np.float32)),
    "list": (pa.array([[1, 2], [3, 4]], pa.list_(pa.float64())), np.array([[1.0, 2], [3, 4]])),
    "large list": (pa.array([[1], [3]], pa.large_list(pa.int32())), np.array([[1], [3]], np.int32)),
    "nested": (pa.array([[[1, 2]], [[3, 4]]], pa.list_(pa.list_(pa.int8()))), np.array([[[1, 2]], [[3, 4]]], np.int8)),
    "missing float": (pa.array([0.5, None], pa.float64()), np.array([0.5, np.nan])),
    "text": (pa.array(["a", None]), ["a", None]),
    "category": (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    "texts": (pa.array([["a", "b"], []], pa.list_(pa.string())), [["a", "b"], []]),
    "bytes": (pa.array([b"a", None], pa.binary()), [b"a", None]),
    "image": (pa.array([{"bytes": b"png", "path": "a.png"}, {"bytes": None, "path": "b.png"}], IMAGE), [b"png", None]),
}
"""Two rows of each kind of column → what is read."""


def write(path, table, **options):
    pq.write_table(pa.table(table), path, **options)
    return path


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_kind_of_column_reads_as_numbers_text_or_bytes(tmp_path, kind):
    stored, expected = COLUMNS[kind]
    values = parquet.read(write(tmp_path / "t.parquet", {kind: stored}))[kind]
    if isinstance(expected, np.ndarray):
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)
    else:
        assert values == expected


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_part_of_any_column_is_that_part_of_the_whole(tmp_path, kind):
    path = write(tmp_path / "t.parquet", {kind: COLUMNS[kind][0]})
    (whole,), (part,), (none,) = (parquet.read(path, [kind], 0, n).values() for n in (2, 1, 0))
    np.testing.assert_array_equal(part, whole[:1])
    assert len(none) == 0
    assert len(list(parquet.iterate(path, kind))) == 2


def test_lists_of_different_widths_stay_a_list(tmp_path):
    path = write(tmp_path / "t.parquet", {"x": pa.array([[1.0], [2.0, 3.0], []])})
    assert [row.tolist() for row in parquet.read(path)["x"]] == [[1.0], [2.0, 3.0], []]
    assert [row.tolist() for row in parquet.read(path, ["x"], 1)["x"]] == [[2.0, 3.0], []]


def test_columns_and_rows_are_known_from_the_footer(tmp_path):
    path = write(tmp_path / "t.parquet", {name: COLUMNS[name][0] for name in ("float", "fixed", "text", "image")})
    assert parquet.rows(path) == 2
    assert parquet.columns(path) == {
        "float": "float",
        "fixed": "fixed_size_list<element: float>[2]",
        "text": "string",
        "image": "image",
    }


@given(data=st.data(), total=st.integers(0, 40), group=st.integers(1, 12), batch=st.integers(1, 9))
def test_any_range_over_any_row_groups_is_that_slice(tmp_path_factory, data, total, group, batch):
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    numbers = np.arange(2 * total, dtype=np.float32).reshape(total, 2)
    column = pa.array(numbers.tolist(), pa.list_(pa.float32(), 2))
    path = write(tmp_path_factory.mktemp("p") / "t.parquet", {"x": column}, row_group_size=group)
    np.testing.assert_array_equal(parquet.read(path, ["x"], start, stop)["x"], numbers[start:stop])
    rows = list(parquet.iterate(path, "x", start, stop, batch=batch))
    np.testing.assert_array_equal(np.array(rows).reshape(-1, 2), numbers[start:stop])


def test_only_the_row_groups_and_columns_asked_for_are_read(tmp_path):
    numbers = np.random.default_rng(0).normal(size=300)
    path = write(
        tmp_path / "t.parquet",
        {"a": numbers, "b": numbers},
        row_group_size=100,
        compression="none",
        use_dictionary=False,
    )
    data = bytearray(path.read_bytes())
    for group, column in ((0, 0), (1, 1)):
        chunk = pq.ParquetFile(path).metadata.row_group(group).column(column)
        data[chunk.data_page_offset : chunk.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    np.testing.assert_array_equal(parquet.read(path, ["a"], 100, 300)["a"], numbers[100:])
    np.testing.assert_array_equal(list(parquet.iterate(path, "b", 200)), numbers[200:])
    for name, start in (("a", 99), ("b", 100)):
        with pytest.raises(SourceError, match=r"Parquet cannot read t\.parquet"):
            parquet.read(path, [name], start, 110)


def test_what_cannot_be_read_says_what_and_where(tmp_path):
    path = write(
        tmp_path / "t.parquet",
        {
            "count": pa.array([1, None, 3]),
            "pair": pa.array([[1.0], None, [2.0]], pa.list_(pa.float64())),
            "when": pa.array([0, 1, 2], pa.date32()),
        },
    )
    for name, problem in {
        "count": "1 values are missing, the first is number 1",
        "pair": "1 values are missing, the first is number 1",
        "when": "its type is date32",
        "counts": "no column of t.parquet is called 'counts'",
    }.items():
        with pytest.raises(SourceError, match=problem) as caught:
            parquet.read(path, [name])
        assert caught.value.field == name
    assert "did you mean 'count'?" in caught.value.remedy
    with pytest.raises(SourceError, match=r"t\.parquet has 3 rows; rows 2 to 5 are asked for"):
        parquet.read(path, ["when"], 2, 5)


@pytest.mark.parametrize(
    "read", [parquet.columns, parquet.rows, parquet.read, lambda path: next(parquet.iterate(path, "x"))]
)
def test_what_is_no_whole_parquet_file_is_an_error(tmp_path, read):
    whole = write(tmp_path / "t.parquet", {"x": np.arange(100)}).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    for name in ("cut", "text"):
        with pytest.raises(SourceError, match=rf"Parquet cannot read {name}\.parquet") as caught:
            read(tmp_path / f"{name}.parquet")
        assert "quarantine" in caught.value.remedy
    with pytest.raises(SourceError, match="is not there"):
        read(tmp_path / "absent.parquet")
