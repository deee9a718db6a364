"""What a program that uses vidlatent may look like: type checkers read it, nobody runs it."""

from fractions import Fraction
from typing import assert_type

import torch
from torch import Tensor

import vidlatent
from vidlatent import DecodeOptions, EncodeOptions, Model, ReadOptions

model: Model = vidlatent.load_model("pocket", device="cpu", dtype="fp32").to(torch.float32)
assert_type(model.device, torch.device)
assert_type(model.dtype, torch.dtype)
plan: vidlatent.Plan = model.plan(window=17)

with vidlatent.open_video("in.mp4", ReadOptions(fps=15, start=1.5, size=(64, 48))) as video:
    clip = video.read(0, 17, layout="BCTHW")
    width: int = video.info.width
    for frame in video:
        assert_type(frame, vidlatent.Frame)

posterior = model.encode(clip, plan)
assert_type(posterior, vidlatent.Posterior)
back = model.decode(posterior.sample(seed=1), like=posterior)
assert_type(model.denormalise(model.normalise(posterior.mean)), Tensor)

made = vidlatent.encode(
    "in.mp4", "in.latent", model, EncodeOptions(ReadOptions(fps="30000/1001"), plan, max_memory="4G")
)
assert_type(made.shape, tuple[int, int, int, int])
wishes = DecodeOptions(start=Fraction(1, 2), plan=vidlatent.PlanWishes(tile=64), sink=vidlatent.SinkOptions())
assert_type(vidlatent.decode("in.latent", "out.mp4", options=wishes), vidlatent.DecodeResult)

with vidlatent.open_latent("in.latent") as latents:
    assert_type(latents[0:8], Tensor)
    assert_type(latents.read(normalised=True), Tensor)
    assert_type(len(latents), int)

data = vidlatent.LatentDataset("cache/", crop=8)
assert_type(data[0]["latents"], Tensor)
sampler = vidlatent.BucketSampler(data, batch_size=4)
assert_type(vidlatent.__version__, str)
vidlatent.save_latents("a.latent", back, model, fps=24)
