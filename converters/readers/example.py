"""The wire format of `tf.train.Example`, read in place: bytes values stay views into the record.

    Example  { Features features = 1; }
    Features { map<string, Feature> feature = 1; }          an entry is { string key = 1; Feature value = 2; }
    Feature  { oneof { BytesList = 1; FloatList = 2; Int64List = 3; } }     each { repeated value = 1; }

What protobuf accepts gives what protobuf gives: fields in any order, unknown ones ignored, packed and single
numbers mixed, a key given twice counts the last time, a list given twice is appended to. What it does not accept
(and groups, which no writer of Examples makes) is a SourceError. Checked against protobuf in tests/test_tfrecord.py.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rdt_data.errors import SourceError

BYTES, FLOATS, INTS = 1, 2, 3
KINDS = {BYTES: "bytes", FLOATS: "floats", INTS: "integers"}
_BLOCK = 1 << 16  # bytes of packed integers decoded at a time
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_KEY_TAG, _VALUE_TAG = 1 << 3 | _LENGTH, 2 << 3 | _LENGTH

Span = tuple[int, int]
"""Where something lies in a message, [start, stop)."""


def parse_example(record: memoryview) -> dict[str, memoryview]:
    """Feature name → its `Feature` message, a view into `record`. The values are not looked at."""
    features: dict[str, memoryview] = {}
    for start, stop in _messages(record, (0, len(record)), 1):
        for begin, end in _messages(record, (start, stop), 1):
            name, value = _usual_entry(record, begin, end) or _entry(record, begin, end)
            features[name] = value
    return features


def _usual_entry(record: memoryview, begin: int, end: int) -> tuple[str, memoryview] | None:
    """A map entry as every writer makes it: a key of less than 128 bytes, then the value, nothing else."""
    key = begin + 2
    if end - begin < 4 or record[begin] != _KEY_TAG or record[begin + 1] > 127:
        return None
    value = key + record[begin + 1]
    if value >= end or record[value] != _VALUE_TAG:
        return None
    length, start = _varint(record, value + 1, end)
    return (_name(record[key:value]), record[start:end]) if start + length == end else None


def _entry(record: memoryview, begin: int, end: int) -> tuple[str, memoryview]:
    """A map entry as protobuf allows it."""
    keys = [record[slice(*span)] for span in _messages(record, (begin, end), 1)]
    values = [record[slice(*span)] for span in _messages(record, (begin, end), 2)]
    return _name(keys[-1]) if keys else "", values[0] if len(values) == 1 else memoryview(b"".join(values))


def kind(feature: memoryview) -> int | None:
    """Which list a Feature holds: BYTES, FLOATS or INTS; None when it holds none."""
    return _lists(feature)[0]


def count(feature: memoryview) -> int:
    """How many values a Feature holds, whatever their kind; bytes and integers are not decoded."""
    held, lists = _lists(feature)
    if held == FLOATS:
        return sum(end - begin for begin, end in _numbers(feature, lists, _FIXED32)) // 4
    if held == INTS:
        spans = _numbers(feature, lists, _VARINT)
        return sum(int(np.count_nonzero(np.frombuffer(feature[slice(*span)], np.uint8) < 128)) for span in spans)
    return sum(1 for span in lists for _ in _messages(feature, span, 1))


def byte_values(feature: memoryview) -> Iterator[memoryview]:
    """The values of a BytesList in order, views into the record."""
    for span in _lists_of(feature, BYTES):
        for begin, end in _messages(feature, span, 1):
            yield feature[begin:end]


def float_values(feature: memoryview) -> npt.NDArray[np.float32]:
    """The values of a FloatList, (n,); a view into the record when they lie together."""
    spans = list(_numbers(feature, _lists_of(feature, FLOATS), _FIXED32))
    for begin, end in spans:
        if (end - begin) % 4:
            raise _damaged(f"{end - begin} bytes of packed floats are not a multiple of 4", begin)
    parts = [np.frombuffer(feature[begin:end], "<f4") for begin, end in spans]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, "<f4"), *parts])


def int_values(feature: memoryview, dtype: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
    """The values of an Int64List, (n,), converted to the integer or bool type `dtype` as C does (modulo 2**bits)."""
    spans = _numbers(feature, _lists_of(feature, INTS), _VARINT)
    parts = [_varints(np.frombuffer(feature[begin:end], np.uint8), begin, np.dtype(dtype)) for begin, end in spans]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])


def _lists_of(feature: memoryview, wanted: int) -> list[Span]:
    held, lists = _lists(feature)
    if held not in (None, wanted) and any(end > begin for begin, end in lists):
        raise _wrong(f"it holds {KINDS[held]}, not {KINDS[wanted]}")
    return lists


def _lists(feature: memoryview) -> tuple[int | None, list[Span]]:
    """The kind that a Feature's oneof is left with, and the lists to put together."""
    held: int | None = None
    lists: list[Span] = []
    for number, wire, begin, end in _fields(feature, 0, len(feature)):
        if wire == _LENGTH and number in KINDS:
            lists = [*lists, (begin, end)] if number == held else [(begin, end)]
            held = number
    return held, lists


