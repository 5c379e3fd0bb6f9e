"""Every RLDS spec against a dataset written from its published feature list, as tensorflow-datasets stores it.

The dataset is genuine: features.json, dataset_info.json and a TFRecord with one episode of 5 steps that has every
published feature in its dtype, shape and encoding. Only images are smaller, 16 x 16 pixels, and all content is random.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from converters import catalog
from converters.convert import convert_episode, convert_frames
from converters.fields import keep, read_fields
from converters.inverse import to_robot
from converters.op_chain import run
from converters.patches import PatchedEpisode
from converters.plan import Request, make_plan
from converters.raw import RawEpisode
from converters.readers import rlds
from converters.readers.tfrecord import example_proto, write_records
from converters.spec import DatasetSpec
from converters.spec_model import FieldSpec
from rdt_data.errors import SpecError
from rdt_data.images import decode

FACTS_FILE = Path(os.environ.get("RDT_SHARED", Path(__file__).parents[2] / "shared")) / "facts/datasets.json"
FACTS: dict[str, Any] = json.loads(FACTS_FILE.read_text())["datasets"] if FACTS_FILE.exists() else {}
SKIP = pytest.mark.skip(reason=f"no {FACTS_FILE} (set RDT_SHARED): the published features are listed there")
RLDS = [name for name in sorted(FACTS) if FACTS[name]["storage"]["kind"] == "rlds_tfds"]
SPECS = {
    **{name: catalog.get(name) for name in RLDS if not catalog.get(name).refused},
    **{f"{name} corrected": catalog.get(name).corrected() for name in RLDS if catalog.get(name).corrections},
}
SPEC_NAMES = list(SPECS) or [pytest.param("", marks=SKIP)]
MODULE = "tensorflow_datasets.core.features"
STEPS, SIDE, WORDS = 5, 16, "pick up_the cup"
CLASSES = {"Tensor": "tensor_feature.Tensor", "Scalar": "scalar.Scalar", "Text": "text_feature.Text", "Image": "image_feature.Image"}  # fmt: skip

Arrays = dict[str, npt.NDArray[Any]]


def described(features: dict[str, Any]) -> dict[str, Any]:
    """The content of features.json, the steps still an ordinary dictionary."""
    groups: dict[str, dict[str, Any]] = {}
    for key, feature in features.items():
        first, _, rest = key.partition("/")
        groups.setdefault(first, {})[rest] = feature
    inner = {first: leaf(group[""]) if "" in group else described(group) for first, group in groups.items()}
    return {"pythonClassName": f"{MODULE}.features_dict.FeaturesDict", "featuresDict": {"features": inner}}


def leaf(feature: dict[str, Any]) -> dict[str, Any]:
    shape = {"dimensions": [str(side) for side in feature["shape"]]} if feature["shape"] else {}
    content: dict[str, Any] = {"shape": shape, "dtype": feature["dtype"]}
    kind = feature["feature"]
    if kind == "Image":
        named = feature["encoding"] != "unspecified"
        content = {"image": content | ({"encodingFormat": feature["encoding"]} if named else {})}
    else:
        content = (
            {"text": {}} if kind == "Text" else {"tensor": content | {"encoding": feature.get("encoding", "none")}}
        )
    return content | {"pythonClassName": f"{MODULE}.{CLASSES[kind]}"}


def made_up(spec: DatasetSpec, features: dict[str, Any]) -> Arrays:
    """Random numbers for every published feature, keys as a raw episode has them; what is a pose matrix is one."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for key, feature in features.items():
        shape = ((STEPS,) if key.startswith("steps/") else (1,)) + tuple(feature["shape"])
        if feature["feature"] == "Image":
            shape = (STEPS, SIDE, SIDE, shape[-1])
        if feature["dtype"] == "string":
            values: npt.NDArray[Any] = np.full(shape, WORDS)
        elif feature["dtype"].startswith("float"):
            values = rng.uniform(-1, 1, shape).astype(feature["dtype"])
        else:
            values = rng.integers(0, 2 if feature["dtype"] == "bool" else 200, shape).astype(feature["dtype"])
        arrays[key.removeprefix("steps/")] = values
    for field in spec.state:
        if field.ops and field.ops[0].name.startswith("mat4"):
            arrays[field.from_].reshape(STEPS, -1)[:, list(field.columns)] = poses(field.ops[0].name)
    for key in spec.instruction.from_ if spec.instruction.code_points else ():
        arrays[key] = np.zeros_like(arrays[key])
        arrays[key][:, : len(WORDS)] = [ord(letter) for letter in WORDS]
    for rule in spec.keep_if:
        value = rule.equals if rule.equals is not None else rule.above + 1
        arrays[rule.from_] = np.full_like(arrays[rule.from_], value, dtype=object if isinstance(value, str) else None)
    return arrays


