"""Claims in a store: one holder at a time, kept up while it lives, and taken over once it is gone."""

import os
import socket
import time

import fsspec
import pytest
from helpers.buckets import new_bucket, read_all

from vidlatent.errors import OutOfResources
from vidlatent.io.sources import patience, writing
from vidlatent.jobs.cache import leases
from vidlatent.jobs.cache.leases import Leases


@pytest.fixture
def two(monkeypatch) -> tuple[Leases, Leases]:
    """What two processes know of one folder of claims."""
    monkeypatch.setattr(patience, "WAITS_S", (0, 0))
    url = f"{new_bucket('claims')}/claims"
    return Leases(url), Leases(url)


def test_a_claim_is_held_by_one_until_it_is_released(two):
    mine, theirs = two
    with mine.take("key"):
        assert theirs.take("key") is None and mine.take("key") is None
        assert theirs.read_holder("key") == f"process {os.getpid()} on {socket.gethostname()}"
        theirs.take("other").release()
    with theirs.take("key"):
        assert mine.take("key") is None
    assert not read_all("memory://claims")


def test_a_claim_that_is_kept_up_stays_and_one_that_is_not_is_taken_over(two, monkeypatch):
    mine, theirs = two
    monkeypatch.setattr(leases, "BEAT_S", 0.05)
    monkeypatch.setattr(leases, "LEFT_S", 1.0)
    kept = mine.take("kept")
    fsspec.filesystem("memory").pipe_file("/claims/claims/left", b"process 1 on nowhere\n")
    assert theirs.take("left") is None
    time.sleep(1.2)
    assert theirs.take("kept") is None
    with theirs.take("left"):
        assert theirs.read_holder("left") != "process 1 on nowhere"
    kept.release()
    time.sleep(0.2)  # and is not put again
    assert not read_all("memory://claims")


def test_a_claim_whose_put_was_not_answered_is_held(two, monkeypatch):
    mine, theirs = two
    assert mine.work
    fs, failing = fsspec.filesystem("memory"), [True]
    put = type(fs).pipe_file

    def lose_the_answer(*args, **more) -> None:
        put(*args, **more)
        if failing and failing.pop():
            raise ConnectionResetError("the answer was lost")

    monkeypatch.setattr(type(fs), "pipe_file", lose_the_answer)
    with mine.take("key"):
        assert theirs.take("key") is None


def test_a_claim_that_cannot_be_removed_is_given_up_all_the_same(two, monkeypatch):
    mine, theirs = two
    claim = mine.take("key")

    def fail(*_: object) -> None:
        raise OutOfResources("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(leases, "remove_object", fail)
        claim.release()
    monkeypatch.setattr(leases, "LEFT_S", 0.0)
    with theirs.take("key"):
        claim.release()  # once is enough
        assert read_all("memory://claims")


def test_who_cannot_be_named_is_another_process(two):
    fsspec.filesystem("memory").pipe_file("/claims/claims/torn", b"")
    assert two[0].read_holder("gone") == two[0].read_holder("torn") == "another process"


def test_an_object_that_is_there_is_not_new_unless_it_is_ours(two):
    url = "memory://claims/claims/key"
    assert writing.put_new(url, b"mine") and writing.put_new(url, b"mine")
    assert not writing.put_new(url, b"theirs")
    assert read_all("memory://claims") == {"claims/key": b"mine"}
