"""Caches to export: one for each model and data set, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import trainer_caches as caches

from vidlatent.io.read.source import ReadOptions

Cached = Callable[..., Path]


@pytest.fixture(scope="session")
def cached(tmp_path_factory) -> Cached:
    """A cache of such a data set by the model of a name, made once: all clips, whole files, or pictures."""
    made: dict[tuple, Path] = {}

    def make(model: str, kind: str = "all", **recipe: object) -> Path:
        name = (model, kind, str(sorted(recipe.items())))
        if name not in made:
            folder = tmp_path_factory.mktemp("exchange")
            clips = caches.write_whole(folder / "videos")
            if kind == "all":
                clips += caches.write_spans(folder / "videos")
            if kind == "pictures":
                recipe["read"] = ReadOptions(frames=1)
            made[name] = caches.make_cache(folder / "cache", caches.pooling_model(model), clips, **recipe)
        return made[name]

    return make
