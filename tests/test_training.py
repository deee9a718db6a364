"""Parts of bin/training by themselves: footage that is kept, and steps that are not learned from."""

import argparse
import shutil
import sys

import numpy as np
import pytest
import torch
from helpers.paths import ROOT, SAMPLE

sys.path.append(str(ROOT / "bin"))

from training.camera import SPEEDS, camera_move, pyramid
from training.evaluate import by_motion, by_place
from training.footage import SEGMENT_FRAMES, footage_clip, kept_name, pack_footage, window
from training.run import JUMP, Trainer, rate

from vidlatent.models.pocket_vae import PocketVAE, spec_of

SMALL = {"stem": 8, "width": 16, "encoder_blocks": 1, "decoder_blocks": 1}


@pytest.fixture
def trainer() -> Trainer:
    """Of a small network that has made no step."""
    return fresh(keep_encoder=False)


def fresh(keep_encoder: bool) -> Trainer:
    """A trainer without LPIPS."""
    torch.manual_seed(0)
    terms = ("time_weight", "still_weight", "scale_weight", "log_weight", "latent_noise")
    rates = {"lr": 1e-3, "path_lr": 1e-4, "seed": 1, **dict.fromkeys(terms, 0.1)}
    args = argparse.Namespace(
        device="cpu", bf16=False, lpips=None, alex_weight=0, keep_encoder=keep_encoder, **rates
    )
    return Trainer(PocketVAE(spec_of(SMALL)), args)


def test_clips_of_one_name_in_two_folders_are_two(tmp_path):
    """They used to be one: what was kept of the first was taken for both."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(SAMPLE, tmp_path / folder / "clip.mp4")
    names = {kept_name(tmp_path / folder / "clip.mp4", tmp_path, 1) for folder in ("one", "two")}
    assert len(names | {kept_name(tmp_path / "one" / "clip.mp4", tmp_path, 2)}) == 3
    bank = pack_footage(tmp_path, tmp_path / "cache", 1)
    assert [len(video) for video in bank] == [1, 1]
    assert {folder.name for folder in (tmp_path / "cache").iterdir()} == names


def test_what_is_kept_of_large_footage_is_cut_not_made_smaller():
    rows, columns = window(0, 1080, 1920)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (368, 640)
    assert rows.start >= 0 and rows.stop <= 1080 and columns.stop <= 1920
    assert window(68, 1080, 1920) != (rows, columns)
    assert np.zeros((240, 320))[window(0, 240, 320)].shape == (240, 320)


def test_frames_are_up_to_four_apart():
    counting = np.arange(SEGMENT_FRAMES, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2)
    clips = [
        footage_clip([[counting.repeat(3, 3)]], 17, 16, np.random.default_rng(seed)) for seed in range(60)
    ]
    steps = [abs(round(float(clip[0, 1, 0, 0] - clip[0, 0, 0, 0]) * 127.5)) for clip in clips]
    assert set(steps) == {1, 2, 3, 4}
    assert 0.15 < np.mean([step > 1 for step in steps]) < 0.5  # a third of the clips, of sixty


def test_moves_are_as_fast_as_they_may_be():
    """A ramp moves past; how far a frame goes on tells the speed across it."""
    ramp = np.arange(640)[None, :, None].repeat(640, 0).repeat(3, 2) / 640 * 255
    moves = [
        camera_move([pyramid(ramp.astype(np.uint8))], 3, 16, np.random.default_rng(n)) for n in range(60)
    ]
    speeds = [abs(float((move[0, 2] - move[0, 1]).mean())) * 127.5 / 255 * 640 for move in moves]
    assert max(speeds) > SPEEDS[1] / 3
    assert np.median(speeds) < 4


def test_a_step_whose_loss_jumps_teaches_nothing(trainer):
    for loss in (0.05, 0.06, 0.04) * 20:
        note(trainer, loss)
    usual, places = trainer.usual.clone(), trainer.places.clone()
    for jump in (0.06 + 2 * JUMP * float(usual[1]) ** 0.5, float("nan"), float("inf")):
        note(trainer, jump, grad=float("nan"))
        assert all((p.grad == 0).all() for p in trainer.model.parameters())
        assert torch.equal(trainer.places, places)
        assert torch.isfinite(trainer.usual).all()
    note(trainer, 0.05)
    assert all((p.grad == 1).all() for p in trainer.model.parameters())


def test_places_that_are_worse_weigh_more(trainer):
    assert torch.equal(trainer.weights_of(9), torch.ones(9))
    for _ in range(200):
        note(trainer, 0.05, errors=[1.0, 4.0, 2.0, 2.0, 2.0, 4.0, 2.0, 2.0, 2.0])
    weights = trainer.weights_of(9)
    assert weights[0] == 1 and weights[1:5].mean() == pytest.approx(1)
    assert weights[1] > 3 * weights[2]
    assert torch.equal(weights[1:5], weights[5:])


def test_a_timed_run_falls_to_nothing_when_its_time_is_over(trainer):
    trainer.step = 1000
    args = argparse.Namespace(seconds=100.0, steps=1, cooldown=1)
    assert [rate(trainer, args, at) for at in (0, 50, 100, 120)] == [1, 0.5, 0, 0]


def note(trainer: Trainer, loss: float, grad: float = 1.0, errors: list[float] | None = None) -> None:
    """A step of this loss, all gradients alike."""
    for p in trainer.model.parameters():
        p.grad = torch.full_like(p, grad)
    trainer.note(torch.tensor(loss), torch.tensor(errors or [1.0] * 9))


def test_blocks_that_move_are_told_from_those_that_rest():
    """The left half changes by ten levels a frame and is off by two, the right rests and is off by one."""
    source = [np.full((16, 16, 3), 50, np.uint8) for _ in range(3)]
    for n, frame in enumerate(source):
        frame[:, :8] += 10 * n
    made = [frame + np.uint8(1) for frame in source]
    for frame in made:
        frame[:, :8] += 1
    assert by_motion(source, made) == {"moving": 0.5, "moving_error": 0.8}


def test_places_are_those_after_the_first_frame():
    psnr = -10 * np.log10([9.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 7.0])
    assert by_place(psnr) == {"places": [0.5, 1.0, 1.5, 1.0]}


def test_a_kept_encoder_makes_the_same_latents_after_a_step():
    trainer = fresh(keep_encoder=True)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    batch = torch.randint(256, (2, 3, 5, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    trainer.learn(batch, 1.0, argparse.Namespace(ema=0.9))
    now = trainer.model.state_dict().items()
    assert {key.split(".")[0] for key, value in now if not torch.equal(value, before[key])} == {"decoder"}
