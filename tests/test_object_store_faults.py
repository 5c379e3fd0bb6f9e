"""An object store that fails now and then: requests are tried again, and nothing is lost, doubled or taken for damage."""

import contextlib
import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_files import files, objects

import converters.plan
from converters.catalog import get
from converters.run import convert_dataset
from converters.verify import verify_store
from rdt_data import Feed, Mixture, open_dataset
from rdt_data.errors import RemoteError
from rdt_data.remote import file_system
from stats.measure import measure_stores

RATE = {"500": 0.05, "done, but 500": 0.05, "slow": 0.03, "cut": 0.05, "cut upload": 0.05, "silent": 0.005}
"""Share of the requests that meet each fault."""

TIMEOUT = 1.0


class Proxy(ThreadingHTTPServer):
    """Passes requests on to an S3 server, and answers some wrongly. met: how many met which fault."""

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = server.removeprefix("http://")
        self.rates: Mapping[str, float] = {}
        self.met: Counter[str] = Counter()
        self._draw, self._lock = random.Random(0), threading.Lock()

    def fault(self) -> str:
        """What is to happen to the next request; "" for nothing."""
        with self._lock:
            (name,) = self._draw.choices([*self.rates, ""], [*self.rates.values(), 1 - sum(self.rates.values())])
            self.met[name] += 1
            return name

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


class Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        fault, length = self.server.fault(), int(self.headers.get("Content-Length", 0))
        if fault == "cut upload":
            self.rfile.read(length // 2)
            return self.hang_up()
        body = self.rfile.read(length)
        if fault == "silent":
            time.sleep(2 * TIMEOUT)
            return self.hang_up()
        if fault in ("500", "403"):
            return self.reply(int(fault), {}, b"")
        if fault == "slow":
            time.sleep(TIMEOUT / 3)
        status, headers, content = self.passed_on(body)
        if fault == "done, but 500":
            return self.reply(500, {}, b"")
        return self.reply(status, headers, content, keep=len(content) // 2 if fault == "cut" else None)

    def do_GET(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_DELETE(self) -> None:
        self.answer()

    def passed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.behind, timeout=30)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def reply(self, status: int, headers: Mapping[str, str], content: bytes, keep: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        of_head = next((value for name, value in headers.items() if name.lower() == "content-length"), "0")
        self.send_header("Content-Length", of_head if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:keep])
        if keep is not None:
            self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def proxy(s3_server, s3, monkeypatch) -> Iterator[Proxy]:
    """A proxy that this process takes for the S3 server from now on; without faults at first."""
    import s3fs

    monkeypatch.setenv("RDT_DATA_TIMEOUT", str(TIMEOUT))
    with Proxy(s3_server) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
        server.rates = {}
        server.shutdown()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3, proxy) -> str:
    return s3()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch) -> None:
    monkeypatch.setattr(converters.plan, "SMALLEST_PART", 1)


@pytest.fixture(scope="module")
def source(rlds_source, tmp_path_factory) -> Path:
    return rlds_source(tmp_path_factory.mktemp("source"), shards=(1, 1))


def convert(source: Path, dest: object, **options: Any) -> None:
    convert_dataset(source, dest, converters.plan.Request.of(get("demo_two_arm")), **options)


