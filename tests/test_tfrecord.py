"""TFRecord framing and the Example wire format, against protobuf and against every kind of damage."""

import contextlib
import random
import subprocess
import sys

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.readers.example import (
    BYTES,
    FLOATS,
    INTS,
    byte_values,
    count,
    float_values,
    int_values,
    kind,
    parse_example,
)
from converters.readers.tfrecord import TFRecordFile, example_proto, masked_crc32c, write_records
from rdt_data.errors import SourceError

RECORDS = [b"first record", b"", b"the third \x00 record"]

# ---------------------------------------------------------------------------------------------- framing


def written(path, records=RECORDS):
    write_records(path, records)
    return path.read_bytes()


def read_all(path, expected=3):
    """What each record gives: its bytes, or the error."""
    outcomes = []
    file = TFRecordFile(path, expected)
    for number in range(expected):
        try:
            outcomes.append(bytes(file.read(number)))
        except SourceError as error:
            outcomes.append(error)
    file.close()
    return outcomes


def test_the_checksum_of_a_known_message_is_the_masked_crc32c_of_the_standard():
    crc = 0xE3069283  # CRC-32C of "123456789", RFC 3720 appendix
    expected = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    data = b"123456789"
    assert masked_crc32c(data) == masked_crc32c(bytearray(data)) == masked_crc32c(memoryview(data)) == expected
    assert masked_crc32c(b"") == masked_crc32c(memoryview(b"")) == 0xA282EAD8


@settings(deadline=None, max_examples=30)
@given(records=st.lists(st.binary(max_size=2000), max_size=6), seed=st.integers(0, 99))
def test_every_record_comes_back_in_any_order(tmp_path_factory, records, seed):
    path = tmp_path_factory.mktemp("records") / "file"
    write_records(path, records)
    numbers = list(range(len(records))) * 2
    random.Random(seed).shuffle(numbers)
    with contextlib.closing(TFRecordFile(path, len(records))) as file:
        assert all(bytes(file.read(number)) == records[number] for number in numbers)


def test_a_record_longer_than_a_piece_and_than_the_one_before_comes_back(tmp_path):
    big = [random.Random(0).randbytes(size) for size in (10, 1_000_000, 3, 1 << 18)]
    written(tmp_path / "file", big)
    assert read_all(tmp_path / "file", 4) == big


def test_a_record_is_read_only_and_shares_the_buffer_of_the_one_before(tmp_path):
    written(tmp_path / "file", [b"aaaa", b"bbbb"])
    file = TFRecordFile(tmp_path / "file", 2)
    first = file.read(0)
    assert first.readonly
    file.read(1)
    assert bytes(first) == b"bbbb"
    file.close()


def test_a_file_cut_anywhere_gives_the_whole_records_and_one_error_for_each_other(tmp_path):
    data = written(tmp_path / "file")
    ends = np.cumsum([16 + len(record) for record in RECORDS])
    for cut in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:cut])
        outcomes = read_all(tmp_path / "cut")
        whole = int(np.searchsorted(ends, cut, side="right"))
        assert outcomes[:whole] == RECORDS[:whole]
        start = int(ends[whole - 1]) if whole else 0
        what = (
            f"the file ends after {whole} of 3 records"
            if cut == start
            else f"the file ends {cut - start} bytes into record {whole} of 3"
        )
        assert what in outcomes[whole].problem
        for number in range(whole + 1, 3):
            assert f"record {number} cannot be reached: the file ends" in outcomes[number].problem


def test_any_changed_byte_is_noticed_and_no_wrong_data_is_given(tmp_path):
    data = written(tmp_path / "file")
    for position in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= change
            (tmp_path / "damaged").write_bytes(damaged)
            outcomes = read_all(tmp_path / "damaged")
            assert any(isinstance(outcome, SourceError) for outcome in outcomes)
            for outcome, record in zip(outcomes, RECORDS, strict=True):
                assert isinstance(outcome, SourceError) or outcome == record


def test_wrong_data_spoils_one_record_and_the_message_has_both_checksums(tmp_path):
    data = bytearray(written(tmp_path / "file"))
    data[12] ^= 1
    (tmp_path / "file").write_bytes(data)
    broken, *others = read_all(tmp_path / "file")
    stored, computed = masked_crc32c(RECORDS[0]), masked_crc32c(data[12:24])
    assert broken.problem == f"record 0: CRC of the data is wrong: stored 0x{stored:08x}, computed 0x{computed:08x}"
    assert others == RECORDS[1:]