def poses(op: str) -> npt.NDArray[np.float32]:
    """(STEPS, 16) homogeneous matrices, in the order that the op reads."""
    rng = np.random.default_rng(1)
    matrices = np.tile(np.eye(4), (STEPS, 1, 1))
    matrices[:, :3, :3] = Rotation.random(STEPS, rng).as_matrix()
    matrices[:, :3, 3] = rng.uniform(-1, 1, (STEPS, 3))
    return (matrices.swapaxes(1, 2) if "colmajor" in op else matrices).reshape(STEPS, 16).astype(np.float32)


def encoded(pixels: npt.NDArray[Any], feature: dict[str, Any]) -> bytes:
    """An image as tensorflow-datasets stores it: float32 as four bytes a pixel."""
    if feature["dtype"] == "float32":
        pixels = pixels.view(np.uint8).reshape(SIDE, SIDE, 4)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return bytes(
        imagecodecs.jpeg_encode(pixels, 95) if feature["encoding"] == "jpeg" else imagecodecs.png_encode(pixels)
    )


def record_of(features: dict[str, Any], arrays: Arrays) -> bytes:
    """The episode as a serialized `tf.train.Example`."""
    example = example_proto().Example()
    for key, feature in features.items():
        values, lists = arrays[key.removeprefix("steps/")], example.features.feature[key]
        if feature["feature"] == "Image":
            lists.bytes_list.value.extend(encoded(pixels, feature) for pixels in values)
        elif feature["dtype"] == "string":
            lists.bytes_list.value.extend(str(text).encode() for text in values.ravel())
        elif feature.get("encoding") == "zlib":
            lists.bytes_list.value.extend(zlib.compress(value.tobytes()) for value in values)
        elif feature["dtype"].startswith("float"):
            lists.float_list.value.extend(values.ravel().tolist())
        else:
            lists.int64_list.value.extend(values.astype(np.int64).ravel().tolist())
    return bytes(example.SerializeToString())


