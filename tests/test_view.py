"""What `rdt-data view` serves: pages of the list, episodes, vectors, stored frames; and what it refuses."""

import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import catalog
from converters.plan import Request
from converters.run import convert_dataset
from rdt_data.errors import RdtError, StoreError
from rdt_data.images import encode_png
from rdt_data.layout import preferred_name
from rdt_data.store import open_dataset
from stats import view_api
from stats.view import Server
from stats.view_api import MOST_FRAMES, MOST_ROWS
from stats.view_rerun import chosen, show_in_rerun


@dataclass(frozen=True)
class Said:
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Get = Callable[..., Said]


@pytest.fixture
def served() -> Iterator[Callable[[Path], tuple[Server, Get]]]:
    """Serve a store, and ask it over a socket, with paths as they are given."""
    servers = []

    def serve(store: Path) -> tuple[Server, Get]:
        server = Server(str(store))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))

        def get(path: str, method: str = "GET", **headers: str) -> Said:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
            try:
                connection.putrequest(method, path, skip_host="Host" in headers)
                for name, value in headers.items():
                    connection.putheader(name, value)
                connection.endheaders()
                answer = connection.getresponse()
                return Said(answer.status, dict(answer.getheaders()), answer.read())
            finally:
                connection.close()

        return server, get

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def moving(tmp_path_factory, frame_store) -> Path:
    """Two parts, five episodes, two cameras."""
    folder = tmp_path_factory.mktemp("moving")
    return frame_store(folder / "moving.zarr", [[5, 3, 8], [4, 6]], cameras=("exterior", "left_wrist"))


def as_converted(store: Path) -> Path:
    """The store of a fixture, with what `convert` writes of its request: lint asks for it."""
    header = json.loads((store / "zarr.json").read_text())
    header["attributes"]["request"]["action"] = "next-state"
    (store / "zarr.json").write_text(json.dumps(header))
    return store


def unpacked(body: bytes) -> list[bytes]:
    """The frames of a run, read as its description says."""
    (count,) = struct.unpack_from("<I", body)
    at, frames = 4 * (1 + count), []
    for length in struct.unpack_from(f"<{count}I", body, 4):
        frames.append(body[at : at + length])
        at += length
    assert at == len(body)
    return frames


def test_frames_are_the_stored_bytes(served, moving):
    _, get = served(moving)
    dataset = open_dataset(str(moving))
    for number, episode in enumerate(dataset):
        for camera in episode.cameras:
            stored = [episode.encoded(camera, step) for step in range(len(episode))]
            run = get(f"/api/episodes/{number}/frames/{camera}?start=0&stop={len(episode)}")
            assert unpacked(run.body) == stored
            one = get(f"/api/episodes/{number}/frames/{camera}/{len(episode) - 1}")
            assert (one.body, one.headers["Content-Type"]) == (stored[-1], "image/jpeg")


def test_frames_without_loss_are_served_as_png(served, tmp_path, frame_store):
    pixels = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3)
    store = frame_store(tmp_path / "png.zarr", [[2]], change=lambda number, frames: [encode_png(pixels)] * len(frames))
    _, get = served(store)
    frame = get("/api/episodes/0/frames/exterior/1")
    assert (frame.body, frame.headers["Content-Type"]) == (encode_png(pixels), "image/png")


def test_the_page_is_told_when_red_and_blue_lie_exchanged(served, tmp_path, frame_store):
    store = frame_store(tmp_path / "bgr.zarr", [[2]])
    header = json.loads((store / "zarr.json").read_text())
    header["attributes"]["cameras"]["exterior"]["swapped"] = True
    (store / "zarr.json").write_text(json.dumps(header))
    _, get = served(store)
    (camera,) = get("/api/episodes/0").json["cameras"]
    assert camera == {"slot": "exterior", "height": 24, "width": 32, "codec": "jpeg", "swapped": True}


