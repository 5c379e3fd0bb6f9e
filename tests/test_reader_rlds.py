"""RLDS: what tensorflow-datasets writes is what is read, whole or broken, and TensorFlow is never touched."""

import contextlib
import json
import logging
import math
import subprocess
import sys
import zlib

import numpy as np
import pytest
from google.protobuf import json_format

from converters.readers import READERS, detect, reader
from converters.readers.features import Leaf, read_schema
from converters.readers.tfrecord import example_proto, write_records
from rdt_data.errors import RdtError, SourceError, SpecError

rlds = reader("rlds")


@pytest.fixture(scope="module")
def tfds():
    """tensorflow-datasets' feature classes and its serializer, which decide how features are laid out."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    from tensorflow_datasets.core import example_serializer, features
    from tensorflow_datasets.core.features import feature

    with pytest.MonkeyPatch.context() as patch:  # its ragged branch asks for a TensorFlow dtype without need
        patch.setattr(feature.TensorInfo, "dtype", property(lambda self: self.np_dtype))
        features.serialize = lambda schema, example: example_serializer.ExampleSerializer(
            schema.get_serialized_info()
        ).serialize_example(schema.encode_example(example))
        yield features


def write_dataset(root, schema, shards, kind="tfrecord", **info):
    """A version folder. shards: split → list of lists of records; schema: the features.json."""
    root.mkdir(parents=True)
    (root / "features.json").write_text(json.dumps(schema))
    template = info.get("template", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}")
    splits = []
    for split, files in shards.items():
        lengths = info.get("lengths") or [str(len(records)) for records in files]
        splits.append({"name": split, "filepathTemplate": template, "numBytes": "1", "shardLengths": lengths})
        for index, records in enumerate(files):
            path = root / f"toy-{split}.{kind}-{index:05d}-of-{len(files):05d}"
            (write_records if kind == "tfrecord" else write_array_record)(path, records)
    description = {"name": "toy", "version": "1.0.0", "fileFormat": kind, "splits": splits}
    (root / "dataset_info.json").write_text(json.dumps(description))
    return root


def write_array_record(path, records):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def tensor(dtype, *shape, encoding="none"):
    content = {"dtype": dtype, "encoding": encoding, "shape": {"dimensions": [str(d) for d in shape]}}
    return {"pythonClassName": "x.Tensor", "tensor": content}


def features(**children):
    return {"pythonClassName": "x.FeaturesDict", "featuresDict": {"features": children}}


def steps(**children):
    sequence = {"feature": features(**children), "length": "-1"}
    return features(steps={"pythonClassName": "x.Dataset", "sequence": sequence})


IMAGE = {"pythonClassName": "x.Image", "image": {"dtype": "uint8", "encodingFormat": "jpeg"}}
TEXT = {"pythonClassName": "x.Text", "text": {}}
TOY = steps(action=tensor("float32", 2), image=IMAGE, is_first=tensor("bool"), language_instruction=TEXT)


def record(**values):
    """An Example. values: feature name with "__" for "/" → list of bytes, floats or ints."""
    message = example_proto().Example()
    for name, value in values.items():
        feature = message.features.feature[name.replace("__", "/")]
        first = value[0] if len(value) else 0.0
        kind = "bytes_list" if isinstance(first, bytes) else "float_list" if isinstance(first, float) else "int64_list"
        getattr(feature, kind).value.extend(value)
        getattr(feature, kind).SetInParent()
    return message.SerializeToString()


def toy_record(number, length=3):
    return record(
        steps__action=[float(number + i) for i in range(2 * length)],
        steps__image=[b"\xff\xd8%d-%d\xff\xd9" % (number, i) for i in range(length)],
        steps__is_first=[int(i == 0) for i in range(length)],
        steps__language_instruction=[b"do %d" % number] * length,
    )


def toy(root, records=5, kind="tfrecord", **info):
    return write_dataset(root / "1.0.0", TOY, {"train": [[toy_record(i) for i in range(records)]]}, kind, **info)


def open_only(root, split=None):
    (file,) = rlds.files(root, split, {})
    return rlds.open_file(root, file, {})


@pytest.fixture
def one_episode(tmp_path):
    """A function: (schema, record) → the episode of a new dataset that has only this record."""
    with contextlib.ExitStack() as files:

        def episode_of(schema, data):
            root = write_dataset(tmp_path / "1.0.0", schema, {"train": [[data]]})
            return files.enter_context(open_only(root))[0]

        yield episode_of


# --------------------------------------------------------------------------- every kind of feature


@pytest.fixture(scope="module")
def everything(tfds, tmp_path_factory):
    """One dataset with every kind of feature, written by tensorflow-datasets: (root, its steps, its schema)."""
    t = tfds.Tensor
    schema = tfds.FeaturesDict(
        {
            "steps": tfds.Dataset(
                {
                    "observation": tfds.FeaturesDict(
                        {
                            "image": tfds.Image(shape=(None, None, 3), encoding_format="jpeg"),
                            "state": t(shape=(7,), dtype=np.float64),
                            "half": t(shape=(), dtype=np.float16),
                            "matrix": t(shape=(2, 3), dtype=np.float32),
                            "depth": t(shape=(4, 5), dtype=np.float32, encoding="zlib"),
                            "precise": t(shape=(2,), dtype=np.float64, encoding="bytes"),
                            "flags": t(shape=(2,), dtype=np.bool_, encoding="zlib"),
                            "pixels": t(shape=(2, 2, 3), dtype=np.uint8),
                            "packed": t(shape=(2, 2, 3), dtype=np.uint8, encoding="zlib"),
                            "dynamic": t(shape=(None, None), dtype=np.int16, encoding="zlib"),
                            "free": t(shape=(None, 2), dtype=np.int32),
                            "points": tfds.Sequence(t(shape=(3,), dtype=np.int64)),
                            "deep": tfds.Sequence(tfds.Sequence(np.float32)),
                            "objects": tfds.Sequence({"score": np.float32, "name": tfds.Text()}),
                            "unsigned": tfds.Scalar(np.uint64),
                            "small": tfds.Scalar(np.int8),
                            "label": tfds.ClassLabel(num_classes=4),
                            "box": tfds.BBoxFeature(),
                        }
                    ),
                    "is_first": tfds.Scalar(np.bool_),
                    "text": tfds.Text(),
                    "words": t(shape=(2,), dtype=np.str_),
                }
            ),
            "episode_metadata": tfds.FeaturesDict(
                {"file_path": tfds.Text(), "success": tfds.Scalar(np.bool_), "count": tfds.Scalar(np.int32)}
            ),
            "translation": tfds.Translation(languages=["en", "de"]),
        }
    )
    steps = [everything_step(i) for i in range(3)]
    for step in steps:
        step["observation"]["box"] = tfds.BBox(*step["observation"]["box"])
    meta = {"file_path": "a/b.npy", "success": True, "count": 7}
    data = tfds.serialize(schema, {"steps": steps, "episode_metadata": meta, "translation": {"en": "yes", "de": "ja"}})
    root = write_dataset(tmp_path_factory.mktemp("tfds") / "toy" / "1.0.0", schema.to_json(), {"train": [[data]]})
    return root, [everything_step(i) for i in range(3)], schema


def everything_step(i):
    return {
        "observation": {
            "image": b"\xff\xd8%d\xff\xd9" % i,
            "state": (np.arange(7) + i).astype(np.float64),
            "half": np.float16(0.5 * i),
            "matrix": np.arange(6, dtype=np.float32).reshape(2, 3) * i,
            "depth": np.full((4, 5), i + 0.25, np.float32),
            "precise": np.array([math.pi, i]),
            "flags": np.array([True, i == 1]),
            "pixels": np.full((2, 2, 3), 253 + i, np.uint8),
            "packed": np.full((2, 2, 3), i, np.uint8),
            "dynamic": np.full((3, 2), -i, np.int16),
            "free": np.full((4, 2), -i, np.int32),
            "points": np.full((2, 3), 2**40 + i),
            "deep": np.full((2, 3), i, np.float32),
            "objects": {"score": np.array([i, 2.0], np.float32), "name": ["cup", "bowl"]},
            "unsigned": np.uint64(2**64 - 1 - i),
            "small": np.int8(-i),
            "label": np.int64(i),
            "box": np.array([0.0, 0.0, 1.0, 1.0], np.float32),
        },
        "is_first": np.bool_(i == 0),
        "text": "pick up the cup",
        "words": ["a", "b"],
    }


NUMBERS = [
    *("state", "half", "matrix", "depth", "precise", "flags", "pixels", "packed", "dynamic", "free", "points", "deep"),
    *("unsigned", "small", "label", "box"),
]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_come_back_in_their_shape_and_dtype(everything, name):
    root, steps, _ = everything
    expected = np.stack([np.asarray(step["observation"][name]) for step in steps])
    with open_only(root) as file:
        values = file[0].array(f"observation/{name}")
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, expected)


def test_texts_scalars_and_frames_come_back(everything):
    root, steps, _ = everything
    with open_only(root) as file:
        episode = file[0]
        assert len(episode) == 3
        assert episode.name == "toy-train.tfrecord-00000-of-00001#0"
        assert episode.text("text") == episode.scalar("text") == "pick up the cup"
        assert episode.text("words") == "a"
        assert episode.text("observation/objects/name") == "cup"
        assert episode.text("episode_metadata/file_path") == "a/b.npy"
        assert episode.text("no/such/text") is None
        assert episode.scalar("episode_metadata/success") is True
        assert episode.scalar("episode_metadata/count") == 7
        assert episode.scalar("observation/unsigned") == 2**64 - 1
        assert episode.scalar("is_first") is True
        assert [bytes(frame) for frame in episode.frames("observation/image")] == [
            step["observation"]["image"] for step in steps
        ]
        for raw in ("pixels", "packed"):
            frames = list(episode.frames(f"observation/{raw}"))
            np.testing.assert_array_equal(frames, [step["observation"][raw] for step in steps])


def test_step_features_lose_their_prefix_and_keys_are_sorted(everything):
    root, *_ = everything
    with open_only(root) as file:
        keys = file[0].keys()
    assert keys == sorted(keys)
    assert {"observation/state", "is_first", "episode_metadata/success", "translation"} <= set(keys)


@pytest.mark.parametrize(
    ("use", "key", "problem"),
    [
        ("array", "observation/image", "it is an image, not numbers"),
        ("array", "text", "it is text, not numbers"),
        ("array", "episode_metadata/count", "it is a value of the whole episode"),
        ("array", "translation", "a Translation (a kind not supported here)"),
        ("frames", "observation/state", "not images"),
        ("frames", "episode_metadata/file_path", "it is a value of the whole episode"),
        ("text", "observation/state", "it is float64 of shape (7,), not text"),
        ("scalar", "observation/state", "not one value"),
        ("array", "observation/stat", "there is no such feature"),
    ],
)
def test_a_value_used_as_what_it_is_not_says_what_it_is(everything, use, key, problem):
    root, *_ = everything
    with open_only(root) as file, pytest.raises(SourceError) as caught:
        list(getattr(file[0], use)(key))  # frames are read one by one
    error = caught.value
    assert problem in error.problem
    assert (error.file, error.episode, error.field) == ("toy-train.tfrecord-00000-of-00001", 0, key)
    assert ("did you mean 'observation/state'?" in error.remedy) == (key == "observation/stat")


def test_every_generation_of_features_json_gives_the_same_table(everything, tfds, tmp_path):
    _, _, schema = everything
    as_object = schema.to_json()
    as_text = {**as_object, "content": json.dumps(as_object["content"])}
    as_proto = json_format.MessageToDict(schema.to_proto())
    tables = []
    for content in (as_object, as_text, as_proto):
        (tmp_path / "features.json").write_text(json.dumps(content))
        tables.append(read_schema(tmp_path / "features.json"))
    assert tables[0] == tables[1] == tables[2]
    assert tables[0]["steps/observation/points"] == Leaf(
        "steps/observation/points", "tensor", "int64", (3,), "none", sequences=2
    )


def test_the_first_generation_of_features_json_is_understood(tmp_path):
    core = "tensorflow_datasets.core.features."
    step = {
        "image": {"type": f"{core}image_feature.Image", "content": {"shape": [None, None, 3], "dtype": "uint8"}},
        "state": {"type": f"{core}tensor_feature.Tensor", "content": {"shape": [7], "dtype": "float32"}},
        "features": {"type": f"{core}text_feature.Text", "content": {}},
        "kind": {"type": f"{core}class_label_feature.ClassLabel", "content": {"num_classes": 3}},
    }
    inner = {"type": f"{core}features_dict.FeaturesDict", "content": step}
    outer = {"steps": {"type": f"{core}dataset_feature.Dataset", "content": {"feature": inner, "length": None}}}
    (tmp_path / "features.json").write_text(json.dumps({"type": f"{core}features_dict.FeaturesDict", "content": outer}))
    table = read_schema(tmp_path / "features.json")
    assert table["steps/state"] == Leaf("steps/state", "tensor", "float32", (7,), "none", 1)
    assert {path: leaf.kind for path, leaf in table.items()} == {
        "steps/image": "image",
        "steps/state": "tensor",
        "steps/features": "text",
        "steps/kind": "tensor",
    }


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"featuresDict": 3}', '{"type": "x"}', "\x00"])
def test_a_broken_features_json_is_named(tmp_path, content):
    root = toy(tmp_path)
    (root / "features.json").write_text(content)
    with pytest.raises(SourceError) as caught:
        open_only(root)
    assert caught.value.file == "features.json"


# ------------------------------------------------------------------------- values that are not right


def test_rows_of_different_lengths_are_an_error_that_says_so(one_episode):
    ragged = {"pythonClassName": "x.Sequence", "sequence": {"feature": tensor("float32"), "length": "-1"}}
    data = record(
        steps__x__ragged_flat_values=[1.0, 2.0, 3.0], steps__x__ragged_row_lengths_0=[1, 2], steps__is_first=[1, 0]
    )
    episode = one_episode(steps(x=ragged, is_first=tensor("bool")), data)
    with pytest.raises(SourceError, match="it is ragged: its rows have 1 to 2 values"):
        episode.array("x")


def test_features_of_different_lengths_are_an_error_that_names_both(one_episode):
    data = record(
        steps__action=[0.0] * 4,
        steps__image=[b"a", b"b"],
        steps__is_first=[1, 0, 0],
        steps__language_instruction=[b"x"],
    )
    episode = one_episode(TOY, data)
    assert len(episode) == 3
    for use, key in ((episode.array, "action"), (episode.frames, "image")):
        with pytest.raises(SourceError, match=f"field {key}: it has 2 steps, but is_first has 3"):
            use(key)


@pytest.mark.parametrize(
    ("schema", "data", "problem"),
    [
        (tensor("float32", 2), {"steps__x": [0.0] * 3}, "it holds 3 numbers, which are not whole arrays"),
        (tensor("float32", 2), {"steps__x": [0, 0]}, "it holds integers, not floats"),
        (tensor("float32", 2), {}, "the record has no feature 'steps/x'"),
        (tensor("float32", 2, encoding="zlib"), {"steps__x": [b"not zlib"]}, "its zlib data is damaged"),
        (
            tensor("float32", 2, encoding="zlib"),
            {"steps__x": [zlib.compress(bytes(9))]},
            "an element has 9 bytes where the shape is",
        ),
        (
            tensor("float32", 2, encoding="zlib"),
            {"steps__x": [zlib.compress(bytes(12))]},
            "an element has 9 bytes where the shape is",
        ),
        (tensor("float32", 2, encoding="bytes"), {"steps__x": [bytes(4)]}, "an element has 4 bytes where the shape is"),
        (tensor("complex64"), {"steps__x": [0.0]}, "tensor of complex64"),
        (tensor("float32", -1, -1, encoding="bytes"), {"steps__x__value": [bytes(8)]}, "no feature 'steps/x/shape'"),
        (
            tensor("float32", -1, -1, encoding="bytes"),
            {"steps__x__value": [bytes(8)], "steps__x__shape": [1, 2, 3]},
            "the stored shapes are not 1 shapes of 2 dimensions",
        ),
        (
            tensor("float32", -1, -1, encoding="bytes"),
            {"steps__x__value": [bytes(8)], "steps__x__shape": [-1, -2]},
            "the stored shapes are not 1 shapes of 2 dimensions",
        ),
        (
            tensor("float32", -1, -1, encoding="bytes"),
            {"steps__x__value": [bytes(8), bytes(8)], "steps__x__shape": [1, 2, 2, 1], "steps__is_first": [1, 0]},
            "its shape changes from step to step",
        ),
    ],
)
def test_a_record_that_does_not_fit_its_schema_says_where(one_episode, schema, data, problem):
    data = {"steps__is_first": [1], **data}
    episode = one_episode(steps(x=schema, is_first=tensor("bool")), record(**data))
    with pytest.raises(SourceError, match=problem) as caught:
        episode.array("x")
    assert (caught.value.episode, caught.value.field) == (0, "x")


def test_text_that_is_not_utf8_is_an_error(one_episode):
    episode = one_episode(steps(t=TEXT), record(steps__t=[b"caf\xe9"]))
    with pytest.raises(SourceError, match="its text is not UTF-8"):
        episode.text("t")


def test_bfloat16_comes_as_float32(one_episode):
    schema = steps(a=tensor("bfloat16", 2, encoding="bytes"), b=tensor("bfloat16"))
    data = record(steps__a=[np.array([0x3F80, 0xC000], "<u2").tobytes()], steps__b=[0.5])
    episode = one_episode(schema, data)
    np.testing.assert_array_equal(episode.array("a"), np.array([[1.0, -2.0]], np.float32))
    np.testing.assert_array_equal(episode.array("b"), np.array([0.5], np.float32))


def test_an_empty_episode_has_no_steps_and_no_first_step(one_episode):
    episode = one_episode(TOY, toy_record(0, length=0))
    assert len(episode) == 0
    assert episode.array("action").shape == (0, 2)
    assert list(episode.frames("image")) == []
    assert episode.text("language_instruction") is None
    with pytest.raises(SourceError):
        episode.scalar("is_first")


def test_a_record_without_any_step_feature_is_an_error(one_episode):
    episode = one_episode(TOY, b"")
    with pytest.raises(SourceError, match="no step feature"):
        len(episode)


def test_a_record_that_is_no_example_spoils_only_itself(tmp_path):
    root = write_dataset(tmp_path / "1.0.0", TOY, {"train": [[b"\x0a\xff", toy_record(1)]]})
    with open_only(root) as file:
        with pytest.raises(SourceError, match=r"episode 0: not a valid tf\.train\.Example"):
            file[0]
        assert file[1].text("language_instruction") == "do 1"


# ------------------------------------------------------------------------------------- broken files


def test_a_broken_record_names_file_and_episode_and_the_others_stay_readable(tmp_path):
    root = toy(tmp_path)
    path = root / "toy-train.tfrecord-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[data.index(b"do 2")] ^= 1
    path.write_bytes(data)
    with open_only(root) as file:
        with pytest.raises(SourceError, match=r"record 2: CRC of the data is wrong: stored 0x\w+, computed") as caught:
            file[2]
        assert (caught.value.file, caught.value.episode) == (path.name, 2)
        assert [file[i].text("language_instruction") for i in (0, 1, 3, 4)] == ["do 0", "do 1", "do 3", "do 4"]


def test_a_file_with_more_episodes_than_promised_is_an_error_after_the_last(tmp_path):
    root = toy(tmp_path, lengths=["4"])
    with pytest.raises(SourceError, match=r"holds 5 records, dataset_info\.json promises 4"), open_only(root) as file:
        assert [len(file[i]) for i in range(len(file))] == [3] * 4
    with open_only(root) as file:
        assert len(file[0]) == 3  # the end was not reached
    with pytest.raises(KeyError), open_only(root) as file:
        raise KeyError(file[3].number)


def test_a_file_with_fewer_episodes_than_promised_reports_each_missing_one(tmp_path):
    root = toy(tmp_path, lengths=["7"])
    with open_only(root) as file:
        assert len(file) == 7
        for number in (5, 6):
            with pytest.raises(SourceError, match="the file ends after 5 of 7 records"):
                file[number]
        with pytest.raises(IndexError):
            file[7]


def test_frames_are_gone_when_another_episode_is_opened_but_values_are_not(tmp_path):
    with open_only(toy(tmp_path)) as file:
        first = file[0]
        frames = first.frames("image")
        assert bytes(next(frames)) == b"\xff\xd80-0\xff\xd9"
        second = file[1]
        with pytest.raises(RuntimeError, match="another episode"):
            next(frames)
        assert second.array("action")[0, 0] == 1.0
        assert first.array("action")[0, 0] == 0.0
        assert first.text("language_instruction") == "do 0"
        assert second.text("language_instruction") == "do 1"


def test_an_array_outlives_its_record(tmp_path):
    with open_only(toy(tmp_path)) as file:
        action = file[0].array("action")
        before = action.copy()
        file[1].array("action")
    np.testing.assert_array_equal(action, before)


# ------------------------------------------------------------------------------ folders, splits, shards


def test_a_dataset_is_found_from_its_version_its_folder_or_above(tmp_path):
    root = toy(tmp_path / "data" / "toy" / "config")
    for source in (root, root.parent, root.parent.parent, tmp_path / "data"):
        assert rlds.find(source) == [root]
    assert rlds.find(tmp_path) == []  # one level too deep
    assert rlds.find(tmp_path / "nothing") == []
    assert rlds.names(root) == ["toy", "config"]
    assert ("rlds", root) in detect(root)


def test_two_versions_are_an_error_that_lists_them(tmp_path):
    toy(tmp_path / "toy")
    (tmp_path / "toy" / "1.0.0").rename(tmp_path / "toy" / "0.1.0")
    toy(tmp_path / "toy")
    with pytest.raises(RdtError, match=r"several versions: 0\.1\.0, 1\.0\.0"):
        rlds.find(tmp_path)


def test_splits_can_be_chosen_and_joined(tmp_path):
    shards = {"train": [[toy_record(0)], [toy_record(1), toy_record(2)]], "val": [[toy_record(3)]]}
    root = write_dataset(tmp_path / "toy" / "1.0.0", TOY, shards)
    assert rlds.splits(root) == ["train", "val"]

    def counts(split):
        return [(file.path.split("-", 1)[1], file.episodes) for file in rlds.files(root, split, {})]

    train = [("train.tfrecord-00000-of-00002", 1), ("train.tfrecord-00001-of-00002", 2)]
    val = [("val.tfrecord-00000-of-00001", 1)]
    assert counts(None) == counts("train") == train
    assert counts("val") == val
    assert counts("all") == counts("train+val") == train + val
    assert counts("val+train") == val + train
    with pytest.raises(RdtError, match="did you mean 'train'"):
        counts("trian")
    file = rlds.files(root, "val", {})[0]
    stat = (root / file.path).stat()
    assert (file.bytes, file.mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def test_without_a_train_split_all_are_taken(tmp_path):
    root = write_dataset(tmp_path / "1.0.0", TOY, {"test": [[toy_record(0)]], "val": [[toy_record(1)]]})
    assert len(rlds.files(root, None, {})) == 2


def test_a_missing_shard_is_named(tmp_path):
    root = write_dataset(tmp_path / "1.0.0", TOY, {"train": [[toy_record(0)], [toy_record(1)]]})
    (root / "toy-train.tfrecord-00001-of-00002").unlink()
    with pytest.raises(SourceError, match=r"shard toy-train\.tfrecord-00001-of-00002 is missing"):
        rlds.files(root, None, {})


@pytest.mark.parametrize(
    "template",
    ["", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}-of-{NUM_SHARDS}", "toy-{SPLIT}.tfrecord-{SHARD_X_OF_Y}"],
)
def test_shard_names_follow_the_template(tmp_path, template):
    root = toy(tmp_path, template=template)
    assert [file.path for file in rlds.files(root, None, {})] == ["toy-train.tfrecord-00000-of-00001"]


def test_a_dataset_that_has_no_steps_or_an_unknown_format_is_refused(tmp_path):
    root = write_dataset(tmp_path / "a" / "1.0.0", features(x=TEXT), {"train": [[record(x=[b"y"])]]})
    with pytest.raises(SourceError, match="there is no `steps` feature"):
        open_only(root)
    root = toy(tmp_path / "b")
    info = json.loads((root / "dataset_info.json").read_text())
    (root / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "parquet"}))
    (root / "toy-train.tfrecord-00000-of-00001").rename(root / "toy-train.parquet-00000-of-00001")
    with pytest.raises(RdtError, match="no file format supported here is called 'parquet'"):
        open_only(root)
    for content in ("{}", "[]", '{"name": "toy", "splits": [{"name": "train"}]}', "?"):
        (root / "dataset_info.json").write_text(content)
        with pytest.raises(SourceError, match=r"dataset_info.json: it does not list the splits"):
            rlds.splits(root)


def test_unknown_options_and_readers_are_refused(tmp_path):
    with pytest.raises(SpecError, match="no option 'files'"):
        rlds.files(toy(tmp_path), None, {"files": "*"})
    with pytest.raises(RdtError, match="did you mean 'rlds'"):
        reader("rld")
    assert all(hasattr(reader(name), "open_file") for name in READERS)


# ------------------------------------------------------------------------------------- ArrayRecord


def test_array_record_gives_the_same_as_tfrecord(tmp_path):
    pytest.importorskip("array_record.python.array_record_module")
    roots = [toy(tmp_path / kind, kind=kind) for kind in ("tfrecord", "array_record")]
    with open_only(roots[0]) as ours, open_only(roots[1]) as theirs:
        for one, other in zip((ours[i] for i in range(5)), (theirs[i] for i in range(5)), strict=True):
            np.testing.assert_array_equal(one.array("action"), other.array("action"))
            assert [bytes(f) for f in one.frames("image")] == [bytes(f) for f in other.frames("image")]
            assert one.name.replace("tfrecord", "array_record") == other.name


def test_a_broken_array_record_is_a_source_error(tmp_path):
    pytest.importorskip("array_record.python.array_record_module")
    root = toy(tmp_path, kind="array_record")
    path = root / "toy-train.array_record-00000-of-00001"
    data = path.read_bytes()
    for cut in (0, 1000, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:cut])
        with pytest.raises(SourceError) as caught, open_only(root) as file:
            file[0]
        assert caught.value.file == path.name
    damaged = bytearray(data)
    damaged[data.index(b"do 2") if b"do 2" in data else 300] ^= 0x10
    path.write_bytes(damaged)
    failed = []
    with open_only(root) as file:
        for number in range(5):
            try:
                assert file[number].text("language_instruction") == f"do {number}"
            except SourceError as error:
                failed.append((number, error.episode))
    assert len(failed) == 1
    assert failed[0][0] == failed[0][1]


def test_array_record_counts_are_compared_with_what_was_promised(tmp_path):
    pytest.importorskip("array_record.python.array_record_module")
    root = toy(tmp_path / "few", kind="array_record", lengths=["6"])
    with open_only(root) as file, pytest.raises(SourceError, match="the file ends after 5 of 6 records"):
        file[5]
    root = toy(tmp_path / "many", kind="array_record", lengths=["4"])
    with pytest.raises(SourceError, match="holds 5 records"), open_only(root) as file:
        assert file[3].number == 3


def test_without_the_array_record_package_the_extra_is_named(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "1.0.0", TOY, {"train": [[]]})
    info = json.loads((root / "dataset_info.json").read_text())
    (root / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "array_record"}))
    (root / "toy-train.tfrecord-00000-of-00001").rename(root / "toy-train.array_record-00000-of-00001")
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(RdtError, match=r"rdt-data\[arrayrecord\]"):
        open_only(root)


# ------------------------------------------------------------------------------- without TensorFlow

READ_ALL = """
import sys
from pathlib import Path
from converters.readers import detect, reader
((name, root),) = [found for found in detect(Path(sys.argv[1])) if found[0] == "rlds"]
rlds = reader(name)
for source in rlds.files(root, "all", {}):
    with rlds.open_file(root, source, {}) as file:
        for episode in (file[i] for i in range(len(file))):
            assert episode.array("action").shape == (3, 2) and len(list(episode.frames("image"))) == 3
            assert episode.text("language_instruction")
