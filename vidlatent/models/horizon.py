"""How far back in time a network sees, counted from its layers: its horizon, in latents.

A way through a network is a list of steps in the order in which they run. Each step is a function from the
number of a frame that comes out to that of the earliest frame it is made of, as if the clip had no beginning.
Followed backwards from what comes out last, they lead to the earliest frame that goes in.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vidlatent.grid import Grid

Step = Callable[[int], int]
_FAR = 1 << 20  # a latent so late in the clip that its beginning plays no part


@dataclass(frozen=True)
class Horizon:
    """How many latents before a latent still count: for what it is (`encode`), and for its frames (`decode`).

    Latents further back change not a bit. Attention to a past that grows is not in these numbers: it sees as
    many latents as `TimeRule.past` says, its own included.
    """

    encode: int
    decode: int

    @classmethod
    def count(cls, grid: Grid, encoder: Iterable[Step], decoder: Iterable[Step]) -> "Horizon":
        """From the steps of the longest way through the encoder, and through the decoder."""
        seen = latent_of(grid, follow(encoder, _FAR))
        frames = range(grid.time * (_FAR - 1) + 1, grid.time * _FAR + 1)  # those of that latent
        used = min(follow(decoder, frame) for frame in frames)
        return cls(_FAR - seen, _FAR - used)

    def joined(self, other: "Horizon") -> "Horizon":
        """That of a network with two ways from one end to the other."""
        return Horizon(max(self.encode, other.encode), max(self.decode, other.decode))


def follow(steps: Iterable[Step], frame: int) -> int:
    """The earliest frame that goes in, of those that `frame` of what comes out is made of."""
    for step in reversed(list(steps)):
        frame = step(frame)
    return frame


def latent_of(grid: Grid, frame: int) -> int:
    """The latent that stands for this frame of a clip."""
    return -(-frame // grid.time)


def back(frames: int) -> Step:
    """A step that sees so many frames before its own: a causal kernel of one more, or several of them."""
    return lambda frame: frame - frames


def narrowed(step: int, kernel: int) -> Step:
    """A step that makes one frame of the last of each `step` frames, and of those before it in its kernel."""
    return lambda frame: step * frame - (kernel - 1)


def widened(step: int) -> Step:
    """A step that makes `step` frames of each; of the clip's first frame comes only the last of them."""
    return lambda frame: -(-frame // step)
