"""AutoencoderKLCosmos: no memory of a clip, and attention to all earlier frames: it takes the whole clip."""

from collections.abc import Iterator

from torch import Tensor, nn

from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.diffusers.clip import Network, without_logvar
from vidlatent.models.diffusers.row import Row, made_here
from vidlatent.windows import Plan, TimeRule

CERTAIN = -30.0  # log-variance of latents, of which the class knows none


def encode(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] of a whole clip, or of a window of it → moments [B, 2C, t, h, w], certain."""
    yield without_logvar(network.vae.quant_conv(network.vae.encoder(video)), CERTAIN)


def decode(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] of a whole clip, or of a window of it → pixels [B, 3, T, H, W]."""
    yield network.vae.decoder(network.vae.post_quant_conv(latents))


def prepare(vae: nn.Module) -> None:
    """Make the constants of its wavelets, which no file holds."""
    vae.encoder.patch_embed = _anew(vae.encoder.patch_embed)
    vae.decoder.unpatch_embed = _anew(vae.decoder.unpatch_embed)


def _anew(layer: nn.Module) -> nn.Module:
    return made_here(lambda: type(layer)(layer.patch_size, layer.patch_method))


LEAD = 16  # frames before a window, where it is not given the whole clip
ROW = Row(
    grid=lambda c: Grid(c["temporal_compression_ratio"], c["spatial_compression_ratio"]),
    plan=lambda c: Plan(TimeRule(0, 1 + LEAD), TimeRule(0, 1 + LEAD // c["temporal_compression_ratio"])),
    encode=encode,
    decode=decode,
    defaults={
        "temporal_compression_ratio": 8,
        "spatial_compression_ratio": 8,
        "latent_channels": 16,
        "encoder_block_out_channels": [128, 256, 512, 512],
    },
    prepare=prepare,
    narrow=lambda c: {
        "encoder_block_out_channels": [8] * len(c["encoder_block_out_channels"]),
        "decode_block_out_channels": [8] * len(c["encoder_block_out_channels"]),
        "num_layers": 1,
    },
)