assert not {"tensorflow", "tensorflow_datasets", "array_record"} & sys.modules.keys()
"""


def test_tensorflow_is_never_imported_not_even_when_it_is_there(tmp_path):
    root = toy(tmp_path / "data")
    fake = tmp_path / "site" / "tensorflow"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise RuntimeError('TensorFlow was imported')")
    code = f"import sys; sys.path.insert(0, {str(fake.parent)!r})\n{READ_ALL}"
    for script in (READ_ALL, code):
        command = [sys.executable, "-c", script, str(root)]
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr


# --------------------------------------------------------------------------------------- real data


def test_every_golden_is_read_as_tensorflow_datasets_reads_it(shared, tfds):
    from tensorflow_datasets.core import example_parser, utils
    from tensorflow_datasets.core.features import feature

    roots = [root for folder in sorted((shared / "goldens").iterdir()) for root in rlds.find(folder)]
    roots += rlds.find(shared / "data" / "bridge_rlds")
    assert len(roots) > 10
    for root in roots:
        schema = feature.FeatureConnector.from_json(json.loads((root / "features.json").read_text()))
        parser = example_parser.ExampleParserNp(schema.get_serialized_info())
        for source in rlds.files(root, "all", {})[:1]:
            with rlds.open_file(root, source, {}) as file:
                for number in range(min(2, len(file))):
                    data = bytes(file._records.read(number))
                    lazy = schema["steps"].decode_example_np(parser.parse_example(data)["steps"])
                    compare(file[number], [utils.flatten_nest_dict(lazy[i]) for i in range(len(lazy))], file.leaves)


def compare(episode, theirs, leaves):
    assert len(episode) == len(theirs)
    for key, leaf in leaves.items():
        if leaf.kind == "image":
            frames = list(episode.frames(key))
            assert len(frames) == len(theirs)
            assert all(bytes(frame[:2]) in (b"\xff\xd8", b"\x89P") for frame in frames)
        elif leaf.sequences and leaf.kind == "text":
            value = theirs[0][key]
            assert episode.text(key) == (value if isinstance(value, bytes) else np.asarray(value).item()).decode()
        elif leaf.sequences:
            expected = np.stack([np.asarray(step[key]) for step in theirs])
            values = episode.array(key)
            assert values.dtype == expected.dtype
            np.testing.assert_array_equal(values, expected)
        elif leaf.kind == "text":
            assert isinstance(episode.text(key), str)


def test_the_real_bridge_episodes_are_all_there(shared):
    ((_, root),) = [found for found in detect(shared / "data" / "bridge_rlds") if found[0] == "rlds"]
    (train,) = rlds.files(root, None, {})
    assert (train.path, train.episodes) == ("bridge_dataset-train.tfrecord-00000-of-00001", 25)
    with rlds.open_file(root, train, {}) as file:
        for number in range(25):
            episode = file[number]
            assert len(episode) == 10
            assert episode.array("observation/state").shape == (10, 7)
            assert episode.array("is_first").tolist() == [True] + [False] * 9
            assert episode.scalar("episode_metadata/has_image_0") is False
            assert len(list(episode.frames("observation/image_0"))) == 10
            assert isinstance(episode.text("language_instruction"), str)