def _messages(data: memoryview, within: Span, wanted: int) -> Iterator[Span]:
    """The length-delimited fields with number `wanted`; a run of them at the start, the usual case, goes fast."""
    position, stop = within
    usual = wanted << 3 | _LENGTH
    while position < stop and data[position] == usual:
        if position + 1 < stop and data[position + 1] < 128:
            length, begin = data[position + 1], position + 2
        else:
            length, begin = _varint(data, position + 1, stop)
        position = begin + length
        if position > stop:
            raise _damaged(f"{position - stop} bytes are missing", begin)
        yield begin, position
    for number, wire, begin, end in _fields(data, position, stop):
        if number == wanted and wire == _LENGTH:
            yield begin, end


def _numbers(data: memoryview, lists: list[Span], single: int) -> Iterator[Span]:
    """The encoded numbers of lists: packed runs, and single ones of wire type `single`."""
    for start, stop in lists:
        for number, wire, begin, end in _fields(data, start, stop):
            if number == 1 and wire in (_LENGTH, single):
                yield begin, end


def _fields(data: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Every field of the message in [start, stop): its number, its wire type, and where its content lies."""
    position = start
    while position < stop:
        tag, begin = _varint(data, position, stop)
        number, wire = tag >> 3, tag & 7
        if wire == _LENGTH:
            length, begin = _varint(data, begin, stop)
            end = begin + length
        elif wire == _VARINT:
            _, end = _varint(data, begin, stop)
        elif wire in (_FIXED32, _FIXED64):
            end = begin + (4 if wire == _FIXED32 else 8)
        else:
            raise _damaged(f"unknown wire type {wire}", position)
        if number == 0 or end > stop:
            raise _damaged("field number 0" if number == 0 else f"{end - stop} bytes are missing", position)
        yield number, wire, begin, end
        position = end


def _varint(data: memoryview, position: int, stop: int) -> tuple[int, int]:
    """An unsigned varint and the position behind it; the usual ones, below 2**21, go fast."""
    if position + 3 <= stop:
        low, mid, high = data[position], data[position + 1], data[position + 2]
        if low < 128:
            return low, position + 1
        if mid < 128:
            return low & 127 | mid << 7, position + 2
        if high < 128:
            return low & 127 | (mid & 127) << 7 | high << 14, position + 3
    value = 0
    for shift in range(0, 70, 7):
        if position >= stop:
            raise _damaged("it ends inside a number", position)
        byte: int = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise _damaged("a number of more than 10 bytes", position)


def _varints(raw: npt.NDArray[np.uint8], position: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decode varints that lie together, block by block to keep memory low: raw (bytes,) → (n,)."""
    last = raw < 128  # marks the last byte of each
    if last.all():
        return raw.astype(dtype)
    if not last[-1]:
        raise _damaged("it ends inside a number", position)
    values, done, start = np.empty(np.count_nonzero(last), dtype), 0, 0
    while start < len(raw):
        block = raw[start : start + _BLOCK]
        ends = np.flatnonzero(block < 128)
        if not len(ends) or np.diff(ends, prepend=-1).max() > 10:
            raise _damaged("a number of more than 10 bytes", position + start)
        block = block[: ends[-1] + 1]
        values[done : done + len(ends)] = _decode(block, ends)
        done, start = done + len(ends), start + len(block)
    return values


def _decode(block: npt.NDArray[np.uint8], ends: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Varints of at most 10 bytes whose last bytes are at `ends`: block (bytes,), ends (n,) → (n,)."""
    first = np.concatenate([[0], ends[:-1] + 1])
    shift = 7 * (np.arange(len(block)) - np.repeat(first, ends - first + 1))
    groups = (block & 127).astype(np.uint64) << shift.astype(np.uint64)
    return np.bitwise_or.reduceat(groups, first).view(np.int64)


def _name(key: memoryview) -> str:
    try:
        return str(key, "utf-8")
    except UnicodeDecodeError as error:
        raise _wrong(f"a feature name is not UTF-8: {bytes(key[:40])!r}") from error


def _damaged(what: str, position: int) -> SourceError:
    return _wrong(f"not a valid tf.train.Example: {what}, near byte {position}")


def _wrong(problem: str) -> SourceError:
    return SourceError(
        problem, remedy="check that this file holds tf.train.Example records as its features.json describes them"
    )
