"""The VAEs of LTX-Video and LTX-2 by name: what was published where, under which licence.

The network is in `ltx_network`, its configs in `ltx_config`, the names in its files in `ltx_names`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.base import Family, Layout, ModelSpec, Shapes, frame_noise
from vidlatent.models.ltx_config import AUTHORS, DIFFUSERS, DIFFUSERS_2, DIFFUSION, LtxConfig
from vidlatent.models.ltx_names import config_of, rename_authors, rename_diffusers
from vidlatent.models.ltx_network import LtxVae
from vidlatent.models.options import Option
from vidlatent.models.published import hub_of
from vidlatent.normalising import denormalise, normalise
from vidlatent.windows import Plan, TimeRule, even_tiles

MOST_SEED = (1 << 64) - 1


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of an LTX-Video VAE with this config; its scale and shift are known when its weights are read."""
    c = LtxConfig.of(config)
    time, space = c.compression(c.encoder)
    return ModelSpec(
        name="ltx-video-vae",
        family="ltx_vae",
        grid=Grid(time=time, space=space),
        channels=c.latent_channels,
        plan=Plan(TimeRule(2 * time), TimeRule(4)),
        tiles=partial(even_tiles, space=space),
        summary="a video VAE of LTX, streaming-exact",
        config=dict(config),
        latency=c.latency,
        horizon=c.horizon,
        options=options_of(c),
        prepare=mixed if c.timestep else None,
    )


def options_of(c: LtxConfig) -> tuple[Option, ...]:
    """What may be chosen: how noisy the decoder is told its latents are, and what noise is added to them.

    By default none is, so that decoding is a function of the latents.
    """
    options = []
    if c.timestep:
        options += [
            Option("timestep", 0.05, "how noisy the decoder is told the latents are"),
            Option("noise", 0.0, "share of noise that is mixed into the latents; the authors' is 0.025"),
        ]
    if c.noisy:
        options.append(Option("inject_noise", False, "add noise inside the decoder, as the authors do"))
    return (*options, Option("seed", 0, "of all noise", most=MOST_SEED)) if options else ()


def mixed(spec: ModelSpec, latents: Tensor, index: int) -> Tensor:
    """Frame `index` of latents, [B, C, h, w], and its share of noise, mixed in a diffusion model's units."""
    share = float(spec.setting("noise"))
    if not share:
        return latents
    noise = torch.from_numpy(frame_noise(int(spec.setting("seed")), index, tuple(latents.shape)))
    normal = normalise(latents.cpu(), spec.scale, spec.shift, axis=-3).lerp_(noise, share)
    return denormalise(normal, spec.scale, spec.shift, axis=-3).to(latents.device)


def learn(network: LtxVae, path: Path) -> ModelSpec:
    """The spec with scale and shift, which the weights hold: statistics of its latents."""
    spec, std = network.spec, network.latents_std.double()
    if not (std > 0).all():
        raise BadWeights(f"{path}: its statistics of latents say no spread", "download these weights again")
    scale = LtxConfig.of(spec.config).scaling_factor / std
    return replace(spec, scale=tuple(scale.tolist()), shift=tuple(network.latents_mean.tolist()))


def correct(config: Mapping[str, object], metadata: Mapping[str, str]) -> Mapping[str, object]:
    """The config that a file's names imply, but for what the authors' own config in its metadata says."""
    try:
        said = json.loads(metadata.get("config", "{}")).get("vae", {})
    except (ValueError, AttributeError) as e:
        raise ValueError(f"the config in its metadata is broken: {e}") from e
    told = {key: value for key, value in config.items() if key != "timestep_conditioning"}
    if "blocks" in said:  # of encoder and decoder alike
        told = {key: value for key, value in told.items() if not key.endswith("_blocks")}
    if said:
        told = {key: value for key, value in told.items() if not key.endswith("_spatial_padding_mode")}
    # whether it is conditioned on a timestep is written wrongly here and there: its names know
    return {**told, **said, "timestep_conditioning": config["timestep_conditioning"]}


def _named_by_diffusers(shapes: Shapes) -> Mapping[str, object]:
    rename = rename_diffusers(shapes)
    return config_of({rename(key): shape for key, shape in shapes.items()})


def _named_by_authors(shapes: Shapes) -> Mapping[str, object]:
    return config_of({name: shape for key, shape in shapes.items() if (name := rename_authors(key))})


