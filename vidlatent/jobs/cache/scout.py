"""The survey: what must be known of clips before they are worked on, remembered or looked up ahead."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vidlatent.jobs.cache.index import Index
from vidlatent.jobs.cache.plan import Shard, cost, share
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.survey import Look, Seen


@dataclass(frozen=True)
class Survey:
    """Looks at clips with the eyes of `scouts`, and never twice at what `index` knows."""

    recipe: Recipe
    scouts: Readers
    index: Index
    remembering: bool = True  # a dry run writes nothing

    def share(self, clips: list[Clip], shard: Shard) -> list[Clip]:
        """The clips of one shard, in their order; all are probed for that, none is hashed."""
        if shard.count == 1:
            return clips
        costs = [(cost(seen.probe), clip.name) for clip, seen in self.found(clips, hashed=False)]
        chosen = share(costs, shard)
        return [clip for number, clip in enumerate(clips) if number in chosen]

    def found(self, clips: Iterable[Clip], hashed: bool = True) -> Iterator[tuple[Clip, Seen]]:
        """Every clip and what is known of it, in order."""
        asked = (self._recalled(clip, hashed) for clip in clips)
        for (clip, ask, known), seen in self.scouts.looks(asked, lambda item: None if item[2] else item[1]):
            if known is None and self.remembering:
                self.index.learn(clip, ask, seen)
            yield clip, known or seen

    def _recalled(self, clip: Clip, hashed: bool) -> tuple[Clip, Look, Seen | None]:
        ask = Look(clip.path, clip.member, self.recipe.read.stream, hashed, self.recipe.chunk_s is not None)
        return clip, ask, self.index.recall(clip, ask)
