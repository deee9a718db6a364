"""What a source is, wherever its bytes lie."""

import os
from collections.abc import Callable
from typing import BinaryIO, Protocol, TypeVar

from vidlatent.file_state import State

T = TypeVar("T")
Beat = Callable[[], None]  # called again and again by what takes long: a sign of life


def no_beat() -> None:
    """For work that nobody watches."""


class Source(Protocol):
    """The bytes of one video, and what people call them. It is passed on in place of a path.

    Errors name a source by its `name`. A source is a value: it holds no open file, and goes from process to
    process.
    """

    @property
    def name(self) -> str:
        """What people call it: it is in errors, and in what is kept of the video."""
        ...

    def open(self) -> BinaryIO:
        """A new file that can seek, at its first byte; raises BadVideo or OSError where there is none."""
        ...

    def state(self) -> State:
        """What changes when somebody writes it; None where nobody can tell."""
        ...

    def sha256(self, beat: Beat = no_beat) -> str:
        """Hex sha256 of its bytes."""
        ...


def measure_bytes(source: Source) -> int:
    """How many bytes a source has."""
    with source.open() as file:
        return file.seek(0, os.SEEK_END)


def look_into(source: Source, finding: Callable[[BinaryIO], T]) -> T:
    """What `finding` says of a source's bytes, which it gets as a file at its beginning."""
    with source.open() as file:
        return finding(file)
