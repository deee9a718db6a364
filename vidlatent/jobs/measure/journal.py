"""Finished rows in a file, a line each, so that a bench that was stopped goes on where it was.

Pictures for a report lie in a folder beside the file, NAME.pictures/.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vidlatent.errors import BadInput
from vidlatent.jobs.measure.document import row_from_json, row_to_json
from vidlatent.jobs.measure.pictures import KeptPictures
from vidlatent.jobs.measure.results import ReportRow
from vidlatent.printable import encode_text

BEGIN = '{"key": '  # of each line


class BenchJournal:
    """The finished rows of a bench, by clip (its size and modification time), subject and settings."""

    def __init__(self, path: Path, settings: dict[str, object]) -> None:
        self.path = path
        self._settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._rows = self._read()

    def find(self, clip: str, subject: str) -> ReportRow | None:
        """The row of this clip and subject; None where the clip or the settings have changed since."""
        row = self._rows.get(self._key(clip, subject))
        if row is None:
            return None
        path = self._pictures_path(row)
        return replace(row, pictures=KeptPictures.load(path)) if path.exists() else row

    def add(self, row: ReportRow) -> None:
        """Write a new row, its pictures first. One that failed is not written, so that it is tried again."""
        key = self._key(row.clip, row.subject)
        if row.error or key in self._rows:
            return
        if row.pictures:
            row.pictures.save(self._pictures_path(row))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "row": row_to_json(row)}) + "\n")

    def drop_pictures(self, rows: Iterable[ReportRow]) -> None:
        """Remove the pictures of rows that no report will show."""
        for row in rows:
            self._pictures_path(row).unlink(missing_ok=True)

    def _pictures_path(self, row: ReportRow) -> Path:
        name = hashlib.sha256(encode_text(self._key(row.clip, row.subject))).hexdigest()[:16]
        return self.path.with_name(f"{self.path.name}.pictures") / f"{name}.npz"

    def _key(self, clip: str, subject: str) -> str:
        stat = Path(clip).stat() if Path(clip).exists() else None
        version = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "missing"
        return f"{clip}|{version}|{subject}|{self._settings}"

    def _read(self) -> dict[str, ReportRow]:
        """The rows of all whole lines. A last line of ours that was cut short is removed from the file."""
        if not self.path.exists():
            return {}
        rows = {}
        text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            if not line.endswith("\n") and BEGIN.startswith(line[: len(BEGIN)]):
                self.path.write_text(text[: -len(line)], encoding="utf-8", errors="surrogateescape")
                break
            try:
                entry = json.loads(line)
                rows[entry["key"]] = row_from_json(entry["row"])
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
                raise BadInput(f"{self.path}: line {number} is no row of a bench", "name another file") from e
        return rows
