"""Video VAEs of diffusers of small width and random weights, and networks of ours with the same weights."""

from pathlib import Path

import torch
from torch import nn

import vidlatent
from helpers import cases
from vidlatent.engine.model import Model

WAN22 = {
    **{"is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2},
    **{"decoder_base_dim": 12, "scale_factor_spatial": 16},
}
LTX = {
    **{"latent_channels": 4, "decoder_block_out_channels": [8, 16, 32], "layers_per_block": [1, 2, 1, 1, 1]},
    **{
        "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
        "upsample_factor": [2] * 3,
    },
    **{"decoder_layers_per_block": [1, 1, 2, 1], "decoder_spatio_temporal_scaling": [True] * 3},
    **{"spatial_compression_ratio": 32, "temporal_compression_ratio": 8},
    **{
        "spatio_temporal_scaling": [True] * 4,
        "upsample_residual": [True] * 3,
        "decoder_inject_noise": [False] * 4,
    },
}
LTX_095 = {
    **{**LTX, "block_out_channels": [4, 8, 16, 32, 32], "timestep_conditioning": True},
    "down_block_types": ["LTXVideo095DownBlock3D"] * 4,
}
LTX_2 = {**LTX, "block_out_channels": [8, 16, 32, 32], "decoder_causal": False}
LTX_23 = {
    **{**LTX_2, "decoder_block_out_channels": [8, 16, 16, 32], "decoder_layers_per_block": [1, 2, 1, 1, 1]},
    **{"decoder_spatio_temporal_scaling": [True] * 4, "decoder_inject_noise": [False] * 5},
    **{"upsample_residual": [False] * 4, "upsample_factor": [2, 2, 1, 2]},
    **{"upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"]},
    "decoder_spatial_padding_mode": "zeros",
}
LTX_2_WIDENING = {  # where a level of the decoder begins; and one flag for all levels
    **{**LTX_2, "decoder_block_out_channels": [16, 16, 32], "upsample_factor": [1, 2, 2]},
    **{"spatio_temporal_scaling": True, "decoder_spatio_temporal_scaling": True},
    **{"upsample_residual": False, "decoder_inject_noise": False},
}
WAN22_WIDENING = {  # no channel of a shortcut in the decoder is spread evenly
    **{**WAN22, "decoder_base_dim": 4, "dim_mult": [1, 4, 2], "temperal_downsample": [True, True]},
    "num_res_blocks": 1,
}
HUNYUAN = {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "latent_channels": 4}
HUNYUAN15 = {"block_out_channels": (8, 8, 16, 16, 16), "layers_per_block": 1, "latent_channels": 2}
HUNYUAN15_UNEVEN = {  # not every width divides 4 times the next one
    **{"block_out_channels": (24, 16, 8), "spatial_compression_ratio": 4},
    **{"layers_per_block": 1, "latent_channels": 2},
}
COG = {"block_out_channels": (32, 32, 64, 64), "layers_per_block": 1, "latent_channels": 4}
NETWORKS = {  # class of diffusers, config, the clip that goes through
    "wan-2.1": ("AutoencoderKLWan", {"base_dim": 8}, (1, 3, 9, 24, 16)),
    "wan-2.2": ("AutoencoderKLWan", {"base_dim": 8, **WAN22}, (1, 3, 9, 32, 16)),
    "wan-2.1, 3 blocks": ("AutoencoderKLWan", {"base_dim": 4, "num_res_blocks": 3}, (1, 3, 5, 16, 16)),
    "wan-2.2, widening": ("AutoencoderKLWan", {"base_dim": 4, **WAN22_WIDENING}, (1, 3, 5, 16, 16)),
    "qwen-image": ("AutoencoderKLQwenImage", {"base_dim": 8}, (1, 3, 5, 16, 24)),
    "hunyuan-video": ("AutoencoderKLHunyuanVideo", HUNYUAN, (1, 3, 21, 16, 24)),  # windows of 17
    "hunyuan-video-1.5": ("AutoencoderKLHunyuanVideo15", HUNYUAN15, (1, 3, 9, 32, 16)),
    "hunyuan-video-1.5, uneven": ("AutoencoderKLHunyuanVideo15", HUNYUAN15_UNEVEN, (1, 3, 5, 8, 16)),
    "cogvideox": ("AutoencoderKLCogVideoX", COG, (1, 3, 21, 16, 24)),  # batches of 13 and 8 frames
    "ltx-video-0.9.5": ("AutoencoderKLLTXVideo", LTX_095, (1, 3, 17, 32, 64)),
    "ltx-2": ("AutoencoderKLLTX2Video", LTX_2, (1, 3, 17, 64, 64)),
    "ltx-2, causal": ("AutoencoderKLLTX2Video", {**LTX_2, "decoder_causal": True}, (1, 3, 9, 64, 64)),
    "ltx-2, widening": ("AutoencoderKLLTX2Video", LTX_2_WIDENING, (1, 3, 9, 64, 64)),
    "ltx-2.3": ("AutoencoderKLLTX2Video", LTX_23, (1, 3, 25, 32, 64)),
}


def twins(name: str, folder: Path) -> tuple[nn.Module, Model]:
    """A network of theirs, every gain and bias of it random, and ours of the same weights, from `folder`."""
    import diffusers

    kind, config, _ = NETWORKS[name]
    torch.manual_seed(0)
    theirs = getattr(diffusers, kind)(**config).eval().requires_grad_(False)
    for parameter in theirs.parameters():
        parameter += 0.05 * torch.randn_like(parameter)  # gains are 1 and biases 0 to begin with
    for statistic in ("latents_mean", "latents_std"):
        if statistic in dict(theirs.named_buffers()):
            getattr(theirs, statistic).uniform_(0.5, 1.5)
    cases.publish({"_class_name": kind, **theirs.config}, dict(theirs.state_dict()), folder)
    return theirs, vidlatent.load_model(folder, device="cpu")
