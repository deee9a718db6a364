"""What never answers, in a process that reads for us."""

from pathlib import Path

import pytest


def hang(monkeypatch: pytest.MonkeyPatch, table: Path) -> Path:
    """A table whose reading takes a minute: the reading processes find a module of ours beside it."""
    table.write_text("path\na.mp4\n")
    (table.parent / "sitecustomize.py").write_text(
        "import time\nfrom vidlatent.jobs.reading import tables\n"
        "tables.TABLES['.csv'] = lambda path: time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(table.parent))
    return table
