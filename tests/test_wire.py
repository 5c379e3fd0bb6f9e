"""Bytes of messages: openpi-client's encoding both ways, and nothing that a socket sends costs more than it may."""

import random
import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rdt_data.errors import RdtError
from rdt_data.images import encode_jpeg, encode_png
from rdt_model.messages import FIELDS, read_request
from rdt_model.wire import MOST_CONTAINERS, MOST_ITEMS, WireError, pack, unpack

DTYPES = st.sampled_from(["?", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8"])
ARRAYS = DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0)))
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary()
MESSAGES = st.dictionaries(st.text(), PLAIN | ARRAYS | st.lists(PLAIN, max_size=4), max_size=6)


def same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return repr(one) == repr(other)


@given(MESSAGES)
def test_what_is_packed_comes_back(message):
    found = unpack(pack(message))
    assert found.keys() == message.keys()
    assert all(same(message[name], found[name]) for name in message)


@given(MESSAGES)
def test_it_is_the_encoding_of_openpi_client(message):
    theirs = pytest.importorskip("openpi_client.msgpack_numpy", reason="needs openpi-client, see docs/serve.md")
    assert pack(message) == theirs.packb(message)
    assert unpack(theirs.packb({"x": np.float32(0.1)}))["x"] == np.float32(0.1)


def array(**changes):
    whole = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]}
    return msgpack.packb({"x": {**whole, **changes}})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not msgpack"),
        (b"\x81", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (pack({}) + b"\0", "not msgpack"),
        (b"\x93\1\2\3", "a message that is a list"),
        (msgpack.packb({"x": msgpack.ExtType(4, b"abc")}), "extension type 4"),
        (msgpack.packb({1: 2}), "not msgpack"),
        (b"\x81\xa1x\xdd" + struct.pack(">I", 2**31), "not msgpack"),
        (b"\x91" * 5000, "not msgpack"),
        (msgpack.packb({"x": [0] * (MOST_ITEMS + 1)}), "not msgpack"),
        (msgpack.packb({"x": [[[]] * 999] * 2}), f"more than {MOST_CONTAINERS} lists"),
        (array(**{}).replace(b"<f4", b"|O8"), "dtype '|O8'"),
        (msgpack.packb({"x": {b"__ndarray__": True, b"data": b"", b"dtype": "f4,O", b"shape": [0]}}), "dtype 'f4,O'"),
        (msgpack.packb({"x": {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [2**40]}}), "shape"),
        (msgpack.packb({"x": {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [-1]}}), "shape"),
        (msgpack.packb({"x": {b"__ndarray__": True, b"data": b"ab", b"dtype": "<f4", b"shape": [1]}}), "with 2 bytes"),
        (msgpack.packb({"x": {b"__ndarray__": True}}), "dtype None"),
        (msgpack.packb({"x": {b"__npgeneric__": True, b"dtype": "<f4", b"data": "1"}}), "data is a str"),
        (msgpack.packb({"x": {b"__npgeneric__": True, b"dtype": "|u1", b"data": 256}}), "256 as uint8"),
    ],
)
def test_bytes_that_are_no_message_are_refused_in_words(data, words):
    with pytest.raises(WireError, match=words.replace("|", r"\|")):
        unpack(data)


def test_a_pickle_is_never_read():
    import pickle

    boom = pickle.dumps(random.random)
    with pytest.raises(WireError):
        unpack(boom)
    with pytest.raises(WireError, match="dtype object"):
        pack({"x": np.array([random.random])})


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_an_rdt_error(data):
    try:
        message = unpack(data)
    except RdtError:
        return
    assert isinstance(message, dict)


GOOD = {
    "state": np.zeros(128, np.float32),
    "state_mask": np.ones(128, np.bool_),
    "prompt": "Pick it up.",
    "images": {"exterior": np.zeros((4, 5, 3), np.uint8)},
    "plan": np.zeros((3, 128)),
    "committed": 2,
    "control_hz": 10,
}


