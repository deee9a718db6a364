"""Several files on one command line: each is worked on, and one that fails does not stop the others."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidlatent.cli.console import complain, name_resource, print_json, start_progress
from vidlatent.durable import make_folder
from vidlatent.errors import UsageError, VidlatentError
from vidlatent.files import naming_disk_errors

if TYPE_CHECKING:
    from vidlatent.jobs.progress import Progress

Pair = tuple[str | Path, str | Path]
Work = Callable[[str | Path, str | Path, "Progress"], Any]  # source, target, progress → a dataclass


def run_each(pairs: Iterable[Pair], work: Work, show: Callable[[Any], None], as_json: bool) -> int:
    """Do `work` on every pair (source, target), show each result, and return the exit code.

    An error of one pair among several, too little memory included, is said, and the next pair follows; with a
    single pair it is raised.
    """
    pairs = list(pairs)
    results = []
    for source, target in pairs:
        try:
            with closing(start_progress()) as progress:
                result = work(source, target, progress)
        except (VidlatentError, MemoryError, RuntimeError) as e:
            told = e if isinstance(e, VidlatentError) else name_resource(e, str(source))
            if len(pairs) == 1 or told is None:
                raise
            complain(told)
            continue
        show(result)
        results.append({"source": source, **asdict(result)})
    if as_json:
        print_json(results if len(pairs) > 1 else results[0])
    return int(len(results) < len(pairs))


def pair_targets(sources: list[str], output: str, suffix: str) -> list[tuple[str, Path]]:
    """Give each source its target: `output` itself, or a file inside where `output` is a folder."""
    folder = output.endswith("/") or Path(output).is_dir()
    if len(sources) > 1 and not folder:
        raise UsageError(f"{len(sources)} inputs, one output {output}", "give a folder: -o DIR/")
    if not folder:
        return [(sources[0], Path(output))]
    with naming_disk_errors(Path(output)):
        make_folder(Path(output))
    pairs = [(source, Path(output) / f"{Path(source).stem or 'stdin'}{suffix}") for source in sources]
    taken: dict[Path, str] = {}
    for source, target in pairs:
        if target in taken:
            raise UsageError(f"{taken[target]} and {source} would both become {target}", "encode them apart")
        taken[target] = source
    return pairs
