"""Lets the power fail after every call that a command makes to its disk, and looks at what is left.

    python tests/fault/power_loss.py [COMMAND …] [--chances N] [--share N] [--seed N] [--again N]

After each call the disk is left in several states: without anything that was not flushed, with all of it, as
a kill −9 leaves it, and N times with what chance keeps of it, in any order. In every state a cache must be
whole: each row that was written down is there, and each entry that a row promises, byte for byte; a file
under its name is the old one or the new one. In N states the command is run again, and must come to what it
comes to undisturbed. The last line is JSON.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from every_fault import CASES, Bench
from helpers.disk_calls import Call, run_preloaded
from helpers.disk_model import Disk, list_moments, save

COMMANDS = [name for name in CASES if name not in ("encode full", "export ltx", "verify")]  # like others


@dataclass
class Counts:
    """How many states were looked at, in how many the command ran again, and what was wrong."""

    moments: int = 0
    states: int = 0
    again: int = 0
    wrong: list[str] = field(default_factory=list)


def find_promised(calls: list[Call]) -> Iterator[set[str]]:
    """After each call the lines of the manifest that are promised: their journal was flushed since."""
    names: dict[int, str] = {}
    written: dict[int, bytes] = {}
    promised: set[str] = set()
    for call in calls:
        if call.kind == "open" and call.result >= 0:
            names[call.file] = call.path
            written[call.file] = b""
        elif call.kind == "write" and call.file in written:
            written[call.file] += call.data
        elif call.kind == "fsync" and call.result == 0 and is_journal(names.get(call.file, "")):
            promised |= set(written[call.file].decode().splitlines())
        yield set(promised)


def is_journal(path: str) -> bool:
    """Whether a file is a journal of the manifest."""
    return "/manifest/" in path and path.endswith(".jsonl")


class Kill(random.Random):
    """The chance that keeps everything: what a killed process has written is there."""

    def random(self) -> float:
        """Keep it."""
        return 0.0


def find_fault(folder: Path, promised: set[str], bench: Bench) -> str | None:
    """What is wrong with what is left in a folder; None: nothing."""
    found = bench.case.state(folder)
    lost = [
        name for name, value in found.items() if value not in (bench.start.get(name), bench.ends.get(name))
    ]
    if lost:
        return f"neither old nor new: {lost}"
    gone = {name for name in bench.start if bench.ends.get(name) == bench.start[name]} - found.keys()
    if gone:
        return f"gone: {sorted(gone)}"
    journals = folder.glob("cache/manifest/**/*.jsonl")
    there = {line for path in journals for line in path.read_text().splitlines()}
    if promised - there:
        return f"{len(promised - there)} rows that were promised are gone"
    return None


def try_command(name: str, place: Path, videos: Path, words: argparse.Namespace) -> Counts:
    """Let the power fail after every call of a command, or after one in `share`."""
    bench, counts, chance = Bench(name, CASES[name], place, videos), Counts(), random.Random(words.seed)
    disk, left = Disk(bench.folder, bench.pristine), place / "left"
    promises = list(find_promised(bench.log))
    total = sum(1 for call in bench.log if call.kind != "close" and not call.reads)
    again = set(chance.sample(range(total), min(words.again, total)))
    for count, moment in enumerate(list_moments(bench.log, disk)):
        if count not in again and chance.random() * words.share >= 1:
            continue
        counts.moments += 1
        for number, kept in enumerate([None, *[chance] * words.chances, Kill()]):
            shutil.rmtree(left, ignore_errors=True)
            save(disk.top, left, kept)
            counts.states += 1
            wrong = find_fault(left, promises[moment], bench)
            if wrong is None and number == 1 and count in again:
                counts.again += 1
                wrong = bench.run_again(left)
            if wrong is not None:
                call = bench.log[moment]
                counts.wrong.append(
                    f"{name}: after call {moment} ({call.kind} {call.path or call.other}): {wrong}"
                )
                print(counts.wrong[-1], file=sys.stderr, flush=True)
    return counts


def main() -> int:
    """Try the commands that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("commands", nargs="*", default=COMMANDS, help=", ".join(CASES))
    for name, default in (("--chances", 4), ("--share", 1), ("--seed", 0), ("--again", 3)):
        parser.add_argument(name, type=int, default=default)
    words = parser.parse_args()
    if "LD_PRELOAD" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            return run_preloaded(Path(__file__), Path(folder), *sys.argv[1:], capture=False).returncode
    from every_fault import prepare

    results = {}
    with tempfile.TemporaryDirectory() as place:
        videos = prepare(Path(place))
        for name in words.commands:
            counts = try_command(name, Path(place, name), videos, words)
            results[name] = vars(counts)
            print(
                f"{name}: {counts.moments} moments, {counts.states} states, run again in {counts.again}, "
                f"{len(counts.wrong)} wrong"
            )
    print(json.dumps({"states": sum(r["states"] for r in results.values()), "commands": results}))
    return int(any(result["wrong"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