def test_an_observation_is_read():
    frame = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    given = {"exterior": [encode_png(frame), frame], "left_wrist": encode_jpeg(frame), "right_wrist": np.stack([frame])}
    request = read_request({**GOOD, "state": [0.5] * 128, "images": given})
    seen = request.observation
    assert [len(frames) for frames in seen.images.values()] == [2, 1, 1]
    for found in (*seen.images["exterior"], *seen.images["right_wrist"]):
        np.testing.assert_array_equal(found, frame)
    assert seen.images["left_wrist"][0].shape == (6, 7, 3)
    assert (seen.state.dtype, seen.state_mask.dtype, seen.instruction) == (np.float32, np.bool_, "Pick it up.")
    assert (request.plan.actions.shape, request.plan.committed, seen.control_hz) == ((3, 128), 2, 10.0)


def test_a_jpeg_much_larger_than_what_the_policy_sees_is_decoded_smaller():
    jpeg = encode_jpeg(np.zeros((64, 80, 3), np.uint8))
    for least, size in ((None, (64, 80)), (41, (64, 80)), (40, (32, 40)), (10, (8, 10))):
        seen = read_request({**GOOD, "images": {"exterior": jpeg}}, least).observation
        assert seen.images["exterior"][0].shape[:2] == size


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_decoded():
    small = bytearray(encode_png(np.zeros((4, 4, 3), np.uint8)))
    small[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(RdtError, match="exterior: a frame of 60000 x 60000 pixels"):
        read_request({**GOOD, "images": {"exterior": bytes(small)}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stat": 1}, "did you mean 'state'"),
        ({"state": np.zeros(14)}, "state has shape"),
        ({"state": "zeros"}, "state is a str"),
        ({"state": [[1], [1, 2]]}, "unequal lengths"),
        ({"state_mask": np.full(128, 2)}, "other than 0 and 1"),
        ({"prompt": np.zeros((0, 8))}, "prompt is an array"),
        ({"prompt": np.full((1, 8), np.nan)}, "prompt is an array"),
        ({"prompt": np.full((1, 8), 1e300)}, "prompt is an array"),
        ({"prompt": None}, "prompt is a NoneType"),
        ({"images": []}, "images is a list"),
        ({"images": {"exteriour": b""}}, "did you mean 'exterior'"),
        ({"images": {"exterior": b"GIF89a"}}, "neither JPEG nor PNG"),
        ({"images": {"exterior": encode_jpeg(np.zeros((9, 9, 3), np.uint8))[:-40]}}, "exterior"),
        ({"images": {"exterior": np.zeros((4, 5), np.uint8)}}, r"a frame is uint8 \(4, 5\)"),
        ({"images": {"exterior": np.zeros((4, 0, 3), np.uint8)}}, "0 x 4 pixels"),
        ({"images": {"exterior": np.zeros((1, 5000, 3), np.uint8)}}, "5000 x 1 pixels"),
        ({"images": {"exterior": [b""] * 17}}, "more than 16 frames"),
        ({"control_hz": float("inf")}, "control_hz is inf"),
        ({"control_hz": True}, "control_hz is True"),
        ({"committed": 4}, "4 committed actions of a plan of 3"),
        ({"committed": -1}, "-1 committed actions"),
        ({"committed": 1.5}, "committed is 1.5"),
        ({"plan": None}, "without a plan"),
        ({"plan": np.zeros(128)}, "plan has shape"),
    ],
)
def test_what_is_no_observation_is_refused_in_words(change, words):
    with pytest.raises(RdtError, match=words):
        read_request({**GOOD, **change})


@given(st.dictionaries(st.sampled_from(FIELDS), PLAIN | ARRAYS | st.lists(PLAIN | ARRAYS, max_size=3) | MESSAGES))
def test_no_message_does_worse_than_an_rdt_error(change):
    try:
        read_request({**GOOD, **change})
    except RdtError:
        return
