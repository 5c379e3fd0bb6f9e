"""Converting to an object store: the bytes of a local store, each part whole or not at all, whatever is interrupted."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stored_files import files, objects

import converters.plan
from converters.catalog import get
from converters.run import ConvertReport, convert_dataset
from rdt_data.errors import RdtError, RemoteError, StoreError
from rdt_data.remote import file_system
from rdt_data.remote_ledger import RemoteLedger, RemotePlace
from rdt_data.store import open_dataset

PATIENCE = 60
"""Seconds after which a process is taken to hang."""

PARTS = 3

COMMAND = [sys.executable, "-c", "import converters.plan as p; p.SMALLEST_PART = 1; import cli.data; cli.data.main()"]
"""`rdt-data` with small parts."""


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as plan:
        plan.setattr(converters.plan, "SMALLEST_PART", 1)
        yield


@pytest.fixture(scope="module")
def source(rlds_source, tmp_path_factory) -> Path:
    return rlds_source(tmp_path_factory.mktemp("source"), shards=(1,) * PARTS)


def convert(source: Path, dest: object, codec: str = "keep", **options: Any) -> ConvertReport:
    return convert_dataset(source, dest, converters.plan.Request.of(get("demo_two_arm"), codec=codec), **options)


@pytest.fixture(scope="module")
def expected(source, small_parts, tmp_path_factory) -> dict[str, bytes]:
    """Path -> bytes of every file of the store on disk."""
    convert(source, dest := tmp_path_factory.mktemp("local") / "made.zarr")
    assert len(open_dataset(str(dest)).parts) == PARTS
    return files(dest)


@pytest.fixture
def memory(tmp_path) -> str:
    """The URL of a store that is not there yet, in the memory of this process."""
    return f"memory://{tmp_path.parent.name}/{tmp_path.name}/made.zarr"


@pytest.fixture(params=["memory", "s3"])
def dest(request, memory) -> str:
    """The URL of a store that is not there yet."""
    return memory if request.param == "memory" else f"{request.getfixturevalue('s3')()}/folder/made.zarr"


def put(url: str, data: bytes = b"?") -> None:
    fs, path = file_system(url)
    fs.pipe_file(path, data)


def of_part(name: str) -> str:
    """The part that an object belongs to; "" for those of the whole."""
    folder, _, rest = name.removeprefix("parts/").partition("/")
    return folder if rest else ""


def test_a_store_converted_to_a_url_has_the_bytes_of_one_on_disk_and_is_left_as_it_is(source, dest, expected):
    report = convert(source, dest)
    assert (report.dest, report.parts, report.already, report.episodes) == (dest, PARTS, 0, PARTS)
    assert objects(dest) == expected
    report = convert(source, dest)
    assert (report.already, report.episodes) == (PARTS, PARTS)
    assert objects(dest) == expected


def test_a_file_url_is_a_path(source, tmp_path, tree, command):
    for place in (tmp_path / "a.zarr", f"file://{tmp_path}/b.zarr"):
        assert command("convert", source, place, "--dataset", "demo_two_arm").code == 0
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b.zarr")


def start(source: Path, dest: str, *options: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "convert", source, dest, "--dataset", "demo_two_arm", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_run_leaves_whole_parts_only_and_workers_complete_it(source, s3, expected):
    dest = f"{s3()}/made.zarr"
    fs, path = file_system(dest)
    run = start(source, dest)
    deadline = time.monotonic() + PATIENCE
    while not fs.exists(f"{path}/parts/0/zarr.json"):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline, "it hangs"
    run.kill()
    run.communicate(timeout=PATIENCE)
    dataset = open_dataset(dest)
    assert not dataset.complete
    whole = {part.id for part in dataset.parts}
    assert "0" in whole
    left = objects(dest)
    assert {name: left[name] for name in left if of_part(name) in whole} == {
        name: data for name, data in expected.items() if of_part(name) in whole
    }
    out, errors = start(source, dest, "--workers", "2").communicate(timeout=PATIENCE)
    assert f"in {PARTS} parts ({len(whole)} were there before)" in out, errors
    assert objects(dest) == expected


class Stopped(BaseException):
    """What ends a run here, as a signal would."""


def stopped_at(number: int) -> Any:
    """`RemotePlace.refuse_lost`, interrupted at the given call."""
    ask, calls = RemotePlace.refuse_lost, iter(range(number, -1, -1))

    def refuse_lost(self: RemotePlace, *arguments: Any) -> None:
        if next(calls) == 0:
            raise Stopped
        ask(self, *arguments)

    return refuse_lost


@pytest.mark.parametrize("moment", range(2 * PARTS + 1))
def test_interrupted_at_any_step_a_part_is_whole_or_absent_and_the_next_run_completes(
    source, memory, expected, moment, monkeypatch
):
    """Every commit asks whether its run still holds the store, before its files are put and before the last of them."""
    with monkeypatch.context() as patched:
        patched.setattr(RemotePlace, "refuse_lost", stopped_at(moment))
        with pytest.raises(Stopped):
            convert(source, memory)
    whole = {"", *map(str, range(moment // 2))}
    left = objects(memory)
    assert left.keys() == {name for name in expected if of_part(name) in whole}
    assert all(left[name] == expected[name] for name in left if name != "zarr.json")
    assert [part.id for part in open_dataset(memory).parts] == sorted(whole - {""})
    assert convert(source, memory).already == moment // 2
    assert objects(memory) == expected


def test_what_a_killed_run_left_is_removed_even_where_the_new_part_has_no_such_file(source, memory, expected):
    convert(source, memory)
    fs, path = file_system(memory)
    fs.rm_file(f"{path}/parts/1/zarr.json")
    put(f"{memory}/parts/1/images/exterior/c/7/0/0/0")
    assert convert(source, memory).already == PARTS - 1
    assert objects(memory) == expected


def test_another_command_is_refused_until_it_may_overwrite(source, dest, expected, tmp_path):
    convert(source, dest)
    put(f"{dest}/stats/stats.json")
    with pytest.raises(StoreError, match=r"begun by a different command:[\s\S]*request.codec: then 'keep', now 'png'"):
        convert(source, dest, codec="png")
    assert objects(dest) == {**expected, "stats/stats.json": b"?"}
    convert(source, dest, codec="png", overwrite=True)
    convert(source, tmp_path / "png.zarr", codec="png")
    assert objects(dest) == files(tmp_path / "png.zarr")


def test_a_source_that_has_changed_is_refused(source, memory, expected, rlds_source, tmp_path):
    convert(source, memory)
    other = rlds_source(tmp_path, shards=(1,) * PARTS, steps=6)
    with pytest.raises(StoreError, match="the source of part 0 has changed since it was converted"):
        convert(other, memory)
    assert objects(memory) == expected


def test_what_others_wrote_is_left_alone(source, dest):
    put(f"{dest}/notes.txt")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(StoreError, match=r"is not a store of this program \(it holds notes.txt\)"):
            convert(source, dest, **options)
    assert objects(dest) == {"notes.txt": b"?"}


def test_a_run_ends_when_another_has_taken_the_store_over(dest, tmp_path):
    header: dict[str, Any] = {"dataset": "none"}
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "zarr.json").write_bytes(b"{}")
    with RemoteLedger(dest, header, [{"sources": []}]) as first:
        with RemoteLedger(dest, header, [{"sources": []}]):
            with pytest.raises(StoreError, match="another run has taken over"):
                first.place.commit(tmp_path / "part", 0)
            with pytest.raises(StoreError, match="another run has taken over"):
                first.finish({"parts": []})
            first.__exit__(None, None, None)
            assert ".partial/run.json" in objects(dest), "the second run's claim"
        assert objects(dest).keys() == {"zarr.json", "parts/zarr.json"}


def test_nothing_stays_on_the_disk_where_parts_are_made(source, memory, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / RemotePlace(memory, "killed").scratch.name / "0"
    left.mkdir(parents=True)
    convert(source, memory)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_and_memory_that_is_not_shared_are_told(source, memory, s3):
    s3()
    with pytest.raises(
        RemoteError, match=r"s3://no-such-bucket/made.zarr/.partial/run.json: cannot write: .*\n  fix:.*bucket"
    ):
        convert(source, "s3://no-such-bucket/made.zarr")
    with pytest.raises(RdtError, match="in the memory of one process"):
        convert(source, memory, workers=2)
