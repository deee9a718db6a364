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
    "PlanWishes": "vidlatent.engine.plan",
    "Plan": "vidlatent.windows",
    "Posterior": "vidlatent.models.base",
    "encode": "vidlatent.jobs.encode",
    "EncodeOptions": "vidlatent.jobs.encode",
    "EncodeResult": "vidlatent.jobs.encode",
    "decode": "vidlatent.jobs.decode",
    "DecodeOptions": "vidlatent.jobs.decode",
    "DecodeResult": "vidlatent.jobs.decode",
    "ModelChoice": "vidlatent.jobs.models",
    "SinkOptions": "vidlatent.io.write.sink",
    "save_latents": "vidlatent.jobs.save",
    "load_latents": "vidlatent.jobs.save",
    "open_video": "vidlatent.jobs.video",
    "Video": "vidlatent.jobs.video",
    "ReadOptions": "vidlatent.io.read.source",
    "VideoInfo": "vidlatent.io.read.source",
    "Frame": "vidlatent.io.read.source",
    "open_latent": "vidlatent.io.latent.reader",
    "LatentReader": "vidlatent.io.latent.reader",
    "LatentDataset": "vidlatent.jobs.readback.dataset",
    "Sample": "vidlatent.jobs.readback.dataset",
    "LatentStream": "vidlatent.jobs.readback.stream",
    "BucketSampler": "vidlatent.jobs.readback.buckets",
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


def __dir__() -> list[str]:
    """Public names, for completion in notebooks: those too that nobody has used yet."""
    return sorted({*globals(), *__all__})
