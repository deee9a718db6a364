"""One command, several files: each is done, one that fails does not stop the others."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidlatent.cli.console import bar, complain, print_json
from vidlatent.errors import VidlatentError
from vidlatent.jobs.progress import Progress

Pair = tuple[str | Path, str | Path]
Work = Callable[[str | Path, str | Path, Progress], Any]  # source, target, progress → a dataclass


def each(pairs: Iterable[Pair], work: Work, show: Callable[[Any], None], as_json: bool) -> int:
    """Work on every (source, target), show what came of it; the exit code. A lone failure is raised."""
    pairs = list(pairs)
    results = []
    for source, target in pairs:
        progress = bar()
        try:
            result = work(source, target, progress)
        except VidlatentError as e:
            if len(pairs) == 1:
                raise
            complain(e)
            continue
        finally:
            progress.close()
        show(result)
        results.append({"source": source, **asdict(result)})
    if as_json:
        print_json(results if len(pairs) > 1 else results[0])
    return int(len(results) < len(pairs))
