"""What must be known of clips before they are encoded: remembered from an earlier run, or looked up ahead."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, groupby, islice

from vidlatent.errors import BadInput
from vidlatent.file_state import State
from vidlatent.jobs.cache.index import Index
from vidlatent.jobs.cache.plan import Part, estimate_cost, pick_share
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.reading.ahead import map_ahead
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.scratch import find_stored
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
        asked = (self._recall(clip, hashed, state) for clip, state in self._ask_states(clips))
        for (clip, ask, known), seen in self.probers.looks(asked, lambda item: None if item[2] else item[1]):
            if known is None and self.remembering:
                self.index.learn(clip, ask, seen)
            yield clip, known or seen

    def _ask_states(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, State]]:
        """Every clip and, of those in stores that were seen before, their state now: many at a time."""
        for stored, group in groupby(clips, lambda clip: find_stored(clip.source) is not None):
            if stored:
                known = ((clip, self.index.knows(clip, self.recipe.read.stream)) for clip in group)
                yield from map_ahead(_ask_state, known)
            else:
                yield from ((clip, None) for clip in group)

    def _recall(self, clip: Clip, hashed: bool, state: State) -> tuple[Clip, Look, Seen | None]:
        recipe = self.recipe
        counted = recipe.chunk_s or recipe.take or recipe.fixed_counts or recipe.read.start or clip.start
        ask = Look(clip.source, recipe.read.stream, hashed, timed=bool(counted))
        return clip, ask, self.index.recall(clip, ask, state)


def _ask_state(asked: tuple[Clip, bool]) -> tuple[Clip, State]:
    """A clip with the state of its source, if that is of use and its store says it."""
    clip, known = asked
    with suppress(BadInput):  # whoever fetches it will say what is wrong
        return clip, clip.source.state() if known else None
    return clip, None


def take_part(clips: Iterable[Clip], part: Part) -> Iterator[Clip]:
    """The clips that fall to a part by a hash of their names: it is known of each without the others."""
    for clip in clips:
        number = int.from_bytes(blake2b(repr(clip.identity).encode(), digest_size=8).digest(), "big")
        if number % part.count == part.index:
            yield clip
