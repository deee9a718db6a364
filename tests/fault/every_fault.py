"""Lets every call that a command makes to its disk fail once, in turn, with every error that a disk can give.

    python tests/fault/every_fault.py [COMMAND …] [--share N] [--seed N]

Every case begins alike: the command runs, one call fails. It must end with our own words and exit code, lose
nothing of what was there before, and do its work when it is run again. The last line is JSON with counts.
With `--share N` one case in N is tried, drawn by `--seed`; each command is tried on a few at least.
"""

import argparse
import errno
import gc
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

HERE = Path(__file__).resolve()
CODES = ("EIO", "ENOSPC", "EDQUOT", "ESTALE", "EMFILE", "ENFILE", "EAGAIN", "EACCES", "EROFS")
REFUSED = ("EACCES", "EROFS")  # not the disk's fault, but the user's: exit 2
TOY = ("-m", "toy", "--device", "cpu")
Words = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A command to try, what runs before it, and what its folder holds once all went well.

    `state` says what is of worth in a folder. When the command is run again, it is given the words `again`
    besides, and `fresh` is removed before.
    """

    words: Words
    state: Callable[[Path], dict]
    before: tuple[Words, ...] = ()
    prepare: Callable[[Path], object] = lambda folder: None
    again: Words = ()
    fresh: str = ""


def files(*patterns: str) -> Callable[[Path], dict]:
    """What is of worth: the bytes of these files."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
        if path.is_file() and not path.name.startswith(".")
    }


def entries(folder: Path) -> dict:
    """What is of worth in a cache: each entry that the manifest promises, wherever it lies."""
    from vidlatent.jobs.cache.manifest import DONE, Manifest
    from vidlatent.jobs.cache.store import Store

    root = folder / "cache"
    if not any(root.glob("manifest/[!.]*")):
        return {}
    manifest = Manifest(Store.open(root))
    found = {}
    for row in manifest.rows():
        place = manifest.place(row)
        whole = place.path.is_file() and place.holds(row.bytes) and place.sha256() == row.checksum
        found[f"{Path(row.source).name} {row.recipe}"] = (
            row.status,
            row.checksum if whole or row.status != DONE else "lost",
        )
    return found


def spoil(folder: Path) -> None:
    """Put into a cache what gc removes: an entry without a row, and what killed runs left."""
    for name in (f"{'f' * 64}.latent", f".{'e' * 64}.latent.partial"):
        path = folder / "cache/objects" / "ff" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (folder / "cache/claims/stale").touch()


