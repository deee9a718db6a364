"""Videos into latents and back: any length, flat memory, the source's own times, size, colour and sound.

>>> import vidlatent
>>> model = vidlatent.load_model()                       # the bundled one; or a name, a folder, a file
>>> vidlatent.encode("in.mp4", "in.latent", model)
>>> vidlatent.decode("in.latent", "out.mp4", model)
"""

from importlib import import_module

_HOMES = {
    "load_model": "vidlatent.engine.load",
    "Model": "vidlatent.engine.model",
    "encode": "vidlatent.jobs.encode",
    "EncodeOptions": "vidlatent.jobs.encode",
    "decode": "vidlatent.jobs.decode",
    "save_latents": "vidlatent.jobs.save",
    "load_latents": "vidlatent.jobs.save",
    "DecodeOptions": "vidlatent.jobs.decode",
    "open_video": "vidlatent.io.read.source",
    "ReadOptions": "vidlatent.io.read.source",
    "open_latent": "vidlatent.io.latent.reader",
    "LatentDataset": "vidlatent.jobs.readback.dataset",
    "LatentStream": "vidlatent.jobs.readback.stream",
    "BucketSampler": "vidlatent.jobs.readback.buckets",
    "Posterior": "vidlatent.models.base",
    "as_diffusers": "vidlatent.engine.as_diffusers",
    "VidlatentError": "vidlatent.errors",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import vidlatent` itself costs nothing."""
    if name == "__version__":
        return import_module("vidlatent.io.latent.header").our_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'vidlatent' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
