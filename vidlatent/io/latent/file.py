"""The `.latent` container: safetensors, written as it grows, read by the slice; see docs/latent-format.md."""

from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.latent.writer import LatentWriter

__all__ = ["LatentReader", "LatentWriter", "open_latent"]
