"""How the latent frames of a clip are cut into chunks, which are coded each by itself, and read alone."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Chunks:
    """Chunks of `length` latent frames.

    Where fewer than `least` would be left at the end of a clip, the last chunk has these too. A clip of fewer
    is one chunk.
    """

    length: int = 16
    least: int = 1

    def count(self, frames: int) -> int:
        """How many chunks there are of so many latent frames."""
        return max(min(frames, 1), (frames + self.length - self.least) // self.length)

    def find(self, frame: int, frames: int) -> int:
        """In which chunk a latent frame is, of so many."""
        return min(frame // self.length, self.count(frames) - 1)

    def among(self, start: int, stop: int, frames: int) -> range:
        """The numbers of the chunks that hold latent frames [start, stop), of so many."""
        return range(self.find(start, frames), self.find(stop - 1, frames) + 1) if start < stop else range(0)

    def span(self, number: int, frames: int) -> tuple[int, int]:
        """[start, stop) of a chunk, of so many latent frames."""
        start = number * self.length
        return start, frames if number == self.count(frames) - 1 else start + self.length

    def spans(self, frames: int) -> Iterator[tuple[int, int]]:
        """[start, stop) of one chunk after the other."""
        return (self.span(number, frames) for number in range(self.count(frames)))

    def settle(self, frames: int) -> int:
        """How many of the first latent frames are in chunks that stay as they are, however many follow."""
        wait = self.least if self.least > 1 else 0  # so many may yet belong to the chunk before
        return max(0, frames - wait) // self.length * self.length

    def align(self, frames: int) -> int:
        """How many of so many latent frames lie before the chunk that these break off in: whole chunks."""
        return frames if frames % self.length == 0 else self.span(self.count(frames) - 1, frames)[0]


SIXTEEN = Chunks()  # what most forms have, and what is as good as any where latents are read or written once
