"""Throws bad files at every parser for as long as it is told, and prints what became of them.

    python tests/fault/fuzz.py --seconds 600 [--only latent,tar] [--start 0]

What is neither taken nor refused in a line is kept, with the traceback, in the folder that is named at the
end. The last line is JSON. A number gives the same bad file again, as long as the good files are the same.
"""

import argparse
import faulthandler
import json
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from helpers.fuzzing import bad_file, throw  # noqa: E402  needs the path
from helpers.parsers import Parser, parsers  # noqa: E402

MOST_BYTES = 2 << 30  # a parser may allocate beyond what the process has when it begins


def main() -> int:
    """Throw files in turns, one at each parser; 1 where any was neither taken nor refused."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--only", default="", help="names of parsers, with commas between")
    options.add_argument("--start", type=int, default=0, help="number of the first file")
    asked = options.parse_args()
    faulthandler.enable()
    folder, kept = Path(mkdtemp(prefix="fuzz-seeds-")), Path(mkdtemp(prefix="fuzz-failures-"))
    chosen = [p for p in parsers(folder) if not asked.only or p.name in asked.only.split(",")]
    limit = resident_bytes() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    counts = {parser.name: Counter() for parser in chosen}
    began, number = time.monotonic(), asked.start
    while time.monotonic() - began < asked.seconds:
        for parser in chosen:
            counts[parser.name][try_one(parser, number, kept)] += 1
        number += 1
    for name, found in counts.items():
        print(f"{name:18} {dict(found)}")
    failures = sum(found["failed"] for found in counts.values())
    total = {"files": sum(map(sum, (c.values() for c in counts.values()))), "failed": failures}
    print(json.dumps({**total, "seconds": round(time.monotonic() - began), "failures": str(kept)}))
    return int(failures > 0)


def try_one(parser: Parser, number: int, kept: Path) -> str:
    """Throw one file; what became of it. A failure is written down, and so is the file before it is used."""
    now = kept / "now"  # what a crash of the process leaves behind
    now.write_text(f"{parser.name} {number}")
    try:
        return throw(parser, number)
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        seed, raw = bad_file(parser, number)
        stem = f"{parser.name.replace(' ', '-')}-{number}"
        (kept / f"{stem}-{seed.name}").write_bytes(raw)
        (kept / f"{stem}.txt").write_text(traceback.format_exc())
        print(f"{parser.name} {number}: {type(e).__name__}: {str(e)[:200]}", flush=True)
        return "failed"


def resident_bytes() -> int:
    """How much data memory this process has now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmData")).split()[1])


if __name__ == "__main__":
    sys.exit(main())
