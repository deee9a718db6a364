"""Entered in the middle of a clip, a network gives what it gives of the whole clip, bit for bit."""

import random
from dataclasses import replace

import pytest
import torch
from helpers import cases
from helpers.ltx_files import network as ltx_network
from helpers.random_models import random_model

from vidlatent.engine.access import Access
from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.models import registry, wan_config
from vidlatent.models.horizon import latent_of
from vidlatent.windows import TimeRule

one_thread = cases.one_thread

HEIGHT, WIDTH = 2, 3  # of the latents
LTX = {
    **{"_class_name": "CausalVideoAutoencoder", "latent_channels": 4, "patch_size": 4},
    **{"encoder_base_channels": 8, "decoder_base_channels": 8, "causal_decoder": False},
    "encoder_blocks": [["res_x", 1], ["compress_all", {}], ["compress_time", {}], ["res_x", 1]],
    "decoder_blocks": [["res_x", 1], ["compress_time", {}], ["compress_all", {}], ["res_x", 1]],
}
IMAGE = {
    **{"block_out_channels": [8, 8], "norm_num_groups": 4, "layers_per_block": 1},
    **{"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2},
}
MODELS = {
    "toy": lambda: random_model("toy"),
    "pocket": lambda: random_model("pocket", encoder_blocks=2, decoder_blocks=3, decoder_stem_blocks=4),
    "wf": lambda: random_model("wf", encoder_num_resblocks=1, decoder_num_resblocks=1),
    "wan": lambda: of_config({**wan_config.WAN21, "base_dim": 4, "z_dim": 2}),
    "image": lambda: of_config({"_class_name": "AutoencoderKL", **IMAGE}),
    "ltx": lambda: Model(ltx_network(LTX, torch.float32), Runtime.choose("cpu", "fp32")),
    "tae": lambda: of_config({"_class_name": "TAEHV", "latent_channels": 3}),
    "od": lambda: in_short_windows(random_model("od")),
}


def of_config(config: dict) -> Model:
    torch.manual_seed(0)
    family = registry.family_of(config)
    net = family.build(family.spec_of(config)).eval().requires_grad_(False)
    return Model(net, Runtime.choose("cpu", "fp32"))


def in_short_windows(model: Model) -> Model:
    model.network.spec = replace(model.spec, plan=model.plan(window=9, latent_window=3))
    return model


@pytest.fixture(params=MODELS)
def model(request, monkeypatch):
    monkeypatch.setattr("vidlatent.models.tae_vae.WIDTH", 4)
    monkeypatch.setattr("vidlatent.models.tae_vae.WIDTHS", (4,) * 4)
    return MODELS[request.param]()


def moments_of(model: Model, frames: list[torch.Tensor], start: int = 0) -> torch.Tensor:
    return torch.cat(list(model.encode_clip(frames[start:], start=start)), dim=2)


def entries(access: Access, latents: int) -> list[int]:
    """Latents to ask for: the first that is not decoded from the beginning, the last, and one between."""
    first = next(n for n in range(latents) if access.begin(n, latents))
    return [first, random.Random(latents).randrange(first, latents), latents - 1]


def length(access: Access) -> int:
    """Latents of a clip that can be entered at more than one place."""
    return access.lead + 3 * access.step + 2


def test_encoding_from_the_middle_gives_the_bits_of_the_whole(model):
    space = model.spec.grid.space
    access = Access.to_encoder(model, model.spec.plan, HEIGHT * space, WIDTH * space)
    frames = model.spec.grid.frames(length(access)) - 1  # off the grid: the last frame is repeated
    clip = list(torch.rand(frames, 1, 3, HEIGHT * space - 1, WIDTH * space) * 2 - 1)
    undivided = moments_of(model, clip)
    for latent in entries(access, undivided.shape[2]):
        begin = access.begin(latent, undivided.shape[2])
        part = moments_of(model, clip, begin * model.spec.grid.time)
        assert begin and torch.equal(part[:, :, latent - begin :], undivided[:, :, latent:])


def test_decoding_from_the_middle_gives_the_bits_of_the_whole(model):
    grid = model.spec.grid
    access = Access.to_decoder(model, model.spec.plan, HEIGHT, WIDTH)
    latents = torch.randn(length(access), 1, model.spec.channels, HEIGHT, WIDTH)
    undivided = torch.cat(list(model.decode_stream(latents)), dim=2)
    for latent in entries(access, len(latents)):
        begin = access.begin(latent, len(latents))
        part = torch.cat(list(model.decode_stream(latents[begin:], start=begin)), dim=2)
        frame = grid.frames(latent)  # the first that the latent stands for
        offset = grid.frames(begin + 1) - 1
        assert begin and latent_of(grid, frame) == latent
        assert torch.equal(part[:, :, frame - offset :], undivided[:, :, frame:])


def test_a_longer_memory_is_entered_earlier():
    model = random_model("hunyuan15")
    assert not Access.to_decoder(model, model.spec.plan, 2, 2).is_anywhere
    near, far = (Access.to_decoder(model, model.plan(past=past), 2, 2).begin(100, 200) for past in (2, 20))
    assert near - far in range(14, 23)  # 18 latents, and the windows that they fall into


def test_attention_to_a_limited_past_gives_the_bits_of_the_whole():
    model = random_model("hunyuan15")
    plan = model.plan(past=3)
    access = Access.to_decoder(model, plan, 1, 2)
    latents = torch.randn(length(access), 1, model.spec.channels, 1, 2)
    undivided = torch.cat(list(model.decode_stream(latents, plan)), dim=2)
    begin = access.begin(len(latents) - 1, len(latents))
    part = torch.cat(list(model.decode_stream(latents[begin:], plan, start=begin)), dim=2)
    assert begin and torch.equal(part[:, :, -4:], undivided[:, :, -4:])


def test_noise_that_is_mixed_in_belongs_to_the_latent_not_to_the_part():
    model = random_model("toy")
    seen = []
    model.network.spec = replace(model.spec, prepare=lambda spec, z, n: seen.append(n) or z)
    list(model.decode_stream(torch.zeros(3, 1, model.spec.channels, 1, 1), start=7))
    assert seen[-3:] == [7, 8, 9]


def test_batches_and_undivided_clips_are_entered_at_their_beginning():
    for rule in (TimeRule(8, batches=True), TimeRule(0, 2), TimeRule(0), TimeRule(4)):
        access = Access(rule, 1, shared=rule.overlap)
        assert not access.is_anywhere and access.begin(100, 200) == 0
