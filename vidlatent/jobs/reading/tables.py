"""Tables of clips: CSV, TSV, JSON (a list of objects), JSON lines, and parquet where pyarrow is installed.

They are read a row at a time, whatever their size, and a row that makes no sense is told and passed over.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from typing import TextIO

from vidlatent.errors import BadInput, UsageError
from vidlatent.io.sources.disk import DiskSource

PATH_COLUMNS = (
    *("path", "video_path", "media_path", "file_path"),
    *("video", "file_name", "filename", "file"),
)
MOST_CHARACTERS = 1 << 20  # of a line, or of one field
_MOST_NESTED = 64  # lists and objects in one another
_MOST_JSON_BYTES = 1 << 28  # of a list that can only be read whole
_ROWS_AT_ONCE = 16  # of parquet
Row = dict[str, object]


def read_table(source: DiskSource) -> Iterator[tuple[int, Row | BadInput]]:
    """The number of each row, and its values by column, or what is wrong with it.

    Raises BadInput where the whole table cannot be read.
    """
    if not source.path.is_file():
        raise BadInput(f"{source.name}: no plain file, so no table")
    return TABLES[source.path.suffix.lower()](source)


class _BadLine(Exception):
    """A line that cannot be taken; the next one can."""


class _Lines:
    """The lines of a text file, one at a time; a line that cannot be taken raises, and reading goes on."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(MOST_CHARACTERS)
        if not line:
            raise StopIteration
        if len(line) == MOST_CHARACTERS and not line.endswith(("\n", "\r")):
            while (rest := self._file.readline(MOST_CHARACTERS)) and not rest.endswith(("\n", "\r")):
                pass
            raise _BadLine(f"longer than {MOST_CHARACTERS:,} characters")
        try:
            line.isascii() or line.encode()
        except UnicodeEncodeError as e:
            raise _BadLine("no UTF-8") from e
        return line


def _open_text(source: DiskSource) -> TextIO:
    return source.path.open(newline="", encoding="utf-8-sig", errors="surrogateescape")


def _read_separated(source: DiskSource, delimiter: str) -> Iterator[tuple[int, Row | BadInput]]:
    csv.field_size_limit(MOST_CHARACTERS)
    with _open_text(source) as file:
        rows = csv.reader(_Lines(file), delimiter=delimiter)
        try:
            columns = next(rows, [])
        except (csv.Error, _BadLine) as e:
            raise BadInput(
                f"{source.name}: its first row makes no sense ({e})", "it names the columns"
            ) from e
        _refuse_columns(source, columns)
        for number, values in _number_rows(rows):
            if isinstance(values, list) and len(values) == len(columns):
                yield number, dict(zip(columns, values, strict=True))
            elif isinstance(values, list):
                found = f"{len(values)}, the header has {len(columns)}"
                yield number, BadInput(f"{source.name}: row {number} has another number of columns: {found}")
            else:
                yield number, BadInput(f"{source.name}: row {number} cannot be read ({values})")


def _number_rows(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str] | Exception]]:
    """Every row that is not empty, with its number; for one that cannot be read, the reason."""
    number = 0
    while True:
        try:
            values: list[str] | Exception = next(rows)
        except StopIteration:
            return
        except (csv.Error, _BadLine) as e:
            values = e
        if values:
            number += 1
            yield number, values


def _refuse_columns(source: DiskSource, columns: Sequence[str]) -> None:
    """Raise BadInput where no column names files."""
    if not set(columns) & set(PATH_COLUMNS):
        raise BadInput(
            f"{source.name}: has no path (columns: {', '.join(map(str, columns))[:200]})",
            f"name the column one of {', '.join(PATH_COLUMNS)}",
        )


def _read_csv(source: DiskSource) -> Iterator[tuple[int, Row | BadInput]]:
    return _read_separated(source, ",")


def _read_tsv(source: DiskSource) -> Iterator[tuple[int, Row | BadInput]]:
    return _read_separated(source, "\t")


def _read_jsonl(source: DiskSource) -> Iterator[tuple[int, Row | BadInput]]:
    with _open_text(source) as file:
        lines, number = _Lines(file), 0
        while True:
            number += 1
            try:
                line = next(lines)
                if line.strip():
                    yield number, _parse_object(line)
            except StopIteration:
                return
            except (ValueError, RecursionError, _BadLine) as e:
                yield number, BadInput(f"{source.name}: line {number} is not JSON ({e})")


def _read_json(source: DiskSource) -> Iterator[tuple[int, Row | BadInput]]:
    if source.path.stat().st_size > _MOST_JSON_BYTES:
        raise BadInput(
            f"{source.name}: a list of more than {_MOST_JSON_BYTES:,} bytes", "write it as JSON lines"
        )
    try:
        rows = json.loads(source.path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as e:
        raise BadInput(f"{source.name}: not JSON ({e})") from e
    if not isinstance(rows, list):
        raise BadInput(f"{source.name}: expected a list of JSON objects, one for each clip")
    for number, row in enumerate(rows, start=1):
        try:
            yield number, _check_object(row)
        except ValueError as e:
            yield number, BadInput(f"{source.name}: row {number} makes no sense ({e})")


def _parse_object(line: str) -> Row:
    return _check_object(json.loads(line))


def _check_object(row: object) -> Row:
    """The row; raises ValueError where it is no object, or too deep to be passed on."""
    if not isinstance(row, dict):
        raise ValueError("no object")
    if _count_levels(row) > _MOST_NESTED:
        raise ValueError(f"more than {_MOST_NESTED} levels")
    return row


def _count_levels(value: object) -> int:
    """How many lists and objects lie in one another, counted up to one more than may be."""
    level, found = 0, [value]
    while found and level <= _MOST_NESTED:
        inner = [item for each in found for item in (each.values() if isinstance(each, dict) else each)]
        found = [item for item in inner if isinstance(item, dict | list)]
        level += 1
    return level


def _read_parquet(source: DiskSource) -> Iterator[tuple[int, Row | BadInput]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as e:
        raise UsageError(
            f"{source.name}: reading parquet needs pyarrow", "pip install pyarrow, or give CSV or JSONL"
        ) from e
    try:
        with ParquetFile(source.path) as table:
            _refuse_columns(source, table.schema_arrow.names)
            batches = table.iter_batches(_ROWS_AT_ONCE)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except (ArrowException, OSError, ValueError) as e:
        raise BadInput(f"{source.name}: cannot be read as parquet ({e})") from e


TABLES = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
