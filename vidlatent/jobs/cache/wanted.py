"""In which form the entries of a cache are to be when it is repacked, and how each is written in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vidlatent.dtypes import DTYPES
from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, parameter
from vidlatent.io.coded.form import Form
from vidlatent.io.latent.reader import LatentReader
from vidlatent.jobs.cache.manifest import ManifestRow
from vidlatent.jobs.cache.source_finder import SourceFinder
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.reading.isolated import IsolatedReader
from vidlatent.jobs.repack import LOSSLESS, RepackOptions
from vidlatent.jobs.small.budget import PACKED, Budget
from vidlatent.jobs.small.pack import find_decoder, refuse_unfit
from vidlatent.jobs.small.packing import Packing
from vidlatent.jobs.storing import name_store


class Wanted(Protocol):
    """What every entry is to become."""

    def ask(self, recipe: Mapping[str, object]) -> dict[str, object]:
        """The settings of a recipe that ask for it; those that are not set in the new recipe are empty."""
        ...

    def is_there(self, latents: LatentReader, recipe: Mapping[str, object]) -> bool:
        """Whether an entry, made by this recipe, is so by now; raises UsageError where it cannot be."""
        ...

    def find_form(self, latents: LatentReader, rows: Sequence[ManifestRow]) -> tuple[Form, tuple[str, ...]]:
        """The form for an entry, of which the rows are, and what is to be said of how it was found."""
        ...


@dataclass(frozen=True)
class InForm:
    """A form that follows from words: int8, or floats of a dtype."""

    options: RepackOptions

    def ask(self, recipe: Mapping[str, object]) -> dict[str, object]:
        """Floats keep their dtype where none is said."""
        store = self.options.store or recipe.get("store")
        return {"store": store, "pack": self.options.pack, "budget": None}

    def is_there(self, latents: LatentReader, recipe: Mapping[str, object]) -> bool:
        """As the file says."""
        form = self.options.choose_form(latents)
        if (form.name, form.dtype) == (latents.form, latents.dtype):
            return True
        refuse_less_loss(latents, form)
        return False

    def find_form(self, latents: LatentReader, rows: Sequence[ManifestRow]) -> tuple[Form, tuple[str, ...]]:
        """As the words say."""
        return self.options.choose_form(latents), ()


@dataclass
class InBudget:
    """Packed, at a cost that is measured with the model that made an entry.

    That is against its source where that is still there as it was, read by `reader` in another process; else
    by what the entry keeps of its encoding, or else by a bound.
    """

    budget: Budget
    reader: IsolatedReader
    choice: ModelChoice = field(default_factory=ModelChoice)
    progress: Progress = SILENT
    _decoders: dict[tuple[str, str], Model | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sources = SourceFinder(self.reader)

    def ask(self, recipe: Mapping[str, object]) -> dict[str, object]:
        """As a run with this budget asks."""
        return {"store": PACKED, "pack": False, "budget": self.budget.facts()}

    def is_there(self, latents: LatentReader, recipe: Mapping[str, object]) -> bool:
        """As its recipe says: of another budget it cannot be made again."""
        if recipe.get("budget") == self.budget.facts():
            return True
        refuse_unfit(latents)
        return False

    def find_form(self, latents: LatentReader, rows: Sequence[ManifestRow]) -> tuple[Form, tuple[str, ...]]:
        """As the clip allows."""
        source = self._sources.find(rows)
        packing = Packing.of(latents, self._find_decoder(latents), source, self.progress)
        return packing.find_form(self.budget), packing.notices

    def _find_decoder(self, latents: LatentReader) -> Model | None:
        name = latents.header.model, latents.header.weights_sha256
        if name not in self._decoders:
            self._decoders[name] = find_decoder(latents, self.choice)
        return self._decoders[name]


def refuse_less_loss(latents: LatentReader, form: Form) -> None:
    """Raise UsageError for a form that would seem to hold more than there is: its key would say so, too."""
    exact = form.name in LOSSLESS
    kept = latents.form in LOSSLESS and (not exact or latents.dtype in (form.dtype, DTYPES["fp32"].stored))
    if not kept:
        now, wanted = name_store(latents.form, latents.dtype), name_store(form.name, form.dtype)
        raise UsageError(
            f"stored as {now}, of which {wanted} cannot be made again",
            f"cache it again with {parameter('store')} {wanted}, or repack to a smaller form",
        )