def test_vectors_are_the_real_slots_and_nan_where_a_step_has_none(served, tmp_path, aloha_source):
    convert_dataset(aloha_source(tmp_path), tmp_path / "aloha.zarr", Request.of(catalog.get("demo_aloha")))
    _, get = served(tmp_path / "aloha.zarr")
    for number, episode in enumerate(open_dataset(str(tmp_path / "aloha.zarr"))):
        about = get(f"/api/episodes/{number}").json
        slots = about["slots"]
        assert slots == np.flatnonzero(episode.state_mask | episode.action_mask).tolist()
        for name, mask in (("state", episode.state_mask), ("action", episode.action_mask)):
            values = np.frombuffer(get(f"/api/episodes/{number}/{name}").body, "<f4").reshape(len(episode), len(slots))
            expected = np.where(mask, getattr(episode, name), np.nan)[:, slots]
            np.testing.assert_array_equal(values, expected)
        assert [group["title"] for group in about["groups"]] == [
            "Right arm",
            "Right gripper",
            "Left arm",
            "Left gripper",
        ]
        every = [slot for group in about["groups"] for slot in group["slots"]]
        assert sorted(slot["column"] for slot in every) == list(range(len(slots)))
        assert all(slots[slot["column"]] == slot["slot"] for slot in every)
        assert {slot["unit"] for slot in about["groups"][0]["slots"]} == {"rad", "rad/s"}


def test_an_episode_is_told_with_its_words_and_origin(served, tmp_path, words_store):
    store = words_store(tmp_path / "words.zarr", [["Push the cube.", "Shove the cube.", "Move it."], []])
    _, get = served(store)
    about = get("/api/episodes/0").json
    assert (about["id"], about["source"], about["instruction"]) == ("e0", "none", "Push the cube.")
    assert about["phrasings"] == ["Shove the cube.", "Move it."]
    assert (about["cameras"], about["groups"]) == ([], [])
    assert get("/api/episodes/1").json["instruction"] == ""
    assert get("/api/store").json["episodes"] == 2


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("RED", [0, 3]),
        ("cube red", [0]),
        ("shove", [0]),
        ("straße", [2]),
        ("STRASSE", [2]),
        ("e3", [3]),
        ("#4", [4]),
        ("%23 & <b>", []),
        ("nothing", []),
    ],
)
def test_the_search_finds_words_of_ids_instructions_and_phrasings(served, tmp_path, words_store, query, found):
    words = [["Push the red cube.", "Shove it."], ["Open the door."], ["Straße"], ["Red."], []]
    _, get = served(words_store(tmp_path / "words.zarr", words))
    answer = get("/api/episodes?q=" + "".join(f"%{byte:02x}" for byte in query.encode())).json
    assert [row["number"] for row in answer["rows"]] == found
    assert answer["total"] == len(found)


def test_pages_of_the_list_join_without_gap(served, tmp_path, words_store):
    store = words_store(tmp_path / "many.zarr", [[f"Do task {number}."] for number in range(2 * MOST_ROWS + 7)])
    _, get = served(store)
    pages = [get(f"/api/episodes?offset={offset}&limit={MOST_ROWS}").json for offset in range(0, 500, MOST_ROWS)]
    assert [row["number"] for page in pages for row in page["rows"]] == list(range(2 * MOST_ROWS + 7))
    assert {page["total"] for page in pages} == {2 * MOST_ROWS + 7}


def test_findings_begin_when_they_are_first_asked_for_and_come_with_their_episodes(served, tmp_path, words_store):
    store = words_store(tmp_path / "wrong.zarr", [["Push the cube."], ["Push {object}."], ["Open the door."]])
    server, get = served(as_converted(store))
    assert get("/api/episodes/1").json["findings"] is None, "nothing is known before lint has run"
    assert get("/api/lint").json["state"] in ("running", "done")
    server.view.findings.wait()
    lint = get("/api/lint").json
    assert lint["state"] == "done"
    assert lint["counts"]["error"] >= 1
    (template,) = [one for one in get("/api/episodes/1").json["findings"] if one["check"] == "instruction_template"]
    assert (template["severity"], template["found"]) == ("error", "'Push {object}.'")
    assert get("/api/episodes/0").json["findings"] == []
    only = get("/api/episodes?findings=1").json
    worst = {row["number"]: row["worst"] for row in only["rows"]}
    assert worst[1] == "error"
    assert 0 not in worst
    assert get("/api/episodes?findings=1&q=cube").json["total"] == 0


def test_a_finding_names_the_slots_of_its_curve(served, tmp_path, frame_store):
    server, get = served(
        as_converted(frame_store(tmp_path / "turns.zarr", [[60]]))
    )  # joint 0 counts steps: up to 59 rad
    server.view.findings.wait()
    found = [one for one in get("/api/episodes/0").json["findings"] if one["check"].startswith("joint_")]
    assert any(one["slots"] == [0] and one["vector"] == "state" and one["step"] is not None for one in found)
    assert all(isinstance(one["found"], str) for one in found), "NaN is no JSON"


