"""A claim is held by one at a time, whoever comes and goes in between."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from vidlatent.errors import OutOfResources, UsageError
from vidlatent.jobs.cache import claims
from vidlatent.jobs.cache.claims import Claim, Claims, read_holder


def test_a_claim_is_held_once_and_can_be_taken_again(tmp_path, nothing_stays_open):
    path = tmp_path / "claims/key"
    (tmp_path / "plain").touch()
    with Claim.take(path):
        assert Claim.take(path) is None
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode, "others may read who holds it"
    assert not path.exists()
    with Claim.take(path):
        assert path.exists()


def test_a_file_that_its_holder_removed_between_opening_and_locking_is_no_claim(
    tmp_path, monkeypatch, nothing_stays_open
):
    """We open it; its holder removes it and lets go; we lock what has no name any more."""
    path, real = tmp_path / "key", claims.try_lock
    first = Claim.take(path)

    def late(descriptor: int) -> bool:
        monkeypatch.setattr(claims, "try_lock", real)
        first.release()
        return real(descriptor)

    monkeypatch.setattr(claims, "try_lock", late)
    second = Claim.take(path)
    assert second is not None and Claim.take(path) is None
    second.release()


def test_a_claim_is_removed_while_it_is_still_held(tmp_path, monkeypatch):
    """Removed after it was let go it might be the claim of somebody else, and a third one could take it."""
    claim, events, unlink, close = Claim.take(tmp_path / "key"), [], os.unlink, os.close
    monkeypatch.setattr(os, "unlink", lambda *a, **k: (events.append("unlink"), unlink(*a, **k)))
    monkeypatch.setattr(os, "close", lambda *a: (events.append("close"), close(*a)))
    claim.release()
    assert events == ["unlink", "close"]


def test_a_claim_ends_with_the_process_that_holds_it(tmp_path):
    code = "import sys; from pathlib import Path; from vidlatent.jobs.cache.claims import Claim\n"
    code += "claim = Claim.take(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "key")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert Claim.take(tmp_path / "key") is None
        assert read_holder(tmp_path / "key") == f"process {other.pid} on {socket.gethostname()}"
        other.kill()
        other.wait()
    assert Claim.take(tmp_path / "key") is not None


def test_a_link_in_place_of_a_claim_is_not_followed(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "key").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="key: cannot be written"):
        Claim.take(tmp_path / "key")
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_claim_that_says_nothing_is_somebodys_all_the_same(tmp_path):
    (tmp_path / "key").touch()
    assert read_holder(tmp_path / "key") == read_holder(tmp_path / "gone") == "another process"


def test_of_what_a_claim_says_no_more_is_told_than_a_line_has_room_for(tmp_path):
    (tmp_path / "key").write_text("x" * 1000)
    assert read_holder(tmp_path / "key") == "x" * 200


def test_claims_are_held_all_or_none(tmp_path):
    with Claim.take(tmp_path / "b"):
        assert Claims.take(tmp_path, ("a", "b")) is None
        Claim.take(tmp_path / "a").release()
    both = Claims.take(tmp_path, ("a", "b"))
    assert Claim.take(tmp_path / "a") is None and Claim.take(tmp_path / "b") is None
    both.release()
    assert not list(tmp_path.iterdir())


def test_where_no_locks_can_be_asked_for_nothing_stays_open(tmp_path, monkeypatch):
    def fail(descriptor: int) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(claims, "try_lock", fail)
    closed, close = [], os.close
    monkeypatch.setattr(os, "close", lambda descriptor: (closed.append(descriptor), close(descriptor))[1])
    with pytest.raises(OutOfResources, match=r"key: cannot be written \(Input/output error\)"):
        Claim.take(tmp_path / "key")
    assert len(closed) == 1


def test_a_claim_whose_file_cannot_be_removed_or_signed_is_a_claim(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "ftruncate", fail)
    monkeypatch.setattr(os, "unlink", fail)
    with Claim.take(tmp_path / "key"):
        assert Claim.take(tmp_path / "key") is None
    assert Claim.take(tmp_path / "key") is not None


def test_the_name_of_a_former_holder_is_not_left(tmp_path):
    (tmp_path / "key").write_text("process 1234567890 on a machine with quite a long name\n")
    with Claim.take(tmp_path / "key"):
        assert read_holder(tmp_path / "key") == f"process {os.getpid()} on {socket.gethostname()}"