FIRST = {"_class_name": DIFFUSERS}  # the defaults of that class
NOISY = {
    **FIRST,
    "decoder_block_out_channels": [256, 512, 1024],
    "decoder_layers_per_block": [5, 6, 7, 8],
    "decoder_spatio_temporal_scaling": [True] * 3,
    "decoder_inject_noise": [True, True, True, False],
    "upsample_residual": [True] * 3,
    "upsample_factor": [2] * 3,
    "timestep_conditioning": True,
}
FOLDING = {
    **NOISY,
    "block_out_channels": [128, 256, 512, 1024, 2048],
    "down_block_types": ["LTXVideo095DownBlock3D"] * 4,
    "layers_per_block": [4, 6, 6, 2, 2],
    "spatio_temporal_scaling": [True] * 4,
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "decoder_layers_per_block": [5, 5, 5, 5],
    "decoder_inject_noise": [False] * 4,
}
SECOND = {
    **FOLDING,
    "_class_name": DIFFUSERS_2,
    "block_out_channels": [256, 512, 1024, 2048],
    "down_block_types": ["LTX2VideoDownBlock3D"] * 4,
    "timestep_conditioning": False,
    "decoder_causal": False,
    "encoder_spatial_padding_mode": "zeros",
    "decoder_spatial_padding_mode": "reflect",
}
THIRD = {
    **SECOND,
    "block_out_channels": [256, 512, 1024, 1024],
    "layers_per_block": [4, 6, 4, 2, 2],
    "decoder_block_out_channels": [256, 512, 512, 1024],
    "decoder_layers_per_block": [4, 6, 4, 2, 2],
    "decoder_spatio_temporal_scaling": [True] * 4,
    "decoder_inject_noise": [False] * 5,
    "upsample_residual": [False] * 4,
    "upsample_factor": [2, 2, 1, 2],
    "upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"],
    "decoder_spatial_padding_mode": "zeros",
}
RAIL = "OpenRAIL-M (LTX-Video 0.9)"
OPEN = "LTX-Video Open Weights License: companies with 10 M USD of revenue and more need a paid one"
COMMUNITY = "LTX-2 Community License: companies with 10 M USD of revenue and more need a paid one"


def _published(
    name: str, config: Mapping[str, object], licence: str, repo: str | None, file: str | None = None
) -> ModelSpec:
    """Spec of a published model; without a `file` the hub has a folder of diffusers, without `repo` none."""
    hub = None
    if repo:
        folder = "vae/diffusion_pytorch_model.safetensors", "vae/config.json"
        hub = hub_of(repo, *((file, None) if file else folder))
    told = "; its decoder is told a timestep" if config.get("timestep_conditioning") else ""
    summary = f"8x32x32 to 128 channels, streaming-exact{told}"
    return replace(spec_of(config), name=name, licence=licence, summary=summary, hub=hub)


FAMILY = Family(
    name="ltx_vae",
    class_names=(DIFFUSERS, DIFFUSERS_2, AUTHORS, DIFFUSION),
    specs=(
        _published("ltx-video-0.9.0", FIRST, RAIL, "Lightricks/LTX-Video"),
        _published("ltx-video-0.9.1", NOISY, RAIL, "Lightricks/LTX-Video-0.9.1"),
        _published("ltx-video-0.9.5", FOLDING, OPEN, "Lightricks/LTX-Video-0.9.5"),
        _published("ltx-video-0.9.6", FOLDING, OPEN, None),  # only within files of full models
        _published("ltx-video-0.9.7", FOLDING, OPEN, "Lightricks/LTX-Video-0.9.7-dev"),
        _published("ltx-video-0.9.8", FOLDING, OPEN, "Lightricks/LTX-Video-0.9.8-13B-distilled"),
        _published("ltx-2", SECOND, COMMUNITY, "Lightricks/LTX-2"),
        _published("ltx-2.3", THIRD, COMMUNITY, "diffusers/LTX-2.3-Diffusers"),
        _published(
            "ltx-2.5", THIRD, COMMUNITY, "Lightricks/LTX-2.5", "vae/ltx-2.5-video-vae-conv-bf16.safetensors"
        ),
    ),
    spec_of=spec_of,
    build=LtxVae,
    rename=rename_authors,
    layouts=(
        Layout(
            name="authors",
            marks=(
                "encoder.down_blocks.0.res_blocks.0.conv1.conv.weight",
                "per_channel_statistics.mean-of-means",
            ),
            rename=rename_authors,
            config=_named_by_authors,
        ),
        Layout(
            name="diffusers",
            marks=("encoder.down_blocks.0.resnets.0.conv1.conv.weight", "latents_mean"),
            rename=None,
            config=_named_by_diffusers,
            rename_among=rename_diffusers,
        ),
    ),
    correct=correct,
    learn=learn,
)