def test_a_wrong_length_spoils_all_later_records_each_with_its_own_error(tmp_path):
    data = bytearray(written(tmp_path / "file"))
    data[16 + len(RECORDS[0])] ^= 1
    (tmp_path / "file").write_bytes(data)
    first, second, third = read_all(tmp_path / "file")
    assert first == RECORDS[0]
    assert second.problem.startswith("record 1: CRC of the length is wrong: stored 0x")
    assert third.problem.startswith("record 2 cannot be reached: record 1: CRC of the length is wrong")


def test_more_records_than_promised_are_reported_once_the_last_one_was_read(tmp_path):
    written(tmp_path / "file")
    file = TFRecordFile(tmp_path / "file", 2)
    file.read(0)
    assert file.excess() is None
    file.read(1)
    assert file.excess().problem == "the file holds 3 records, dataset_info.json promises 2 records"
    file.close()
    with (tmp_path / "file").open("ab") as more:
        more.write(b"garbage")
    file = TFRecordFile(tmp_path / "file", 3)
    file.read(2)
    assert "7 bytes after its last record" in file.excess().problem
    file.close()


@pytest.mark.parametrize("number", [-1, 3])
def test_a_record_number_outside_is_an_index_error(tmp_path, number):
    written(tmp_path / "file")
    file = TFRecordFile(tmp_path / "file", 3)
    with pytest.raises(IndexError):
        file.read(number)
    file.close()


# -------------------------------------------------------------------------------- the message class


def run_python(code):
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_the_message_class_is_loaded_without_the_package_and_the_package_then_uses_it():
    run_python(
        "import sys\n"
        "from converters.readers.tfrecord import example_proto\n"
        "mine = example_proto()\n"
        "assert 'tensorflow_datasets' not in sys.modules and 'tensorflow_datasets.proto' not in sys.modules\n"
        "import tensorflow_datasets\n"
        "from tensorflow_datasets.proto import tf_example_pb2\n"
        "assert tf_example_pb2.Example is mine.Example and example_proto() is mine\n"
        "assert 'tensorflow' not in sys.modules\n"
    )


def test_the_message_class_is_the_one_of_the_package_when_that_came_first():
    run_python(
        "import tensorflow_datasets\n"
        "from tensorflow_datasets.proto import tf_example_pb2\n"
        "from converters.readers.tfrecord import example_proto\n"
        "assert example_proto().Example is tf_example_pb2.Example\n"
    )


# ------------------------------------------------------------------------------------- the wire format


def from_protobuf(message):
    """name → (kind, values) as protobuf understands the message."""
    found = {}
    for name, feature in message.features.feature.items():
        which = feature.WhichOneof("kind")
        found[name] = (which, list(getattr(feature, which).value) if which else [])
    return found


def from_ours(record):
    """The same through `parse_example`, floats by their bits."""
    found = {}
    for name, feature in parse_example(memoryview(record)).items():
        which = kind(feature)
        if which == BYTES:
            found[name] = ("bytes_list", [bytes(value) for value in byte_values(feature)])
        elif which == FLOATS:
            found[name] = ("float_list", float_values(feature).tolist())
        else:
            found[name] = ("int64_list" if which == INTS else None, int_values(feature).tolist())
        assert count(feature) == len(found[name][1])
    return found


def same(ours, protobufs):
    return repr(sorted(ours.items())) == repr(sorted(protobufs.items()))  # repr: nan is nan


LISTS = st.one_of(
    st.tuples(st.just("bytes_list"), st.lists(st.binary(max_size=200), max_size=20)),
    st.tuples(st.just("float_list"), st.lists(st.floats(width=32), max_size=20)),
    st.tuples(st.just("int64_list"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20)),
    st.tuples(st.just("int64_list"), st.lists(st.integers(0, 1), max_size=20)),
)


