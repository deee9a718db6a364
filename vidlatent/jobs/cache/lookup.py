"""What must be known of clips before they are encoded: remembered from an earlier run, or looked up ahead."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice

from vidlatent.jobs.cache.index import Index
from vidlatent.jobs.cache.plan import Part, estimate_cost, pick_share
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.survey import Look, Seen

FEW = 10_000  # clips that are all looked at before the first is worked on


@dataclass(frozen=True)
class SourceLookup:
    """Finds the hash and the header's facts of each clip.

    It asks the `index`, which knows files that have not changed since an earlier run, and else the processes
    `probers`. With `remembering` False, as in a dry run, nothing new is written into the index.
    """

    recipe: Recipe
    probers: Readers
    index: Index
    remembering: bool = True

    def pick_part(self, clips: Iterable[Clip], part: Part) -> Iterator[Clip]:
        """The clips that fall to one part, in their order.

        Where there are few, they are parted by cost: all are probed for that, and none is hashed. Where there
        are many, they are parted by their names as they come, which gives parts of about equal cost as well.
        """
        if part.count == 1:
            return iter(clips)
        coming = iter(clips)
        first = list(islice(coming, FEW + 1))
        if len(first) > FEW:
            return take_part(chain(first, coming), part)
        readable = self.look_up((clip for clip in first if clip.is_readable), hashed=False)
        probes = {id(clip): seen.probe for clip, seen in readable}
        costs = [(estimate_cost(probes.get(id(clip))), clip.name) for clip in first]
        chosen = pick_share(costs, part)
        return (clip for number, clip in enumerate(first) if number in chosen)

    def look_up(self, clips: Iterable[Clip], hashed: bool = True) -> Iterator[tuple[Clip, Seen]]:
        """Every clip and what is known of it, in order."""
        asked = (self._recall(clip, hashed) for clip in clips)
        for (clip, ask, known), seen in self.probers.looks(asked, lambda item: None if item[2] else item[1]):
            if known is None and self.remembering:
                self.index.learn(clip, ask, seen)
            yield clip, known or seen

    def _recall(self, clip: Clip, hashed: bool) -> tuple[Clip, Look, Seen | None]:
        recipe = self.recipe
        counted = recipe.chunk_s or recipe.take or recipe.fixed_counts or recipe.read.start or clip.start
        ask = Look(clip.source, recipe.read.stream, hashed, timed=bool(counted))
        return clip, ask, self.index.recall(clip, ask)


def take_part(clips: Iterable[Clip], part: Part) -> Iterator[Clip]:
    """The clips that fall to a part by a hash of their names: it is known of each without the others."""
    for clip in clips:
        number = int.from_bytes(blake2b(repr(clip.identity).encode(), digest_size=8).digest(), "big")
        if number % part.count == part.index:
            yield clip