def damage(folder: Path) -> None:
    """Flip a bit of an entry."""
    path = next(folder.glob("cache/objects/*/*.latent"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def add_sound(folder: Path) -> None:
    """Put a clip with sound beside the others."""
    from helpers.video_clips import Recipe, make

    make(folder / "sound.mkv", Recipe("mpeg4", stamps=tuple(range(0, 200, 40)), audio="pcm_s16le"))


def add_long_clip(folder: Path) -> None:
    """Put a clip of several windows beside the others."""
    from helpers.cache_clips import write_clip

    write_clip(folder / "long.avi", 5, frames=70)


CACHE: Words = ("cache", "videos", "-o", "cache", *TOY, "--workers", "1")
ENCODE: Words = ("encode", "videos/clip0.avi", "-o", "a.latent", *TOY, "--force")
OTHER: Words = ("encode", "videos/clip1.avi", "-o", "a.latent", *TOY)
COMPACT: Words = ("cache", "compact", "cache")
LATE: Words = (*CACHE, "--frames", "5")  # other entries of the same clips


def _export(tool: str, pattern: str) -> Case:
    words = ("cache", "export", "cache", "-o", "out", "--to", tool)
    return Case(words, files(pattern), before=(CACHE,), again=("--update",))


CASES = {
    "encode": Case(ENCODE, files("a.latent"), before=(OTHER,)),
    "encode full": Case((*ENCODE, "--posterior", "full"), files("a.latent"), before=(OTHER,)),
    "encode sound": Case(
        ("encode", "sound.mkv", *ENCODE[2:]), files("a.latent"), before=(OTHER,), prepare=add_sound
    ),
    "encode resume": Case(
        ("encode", "long.avi", "-o", "a.latent", *TOY, "--resume"),
        files("a.latent"),
        prepare=add_long_clip,
        again=("--force",),
    ),
    "decode": Case(
        ("decode", "a.latent", "-o", "out.mp4", *TOY, "--force"),
        files("a.latent", "out.mp4"),
        before=(OTHER,),
    ),
    "decode png": Case(
        ("decode", "a.latent", "-o", "out/", *TOY), files("a.latent", "out/*"), before=(OTHER,), fresh="out"
    ),
    "cache": Case(CACHE, entries),
    "cache more": Case(CACHE, entries, before=((*CACHE[:1], "videos/clip0.avi", *CACHE[2:]),)),
    "cache tar": Case((*CACHE, "--shards", "tar"), entries),
    "cache safetensors": Case((*CACHE, "--shards", "safetensors"), entries, before=(CACHE,)),
    "gc": Case(("cache", "gc", "cache", "--yes"), entries, before=(CACHE,), prepare=spoil),
    "compact": Case(COMPACT, entries, before=(CACHE,)),
    "compact again": Case(COMPACT, entries, before=(CACHE, COMPACT, LATE)),
    "verify": Case(("cache", "verify", "cache"), entries, before=(CACHE,), prepare=damage),
    **{
        f"export {tool}": _export(tool, "out/**/*")
        for tool in ("comfyui", "ltx", "webdataset", "safetensors")
    },
}


@dataclass
class Counts:
    """How many faults were tried, by exit code, and what was wrong."""

    tried: int = 0
    codes: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Bench:
    """One command, tried again and again in a folder that begins alike each time."""

    def __init__(self, name: str, case: Case, place: Path, videos: Path) -> None:
        from vidlatent.cli import app

        self._name, self.case, self._run = name, case, app.run
        self.folder, self.pristine, self._notes = place / "case", place / "pristine", place / "notes"
        for folder in (self.folder, self._notes):
            folder.mkdir(parents=True)
        shutil.copytree(videos, self.folder / "videos")
        for words in case.before:
            self._do(words, 0)
        case.prepare(self.folder)
        shutil.copytree(self.folder, self.pristine)
        self.start = case.state(self.folder)
        outcome = self._do(case.words, None)
        self.ends, self._code = case.state(self.folder), outcome.code
        self.log = outcome.calls
        self.calls = [call for call in self.log if call.kind != "close"]  # those that can be made to fail

    def _do(self, words: Words, code: int | None, fault=None):
        from helpers.disk_calls import run_watched

        outcome = run_watched(lambda: self._work(words), self.folder, self._notes, fault)
        if code is not None and outcome.code != code:
            raise SystemExit(f"{self._name}: {' '.join(words)} gave {outcome.code}: {outcome.said}")
        return outcome

    def _work(self, words: Words) -> int:
        os.chdir(self.folder)
        return self._run(list(words))

    def try_fault(self, fault) -> tuple[int, str | None]:
        """What the command ends with where one call fails, and what is wrong with that; None: nothing."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.pristine, self.folder)
        outcome = self._do(self.case.words, None, fault)
        return outcome.code, self._judge(fault, outcome)

    def _judge(self, fault, outcome) -> str | None:
        call = self.calls[min(fault.call, len(self.calls) - 1)]
        if "Traceback" in outcome.said or outcome.code not in self._allowed(fault, call, outcome.said):
            return f"exit {outcome.code}: {outcome.said[-600:]}"
        lost = self._find_lost()
        return f"lost: {lost}" if lost else self._go_on()

    def run_again(self, beginning: Path) -> str | None:
        """What is wrong with what the command makes of a folder like `beginning`; None: nothing."""
        shutil.rmtree(self.folder)
        shutil.copytree(beginning, self.folder)
        return self._go_on()

    def _go_on(self) -> str | None:
        """Run the command once more, undisturbed: what is wrong with what it comes to, if anything is."""
        if self.case.fresh:
            shutil.rmtree(self.folder / self.case.fresh, ignore_errors=True)
        again = self._do((*self.case.words, *self.case.again), None)
        if again.code not in (0, self._code):  # what `verify` has found it does not find again
            return f"again, exit {again.code}: {again.said[-600:]}"
        found = self.case.state(self.folder)
        return None if found == self.ends else f"again, not the same: {_differ(found, self.ends)}"

    def _allowed(self, fault, call, said: str) -> set[int]:
        """The exit codes that are right: 5, or what it would have been where the call did not matter."""
        codes = {5, self._code}
        if errno.errorcode[fault.code] in REFUSED:
            codes.add(2)
        # Threads work side by side, so the call that fails may be another one than when calls were noted.
        if call.reads or "cannot be read" in said:  # which is bad input, or a finding
            codes |= {1, 2, 3} if self._name == "verify" else {2, 3}
        return codes

    def _find_lost(self) -> str:
        """Which thing of worth is neither what it was before nor what it was to become."""
        found = self.case.state(self.folder)
        for name, value in found.items():
            if value not in (self.start.get(name), self.ends.get(name)):
                return f"{name} is neither old nor new: {str(value)[:200]}"
        kept = {name for name, value in self.start.items() if self.ends.get(name) == value}
        return ", ".join(sorted(kept - found.keys()))


def _differ(found: dict, wanted: dict) -> str:
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return ", ".join(
        f"{name}: {str(found.get(name))[:80]} for {str(wanted.get(name))[:80]}" for name in names
    )


def list_faults(calls: list) -> Iterator:
    """Every call with every error, writes also after half of it, and a disk that fails for good."""
    from helpers.disk_calls import Fault

    for number, call in enumerate(calls):
        for name in CODES:
            yield Fault(number, getattr(errno, name))
        if call.kind == "write":
            yield Fault(number, errno.ENOSPC, half=True)
        yield Fault(number, errno.EIO, for_ever=True)


def try_all(name: str, place: Path, videos: Path, chance: random.Random, share: int) -> Counts:
    """Try one command with all faults, or with one in `share`, and say what was wrong."""
    bench, counts = Bench(name, CASES[name], place, videos), Counts()
    faults = list(list_faults(bench.calls))
    if share > 1:
        faults = chance.sample(faults, max(3, len(faults) // share))
    for fault in faults:
        code, wrong = bench.try_fault(fault)
        counts.tried += 1
        counts.codes[code] += 1
        if wrong is not None:
            call = bench.calls[fault.call]
            where = f"{call.kind} {call.path or call.file}"
            how = " half" * fault.half + " for ever" * fault.for_ever
            counts.wrong.append(
                f"{name}: call {fault.call} ({where}) {errno.errorcode[fault.code]}{how}: {wrong}"
            )
            print(counts.wrong[-1], file=sys.stderr, flush=True)
    return counts


def prepare(place: Path) -> Path:
    """Load all that forks of this process need, and write two clips; the folder that they are in.

    Without this most of what a run costs would go into imports, and into making the command line.
    """
    import torch
    import typer.main
    from helpers import cache_clips as clips

    torch.set_num_threads(1)
    videos = clips.write_clips(place / "videos", 2)
    typer.main.get_command = cache(typer.main.get_command)
    shutil.copytree(videos, place / "warm up" / "videos")
    with chdir(place / "warm up"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warm_up()
    gc.freeze()  # what the collector does not look through is not copied into a fork
    return videos


def warm_up() -> None:
    """Import every module that can be, and encode and cache once in this process."""
    from helpers.forked_readers import fork_readers

    import vidlatent
    from vidlatent.cli import app

    for module in walk_packages(vidlatent.__path__, "vidlatent."):
        if not module.name.endswith(("__main__", "models.kernels")):  # that one needs triton
            import_module(module.name)
    fork_readers()
    for words in (ENCODE, CACHE):
        if code := app.run(list(words)):
            raise SystemExit(f"{' '.join(words)} gave {code}")


def main() -> int:
    """Try the commands that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("commands", nargs="*", default=[*CASES], help=", ".join(CASES))
    parser.add_argument("--share", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    if "LD_PRELOAD" not in os.environ:
        return _start_again()
    chance, results = random.Random(words.seed), {}
    with tempfile.TemporaryDirectory() as place:
        videos = prepare(Path(place))
        for name in words.commands:
            counts = try_all(name, Path(place, name), videos, chance, words.share)
            results[name] = {"tried": counts.tried, "codes": counts.codes, "wrong": counts.wrong}
            print(
                f"{name}: {counts.tried} faults, exit codes {dict(counts.codes)}, {len(counts.wrong)} wrong"
            )
    print(json.dumps({"tried": sum(r["tried"] for r in results.values()), "commands": results}))
    return int(any(result["wrong"] for result in results.values()))


def _start_again() -> int:
    sys.path.insert(0, str(HERE.parent.parent))
    from helpers.disk_calls import run_preloaded

    with tempfile.TemporaryDirectory() as folder:
        return run_preloaded(HERE, Path(folder), *sys.argv[1:], capture=False).returncode


if __name__ == "__main__":
    sys.exit(main())
