"""Object stores: what is fetched is whole, faults that pass are waited out, and no secret is shown."""

import errno
from datetime import datetime, timedelta

import fsspec
import pytest
from helpers.faulty_server import serve

from vidlatent.errors import BadVideo, OutOfResources, UsageError
from vidlatent.io.sources import patience, stores
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.member import MemberSource
from vidlatent.io.sources.patience import Unreachable, Unwanted, ask_patiently
from vidlatent.io.sources.stored import StoredSource, find_source_beside
from vidlatent.io.sources.urls import find_common_folder, hide_secrets, is_url


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nobody waits before asking again, nor long for a server that hangs."""
    monkeypatch.setattr(patience, "WAITS_S", (0, 0, 0))
    monkeypatch.setattr(stores, "_SILENT_S", 3)


@pytest.fixture
def server():
    with serve() as running:
        yield running


def put(name: str, data: bytes = b"bytes") -> str:
    with fsspec.open(f"memory://{name}", "wb") as file:
        file.write(data)
    return f"memory://{name}"


def fetch(url: str, path) -> bytes:
    stores.fetch(url, path, stores.read_object_state(url))
    return path.read_bytes()


@pytest.mark.parametrize("faults", [["500", "503"], ["short", "reset"], ["hang", "429"]])
def test_a_transfer_that_is_interrupted_is_begun_again(tmp_path, server, faults):
    server.files["/a.avi"], server.faults["/a.avi"] = b"0123456789" * 1000, list(faults)
    assert fetch(server.address("/a.avi"), tmp_path / "a") == server.files["/a.avi"]
    assert server.asked["GET", "/a.avi"] == 3 and not server.faults["/a.avi"]


def test_what_never_comes_whole_is_said(tmp_path, server):
    server.files["/a.avi"], server.faults["/a.avi"] = b"0123456789" * 1000, ["503"] * 9
    with pytest.raises(Unreachable, match=r"a\.avi: the store answered with 503, 4 times\nhint: the next"):
        fetch(server.address("/a.avi"), tmp_path / "a")


@pytest.mark.parametrize(("status", "what"), [("404", "no such object"), ("403", "does not let you read it")])
def test_what_will_not_pass_is_asked_once(tmp_path, server, status, what):
    server.files["/a.avi"], server.faults["/a.avi"] = b"0123456789", [status] * 9
    with pytest.raises(BadVideo, match=what) as told:
        fetch(server.address("/a.avi", "user:secret"), tmp_path / "a")
    assert server.asked["GET", "/a.avi"] == 1
    assert "secret" not in str(told.value) and told.value.__suppress_context__


def test_a_store_that_gives_less_than_it_says_is_not_believed(tmp_path, monkeypatch):
    url = put("b/a.avi", b"0123456789")
    kind = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(kind, "get_file", lambda self, name, path, **_: open(path, "wb").close())
    with pytest.raises(Unreachable, match=r"b/a\.avi: cannot be fetched \(0 of 10 bytes came\), 4 times"):
        fetch(url, tmp_path / "a")


def test_our_own_full_disk_is_not_the_store_s_fault():
    def copy():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutOfResources, match="disk full, so nothing can be fetched"):
        ask_patiently(copy, "x", stores.never)


def test_a_run_that_is_to_end_waits_for_no_store(monkeypatch):
    monkeypatch.setattr(patience, "WAITS_S", (600,))

    def copy():
        raise ConnectionError

    with pytest.raises(Unwanted):
        ask_patiently(copy, "x", lambda: True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a b?.mp4", "s3://bucket/a b?.mp4"),
        ("s3://KEY:SECRET@bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://user:SECRET@host:80/a.mp4#x", "https://host:80/a.mp4"),
        ("https://host/a.mp4?X-Amz-Credential=SECRET&X-Amz-Signature=SECRET", "https://host/a.mp4"),
        ("https://host/a.mp4?AWSAccessKeyId=SECRET&Signature=SECRET&Expires=1", "https://host/a.mp4"),
        ("https://host/a.mp4?sv=2024&sr=b&sig=SECRET&se=1&sp=r", "https://host/a.mp4"),
        ("https://host/get?id=7&token=SECRET", "https://host/get?[0-9a-f]{12}"),
    ],
)
def test_no_secret_is_in_the_name_of_an_object(url, shown):
    import re

    source = StoredSource(url)
    pattern = shown if "{12}" in shown else re.escape(shown)
    assert re.fullmatch(pattern.replace("get?", r"get\?"), source.name)
    assert "SECRET" not in repr(source) + source.name + source.full_name


def test_two_queries_are_two_names_and_two_signatures_are_one():
    names = [hide_secrets(f"https://host/get?id={n}&Signature={s}") for n in (1, 2) for s in (1, 2)]
    assert names[0] == names[1] != names[2] == names[3]


@pytest.mark.parametrize(
    ("table", "named", "found"),
    [
        ("s3://bucket/sets/t.csv", "videos/a.mp4", "s3://bucket/sets/videos/a.mp4"),
        ("s3://bucket/sets/t.csv", "../a.mp4", "s3://bucket/a.mp4"),
        ("s3://bucket/sets/t.csv", "gs://other/a.mp4", "gs://other/a.mp4"),
        ("https://u:p@host/sets/t.csv?sig=1", "./a.mp4", "https://u:p@host/sets/a.mp4"),
    ],
)
def test_a_table_in_a_store_names_what_lies_beside_it(table, named, found):
    assert find_source_beside(StoredSource(table), named) == StoredSource(found)


def test_a_table_on_a_disk_may_name_objects(tmp_path):
    table = DiskSource(tmp_path / "t.csv")
    assert find_source_beside(table, "s3://b/a.mp4") == StoredSource("s3://b/a.mp4")
    assert find_source_beside(table, "a.mp4") == DiskSource(tmp_path / "a.mp4")
    assert is_url("s3://b/a") and not is_url("/s3://b") and not is_url("12:30.mp4")


def test_an_object_and_a_part_of_it_are_sources(tmp_path):
    url = put("b/s.tar", b"xx0123456789yy")
    whole = StoredSource(url)
    member = MemberSource(whole, "m", 2, 10)
    with whole.open() as file, member.open() as part:
        assert file.read() == b"xx0123456789yy" and part.seek(-2, 2) == 8 and part.read() == b"89"
    (tmp_path / "m").write_bytes(b"0123456789")
    assert member.sha256() == DiskSource(tmp_path / "m").sha256()
    before = member.state()
    assert before == whole.state() and before.size == 14
    fsspec.filesystem("memory").store["/b/s.tar"].created = datetime.now() + timedelta(seconds=1)
    assert member.state() != before


@pytest.mark.parametrize("depth", [None, 1, 2])
def test_a_listing_says_when_a_part_of_it_cannot_be_had(monkeypatch, depth):
    """fsspec's own walk leaves a folder out that cannot be listed, and says nothing."""
    for name in ("l/a.mp4", "l/x/b.mp4", "l/x/y/c.mp4"):
        put(name)
    wanted = [("a.mp4",), ("x", "b.mp4"), ("x", "y", "c.mp4")][: depth or 3]
    assert [one.parts for one in stores.list_objects("memory://l", depth)] == wanted
    kind = type(fsspec.filesystem("memory"))
    real = kind.ls

    def ls(self, path, **more):
        if path.endswith("l" if depth == 1 else "x"):
            raise PermissionError
        return real(self, path, **more)

    monkeypatch.setattr(kind, "ls", ls)
    with pytest.raises(BadVideo, match="does not let you read it"):
        list(stores.list_objects("memory://l", depth))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("ftp://host/a.mp4", "ftp:// is no known kind of store"),
        ("file:///etc/passwd", "file:// is no known kind of store"),
    ],
)
def test_only_stores_are_asked(url, what):
    with pytest.raises(UsageError, match=what):
        stores.connect(url)


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda *_, **__: (_ for _ in ()).throw(ImportError("s3fs")))
    with pytest.raises(UsageError, match=r"for s3:// is not installed\nhint: pip install 'vidlatent\[s3\]'"):
        stores.connect("s3://bucket/a.mp4")


def test_disks_and_stores_have_no_folder_in_common():
    assert find_common_folder(["s3:/b/x", "s3:/b/y"]).as_posix() == "s3:/b"
    assert find_common_folder(["s3:/b/x", "/b/y"]).as_posix() == "/" == find_common_folder([]).as_posix()
