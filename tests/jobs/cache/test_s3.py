"""Videos in S3, as a server on this machine keeps it that speaks its protocol, and that goes wrong as told.

It needs `pip install s3fs 'moto[server]'`. They are not among what tests install: their botocore wants an
older python-dateutil than the one in constraints.txt.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from helpers import cache_clips as clips
from helpers.tars import write_tar

from vidlatent.errors import BadInput, UsageError
from vidlatent.io.sources import patience
from vidlatent.jobs.cache.scan import scan

s3fs = pytest.importorskip("s3fs")
app = pytest.importorskip("moto.moto_server.werkzeug_app")
pytestmark = pytest.mark.slow

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"


class Faulty:
    """The server, but for what befalls the first requests for the bytes of an object."""

    def __init__(self, served: Callable) -> None:
        self._served = served
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []

    def __call__(self, environ: dict, start: Callable) -> list[bytes]:
        name = environ["PATH_INFO"].rpartition("/")[2]
        fault = ""
        if environ["REQUEST_METHOD"] == "GET" and name:
            self.asked.append(name)
            waiting = self.faults.get(name, [])
            fault = waiting.pop(0) if waiting else ""
        if fault == "503":
            start(
                "503 Slow Down",
                [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW_DOWN)))],
            )
            return [SLOW_DOWN]
        if fault == "hang":
            time.sleep(1)
        body = b"".join(self._served(environ, start))
        return [body[: len(body) // 2] if fault == "short" else body]


@pytest.fixture
def server(monkeypatch) -> Iterator[Faulty]:
    from werkzeug.serving import make_server

    faulty = Faulty(app.DomainDispatcherApplication(app.create_backend_app))
    running = make_server("127.0.0.1", 0, faulty, threaded=True)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3CRET")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(patience, "WAITS_S", (0, 0, 0))
    s3fs.S3FileSystem.clear_instance_cache()
    with suppress(FileExistsError):  # the server keeps it from test to test
        s3fs.S3FileSystem().mkdir("bucket")
    yield faulty
    s3fs.S3FileSystem.clear_instance_cache()
    running.shutdown()
    thread.join()


def test_a_bucket_gives_the_entries_that_a_disk_gives_whatever_goes_wrong_on_the_way(tmp_path, server):
    folder = clips.write_clips(tmp_path / "videos", 4)
    (folder / "clip0.txt").write_text("a cat")
    members = {path.name: path.read_bytes() for path in sorted(folder.glob("clip[23]*"))}
    write_tar(folder / "s.tar", *members.items())
    for name in members:
        (folder / name).unlink()
    (folder / "t.csv").write_text("path\nclip1.avi\ngone.avi\n")
    s3fs.S3FileSystem().put(f"{folder}/", "bucket/videos/", recursive=True)
    server.faults = {"clip0.avi": ["503", "short"], "clip1.avi": ["short", "503"], "s.tar": ["503", "hang"]}
    found = clips.cache("s3://bucket/videos", tmp_path / "cache")
    assert not any(server.faults.values())
    clips.cache(folder, tmp_path / "disk")
    assert (found.done, found.failed) == (4, 0)
    assert clips.objects(tmp_path / "cache") == clips.objects(tmp_path / "disk")
    asked = len(server.asked)
    again = clips.cache("s3://bucket/videos/**/*.avi", tmp_path / "cache")
    assert (again.reused, again.failed) == (2, 0) and len(server.asked) == asked + 2  # the folder, and a text
    listed = clips.cache("s3://bucket/videos/t.csv", tmp_path / "cache")
    assert (listed.reused, listed.failed) == (1, 1)
    rows = {row.source: row for row in clips.rows(tmp_path / "cache")}
    assert rows["s3://bucket/videos/clip0.avi"].facts == {"caption": "a cat"}
    assert rows["s3://bucket/videos/gone.avi"].error.endswith("gone.avi: no such object")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert b"S3CRET" not in kept


def test_a_bucket_that_is_not_there_is_said_to_be_missing(tmp_path, server):
    for source in ("s3://nowhere/videos", "s3://nowhere/*.mp4"):
        with pytest.raises((UsageError, BadInput), match=r"no such object|matches no object"):
            list(scan([source], tmp_path))


def test_a_bucket_without_credentials_says_where_they_are_sought(tmp_path, server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(BadInput, match=r"Credential.*\n?hint: credentials are found by the driver itself"):
        list(scan(["s3://bucket/videos"], tmp_path))
