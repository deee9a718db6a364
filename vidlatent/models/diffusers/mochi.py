"""AutoencoderKLMochi: its encoder attends to all earlier frames; its decoder's cache is an argument."""

from collections.abc import Iterator
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.diffusers.clip import ClipMemory, Network
from vidlatent.models.diffusers.row import Row
from vidlatent.windows import Plan, TimeRule


def encode(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] of a whole clip, or of a window of it → moments [B, 2C, t, h, w]."""
    yield network.vae.encoder(video)[0]


def decode(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    if not latents.shape[2]:
        return
    memory, time = ClipMemory.of(network, state), network.spec.grid.time
    video, memory.caches = network.vae.decoder(latents, conv_cache=memory.caches or None)
    yield video[:, :, 0 if memory.taken else time - 1 :]
    memory.taken += latents.shape[2]


def prepare(vae: nn.Module) -> None:
    """Give the decoder's convolutions a memory: among copies of the edge the class lets them have none."""
    for layer in vae.decoder.modules():
        if vars(layer).get("pad_mode") == "replicate":
            layer.forward = partial(_convolve_and_remember, layer)


def _convolve_and_remember(
    layer: nn.Module, inputs: Tensor, conv_cache: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What a causal convolution among copies of the edge gives, and the frames that it needs next time."""
    past = inputs[:, :, :1].expand(-1, -1, layer.time_pad, -1, -1) if conv_cache is None else conv_cache
    known = torch.cat([past, inputs], dim=2)
    sides = (layer.width_pad, layer.width_pad, layer.height_pad, layer.height_pad, 0, 0)
    cache = known[:, :, known.shape[2] - layer.time_pad :].clone()
    return layer.conv(F.pad(known, sides, mode="replicate")), cache


# fmt: off
LATENTS = (  # mean and deviation of each channel
    (-0.06730895953510081, -0.038011381506090416, -0.07477820912866141, -0.05565264470995561,
     0.012767231469026969, -0.04703542746246419, 0.043896967884726704, -0.09346305707025976,
     -0.09918314763016893, -0.008729793427399178, -0.011931556316503654, -0.0321993391887285),
    (0.9263795028493863, 0.9248894543193766, 0.9393059390890617, 0.959253732819592,
     0.8244560132752793, 0.917259975397747, 0.9294154431013696, 1.3720942357788521,
     0.881393668867029, 0.9168315692124348, 0.9185249279345552, 0.9274757570805041),
)
# fmt: on
LEAD = 25  # frames before a window of its encoder, where it is not given the whole clip
ROW = Row(
    grid=lambda c: Grid(prod(c["temporal_expansions"]), prod(c["spatial_expansions"])),
    plan=lambda c: Plan(TimeRule(0, LEAD), TimeRule(2)),
    encode=encode,
    decode=decode,
    defaults={
        "temporal_expansions": [1, 2, 3],
        "spatial_expansions": [2, 2, 2],
        "latent_channels": 12,
        "scaling_factor": 1.0,
        "latents_mean": LATENTS[0],
        "latents_std": LATENTS[1],
    },
    prepare=prepare,
    narrow=lambda c: {
        "encoder_block_out_channels": [32] * (1 + len(c["temporal_expansions"])),
        "decoder_block_out_channels": [32] * (1 + len(c["temporal_expansions"])),
        "layers_per_block": [1] * (2 + len(c["temporal_expansions"])),
    },
)