def write_dataset(name: str, spec: DatasetSpec, folder: Path) -> tuple[Path, Arrays]:
    """Write the dataset; returns its root and what it holds. Where the facts name a builder, it has a config."""
    features = FACTS[name]["rlds_spec"]
    dataset, _, config = FACTS[name]["storage"].get("builder", name).partition("/")
    root = folder / dataset / config / "0.1.0"
    root.mkdir(parents=True)
    table = described(features)
    top = table["featuresDict"]["features"]
    top["steps"] = {
        "pythonClassName": f"{MODULE}.dataset_feature.Dataset",
        "sequence": {"feature": top["steps"], "length": "-1"},
    }
    arrays = made_up(spec, features)
    record = record_of(features, arrays)
    split = {
        "name": "train",
        "shardLengths": ["1"],
        "numBytes": str(len(record)),
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    info = {"name": dataset, "version": "0.1.0", "fileFormat": "tfrecord", "splits": [split]} | (
        {"configName": config} if config else {}
    )
    (root / "features.json").write_text(json.dumps(table))
    (root / "dataset_info.json").write_text(json.dumps(info))
    write_records(root / f"{dataset}-train.tfrecord-00000-of-00001", [record])
    return root, arrays


@contextlib.contextmanager
def only_episode(root: Path) -> Iterator[RawEpisode]:
    (file,) = rlds.files(root, None, {})
    with rlds.open_file(root, file, {}) as episodes:
        yield episodes[0]


def values_of(field: FieldSpec, arrays: Arrays, control_hz: float) -> npt.NDArray[Any]:
    return run(field.ops, arrays[field.from_].reshape(STEPS, -1)[:, list(field.columns)], control_hz)


@pytest.mark.parametrize("label", SPEC_NAMES)
def test_a_dataset_of_the_published_features_converts(label: str, tmp_path: Path):
    name, spec = label.split()[0], SPECS[label]
    root, arrays = write_dataset(name, spec, tmp_path)
    assert catalog.find(rlds.names(root)) == name
    for action in ("next-state", "recorded") if spec.recorded_action else ("next-state",):
        request = Request.of(spec, action=action)
        plan = make_plan(root, request)
        assert plan.cameras.keys() == spec.cameras.keys()
        with only_episode(root) as raw:
            assert set(raw.keys()) == arrays.keys()
            assert keep(spec, raw) is None
            episode = convert_episode(request, raw)
            frames = {slot: list(stored) for slot, stored in convert_frames(request, plan.cameras, raw).items()}
        np.testing.assert_array_equal(episode.state_mask, spec.mask("state"))
        assert not episode.state[:, ~episode.state_mask].any()
        for field in spec.state:
            np.testing.assert_allclose(
                episode.state[:, list(field.indices)], values_of(field, arrays, spec.control_hz), atol=1e-5
            )
        for field in (spec.recorded_action or ()) if action == "recorded" else ():
            np.testing.assert_allclose(
                episode.action[:, list(field.indices)], values_of(field, arrays, spec.control_hz), atol=1e-5
            )
        words = spec.instruction.text or str(
            next((rule.equals for rule in spec.keep_if if isinstance(rule.equals, str)), WORDS)
        )
        assert episode.instruction_raw == words
        assert episode.instruction == (words[0].upper() + words[1:].replace("_", " ").rstrip(".") + ".")
        assert frames.keys() == spec.cameras.keys()
        for slot, camera in spec.cameras.items():
            assert len(frames[slot]) == STEPS
            pixels = decode(frames[slot][0], swapped=camera.channels == "bgr")
            exact = arrays[camera.from_[0]][0][..., :: -1 if camera.channels == "bgr" else 1]
            jpeg = FACTS[name]["rlds_spec"][f"steps/{camera.from_[0]}"]["encoding"] == "jpeg"
            assert pixels.shape == (SIDE, SIDE, 3)
            assert jpeg or np.array_equal(pixels, exact)


@pytest.mark.parametrize("label", SPEC_NAMES)
@pytest.mark.parametrize("mode", ["next_state", "recorded"])
def test_what_is_given_back_to_the_robot_reads_as_the_same_action(label: str, mode: str, tmp_path: Path):
    name, spec = label.split()[0], SPECS[label]
    fields = [
        field for field in (spec.state if mode == "next_state" else spec.recorded_action or ()) if field.reversible
    ]
    root, _ = write_dataset(name, spec, tmp_path)
    with only_episode(root) as raw:
        read, mask = read_fields(fields, raw, spec.control_hz)
        action = np.concatenate([read[1:], read[-1:]])  # the state one step on
        again, _ = read_fields(
            fields, PatchedEpisode(raw, to_robot(fields, action, spec.control_hz, mask)), spec.control_hz
        )
    for field in fields:
        slots, late = list(field.indices), any(not op.kind.rowwise for op in field.ops)
        sent, seen = (
            (action[:-1], again[1:]) if late else (action, again)
        )  # the state holds the command of the step before
        np.testing.assert_allclose(seen[:, slots], sent[:, slots], atol=2e-5, err_msg=str(field))
    if mode == "next_state" and spec.irreversible():
        with pytest.raises(SpecError, match="cannot be undone"):
            spec.to_robot(action)
    elif mode == "next_state":
        assert spec.to_robot(action, mask).keys() == {field.from_ for field in spec.state}


@pytest.mark.parametrize("name", RLDS or [pytest.param("", marks=SKIP)])
def test_a_spec_prints_every_field_and_camera(name: str):
    spec = catalog.get(name)
    printed = " ".join(str(spec).split())
    assert spec.title in printed
    assert f"control rate {spec.control_hz:g} Hz" in printed
    keys = [field.from_ for field in (*spec.state, *(spec.recorded_action or ()))]
    assert all(key in printed for key in (*keys, *(camera.from_[0] for camera in spec.cameras.values())))
    assert " ".join((spec.refused or "").split()) in printed


@pytest.mark.parametrize("name", [name for name in RLDS if catalog.get(name).refused] or [pytest.param("", marks=SKIP)])
def test_a_dataset_that_cannot_be_converted_is_recognised_and_refused(name: str, tmp_path: Path):
    spec = catalog.get(name)
    root, arrays = write_dataset(name, spec, tmp_path)
    assert catalog.find(rlds.names(root)) == name
    with pytest.raises(SpecError) as error:
        Request.of(spec)
    assert " ".join((spec.refused or "").split()) in error.value.problem
    assert not any("state" in key or "pose" in key or "joint" in key for key in arrays), "it has no proprioception"
