"""Clips of one shape through the network together, where that was seen to change no bit of any.

A batch may make a library choose other kernels, which add up in another order: an entry would depend on its
neighbours. Whether it does is a matter of the model, the shape, the number of clips and the machine, so it
is tried: the first batch of a kind also goes through clip by clip, and only where all bits are equal do later
ones go together.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Self

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine.model import Model
from vidlatent.io.read.source import Frame, VideoSource
from vidlatent.windows import Plan

Kind = tuple  # what clips must have in common to go together


class HeldVideo:
    """A clip with its frames in memory, as far as `limit` bytes reach: a VideoSource like its own."""

    def __init__(self, video: VideoSource, limit: int) -> None:
        self.info, self.notices = video.info, video.notices
        self.starved_s = self.full_s = self.nbytes = 0
        self._held: list[Frame] = []
        self._rest = video.frames()
        for frame in self._rest:
            self._held.append(frame)
            self.nbytes += frame.rgb.nbytes
            if self.nbytes > limit:
                break
        else:
            self._rest = iter(())
        self.whole = 0 < self.nbytes <= limit

    @property
    def pixels(self) -> list[np.ndarray]:
        """Of every frame, [H, W, 3]."""
        return [frame.rgb for frame in self._held]

    @property
    def kind(self) -> Kind:
        """Number, shape and type of the frames."""
        return len(self._held), self._held[0].rgb.shape, self._held[0].rgb.dtype.str

    def frames(self) -> Iterator[Frame]:
        """The frames in order."""
        yield from self._held
        yield from self._rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Whoever opened the clip closes it."""


class Batches:
    """Clips that wait for others of their kind, bounded in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._waiting: dict[Kind, list] = {}

    def add(self, item: object, kind: Kind, nbytes: int, count: int) -> list | None:
        """The items of a full batch of `count`; where too much waits, what takes most, full or not."""
        group = self._waiting.setdefault(kind, [])
        group.append((item, nbytes))
        self._bytes += nbytes
        if len(group) >= count:
            return self._take(kind)
        if self._bytes > self._limit:
            return self._take(max(self._waiting, key=lambda k: sum(size for _, size in self._waiting[k])))
        return None

    def rest(self) -> Iterator[list]:
        """What still waits, kind by kind."""
        while self._waiting:
            yield self._take(next(iter(self._waiting)))

    def _take(self, kind: Kind) -> list:
        group = self._waiting.pop(kind)
        self._bytes -= sum(size for _, size in group)
        return [item for item, _ in group]


class Together:
    """Encodes full batches, and knows for which kinds that may be done in one go."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._equal: dict[Kind, bool] = {}

    def moments(self, clips: list[HeldVideo], plan: Plan) -> list[list[Tensor]]:
        """Moments [1, 2C, t, h, w] of every window of every clip, the same whoever its neighbours are."""
        kind = (plan, len(clips), clips[0].kind)
        pixels = [list(self._model.fitted(clip.pixels)) for clip in clips]
        if kind not in self._equal:
            alone = [list(self._model.encode_stream(clip, plan)) for clip in pixels]
            self._equal[kind] = same_bits(alone, lambda: self._joint(pixels, plan))
            return alone
        if not self._equal[kind]:
            return [list(self._model.encode_stream(clip, plan)) for clip in pixels]
        return self._joint(pixels, plan)

    def _joint(self, clips: list[list[np.ndarray]], plan: Plan) -> list[list[Tensor]]:
        frames = map(np.stack, zip(*clips, strict=True))  # [B, H, W, 3]
        windows = list(self._model.encode_stream(frames, plan))
        return [[window[n : n + 1] for window in windows] for n in range(len(clips))]


def same_bits(alone: list[list[Tensor]], joint: Callable[[], list[list[Tensor]]]) -> bool:
    """Whether `joint` gives these very tensors; not, where there is no memory for it."""
    try:
        together = joint()
    except (MemoryError, torch.OutOfMemoryError):
        return False
    pairs: Iterable = zip(alone, together, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))
