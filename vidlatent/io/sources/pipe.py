"""Sources that give their bytes once: frames that come through a pipe."""

import io
from dataclasses import dataclass
from typing import BinaryIO

from vidlatent.file_state import State
from vidlatent.io.sources.source import Beat, no_beat


@dataclass(frozen=True, slots=True)
class PipeSource:
    """YUV4MPEG or raw frames on a `stream`, which only the decoder reads, and only once."""

    name: str
    stream: BinaryIO

    def open(self) -> BinaryIO:
        """An empty file: whoever would look into a pipe before the decoder does finds nothing."""
        return io.BytesIO()

    def state(self) -> State:
        """None: there is nothing to look at again."""
        return None

    def sha256(self, beat: Beat = no_beat) -> str:
        """Empty: the bytes are gone once they were read."""
        return ""
