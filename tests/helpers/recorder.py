"""Calls that make files durable, noted in their order."""

import os
from pathlib import Path

import pytest


class Recorder:
    """Notes every fsync and rename with the names they are about; `events` is what came so far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, descriptor: int) -> None:
        """Flush, and note of which file or folder."""
        self.note("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
        self._fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename, and note what it is called from now on."""
        self.note("rename", target)
        self._replace(source, target)

    def note(self, what: str, path: Path) -> None:
        """Note something that happened to a path."""
        self.events.append((what, Path(path).name))
