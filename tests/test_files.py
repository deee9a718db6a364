"""Nothing appears under a name before it is complete, and whoever fails to write it is told why."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vidlatent import files
from vidlatent.errors import BadInput, BadVideo, OutOfResources, UsageError
from vidlatent.files import (
    PNG,
    Kind,
    Replacement,
    asset,
    free_bytes,
    naming_disk_errors,
    naming_read_errors,
    partial_path,
    refuse_existing,
    refuse_foreign,
    refuse_same,
    replace_on_close,
    sha256_file,
    write_note,
)

pytestmark = pytest.mark.usefixtures("nothing_stays_open")


def test_a_partial_file_is_hidden_clearly_named_and_in_the_same_folder(tmp_path: Path):
    assert partial_path(tmp_path / "clip.mp4") == tmp_path / ".clip.mp4.partial"


def test_a_finished_file_takes_its_name_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "out"
    with replace_on_close(path) as partial:
        partial.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


def test_a_finished_file_has_the_rights_of_any_new_file(tmp_path: Path):
    (tmp_path / "plain").write_bytes(b"")
    with replace_on_close(tmp_path / "out") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_error_in_mid_write_keeps_the_old_file_and_removes_the_new(tmp_path: Path, error: type):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(error), replace_on_close(path) as partial:
        partial.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_what_a_killed_run_left_is_replaced_whole(tmp_path: Path):
    """The leftover is longer than what follows: its tail must not survive."""
    path = tmp_path / "out"
    partial_path(path).write_bytes(b"half of something long")
    with replace_on_close(path) as partial, partial.open("rb+") as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


def test_a_second_writer_of_one_file_is_refused_and_the_first_unharmed(tmp_path: Path):
    path = tmp_path / "out"
    with replace_on_close(path) as partial:
        partial.write_bytes(b"first")
        with pytest.raises(UsageError, match="out: another run is writing it"), replace_on_close(path):
            pytest.fail("two writers at once")
    assert path.read_bytes() == b"first"


def test_a_writer_in_another_process_is_noticed(tmp_path: Path):
    path = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from vidlatent.files import replace_on_close\n"
        "with replace_on_close(Path(sys.argv[1])) as partial: partial.write_bytes(b'theirs')"
    )
    with replace_on_close(path) as partial:
        partial.write_bytes(b"ours")
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "another run is writing it" in done.stderr
    assert path.read_bytes() == b"ours"


def test_one_name_can_be_written_again_and_again(tmp_path: Path):
    for content in (b"a", b"b"):
        with replace_on_close(tmp_path / "out") as partial:
            partial.write_bytes(content)
    assert (tmp_path / "out").read_bytes() == b"b"


def test_a_file_finished_between_opening_and_locking_is_not_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """We open `.out.partial`; before we lock it, its owner renames it to `out` and lets go."""
    path, real = tmp_path / "out", files.try_lock
    first = Replacement(path)
    first.partial.write_bytes(b"theirs")

    def late(descriptor: int) -> bool:
        if not first.done:
            first.commit()
        return real(descriptor)

    monkeypatch.setattr(files, "try_lock", late)
    second = Replacement(path)
    assert path.read_bytes() == b"theirs"
    second.partial.write_bytes(b"ours")
    second.commit()
    assert path.read_bytes() == b"ours"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_disk_without_locks_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int):
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with replace_on_close(tmp_path / "out") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "out").read_bytes() == b"new"


@pytest.mark.parametrize("found", ["file", "lock"])
def test_a_file_that_another_run_removes_while_we_open_it_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
):
    """It may go before we have opened it, and after."""
    path, real = tmp_path / "out", os.open
    partial_path(path).write_bytes(b"theirs")

    def late(place: Path, flags: int, *mode: int) -> int:
        if flags & os.O_EXCL or not partial_path(path).exists():
            return real(place, flags, *mode)
        if found == "file":
            partial_path(path).unlink()
            return real(place, flags, *mode)
        descriptor = real(place, flags, *mode)
        partial_path(path).unlink()
        return descriptor

    monkeypatch.setattr(files.os, "open", late)
    with replace_on_close(path) as partial:
        assert partial.read_bytes() == b""
        partial.write_bytes(b"ours")
    assert path.read_bytes() == b"ours"


def test_what_is_left_can_be_gone_on_with_and_is_emptied_by_who_does_not(tmp_path: Path):
    first = Replacement(tmp_path / "out")
    first.partial.write_bytes(b"half")
    first.leave()
    first.discard()  # it is no longer ours to remove
    second = Replacement(tmp_path / "out", keep=True)
    assert second.partial.read_bytes() == b"half"
    second.leave()
    third = Replacement(tmp_path / "out")
    assert third.partial.read_bytes() == b""
    third.discard()
    third.leave()
    assert os.listdir(tmp_path) == []


def test_a_system_without_locks_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "fcntl", None)
    with replace_on_close(tmp_path / "out") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "out").read_bytes() == b"new"


def test_discarding_what_is_committed_changes_nothing(tmp_path: Path):
    replacement = Replacement(tmp_path / "out")
    replacement.commit()
    replacement.discard()
    assert (tmp_path / "out").exists()


def test_a_full_disk_is_said_to_be_full_and_the_partial_is_removed(tmp_path: Path, file_size_limit):
    path = tmp_path / "out"
    with (
        file_size_limit(100_000),
        pytest.raises(OutOfResources, match=r"out: disk full \(\d+\.\d\d GB free in .*\)") as e,
        replace_on_close(path) as partial,
        partial.open("wb") as file,
    ):
        file.write(bytes(200_000))
    assert e.value.exit_code == 5
    assert os.listdir(tmp_path) == []


def test_how_much_is_free_is_said_in_gigabytes_unless_the_disk_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def say(answer: object) -> str:
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: answer())
        with pytest.raises(OutOfResources) as caught, naming_disk_errors(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "full")
        return caught.value.what

    def fail() -> None:
        raise OSError(errno.EIO, "no answer")

    assert say(lambda: SimpleNamespace(free=2_500_000_000)).endswith(f"(2.50 GB free in {tmp_path})")
    assert say(fail) == f"{tmp_path / 'out'}: disk full"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.EIO, OutOfResources, "out: cannot be written (no)\nhint: the disk, its network"),
        (errno.EMFILE, OutOfResources, "hint: too many files are open at once"),
        (errno.EACCES, UsageError, "hint: name an output you may write"),
        (errno.EPIPE, BrokenPipeError, ""),
        (None, OSError, ""),
    ],
)
def test_who_is_to_blame_for_what_is_not_written_is_said(tmp_path: Path, code: int | None, kind: type, words):
    with pytest.raises(kind) as caught, naming_disk_errors(tmp_path / "out"):
        raise OSError("no") if code is None else OSError(code, "no")
    assert words in str(caught.value) and type(caught.value) is kind


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("out", True),
        (".", True),
        (".out.partial", True),
        ("other", False),
        (".other.partial", False),
        ("sub/.out.partial", False),
        ("../.out.partial", False),
    ],
)
def test_only_trouble_with_the_file_its_partial_or_its_folder_is_about_it(tmp_path, name, ours):
    place = tmp_path.parent / name[3:] if name.startswith("..") else tmp_path / name
    with pytest.raises(UsageError if ours else PermissionError), naming_disk_errors(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "no", str(place))
    with pytest.raises(UsageError if ours else PermissionError), naming_disk_errors(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "no", str(place.with_name("x")), None, str(place))


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (errno.EACCES, BadVideo, "look"),
        (errno.EIO, OutOfResources, "the disk, its network or the system fails"),
        (errno.ENFILE, OutOfResources, "too many files are open at once"),
    ],
)
def test_what_cannot_be_read_is_said_and_who_is_to_blame(tmp_path: Path, code: int, kind: type, hint: str):
    path = tmp_path / "in"
    with pytest.raises(kind) as caught, naming_read_errors(path, BadVideo, "look"):
        raise OSError(code, "no")
    assert caught.value.what == f"{path}: cannot be read (no)" and caught.value.hint.startswith(hint)
    with pytest.raises(BadInput, match=r"in: cannot be read \(torn\)"), naming_read_errors(path):
        raise OSError("torn")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_kind_of_full_is_full(tmp_path: Path, code: int):
    with pytest.raises(OutOfResources, match="disk full"), replace_on_close(tmp_path / "out"):
        raise OSError(code, os.strerror(code))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no/such/folder/out", "No such file or directory"),
        ("file/out", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path, name: str, reason: str):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(UsageError, match=rf"cannot be written \({reason}\)"),
        replace_on_close(tmp_path / name),
    ):
        pytest.fail("work was done for nothing")


@pytest.mark.parametrize(
    ("name", "reason"), [("no/out", "No such file or directory"), ("file/out", "Not a directory")]
)
def test_a_place_where_no_file_can_be_made_is_told_before_there_is_anything_to_write(tmp_path, name, reason):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=rf"out: cannot be written \({reason}\)\nhint: name an output"):
        files.refuse_unwritable(tmp_path / name)


def test_a_folder_is_asked_whether_it_may_be_written(tmp_path, monkeypatch):
    files.refuse_unwritable(tmp_path / "out")
    monkeypatch.setattr(files.os, "access", lambda folder, right: (folder, right) != (tmp_path, os.W_OK))
    with pytest.raises(UsageError, match=r"out: cannot be written \(Permission denied\)"):
        files.refuse_unwritable(tmp_path / "out")


def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Simulated: whoever runs this as root may write everywhere."""

    def refuse(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(UsageError, match=r"out: cannot be written \(Permission denied\)"):
        Replacement(tmp_path / "out")


def test_a_target_that_became_a_folder_meanwhile_is_said_to_be_one(tmp_path: Path):
    path = tmp_path / "out"
    with pytest.raises(UsageError, match="out: cannot be written"), replace_on_close(path):
        path.mkdir()
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("target", ["folder", "pipe"])
def test_only_regular_files_are_replaced(tmp_path: Path, target: str):
    """Renaming onto /dev/null or a pipe would destroy it for everybody."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=f"{target}: is not a regular file"):
        Replacement(tmp_path / target)


def test_trouble_with_an_input_is_not_blamed_on_the_output(tmp_path: Path):
    with pytest.raises(FileNotFoundError), replace_on_close(tmp_path / "out"):
        (tmp_path / "input").read_bytes()


def test_existing_files_are_refused_without_force(tmp_path: Path):
    path = tmp_path / "out"
    refuse_existing(path, force=False)
    path.write_bytes(b"old")
    refuse_existing(path, force=True)
    with pytest.raises(UsageError, match="out: exists already") as e:
        refuse_existing(path, force=False)
    assert e.value.hint == "add force to replace it, or name another output"


def test_a_link_to_nowhere_exists_too(tmp_path: Path):
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="exists already"):
        refuse_existing(tmp_path / "out", force=False)


def test_sha256_is_that_of_the_bytes(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc").startswith("ba7816bf8f01cfea")


def test_free_space_is_asked_of_the_nearest_folder_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    usage = files.shutil.disk_usage
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: (asked.append(place), usage(place))[1])
    assert free_bytes(tmp_path / "not" / "yet") > 0
    assert asked == [tmp_path]


def test_the_ground_floor_does_not_load_torch():
    code = (
        "import sys, vidlatent.files, vidlatent.clock, vidlatent.errors, vidlatent.grid, vidlatent.windows\n"
        "import vidlatent.prefetch; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("link", [None, "symlink", "link"])
def test_the_input_is_never_the_output_by_whatever_name(tmp_path, link):
    source = tmp_path / "a.mp4"
    source.write_bytes(b"video")
    target = source if link is None else tmp_path / "b"
    if link is not None:
        getattr(os, link)(source, target)
    with pytest.raises(UsageError, match="is the input itself"):
        refuse_same(source, target)


def test_two_files_of_equal_bytes_are_two_files(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"same")
    refuse_same(tmp_path / "a", tmp_path / "b")
    refuse_same(tmp_path / "a", tmp_path / "missing")


def test_force_replaces_only_what_is_of_the_kind_that_is_written(tmp_path):
    path, kind = tmp_path / "out", Kind("a thing", (b"THING", b"OTHER"), within=8)
    refuse_foreign(path, kind)
    for fine in (b"", b"THING...", b"..OTHER", b"THI"[:0]):
        path.write_bytes(fine)
        refuse_foreign(path, kind)
    for foreign in (b"video", b"........THING"):
        path.write_bytes(foreign)
        with pytest.raises(UsageError, match="is not a thing, and force replaces nothing else"):
            refuse_foreign(path, kind)


def test_a_kind_is_told_by_the_first_bytes_alone(tmp_path):
    path, sign = tmp_path / "out", b"\x89PNG\r\n\x1a\n"
    path.write_bytes(sign)
    refuse_foreign(path, PNG)
    path.write_bytes(b"." + sign)
    with pytest.raises(UsageError, match="is not a picture in PNG"):
        refuse_foreign(path, PNG)
    path.write_bytes(bytes(12) + b"THING")  # of sixteen bytes all but the last
    with pytest.raises(UsageError, match="is not a thing"):
        refuse_foreign(path, Kind("a thing", (b"THING",)))


def test_files_that_come_with_the_package_are_found():
    assert asset("pocket/config.json").is_file()


def plant(place: Path, kind: str, victim: Path) -> None:
    """Put something else where a partial file or folder will be."""
    if kind == "symlink":
        place.symlink_to(victim)
    elif kind == "hard link":
        place.hardlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "folder"])
def test_nothing_is_written_through_what_lies_in_the_place_of_the_partial_file(tmp_path: Path, kind: str):
    """A link to a file of yours, left in a folder that others may write too, emptied that file."""
    path, victim = tmp_path / "out", tmp_path / "precious"
    victim.write_bytes(b"precious")
    plant(partial_path(path), kind, victim)
    with pytest.raises(UsageError, match=r"\.out\.partial: is a link or no plain file"):
        Replacement(path)
    assert victim.read_bytes() == b"precious" and not path.exists()


def test_a_note_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "note").mkdir()
    with pytest.raises(UsageError, match="note: cannot be written"):
        write_note(tmp_path / "note", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
