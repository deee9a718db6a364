"""What the bookkeeping of a large cache costs: seconds, seconds of a processor, memory. The rows are made up.

Run: python tests/bench/large_cache.py --clips 1000000 --folder /tmp/large [STEP …]
The steps come in this order, each in a process of its own: `make` writes journals of as many rows and shards
that hold nothing, `compact` folds them, `open` opens the manifest, `lookup` asks it for keys at random,
`start` finds the first clip of a share, `status` goes through all of it, `index` makes the catalog, `dataset`
opens it with four workers, `plan` lists a table of as many clips and takes a share. A cache of ten million
takes about 16 GB. Every step prints one line of JSON: `rss_mb` is the peak of the process, `base_mb` what it
is before anything was opened.
"""

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from vidlatent.jobs.cache.compact import compact
from vidlatent.jobs.cache.lookup import take_part
from vidlatent.jobs.cache.manifest import DONE, Manifest, ManifestRow
from vidlatent.jobs.cache.plan import Part
from vidlatent.jobs.cache.scan import scan
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.readback.buckets import BucketSampler
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.readback.entries import Entries
from vidlatent.jobs.readback.mapped import make_catalog

WRITERS = 16
PER_SHARD = 1000
ENTRY_BYTES = 300_000
ASKED = 100_000
WORKERS = 4