@settings(deadline=None)
@given(features=st.dictionaries(st.text(max_size=20), LISTS, max_size=6))
def test_an_example_is_read_as_protobuf_reads_it(features):
    message = example_proto().Example()
    for name, (which, values) in features.items():
        getattr(message.features.feature[name], which).value.extend(values)
        getattr(message.features.feature[name], which).SetInParent()
    assert same(from_ours(message.SerializeToString()), from_protobuf(message))


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def delimited(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


NOISE = st.sampled_from([b"", delimited(9, b"what?"), b"\x48\x96\x01", b"\x4d\x01\x02\x03\x04", b"\x49" + bytes(8)])
UNSIGNED = st.integers(0, 2**64 - 1)
CONTENTS = {  # list number → pieces of its message: packed, single, of another wire type, unknown
    1: st.lists(
        st.one_of(st.binary(max_size=9).map(lambda v: delimited(1, v)), NOISE, st.just(b"\x08\x05")), max_size=4
    ),
    2: st.lists(
        st.one_of(
            st.lists(st.binary(min_size=4, max_size=4), max_size=4).map(lambda v: delimited(1, b"".join(v))),
            st.binary(min_size=4, max_size=4).map(lambda v: b"\x0d" + v),
            NOISE,
        ),
        max_size=4,
    ),
    3: st.lists(
        st.one_of(
            st.lists(UNSIGNED, max_size=5).map(lambda v: delimited(1, b"".join(map(varint, v)))),
            UNSIGNED.map(lambda v: b"\x08" + varint(v)),
            NOISE,
        ),
        max_size=4,
    ),
}
FEATURES = st.lists(
    st.one_of(NOISE, *(c.map(lambda p, n=n: delimited(n, b"".join(p))) for n, c in CONTENTS.items())), max_size=4
).map(b"".join)
ENTRIES = st.lists(  # no noise: upb, unlike other protobufs, drops a map entry with unknown fields
    st.one_of(st.sampled_from([delimited(1, b"a"), delimited(1, b"b")]), FEATURES.map(lambda f: delimited(2, f))),
    max_size=4,
).map(b"".join)
EXAMPLES = st.lists(
    st.one_of(
        NOISE,
        st.lists(st.one_of(NOISE, ENTRIES.map(lambda e: delimited(1, e))), max_size=3).map(
            lambda entries: delimited(1, b"".join(entries))
        ),
    ),
    max_size=3,
).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(record=EXAMPLES)
def test_odd_but_legal_encodings_are_read_as_protobuf_reads_them(record):
    assert same(from_ours(record), from_protobuf(example_proto().Example.FromString(record)))


@settings(deadline=None, max_examples=300)
@given(record=EXAMPLES, position=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_example_is_a_source_error_or_what_protobuf_reads(record, position, byte, cut):
    damaged = bytearray(record or b"\n")
    position %= len(damaged)
    damaged[position] = byte
    damaged = bytes(damaged[:position] if cut else damaged)
    try:
        ours = from_ours(damaged)
    except SourceError:
        return
    try:
        message = example_proto().Example.FromString(damaged)
    except DecodeError:
        return  # protobuf looks at more of the message than was asked for here
    if not UnknownFieldSet(message.features):  # upb puts an entry with unknown fields there, other protobufs do not
        assert same(ours, from_protobuf(message))


def test_values_are_views_into_the_record():
    message = example_proto().Example()
    message.features.feature["image"].bytes_list.value.extend([b"one", b"two"])
    record = bytearray(message.SerializeToString())
    values = list(byte_values(parse_example(memoryview(record))["image"]))
    record[record.index(b"two")] = ord("T")
    assert [bytes(value) for value in values] == [b"one", b"Two"]


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_long_lists_of_integers_are_decoded_in_blocks_into_the_wanted_type(dtype):
    values = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 50_000)
    values[::3] %= 300
    message = example_proto().Example()
    message.features.feature["x"].int64_list.value.extend(values.tolist())
    feature = parse_example(memoryview(message.SerializeToString()))["x"]
    decoded = int_values(feature, dtype)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, values.astype(dtype))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (delimited(1, b"\x80"), "it ends inside a number"),
        (delimited(1, b"\x80" * 11), "a number of more than 10 bytes|it ends inside a number"),
        (delimited(1, b"\x80" * 11 + b"\x01"), "a number of more than 10 bytes"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x02\x00", "field number 0"),
        (b"\x0a\x05ab", "3 bytes are missing"),
    ],
)
def test_an_impossible_message_says_what_is_wrong(content, problem):
    with pytest.raises(SourceError, match=problem):
        int_values(memoryview(delimited(3, content)))


def test_asking_for_another_kind_names_both():
    feature = memoryview(delimited(2, delimited(1, bytes(4))))
    with pytest.raises(SourceError, match="it holds floats, not bytes"):
        list(byte_values(feature))
    with pytest.raises(SourceError, match="6 bytes of packed floats"):
        float_values(memoryview(delimited(2, delimited(1, bytes(6)))))