def test_a_store_that_lint_cannot_read_is_shown_all_the_same(served, tmp_path, frame_store):
    store = as_converted(frame_store(tmp_path / "cut.zarr", [[3, 3]]))
    server, get = served(store)
    for shard in (store / "parts/0/images/exterior/c").rglob("0"):
        if shard.is_file():
            shard.write_bytes(shard.read_bytes()[:-100])
    server.view.findings.wait()
    frame = get("/api/episodes/0/frames/exterior/0")
    assert frame.status == 500
    assert "rdt-data verify" in frame.json["fix"]
    assert get("/api/lint").status == get("/api/episodes/0").status == 200


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/episodes/5", 404, "no episode 5"),
        ("/api/episodes/999999999999/state", 404, "no episode"),
        ("/api/episodes/-1", 404, "not served"),
        ("/api/episodes/0x1", 404, "not served"),
        ("/api/episodes/0/", 404, "not served"),
        ("/api/episodes/0/secret", 404, "not served"),
        ("/api/episodes/0/frames/exterior/5", 404, "no step 5"),
        ("/api/episodes/0/frames/right_wrist/0", 404, "no camera right_wrist"),
        ("/api/episodes/0/frames/exterior?start=3&stop=3", 400, "frames from 3 to 3"),
        ("/api/episodes/0/frames/exterior?start=0&stop=6", 400, "stop is '6'"),
        ("/api/episodes/0/frames/exterior?start=-1&stop=2", 400, "start is '-1'"),
        ("/api/episodes?limit=100000", 400, "limit is '100000'"),
        ("/api/episodes?offset=1e3", 400, "offset is '1e3'"),
        ("/api/episodes?findings=maybe", 400, "findings is 'maybe'"),
        ("/api/episodes?order=id", 400, "'order' cannot be asked"),
        ("/api/store?x=1", 400, "'x' cannot be asked"),
        ("/../zarr.json", 404, "not served"),
        ("/%2e%2e/%2e%2e/etc/passwd", 404, "not served"),
        ("//etc/passwd", 404, "not served"),
        ("/view.py", 404, "not served"),
        ("/view.js/../view.py", 404, "not served"),
        ("/api/episodes/0/frames/..%2f..%2fzarr.json/0", 404, "not served"),
        ("/parts/0/zarr.json", 404, "not served"),
    ],
)
def test_what_is_not_there_or_no_question_is_refused_as_json(served, moving, path, status, said):
    _, get = served(moving)
    answer = get(path)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert said in answer.json["error"]
    assert answer.json["fix"]


def test_too_many_fields_are_refused(served, moving):
    _, get = served(moving)
    assert get("/api/episodes?" + "q=a&" * 1000).status == 400


def test_a_run_of_frames_is_bounded(served, tmp_path, frame_store):
    store = frame_store(tmp_path / "long.zarr", [[MOST_FRAMES + 1]], size=(8, 8))
    _, get = served(store)
    assert len(unpacked(get(f"/api/episodes/0/frames/exterior?start=1&stop={MOST_FRAMES + 1}").body)) == MOST_FRAMES
    assert get(f"/api/episodes/0/frames/exterior?start=0&stop={MOST_FRAMES + 1}").status == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]:80"])
def test_names_of_this_machine_are_served_with_any_port(served, moving, host):
    _, get = served(moving)
    assert get("/api/store", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["example.org", "localhost.example.org", "127.0.0.1.nip.io:80", "0.0.0.0", "", "[::2]", "localhost:x"]
)
def test_the_name_of_another_host_is_refused(served, moving, host):
    _, get = served(moving)
    answer = get("/api/store", Host=host)
    assert answer.status == 403
    assert b"moving" not in answer.body


