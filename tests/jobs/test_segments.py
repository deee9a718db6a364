"""A clip that several processes share comes out as one makes it, bit for bit."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cases
from helpers.command_line import run_here
from helpers.random_models import publish_random, random_model

from vidlatent.cli.options import SharedModelFlags
from vidlatent.engine.access import Access
from vidlatent.engine.load import load_model
from vidlatent.errors import OutOfResources, UsageError
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs import segments
from vidlatent.jobs.decode import DecodeOptions, decode_file, decode_frames
from vidlatent.jobs.encode import EncodeOptions, encode
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.segment_worker import DecodeSegments, EncodeSegments, write
from vidlatent.jobs.segments import (
    Done,
    Task,
    Workers,
    choose_length,
    choose_workers,
    keep_segments,
    share_memory,
)
from vidlatent.windows import TimeRule

one_thread = cases.one_thread

FRAMES = 230
MODELS = {
    "pocket": {},
    "wf": {"encoder_num_resblocks": 1, "decoder_num_resblocks": 1},
    "wan": {},
}
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("wf", "wan")]


@pytest.fixture
def source(as_video, moving_clip) -> Path:
    return as_video("clip", moving_clip(FRAMES, 16, 24))


def published(kind: str, folder: Path) -> ModelChoice:
    """A folder of weights, chosen."""
    if kind == "wan":  # whose own names are not those of any file
        return ModelChoice(str(cases.compact("wan21", folder / "weights").folder))
    return ModelChoice(str(publish_random(kind, folder / "weights", **MODELS[kind])))


def two(choice: ModelChoice) -> Workers:
    return Workers(choice, ("cpu", "cpu"))


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["pocket", *SLOW])
def test_two_processes_write_what_one_writes(as_clip, moving_clip, tmp_path, kind):
    source = as_clip("clip", moving_clip(FRAMES, 16, 24))  # images: how many there are is known
    choice = published(kind, tmp_path)
    model = choice.load(device="cpu")
    for name, workers in (("one", None), ("two", two(choice))):
        encode(source, tmp_path / f"{name}.latent", model, EncodeOptions(posterior="sample", workers=workers))
        decode_file(
            tmp_path / f"{name}.latent", f"{tmp_path / name}/", choice, DecodeOptions(workers=workers)
        )
    assert (tmp_path / "one.latent").read_bytes() == (tmp_path / "two.latent").read_bytes()
    assert len(images(tmp_path / "one")) == FRAMES + 1
    assert images(tmp_path / "one") == images(tmp_path / "two")
    assert sorted(os.listdir(tmp_path)) == ["clip", "one", "one.latent", "two", "two.latent", "weights"]


@pytest.mark.parametrize("kind", MODELS)
def test_segments_put_together_are_the_clip(source, tmp_path, kind):
    model, whole = random_model(kind, **MODELS[kind]), tmp_path / "whole.latent"
    encode(source, whole, model, EncodeOptions(posterior="full"))
    with open_latent(whole) as latents:
        access = Access.to_encoder(model, latents.header.plan, 16, 24)
        length = choose_length(access, 3, latents.frames)
        maker = EncodeSegments(Task(source, tmp_path, latents.header.plan, length, ReadOptions()), model)
        parts = [np.concatenate(list(maker.make(n))) for n in range(-(-latents.frames // length))]
        assert len(parts) > 1 and not list(maker.make(len(parts)))
        moments = torch.cat([latents.read(0, latents.frames), latents.read_logvar(0, latents.frames)], dim=1)
        assert np.array_equal(np.concatenate(parts), moments)

        access = Access.to_decoder(model, latents.header.plan, *latents.shape[2:])
        length = choose_length(access, 3, latents.frames)
        span, numbers = (7, FRAMES - 5), range(-(-latents.frames // length))
        maker = DecodeSegments(Task(whole, tmp_path, latents.header.plan, length, span=span), model, latents)
        parts = [np.concatenate(list(maker.make(n))) for n in numbers]
        assert len(parts) > 1
        undivided = list(decode_frames(latents, model, latents.header.plan, span))
        assert np.array_equal(np.concatenate(parts), undivided)


class InThisProcess:
    """A pool without processes: it makes each segment when that is asked for."""

    def __init__(self, task: Task, workers: Workers, model) -> None:
        self._folder, self._maker = task.folder, EncodeSegments(task, model)

    def segments(self, first: int) -> Iterator[tuple[Done, Path]]:
        for number in count(first):
            path = self._folder / str(number)
            yield write(path, number, self._maker.make(number)), path
            path.unlink()

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("latents", [8, 30, 55])
def test_several_processes_go_on_with_what_one_has_left(source, tmp_path, monkeypatch, latents):
    model, target = random_model("pocket"), tmp_path / "x.latent"
    encode(source, tmp_path / "whole.latent", model)

    def append(self, *latents_, plain=LatentWriter.append):
        if self.frames > latents:
            raise KeyboardInterrupt
        plain(self, *latents_)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LatentWriter, "append", append)
        encode(source, target, model, EncodeOptions(resume=True))
    monkeypatch.setattr("vidlatent.jobs.encode.Pool", InThisProcess)
    options = EncodeOptions(resume=True, workers=two(ModelChoice()))
    said = encode(source, target, model, options).notices
    assert any("latents of an earlier run are kept" in notice for notice in said)
    assert target.read_bytes() == (tmp_path / "whole.latent").read_bytes()


@pytest.mark.usefixtures("processes_as_in_real_life")
def test_what_a_process_finds_wrong_is_said_by_the_one_that_asked(source, tmp_path):
    model = random_model("pocket")
    workers = Workers(ModelChoice(str(tmp_path / "nowhere")), ("cpu",))
    with pytest.raises(UsageError, match="nowhere"):
        encode(source, tmp_path / "x.latent", model, EncodeOptions(workers=workers))
    assert os.listdir(tmp_path) == ["clip"]


@pytest.mark.usefixtures("processes_as_in_real_life")
def test_a_process_that_dies_is_one_clear_error(source, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "WORKER", "no.such.program")
    with pytest.raises(OutOfResources, match=r"segment 0 of the clip died \(exit code 1\)"):
        encode(
            source, tmp_path / "x.latent", load_model("toy"), EncodeOptions(workers=two(ModelChoice("toy")))
        )
    assert os.listdir(tmp_path) == ["clip"]


def test_what_a_killed_run_left_waiting_is_removed(tmp_path):
    left = tmp_path / ".x.latent.segments.partial"
    left.mkdir()
    (left / "0").write_bytes(b"left")
    with keep_segments(tmp_path / "x.latent") as folder:
        assert folder == left and not os.listdir(folder)
    assert not os.listdir(tmp_path)


def test_a_link_where_segments_wait_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".x.latent.segments.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"), keep_segments(tmp_path / "x.latent"):
        pass


def test_segments_are_long_for_what_they_do_twice_but_not_longer_than_a_share():
    access = Access(TimeRule(8), 4, horizon=5)
    assert access.lead == 9
    assert [choose_length(access, 2, latents) for latents in (None, 10_000, 40, 10)] == [36, 36, 20, 10]


def test_who_must_work_alone_says_why():
    free, bound = Access(TimeRule(4), 1, horizon=5), Access(TimeRule(4), 1)
    workers = two(ModelChoice())
    assert choose_workers(None, bound, False, 7) == (None, ())
    assert choose_workers(workers, free, True, 1) == (workers, ())
    for access, rereadable, passes, why in (
        (free, False, 1, "once"),
        (bound, True, 1, "no end"),
        (free, True, 4, "tiles"),
    ):
        nobody, (words,) = choose_workers(workers, access, rereadable, passes)
        assert nobody is None and why in words


def test_a_limit_of_memory_holds_for_all_processes_on_a_device():
    devices = ("cuda:0", "cuda:1", "cuda:0", "cuda:1")
    assert share_memory(80, Workers(ModelChoice(), devices)) == 40
    assert share_memory(80, None) == 80 and share_memory(None, two(ModelChoice())) is None


def test_a_full_disk_is_said_with_the_name_of_the_target(tmp_path, file_size_limit):
    items = iter([np.zeros((4, 100_000), np.uint8)])
    with file_size_limit(50_000), pytest.raises(OutOfResources, match="disk full"):
        write(tmp_path / "0", 0, items)


def test_the_command_line_shares_a_clip_among_jobs(source, tmp_path, capsys):
    for shared in (("--device", "cpu,cpu"), ("--jobs", 2)):
        words = ("encode", source, "-o", tmp_path / "x.latent", "-m", "toy", "--force", "--window", 0)
        run = run_here(capsys, *words, *shared)
        assert (
            run.code == 0 and "one process does it all: what the model sees of a clip has no end" in run.err
        )


@pytest.mark.parametrize(
    ("device", "jobs", "devices"),
    [
        (None, None, (None,)),
        (None, 2, (None, None)),
        ("cuda:1", None, ("cuda:1",)),
        ("cuda:0,cuda:1", None, ("cuda:0", "cuda:1")),
        ("cuda:0, cuda:1", 3, ("cuda:0", "cuda:1", "cuda:0")),
    ],
)
def test_jobs_take_turns_at_devices(device, jobs, devices):
    said = {name: None for name in ("model", "weights", "config", "settings", "dtype")}
    flags = SharedModelFlags(**said, device=device, jobs=jobs)
    workers = flags.workers()
    assert flags.choice().device == devices[0]
    assert (workers and workers.devices) == (devices if len(devices) > 1 else None)