def key_of(number: int) -> str:
    """The key of an entry."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def make_template(shape: tuple[int, ...]) -> str:
    """The line of a clip that was packed, as a run writes it, with places for what differs."""
    row = ManifestRow(
        source="/data/videos/part-%(part)05d/%(number)09d.mp4",
        status=DONE,
        key="%(key)s",
        recipe="0123456789abcdef",
        source_sha256="%(key)s",
        shape=shape,
        dtype="BF16",
        frames=81,
        width=832,
        height=480,
        bytes=ENTRY_BYTES,
        checksum="%(key)s",
        shard="shard-%(shard)016x.tar",
        seconds=1.5,
        read={"fps": "16"},
        model="wan-2.1",
        facts={"caption": "a person walks along a street, clip number %(number)d"},
        at=1.8e9,
    )
    return json.dumps(asdict(row), sort_keys=True).replace('"offset": 0', '"offset": %(offset)d') + "\n"


def make_lines(numbers: range) -> Iterator[str]:
    """The lines of rows, as a run writes them."""
    wide, tall = make_template((21, 16, 60, 104)), make_template((13, 16, 104, 60))
    for number in numbers:
        shard, nth = divmod(number, PER_SHARD)
        yield (wide if number % 3 else tall) % {
            "part": number // 10_000,
            "number": number,
            "key": key_of(number),
            "shard": shard,
            "offset": nth * ENTRY_BYTES,
        }


def make(root: Path, clips: int) -> dict:
    """Write journals and empty shards."""
    store = Store.create(root)
    for folder in (store.manifest, store.shards):
        folder.mkdir(exist_ok=True)
    for writer in range(WRITERS):
        with (store.manifest / f"{writer:019d}-host-{writer}.jsonl").open("w") as file:
            file.writelines(make_lines(range(writer, clips, WRITERS)))
    for shard in range(-(-clips // PER_SHARD)):
        with (store.shards / f"shard-{shard:016x}.tar").open("wb") as file:
            file.truncate(PER_SHARD * ENTRY_BYTES)  # takes no room
    return {"journal_mb": sum(path.stat().st_size for path in store.manifest.iterdir()) / 1e6}


def fold(root: Path, clips: int) -> dict:
    """Compact the cache."""
    (folded,) = compact(root)
    return {"rows": folded.records, "snapshot_mb": folded.path.stat().st_size / 1e6}


def open_manifest(root: Path, clips: int) -> dict:
    """Open the manifest, as every process of a run does."""
    Manifest(Store.open(root))
    return {}


def look_up(root: Path, clips: int) -> dict:
    """Ask for keys at random, half of which are not there, and where their entries lie."""
    manifest, chance = Manifest(Store.open(root)), random.Random(0)
    keys = [key_of(chance.randrange(2 * clips)) for _ in range(ASKED)]
    began, cpu = time.perf_counter(), time.process_time()
    found = sum(manifest.find(key) is not None for key in keys)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"found": found, "per_second": round(ASKED / wall), "per_cpu_second": round(ASKED / cpu)}


def tell_status(root: Path, clips: int) -> dict:
    """Go through all rows, as `cache status` does."""
    facts = describe_cache(root)
    return {name: facts[name] for name in ("clips", "entries", "missing")}


def make_index(root: Path, clips: int) -> dict:
    """Make the catalog for LatentDataset."""
    folder, counts = make_catalog(root)
    return {"entries": sum(counts.values()), "mb": sum(p.stat().st_size for p in folder.iterdir()) / 1e6}


def open_dataset(root: Path, clips: int) -> dict:
    """Open the data set here and in four workers that were started anew, and look at entries at random."""
    began = time.perf_counter()
    data = LatentDataset(root)
    opened = time.perf_counter() - began
    with get_context("spawn").Pool(WORKERS) as pool:
        grown = pool.map(_look_at_some, [data.entries] * WORKERS, chunksize=1)
    began = time.perf_counter()
    next(iter(BucketSampler(data, 8)))
    sampling = time.perf_counter() - began
    return {"opened_s": round(opened, 3), "workers": grown, "sampler_s": round(sampling, 2)}


def _look_at_some(entries: Entries) -> dict[str, float]:
    """Look at entries, and tell the memory that is this process's alone, and what it sees of files alone.

    The latter is the page cache, which the system takes back where it wants to.
    """
    chance = random.Random(0)
    for _ in range(ASKED // 10):
        entries[chance.randrange(len(entries))]
    lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    kilobytes = {words[0]: int(words[1]) for words in lines if words[0].startswith("Private_")}
    return {"own_mb": kilobytes["Private_Dirty:"] / 1024, "of_files_mb": kilobytes["Private_Clean:"] / 1024}


def start(root: Path, clips: int) -> dict:
    """Open the manifest and find the first clip of part 3 of 64 of a table, as each process of a run does."""
    table = write_table(root, clips)
    began, cpu = time.perf_counter(), time.process_time()
    Manifest(Store.open(root))
    next(take_part(scan([str(table)], root), Part(3, 64)))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"first_s": round(wall, 2), "first_cpu_s": round(cpu, 2)}


def write_table(root: Path, clips: int) -> Path:
    """Write a table of as many clips."""
    table = root.parent / "clips.csv"
    with table.open("w") as file:
        file.write("path,frames,caption\n")
        file.writelines(f"part-{n // 10_000:05d}/{n:09d}.mp4,81,a person walks\n" for n in range(clips))
    return table


def plan(root: Path, clips: int) -> dict:
    """List a table of clips, and take part 3 of 64 of them: when the first is there, and all."""
    table = write_table(root, clips)
    began, times, part = time.perf_counter(), [], Part(3, 64)
    for _ in take_part(scan([str(table)], root), part):
        times.append(time.perf_counter() - began)
    return {"first_s": round(times[0], 2), "all_s": round(times[-1], 2), "mine": len(times)}


STEPS: dict[str, Callable[[Path, int], dict]] = {
    "make": make,
    "compact": fold,
    "open": open_manifest,
    "lookup": look_up,
    "start": start,
    "status": tell_status,
    "index": make_index,
    "dataset": open_dataset,
    "plan": plan,
}


def measure(step: str, root: Path, clips: int) -> dict:
    """Do one step; what it took."""
    base, began, cpu = peak_mb(), time.perf_counter(), time.process_time()
    facts = STEPS[step](root, clips)
    took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    memory = {"base_mb": base, "rss_mb": peak_mb()}
    return {"step": step, "clips": clips} | {n: round(v, 2) for n, v in (took | memory).items()} | facts


def peak_mb() -> float:
    """The most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Do one step here, or several in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("steps", nargs="*", default=[*STEPS], help=", ".join(STEPS))
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--here", action="store_true", help="one step, in this process")
    words = parser.parse_args()
    for step in words.steps:
        if words.here:
            print(json.dumps(measure(step, words.folder / "cache", words.clips)), flush=True)
        else:
            again = (step, "--clips", str(words.clips), "--folder", str(words.folder), "--here")
            subprocess.run([sys.executable, __file__, *again], check=True)


if __name__ == "__main__":
    main()
