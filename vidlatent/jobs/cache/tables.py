"""Tables of clips: CSV, TSV, JSON (a list of objects), JSON lines, and parquet where pyarrow is installed."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from vidlatent.errors import BadInput, UsageError


def read_table(path: Path) -> Iterator[dict[str, object]]:
    """The rows of a table, each as a dict by column."""
    return TABLES[path.suffix.lower()](path)


def _read_separated(path: Path, delimiter: str) -> Iterator[dict[str, object]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, delimiter=delimiter):
            if None in row or None in row.values():
                raise BadInput(f"{path}: a row with another number of columns than the header: {row}")
            yield dict(row)


def _read_csv(path: Path) -> Iterator[dict[str, object]]:
    return _read_separated(path, ",")


def _read_tsv(path: Path) -> Iterator[dict[str, object]]:
    return _read_separated(path, "\t")


def _read_jsonl(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as e:
                raise BadInput(f"{path}: line {number} is not JSON ({e})") from e
            if not isinstance(row, dict):
                raise BadInput(f"{path}: line {number} is no JSON object")
            yield row


def _read_json(path: Path) -> Iterator[dict[str, object]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise BadInput(f"{path}: not JSON ({e})") from e
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{path}: expected a list of JSON objects, one for each clip")
    yield from rows


def _read_parquet(path: Path) -> Iterator[dict[str, object]]:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as e:
        raise UsageError(
            f"{path}: reading parquet needs pyarrow", "pip install pyarrow, or give CSV or JSONL"
        ) from e
    for batch in ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


TABLES = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
