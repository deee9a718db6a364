"""Nothing appears under a name before it is complete, and whoever fails to write it is told why."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidlatent import files
from vidlatent.errors import OutOfResources, UsageError
from vidlatent.files import (
    Kind,
    Replacement,
    free_bytes,
    partial_path,
    refuse_existing,
    refuse_foreign,
    refuse_same,
    replace_on_close,
    sha256_file,
)


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
