"""The last step of entries of which something is measured: the clip is decoded, and its source read again.

Until then the clip's latents lie as floats beside the entry, under a name that `cache gc` knows. The entry
gets its own name when it is complete and was read again, as any other does.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, OutOfResources
from vidlatent.io.coded.form import Form
from vidlatent.io.latent.header import LatentHeader
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.jobs.cache.entry import Made, Task, refuse_changed
from vidlatent.jobs.progress import Progress
from vidlatent.jobs.reading.isolated import IsolatedReader
from vidlatent.jobs.reading.messages import Read
from vidlatent.jobs.repack import check_repacked, write_as
from vidlatent.jobs.small.encoding import measure_base
from vidlatent.jobs.small.packing import Packing
from vidlatent.jobs.small.sensitivity import find_sensitivities
from vidlatent.jobs.small.trial import Trial
from vidlatent.jobs.storing import choose_form

T = TypeVar("T")


class EntryFinisher:
    """Makes entries of floats. What the model's channels weigh is found once."""

    def __init__(self, model: Model, reader: IsolatedReader) -> None:
        self._model, self._reader = model, reader
        self._seen: np.ndarray | None = None

    def finish(self, made: Made, task: Task, progress: Progress) -> tuple[str, ...]:
        """Write an entry in the form that its recipe wants, and remove the floats.

        Returns what was measured, in words.
        """
        try:
            with open_latent(made.floats) as latents:
                form, header, said = self._measure(latents, task, progress)
                refuse_changed(task)
                write_as(latents, made.path, form, header)
                check_repacked(latents, made.path)
        finally:
            made.floats.unlink(missing_ok=True)
        return said

    def _measure(
        self, latents: LatentReader, task: Task, progress: Progress
    ) -> tuple[Form, LatentHeader, tuple[str, ...]]:
        recipe, header = task.recipe, latents.header
        frames = partial(self._reader.frames, Read(task.clip.source, task.read))
        if recipe.allowed is None:
            trial = open_trial(lambda: Trial(latents, self._model, frames, progress))
            header, said = measure_base(latents, trial)
            return choose_form(recipe.store, recipe.pack, header.compute_dtype), header, (said,)
        if self._seen is None:
            self._seen = find_sensitivities(self._model, progress)
        packing = open_trial(lambda: Packing.of(latents, self._model, frames, progress, self._seen))
        return packing.find_form(recipe.allowed), header, packing.notices


def open_trial(make: Callable[[], T]) -> T:
    """What decodes a clip; raises BadInput where there is too little memory for that: other clips may do."""
    try:
        return make()
    except OutOfResources as e:
        raise BadInput(*e.args) from e
