"""Rows that are done, a line each, so that a bench that was stopped goes on where it was.

The pictures that a report may want lie in a folder beside the file: NAME.pictures/.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vidlatent.errors import BadInput
from vidlatent.jobs.measure.document import row_from_json, row_to_json
from vidlatent.jobs.measure.results import Row
from vidlatent.jobs.measure.witness import Witness


class Journal:
    """Finished rows by what they measured: the clip's size and time of change, the subject, the settings."""

    def __init__(self, path: Path, settings: dict[str, object]) -> None:
        self.path = path
        self._settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._rows = self._read()

    def find(self, clip: str, subject: str) -> Row | None:
        """The row of this clip and subject, unless the clip or the settings have changed since."""
        row = self._rows.get(self._key(clip, subject))
        if row is None:
            return None
        pictures = self._pictures(row)
        return replace(row, witness=Witness.load(pictures)) if pictures.exists() else row

    def add(self, row: Row) -> None:
        """Write a new row down, its pictures first; one that failed is left to be tried again."""
        key = self._key(row.clip, row.subject)
        if row.error or key in self._rows:
            return
        if row.witness:
            row.witness.save(self._pictures(row))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "row": row_to_json(row)}) + "\n")

    def drop_pictures(self, rows: Iterable[Row]) -> None:
        """Remove the pictures of rows that no report will show."""
        for row in rows:
            self._pictures(row).unlink(missing_ok=True)

    def _pictures(self, row: Row) -> Path:
        name = hashlib.sha256(self._key(row.clip, row.subject).encode()).hexdigest()[:16]
        return self.path.with_name(f"{self.path.name}.pictures") / f"{name}.npz"

    def _key(self, clip: str, subject: str) -> str:
        stat = Path(clip).stat() if Path(clip).exists() else None
        version = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "missing"
        return f"{clip}|{version}|{subject}|{self._settings}"

    def _read(self) -> dict[str, Row]:
        """The rows of all whole lines: the last one may have been cut short."""
        if not self.path.exists():
            return {}
        rows = {}
        text = self.path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            if not line.endswith("\n"):
                self.path.write_text(text[: -len(line)], encoding="utf-8")
                break
            try:
                entry = json.loads(line)
                rows[entry["key"]] = row_from_json(entry["row"])
            except (ValueError, KeyError, TypeError) as e:
                raise BadInput(f"{self.path}: line {number} is no row of a bench", "name another file") from e
        return rows
