"""How a job says how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Whoever shows how far a job is: called once a clip is open, then after every frame."""

    def begin(self, what: str, total: int | None) -> None:
        """Work on `what` begins; `total` frames are expected, None where that is unknown."""
        ...

    def frames(self, done: int) -> None:
        """So many frames of the clip are done."""
        ...


class Silent:
    """For jobs that nobody watches."""

    def begin(self, what: str, total: int | None) -> None:
        """Do nothing."""

    def frames(self, done: int) -> None:
        """Do nothing."""


SILENT = Silent()
