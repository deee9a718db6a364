"""Several files on one command line: each is worked on, and one that fails does not stop the others."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidlatent.cli.console import complain, name_resource, print_json, say, start_progress
from vidlatent.durable import make_folder
from vidlatent.errors import UsageError, VidlatentError
from vidlatent.files import is_about_name, naming_disk_errors

if TYPE_CHECKING:
    from vidlatent.jobs.progress import Progress

Pair = tuple[str | Path, str | Path]
Check = Callable[[str | Path, Path], None]  # source, target → an error where something is wrong
Work = Callable[[str | Path, str | Path, "Progress"], Any]  # source, target, progress → a dataclass


class Batch:
    """Pairs (source, target) to be worked on.

    An error of one pair among several, too little memory included, is said, and the next pair follows; with a
    single pair it is raised.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.pairs = list(pairs)
        self.several = len(self.pairs) > 1
        self._failed = 0

    def check(self, check: Check) -> bool:
        """Leave out the pairs in which `check` finds something wrong, and say whether any is left.

        This costs nothing, so it comes before a model is loaded, or fetched.
        """
        self.pairs = [pair for pair in self.pairs if self._attempt(pair, lambda pair=pair: [check(*pair)])]
        return bool(self.pairs)

    def skip(self, is_there: Callable[[Path], bool]) -> bool:
        """Leave out the pairs whose target is there, say so, and say whether any is left."""
        for source, target in self.pairs:
            if is_there(Path(target)):
                say(f"{target}: is there already, so {source} is left out")
        self.pairs = [pair for pair in self.pairs if not is_there(Path(pair[1]))]
        return bool(self.pairs)

    def run(self, work: Work, show: Callable[[Any], None], as_json: bool) -> int:
        """Do `work` on every pair, show each result, and return the exit code."""
        results = []
        for source, target in self.pairs:
            if result := self._attempt((source, target), partial(_work_on, source, target, work)):
                show(result[0])
                results.append({"source": source, **asdict(result[0])})
        if as_json:
            print_json(results[0] if results and not self.several else results)
        return int(self._failed > 0)

    def _attempt(self, pair: Pair, do: Callable[[], list[Any]]) -> list[Any]:
        """What came of one pair, in a list; an empty one where it failed and that was said."""
        try:
            return do()
        except (VidlatentError, MemoryError, RuntimeError, OSError) as e:
            told = e if isinstance(e, VidlatentError) else name_resource(e, str(pair[0]))
            of_all = told is None or (isinstance(e, OSError) and not is_about_name(e))  # the disk, a pipe
            if not self.several or of_all:
                raise
            complain(told)
            self._failed += 1
            return []


def _work_on(source: str | Path, target: str | Path, work: Work) -> list[Any]:
    with closing(start_progress()) as progress:
        return [work(source, target, progress)]


def run_each(pairs: Iterable[Pair], work: Work, show: Callable[[Any], None], as_json: bool) -> int:
    """Do `work` on every pair, show each result, and return the exit code: see `Batch`."""
    return Batch(pairs).run(work, show, as_json)


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