def samples(store: object) -> list[np.ndarray]:
    mixture = Mixture.of({str(store): 1.0}, least_steps=1)
    with Feed(mixture, batch_size=4, producers=0, image_size=16, epochs=1, horizon=4, on_bad="quarantine") as feed:
        return [np.copy(array) for batch in feed for array in (batch.images, batch.state, batch.episode, batch.step)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_written_through_faults_is_the_one_on_disk(source, bucket, proxy, tmp_path, workers):
    convert(source, local := tmp_path / "made.zarr")
    proxy.rates, dest = RATE, f"{bucket}/made.zarr"
    convert(source, dest, workers=workers)
    assert all(proxy.met[fault] for fault in ("500", "done, but 500", "cut", "cut upload")), proxy.met
    proxy.rates = {}
    assert objects(dest) == files(local)


def test_a_store_read_through_faults_is_the_one_on_disk(source, bucket, proxy, tmp_path):
    convert(source, local := tmp_path / "made.zarr")
    convert(source, dest := f"{bucket}/made.zarr")
    proxy.rates, proxy.met = RATE, Counter()
    assert objects(dest) == files(local)
    report = verify_store(dest, source)
    assert (report.problems, report.episodes) == ([], 2)
    np.testing.assert_equal(samples(dest), samples(local))
    (here,), (there,) = measure_stores([str(local)]), measure_stores([dest])
    assert there.document == here.document
    assert all(proxy.met[fault] for fault in RATE if fault not in ("silent", "cut upload")), proxy.met


def test_a_request_that_gets_no_answer_is_sent_again(bucket, proxy):
    fs, path = file_system(f"{bucket}/object")
    proxy.rates = {"silent": 0.4}
    for number in range(5):
        fs.pipe_file(path, bytes([number]))
        assert fs.cat_file(path) == bytes([number])
    assert proxy.met["silent"]


@pytest.mark.parametrize("fault", ["500", "cut", "cut upload"])
def test_a_store_that_stays_broken_is_told_with_url_and_operation(
    fault, bucket, proxy, monkeypatch, frame_store, tmp_path
):
    store = f"{bucket}/made.zarr"
    fs, path = file_system(store)
    fs.pipe_file(f"{path}/zarr.json", b"{}" * 100)
    monkeypatch.setenv("RDT_DATA_TRIES", "3")
    proxy.rates, proxy.met = {fault: 1.0}, Counter()
    if fault != "cut upload":
        with pytest.raises(RemoteError, match=rf"^{store}/zarr.json: cannot read, tried 3 times: .+\n  fix: see that"):
            open_dataset(store)
    else:
        with pytest.raises(RemoteError, match=rf"^{store}/object: cannot write, tried 3 times: .+\n  fix: see that"):
            file_system(store)[0].pipe_file(f"{path}/object", b"12345678")
    assert proxy.met.keys() == {fault}
    assert proxy.met[fault] == (6 if fault == "cut upload" else 3)  # aiohttp itself sends once more where it may


def test_what_is_not_allowed_is_not_tried_again(bucket, proxy):
    proxy.rates, proxy.met = {"403": 1.0}, Counter()
    with pytest.raises(RemoteError, match=r"zarr.json: cannot read: .*\n  fix: check the credentials"):
        open_dataset(f"{bucket}/made.zarr")
    assert proxy.met == {"403": 1}


def test_each_wait_is_twice_the_one_before(bucket, proxy, monkeypatch):
    monkeypatch.setenv("RDT_DATA_TRIES", "4")
    fs, path = file_system(f"{bucket}/object")
    proxy.rates = {"500": 1.0}
    began = time.monotonic()
    with pytest.raises(RemoteError):
        fs.cat_file(path)
    assert time.monotonic() - began > (0.1 + 0.2 + 0.4) / 2, "each wait is at least half of its bound"


def test_a_feed_that_cannot_reach_its_store_stops_and_blames_no_episode(bucket, proxy, monkeypatch, source):
    convert(source, dest := f"{bucket}/made.zarr")
    monkeypatch.setenv("RDT_DATA_TRIES", "1")
    mixture = Mixture.of({dest: 1.0}, least_steps=1)
    with Feed(mixture, batch_size=1, producers=0, image_size=16, horizon=4, on_bad="quarantine", shuffle_gb=0) as feed:
        proxy.rates = {"500": 1.0}
        with pytest.raises(RemoteError, match="cannot read, tried 1 times"):
            list(feed)
        assert feed.stats.left_out == ()


def test_a_number_of_tries_that_is_none_is_told(monkeypatch):
    monkeypatch.setenv("RDT_DATA_TRIES", "often")
    with pytest.raises(Exception, match="RDT_DATA_TRIES is 'often'\n  fix: set it to 1 or more"):
        file_system("memory://x")
