"""Rows that are done, a line each, so that a bench that was stopped goes on where it was."""

import hashlib
import json
from pathlib import Path

from vidlatent.errors import BadInput
from vidlatent.jobs.report_json import row_from_json, row_to_json
from vidlatent.jobs.results import Row


class Journal:
    """Finished rows by what they measured: the clip's size and time of change, the subject, the settings."""

    def __init__(self, path: Path, settings: dict[str, object]) -> None:
        self.path = path
        self._settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self._rows = self._read()

    def find(self, clip: str, subject: str) -> Row | None:
        """The row of this clip and subject, unless the clip or the settings have changed since."""
        return self._rows.get(self._key(clip, subject))

    def add(self, row: Row) -> None:
        """Write a finished row down; one that failed is left to be tried again."""
        if row.error:
            return
        line = {"key": self._key(row.clip, row.subject), "row": row_to_json(row)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

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
