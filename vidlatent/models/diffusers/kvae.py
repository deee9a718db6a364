"""AutoencoderKLKVAEVideo (KVAE-3D): its cache is an argument; 17 frames, then 16, for norms see a chunk."""

from collections.abc import Iterator

from torch import Tensor

from vidlatent.errors import BadInput
from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.diffusers.clip import ClipMemory, Network, chunks, without_logvar
from vidlatent.models.diffusers.row import Row, own_cuts
from vidlatent.windows import Plan, TimeRule

FRAMES = 16


def encode(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w], certain: the class knows no variance (0 its log)."""
    memory, vae = ClipMemory.of(network, state), network.vae
    memory.caches = memory.caches or vae._make_encoder_cache()
    for chunk in chunks(memory, video, (1 + FRAMES, FRAMES), network.spec.grid.time, state.more):
        yield without_logvar(vae.encoder(chunk, memory.caches).chunk(2, dim=1)[0], 0.0)


def decode(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    memory, vae = ClipMemory.of(network, state), network.vae
    memory.caches = memory.caches or vae._make_decoder_cache()
    size = FRAMES // network.spec.grid.time
    for chunk in chunks(memory, latents, (1 + size, size), 1, state.more):
        if chunk.shape[2] == 1 < size and memory.taken > 1:
            raise BadInput(
                f"{memory.taken} latents: the last one would lose {network.spec.grid.time - 1} of its frames",
                f"give a number of latents that does not leave one over after {1 + size} + {size}·k",
            )
        yield vae.decoder(chunk, memory.caches)


ROW = Row(
    grid=lambda c: Grid(
        c["temporal_compress_times"],
        2 ** (len(c["ch_mult"]) - 1),
        stride=2 * c["temporal_compress_times"],  # others end in a chunk of one latent, and lose frames there
    ),
    plan=lambda c: Plan(
        TimeRule(FRAMES, batches=True),
        TimeRule(FRAMES // c["temporal_compress_times"], batches=True),
    ),
    encode=encode,
    decode=decode,
    channels="z_channels",
    defaults={"ch_mult": [1, 2, 4, 8], "temporal_compress_times": 4, "z_channels": 16},
    narrow=lambda c: {"ch": 32, "ch_mult": [1] * len(c["ch_mult"]), "num_res_blocks": 1},
    windows=own_cuts,
)
