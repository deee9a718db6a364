import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.measure.protocols import PROTOCOLS, Protocol, find_protocol
from vidlatent.metrics.psnr import Psnr

OD, CV = PROTOCOLS["od-vae-paper"], PROTOCOLS["cv-vae-paper"]


def test_ours_takes_every_frame_as_it_is(moving_clip):
    clip = moving_clip(3, 20, 30)
    assert np.array_equal(np.stack(list(Protocol().clip(iter(clip), "a"))), clip)


def test_od_vae_takes_25_centre_squares_of_256(moving_clip):
    frames = list(OD.clip(iter(moving_clip(40, 30, 50)), "a"))
    assert len(frames) == 25
    assert {frame.shape for frame in frames} == {(256, 256, 3)}


def test_the_short_side_is_scaled_bilinearly_and_the_centre_is_kept():
    frame = np.arange(64 * 128 * 3, dtype=np.uint32).reshape(64, 128, 3).astype(np.uint8)
    (prepared,) = Protocol(side=32).clip(iter([frame]), "a")
    scaled = F.interpolate(torch.from_numpy(frame).permute(2, 0, 1)[None].float(), (32, 64), mode="bilinear")
    assert np.array_equal(prepared, scaled[0, :, :, 16:48].permute(1, 2, 0).floor().byte().numpy())


def test_cv_vae_takes_every_third_frame():
    frames = [np.full((256, 256, 3), n, np.uint8) for n in range(120)]
    taken = [int(frame[0, 0, 0]) for frame in CV.clip(iter(frames), "a")]
    assert taken == list(range(0, 99, 3))


def test_a_clip_too_short_is_refused_with_both_counts(moving_clip):
    with pytest.raises(BadInput, match=r"short\.mp4: gives 24 frames at every 1, od-vae-paper takes 25"):
        list(OD.clip(iter(moving_clip(24)), "short.mp4"))


def test_od_vae_counts_identical_frames_as_100_db_and_averages_lpips_maps():
    psnr, lpips = OD.metrics(["psnr", "lpips"], {})
    assert isinstance(psnr, Psnr) and psnr.ceiling == 100
    assert lpips.spatial


def test_an_unknown_protocol_lists_those_there_are():
    with pytest.raises(UsageError, match="od-vae-paper, cv-vae-paper"):
        find_protocol("wf-vae-paper")
