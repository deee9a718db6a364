"""Where training begins: the best linear codec, principal components of 4×8×8 blocks.

The network's identity path is set to it; its residual branches begin near zero, and learn what a linear
transform cannot do.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.batches import Data
from training.layout import channels_last
from vidlatent.engine.pixels import to_floats
from vidlatent.models.clips import fold_cubes
from vidlatent.models.pocket_vae import GRID, PATCH, PocketVAE, spec_of

BRANCH = 0.03  # what is left of a residual branch's last weights at the start
GAIN = 0.5  # of the components between fold and head, so that branches see activations near 1


def linear_start(data: Data, config: Mapping[str, object], batches: int) -> PocketVAE:
    """A fresh network of a config, its components fitted to so many batches."""
    torch.manual_seed(data.seed)
    model = PocketVAE(spec_of(config))
    video = to_floats(torch.cat([data[-1 - n] for n in range(batches)]))
    vectors, deviations = principal_components(video)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("mix.weight"):
                p.mul_(BRANCH)
        begin_linear(model, vectors, deviations)
    return channels_last(model)


def principal_components(video: Tensor) -> tuple[Tensor, Tensor]:
    """Directions [n, 3, 4, 8, 8] of most energy in blocks of clips, strongest first, and their rms [n]."""
    groups = video[:, :, 1:]
    blocks = groups.unfold(2, 4, 4).unfold(3, 8, 8).unfold(4, 8, 8)  # B 3 t h w 4 8 8
    rows = blocks.permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(-1, 3 * 4 * 8 * 8)
    energies, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    return vectors.flip(1).T.reshape(-1, 3, 4, 8, 8), energies.flip(0).clamp(min=1e-8).sqrt()


def begin_linear(model: PocketVAE, vectors: Tensor, deviations: Tensor) -> None:
    """Set the identity path to analysis and synthesis by `vectors`, latents of unit rms."""
    encoder, decoder = model.encoder, model.decoder
    width, latents, folded = encoder.fold.out_channels, encoder.head.out_channels, encoder.stem.in_channels
    patches = fold_cubes(vectors[:width], 1, PATCH).unflatten(0, (-1, GRID.time))  # n 4 folded 2 2
    cubes = patches.movedim(2, -1)
    linear = torch.zeros(width, *cubes.shape[1:4], encoder.stem.out_channels)
    linear[..., :folded] = cubes
    for layer in (encoder.stem, encoder.fold, encoder.head, decoder.head, decoder.unfold, decoder.stem):
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    encoder.stem.weight[:folded, :, 0, 0] = torch.eye(folded)
    decoder.stem.weight[:, :folded, 0, 0] = torch.eye(folded)
    encoder.fold.weight[:, :, 0, 0] += GAIN * linear.flatten(1)
    decoder.unfold.weight[:, :, 0, 0] += linear.flatten(1).T / GAIN
    encoder.head.weight[:, :latents, 0, 0] = torch.diag(1 / (GAIN * deviations[:latents]))
    decoder.head.weight[:latents, :, 0, 0] = torch.diag(GAIN * deviations[:latents])
