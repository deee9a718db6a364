"""How a job tells whoever waits for it how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Told of a clip once it is open, then of every frame that is done."""

    def begin(self, what: str, total: int | None) -> None:
        """Work on `what` begins; `total` frames are expected, as far as anyone knows."""
        ...

    def frames(self, done: int) -> None:
        """So many frames are done."""
        ...


class Silent:
    """Nobody waits."""

    def begin(self, what: str, total: int | None) -> None:
        """Say nothing."""

    def frames(self, done: int) -> None:
        """Say nothing."""


SILENT = Silent()
