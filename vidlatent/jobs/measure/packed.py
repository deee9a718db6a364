"""A clip's latents packed within a budget, for a bench: no file is written."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidlatent.engine.pixels import to_frames
from vidlatent.jobs.measure.roundtrip import Frames, Subject, draw_latents
from vidlatent.jobs.measure.stored import CodedForm
from vidlatent.jobs.small.asks import ClipLatents
from vidlatent.jobs.small.budget import Budget
from vidlatent.jobs.small.errors import SAME_DB, Errors
from vidlatent.jobs.small.packing import Packing
from vidlatent.jobs.small.sensitivity import find_sensitivities
from vidlatent.metrics.psnr import Psnr


@dataclass(frozen=True, eq=False)
class HeldLatents:
    """Latents [t, C, h, w] of a whole clip, read as those of a file are."""

    path: str
    values: Tensor
    header: None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """[t, C, h, w]."""
        return tuple(self.values.shape)

    @property
    def frames(self) -> int:
        """Latent frames."""
        return len(self.values)

    def read_checked(self, start: int, stop: int) -> Tensor:
        """Latents [stop - start, C, h, w]."""
        return self.values[start:stop]


class ClipTrial:
    """A `Trying` of latents in memory: decodes all of them, and compares with the frames of their clip."""

    has_source = True

    def __init__(self, held: HeldLatents, decode: Callable[[Tensor], Iterator[Tensor]], clip: Frames) -> None:
        self._held, self._decode, self._clip = held, decode, clip
        with closing(clip()) as frames:
            self.frames = sum(1 for _ in frames)
        self.spans, self.decodes = [(0, self.frames)], 0

    def measure_base(self) -> Errors:
        """The errors of the latents as they are."""
        return self.measure(self._held)

    def measure(self, latents: ClipLatents) -> Errors:
        """The errors of latents in another form."""
        psnr, self.decodes = Psnr(ceiling=SAME_DB), self.decodes + 1
        with closing(self._clip()) as frames:
            for video in self._decode(latents.read_checked(0, latents.frames)):
                for i in range(video.shape[2]):
                    if (frame := next(frames, None)) is None:  # what the grid made us add
                        break
                    found = to_frames(video[:, :, i : i + 1], *frame.shape[:2], frame.dtype)
                    psnr.update(torch.from_numpy(frame)[None], torch.from_numpy(found))
        return Errors(10 ** (-psnr.per_frame() / 10))


def pack_clip(subject: Subject, drop_db: float, clip: Frames) -> tuple[Subject, tuple[str, ...]]:
    """The subject with the form that costs this clip `drop_db`, and what was measured of it, in words."""
    model, plan = subject.model, subject.plan
    with closing(clip()) as frames:
        windows = draw_latents(model.encode_clip(frames, plan), subject)
        held = HeldLatents(subject.store, torch.cat([window.float().cpu() for window in windows]))
    trial = ClipTrial(held, lambda z: model.decode_stream(z.split(1), plan, len(z)), clip)
    packing = Packing(held, trial, find_sensitivities(model))
    form = CodedForm(subject.store, packing.find_form(Budget(drop_db)))
    return replace(subject, form=form), packing.notices
