"""The architecture as a table: who may import whom, who owns a heavy library, how long files and functions are."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "rdt_data": set(),
    "converters": {"rdt_data"},
    "stats": {"rdt_data"},
    "rdt_model": {"rdt_data"},
    "cli": {"rdt_data", "converters", "stats", "rdt_model"},
}

NOT_IN_RDT_DATA = {"torch", "typer", "transformers", "diffusers", "timm"}

OWNERS = {
    "zarr": {
        "rdt_data/codecs.py",
        "rdt_data/parts.py",
        "rdt_data/ledger.py",
        "rdt_data/merge_target.py",
        "rdt_data/store.py",
        "converters/readers/replay_store.py",
        "converters/readers/replay_zarr.py",
    },
    "av": {"rdt_data/video.py", "rdt_data/video_write.py"},
    "pyarrow": {"rdt_data/parquet.py", "rdt_data/parquet_write.py"},
    "transformers": {"stats/encoder.py", "stats/seeded_t5.py", "rdt_model/encoders.py"},
    "ray": {"rdt_data/jobs.py", "rdt_data/feed_actors.py", "rdt_model/ray_launch.py"},
    "timm": {"rdt_model/layers.py"},
    "bitsandbytes": {"rdt_model/optimiser.py", "rdt_model/quantize.py"},
    "kornia": {"rdt_model/image_augment.py"},
    "diffusers": {"rdt_model/schedule.py", "rdt_model/ema.py"},
    "accelerate": {
        "rdt_model/optimiser.py",
        "rdt_model/ranks.py",
        "rdt_model/rates.py",
        "rdt_model/training.py",
        "rdt_model/training_setup.py",
        "rdt_model/training_step.py",
        "rdt_model/validation.py",
    },
    "peft": {"rdt_model/adapters.py"},
    "tensorboard": {"rdt_model/training_log.py"},
    "huggingface_hub": {"stats/model_files.py", "rdt_model/checkpoint_files.py"},
    "concurrent": set(),
    "multiprocessing": {"rdt_data/pool.py"},
    "h5py": {
        "converters/readers/hdf5.py",
        "converters/readers/hdf5_frames.py",
        "converters/readers/roboset.py",
        "converters/demo_data.py",
    },
    "google_crc32c": {"rdt_data/shards.py", "converters/readers/tfrecord.py"},
    "array_record": {"converters/readers/arrayrecord.py"},
    "simplejpeg": {"rdt_data/images.py"},
    "rerun": {"stats/view_rerun.py"},
    "gymnasium": {"rdt_model/gym_aloha_world.py"},
    "gym_aloha": {"rdt_model/gym_aloha_world.py"},
    "mujoco": {"rdt_model/gym_aloha_world.py"},
    "tensorflow_datasets": set(),  # its tf.train.Example is loaded by file location: converters/readers/tfrecord.py
    "tensorflow": set(),
    "websockets": {"rdt_model/server.py", "rdt_model/client.py"},
    "msgpack": {"rdt_model/wire.py"},
    "pickle": set(),
}

LONGEST_FILE = 300
LONGEST_FUNCTION = 40


def sources() -> list[Path]:
    return sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_downwards(package):
    for path in (ROOT / package).rglob("*.py"):
        ours = set(imports(path)) & MAY_IMPORT.keys()
        assert ours <= MAY_IMPORT[package] | {package}, f"{path} imports {ours}"


def test_rdt_data_knows_neither_torch_nor_typer():
    for path in (ROOT / "rdt_data").rglob("*.py"):
        assert not set(imports(path)) & NOT_IN_RDT_DATA, path


@pytest.mark.parametrize("library", OWNERS)
def test_a_heavy_library_is_imported_by_its_owners_only(library):
    users = {path.relative_to(ROOT).as_posix() for path in sources() if library in imports(path)}
    assert users <= OWNERS[library]


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_short_and_begin_with_their_contract(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST_FILE
    assert ast.get_docstring(tree), "a module opens with its contract"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                length = body[-1].end_lineno - body[0].lineno + 1
                assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_there_is_no_broad_except_and_no_folder_by_kind():
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, path
                assert ast.unparse(node.type) != "Exception", path
        assert path.stem not in {"utils", "helpers", "common", "core", "misc"}


def test_tests_have_no_packages():
    assert not list((ROOT / "tests").rglob("__init__.py"))