def raw(server: Server, request: bytes) -> bytes:
    """What comes back for bytes that no client would send."""
    with socket.create_connection(server.server_address[:2], timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(1 << 16):
            answer += data
        return answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /api/store HTTP/1.1\r\n\r\n", 403),
        (b"GET /api/store HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\n\r\n", 403),
        (b"GET /api/store HTTP/1.0\r\n\r\n", 403),
        (b"GET http://example.org/api/store HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /api/episodes/\u0661 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), 404),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"nonsense\r\n\r\n", 400),
        (b"\x00\xff\xfe\r\n\r\n", 400),
    ],
)
def test_requests_that_no_browser_sends_get_an_answer(served, moving, request_, status):
    server, get = served(moving)
    head, _, body = raw(server, request_).partition(b"\r\n\r\n")
    if head.startswith(b"HTTP"):
        assert f" {status} ".encode() in head.splitlines()[0]
    assert json.loads(body if head.startswith(b"HTTP") else head)["error"]
    assert get("/api/store").status == 200, "the server lives on"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_only_get_is_allowed(served, moving, method):
    _, get = served(moving)
    answer = get("/api/store", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")
    assert method in answer.json["error"]


@pytest.mark.parametrize("path", ["/", "/view.css", "/view.js", "/api/store", "/api/episodes/0/state", "/nothing"])
def test_every_answer_forbids_what_the_page_does_not_need(served, moving, path):
    _, get = served(moving)
    headers = get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_all_that_the_page_loads_is_served_and_nothing_from_elsewhere(served, moving):
    _, get = served(moving)
    shipped = {
        path.name
        for path in files("stats").iterdir()
        if path.name.startswith(("palette", "view")) and not path.name.endswith(".py")
    }
    assert shipped == {name for name, _ in view_api._ASSETS.values()}
    for path, (name, kind) in view_api._ASSETS.items():
        answer = get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        assert answer.body == files("stats").joinpath(name).read_bytes()
        assert b"http" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"innerHTML" not in answer.body, "words of a dataset could become markup"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_it_listens_on_no_address_that_others_reach(moving, host):
    with pytest.raises(RdtError, match="loopback") as error:
        Server(str(moving), host)
    assert "ssh -L" in error.value.remedy


def test_a_port_that_is_taken_is_said(served, moving):
    server, _ = served(moving)
    with pytest.raises(RdtError, match="port") as error:
        Server(str(moving), port=server.server_address[1])
    assert "--port" in error.value.remedy


def test_what_is_no_store_is_refused_before_a_port_is_opened(tmp_path):
    with pytest.raises(StoreError, match=r"no zarr\.json"):
        Server(str(tmp_path))


def test_the_command_refuses_what_only_rerun_takes(command, moving):
    done = command("view", moving, "--episodes", "1")
    assert done.code == 1
    assert "--rerun" in done.err


@pytest.mark.parametrize(("text", "numbers"), [("0", [0]), ("3,1", [3, 1]), ("1:4", [1, 2, 3]), ("2, 1:3", [2, 1])])
def test_episodes_for_rerun_are_chosen_by_number(text, numbers):
    assert chosen(text, 5) == numbers


@pytest.mark.parametrize("text", ["5", "-1", "", "a", "3:3", "4:2", "0,", "0:6"])
def test_episodes_that_are_not_there_are_refused(text):
    with pytest.raises(RdtError, match="of a store of 5"):
        chosen(text, 5)


def test_without_rerun_the_command_says_how_to_get_it(moving, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RdtError, match="not installed") as error:
        show_in_rerun(str(moving), "0")
    assert "pip install" in error.value.remedy


def test_rerun_gets_frames_as_stored_and_every_real_slot(moving, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (pip install rerun-sdk)")
    assert show_in_rerun(str(moving), "2", tmp_path / "two.rrd") == 1
    episode, data = open_dataset(str(moving))[2], (tmp_path / "two.rrd").read_bytes()
    for camera in episode.cameras:  # the file is packed by LZ4, which leaves what does not recur as it is
        assert all(episode.encoded(camera, step)[-300:-50] in data for step in range(len(episode)))
    printed = [sys.executable, "-m", "rerun", "rrd", "print", "-v", str(tmp_path / "two.rrd")]
    listed = subprocess.run(printed, capture_output=True, text=True, check=True, timeout=60).stdout
    slots = [preferred_name(slot) for slot in np.flatnonzero(episode.state_mask)]
    assert len(slots) == 20
    assert all(f"/{slot}/{vector}" in listed for slot in slots for vector in ("state", "action"))
    assert all(f"/cameras/{camera}" in listed for camera in episode.cameras)
    with pytest.raises(RdtError, match="2 episodes into"):
        show_in_rerun(str(moving), "0,1", tmp_path / "more.rrd")
