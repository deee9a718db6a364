"""One video of a data set, as a folder, a table or a tar names it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vidlatent.errors import VidlatentError
from vidlatent.io.sources.source import Source

# Files that lie beside videos in data sets: each gets a row that says so, and none is opened.
SIDECARS = {
    *(".txt", ".caption", ".json", ".jsonl", ".csv", ".tsv", ".parquet"),
    *(".md", ".yaml", ".yml", ".toml", ".xml"),
    *(".srt", ".vtt", ".ass", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".latent", ".py", ".log"),
    *(".wav", ".mp3", ".flac", ".aac", ".m4a", ".ogg", ".opus", ".sha256", ".md5"),
}


@dataclass(frozen=True, slots=True)  # millions of them are held
class Clip:
    """One video to cache.

    `name` is that of its source, made absolute, so that it says the same from wherever it is read.
    `start`, `end` (seconds) and `frames` count instead of those of the recipe. `facts` are carried along into
    the manifest, as plain JSON values; the one named `caption` is the clip's caption. `is_caption` is set for
    files that by their extension hold captions. `error` says why the clip is not to be encoded, such as a
    caption that cannot be read. Where it is `unreadable`, as a row of a table that makes no sense, there is
    not even a file to look at; `skipped` says why there is no point in one.
    """

    source: Source
    name: str
    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    error: VidlatentError | None = None
    is_caption: bool = False
    unreadable: bool = False
    skipped: str | None = None

    @property
    def identity(self) -> tuple:
        """What makes it another clip than others: its name, and the part that is meant."""
        return self.name, self.start, self.end, self.frames

    @property
    def is_sidecar(self) -> bool:
        """Whether the file's name alone says that it is no video."""
        return self.is_caption or Path(self.name).suffix.lower() in SIDECARS

    @property
    def is_readable(self) -> bool:
        """Whether there may be a video to read."""
        return not self.unreadable and self.skipped is None and not self.is_sidecar
