"""What each form of stored latents takes and costs, clip by clip: the table of docs/stored-small.md.

    python tests/bench/stored_small.py ../shared/media/clips --keep /tmp/small
    python tests/bench/stored_small.py ../shared/media/clips --keep /tmp/small --table

Clips are those with a row in assets/pocket/README.md, camera footage that the model was not trained on: their
first FRAMES frames at native size, small clips first. A clip that has been measured is not measured again.
Rates are numbers per second of CPU time, in one thread.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np
import torch

import vidlatent
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.encode import EncodeOptions
from vidlatent.jobs.progress import SILENT
from vidlatent.jobs.repack import RepackOptions, repack, write_as
from vidlatent.jobs.small.budget import Budget
from vidlatent.jobs.small.packing import Packing
from vidlatent.jobs.small.trial import Trial

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 65
BUDGETS = {"packed 0.1 dB": 0.1, "packed 0.5 dB": 0.5}
FORMS = ("int8", "bf16 packed", *BUDGETS)


def main() -> None:
    """Measure clips, and print a line for each; or print the table of those that were."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", type=Path, required=True, help="folder for latents and results")
    parser.add_argument("--table", action="store_true", help="print what was measured")
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    results = args.keep / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if args.table:
        print(format_table(rows))
        return
    torch.set_num_threads(1)
    model = vidlatent.load_model(device="cpu", dtype="fp32")
    done = {row["clip"] for row in rows}
    for clip in sorted(
        (path for path in camera_clips(args.folder) if path.name not in done), key=count_pixels
    ):
        row = measure_clip(clip, model, args.keep)
        print(json.dumps(row), flush=True)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")


def camera_clips(folder: Path) -> list[Path]:
    """The clips of the table in the model's card."""
    card = (ROOT / "assets/pocket/README.md").read_text()
    names = re.findall(r"^\| (\S+\.\w+) \| \d+\.\d+ \| \d\.\d+ \|$", card, re.MULTILINE)
    return [folder / name for name in names]


def count_pixels(clip: Path) -> int:
    """Pixels of a frame, by the header."""
    with vidlatent.open_video(clip) as video:
        return video.info.width * video.info.height


def measure_clip(clip: Path, model: vidlatent.Model, keep: Path) -> dict[str, object]:
    """Bytes and loss of every form of a clip's latents."""
    read, path = ReadOptions(frames=FRAMES), keep / f"{clip.name}.latent"
    if not path.exists():
        vidlatent.encode(clip, path, model, EncodeOptions(read=read, audio=False))

    def frames() -> Iterator[np.ndarray]:
        with vidlatent.open_video(clip, read) as video:
            for frame in video.frames():
                yield frame.rgb

    with open_latent(path) as latents:
        values, packing = math.prod(latents.shape), Packing.of(latents, model, frames)
        row = {"clip": clip.name, "shape": latents.shape, "psnr": round(packing.base.psnr, 3)}
        int8, planes = keep / "int8.latent", keep / "planes.latent"
        repack(path, int8, RepackOptions("int8", force=True))
        repack(path, planes, RepackOptions("bf16", pack=True, force=True))
        with open_latent(int8) as stored:
            errors = Trial(latents, model, frames, SILENT).measure(stored)
        row["int8"] = describe(int8, values, errors.drop_from(packing.base))
        row["bf16 packed"] = describe(planes, values, 0.0)
        for name, drop in BUDGETS.items():
            form, target = packing.find_form(Budget(drop)), keep / "packed.latent"
            target.unlink(missing_ok=True)
            began = process_time()
            write_as(latents, target, form, latents.header)
            wrote = process_time() - began
            with open_latent(target) as stored:
                stored.read(0, 1)  # makes the tables, once in a process
            with open_latent(target) as stored:
                began = process_time()
                stored.read(0, stored.frames)
                read_s = process_time() - began
            row[name] = describe(target, values, form.price["drop_db"]) | {
                "snr": form.price["latent_snr_db"],
                "write": round(values / wrote / 1e6, 2),
                "read": round(values / read_s / 1e6, 2),
            }
    return row


def describe(path: Path, values: int, drop: float) -> dict[str, object]:
    """Bytes of the latents of a file, and of what lies beside their codes; of bf16; and the drop."""
    raw = path.open("rb")
    with raw:
        header = json.loads(raw.read(int.from_bytes(raw.read(8), "little")))
    spans = [each["data_offsets"] for name, each in header.items() if name.partition(".")[0] == "latents"]
    size = sum(stop - start for start, stop in spans)
    return {"bytes": size, "share": round(size / (2 * values), 4), "drop": round(drop, 4)}


def format_table(rows: list[dict]) -> str:
    """A row for each clip, the mean of clips, all bytes together, and the worst."""
    head = ["clip", "latents", "PSNR", *(cell for form in FORMS for cell in (form, "drop, dB"))]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in sorted(rows, key=lambda row: row["clip"]):
        cells = [row["clip"], "x".join(map(str, row["shape"])), f"{row['psnr']:.2f}"]
        cells += [
            cell for form in FORMS for cell in (f"{row[form]['share']:.1%}", f"{row[form]['drop']:.3f}")
        ]
        lines.append(f"| {' | '.join(cells)} |")
    half = [2 * math.prod(row["shape"]) for row in rows]
    for name, share_of, drop_of in (
        ("mean of clips", lambda each: np.mean([e["share"] for e in each]), np.mean),
        ("all bytes", lambda each: sum(e["bytes"] for e in each) / sum(half), np.mean),
        ("worst", lambda each: max(e["share"] for e in each), max),
    ):
        cells = [f"**{name}**", "", ""]
        for form in FORMS:
            each = [row[form] for row in rows]
            cells += [f"{share_of(each):.1%}", f"{drop_of([e['drop'] for e in each]):.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
