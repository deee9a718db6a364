"""Journals in an object store: objects cannot grow, so a journal is many parts, each put once and whole.

Whoever reads a part sees lines as in a journal on a disk. A part is put once it has many lines, or once the
one before it is some time ago, so that neither every row is a request, nor many rows are lost with a process.
What is lost is found out again: an entry that has no row is looked into, and gets one.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vidlatent.durable import make_folder
from vidlatent.files import naming_disk_errors
from vidlatent.jobs.cache.journal import SUFFIX, name_writer, spell_lines

MOST_LINES = 1000  # of a part
PART_S = 30.0  # after which the next row is put at once


class PartWriter:
    """Writes the parts of one journal in a folder, and gives each to `publish` when it is complete."""

    def __init__(self, folder: Path, publish: Callable[[Path], None]) -> None:
        self._folder, self._publish = folder, publish
        self._name = f"{name_writer()}-{secrets.token_hex(4)}"
        self._lines: list[str] = []
        self._count, self._put = 0, time.monotonic()

    def append(self, *records: Mapping[str, object]) -> None:
        """Write records, a line each. They are there for others with the next part."""
        self._lines += [spell_lines([record]) for record in records]
        if len(self._lines) >= MOST_LINES or time.monotonic() - self._put >= PART_S:
            self.flush()

    def flush(self) -> None:
        """Put what waits as a part."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []  # what cannot be put is given up: whoever asked is told
        self._count, self._put = self._count + 1, time.monotonic()
        path = self._folder / f"{self._name}-{self._count:06d}{SUFFIX}"
        with naming_disk_errors(path):
            make_folder(self._folder)
            path.write_text("".join(lines))
        try:
            self._publish(path)
        except BaseException:
            path.unlink()
            raise

    def close(self) -> None:
        """Put what waits; a record that comes later begins another part."""
        self.flush()
