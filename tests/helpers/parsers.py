"""Every parser of ours with good files for it: what fuzzing starts from, and what it must not break."""

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy
import torch
from safetensors.torch import save_file

import vidlatent
from helpers import cache_clips as clips
from helpers.mutations import mutate_bytes, mutate_json, mutate_latent, mutate_lines
from helpers.paths import GOLDEN, SAMPLE, SHARED
from helpers.stored import pack
from vidlatent.engine.model import Model
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.source import no_beat
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.verify import find_wrong_records, verify
from vidlatent.jobs.encode import EncodeOptions, ReadOptions
from vidlatent.jobs.exchange.export import export
from vidlatent.jobs.exchange.foreign import read_foreign
from vidlatent.jobs.inspect import inspect
from vidlatent.jobs.measure.journal import BenchJournal
from vidlatent.jobs.measure.results import ReportRow, Speed
from vidlatent.jobs.measure.score import Score
from vidlatent.jobs.picture import read_picture
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.reading.captions import CAPTION_EXTENSIONS
from vidlatent.jobs.reading.listing import list_clips
from vidlatent.jobs.repack import write_as
from vidlatent.models import registry
from vidlatent.models.weights import build_empty

Mutate = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Parser:
    """`use` reads a file, or what lies around it; `seeds` are good files, and `mutate` makes bad ones.

    A bad file is put at the place of its seed, whose name and surroundings count too.
    """

    name: str
    seeds: tuple[Path, ...]
    mutate: Mutate
    use: Callable[[Path], object]


def read_latent(path: Path) -> None:
    """All that is done to a `.latent` but to run a network."""
    inspect(path, verify=False)
    with open_latent(path) as reader:
        reader.verify()
        read_picture(reader)
        reader.read_checked(0, reader.frames)


def read_coded(path: Path) -> None:
    """A `.latent` in any form, as training reads it, which looks at no checksum; then as others do."""
    with open_latent(path, mapped=True) as reader:
        reader.read(0, reader.frames)
        if reader.form == "int8":
            reader.read_raw(0, reader.frames)
    read_latent(path)


def decoder(model: Model) -> Callable[[Path], None]:
    """What decodes a `.latent` into a film, by a model that is loaded once."""

    def decode(path: Path) -> None:
        target = path.with_name("film.mkv" if path.stat().st_size % 2 else "film.mp4")
        target.unlink(missing_ok=True)
        vidlatent.decode(path, target, model)

    return decode


def list_source(path: Path) -> None:
    """Every clip that a table or a tar names, listed in this process. What is wrong is told by a clip."""
    for clip in list_clips(DiskSource(path), CAPTION_EXTENSIONS, no_beat):
        json.dumps(clip.facts, allow_nan=False)
        assert clip.unreadable or clip.source.name


def read_shard(path: Path) -> None:
    """Every clip of a shard, its index and its latents; of a file beside it, those of its shard."""
    shard = next((p for p in path.parent.iterdir() if p.suffix in (".tar", ".safetensors")), path)
    data = LatentDataset(shard)
    for n in range(len(data)):
        data[n]


def read_cache(path: Path) -> None:
    """What is read of a cache to report, to train and to verify, from any file in it."""
    root = path.parents[1] if path.parents[1].name == "cache" else path.parent
    before = set(root.rglob("*"))
    try:
        describe_cache(root)
        for _ in (*verify(root), *find_wrong_records(root)):
            pass
        data = LatentDataset(root)
        for n in range(len(data)):
            data[n]
    finally:  # what verify has written down is of the bad file, and would spoil the next
        for new in filter(Path.is_file, set(root.rglob("*")) - before):
            new.unlink()


def read_config(path: Path) -> None:
    """The model that a config describes, and its network without numbers."""
    spec = registry.spec_from(path)
    build_empty(registry.family(spec.family), spec, path)


def read_weights(path: Path) -> None:
    """What a weight file is told to be by its names and shapes."""
    inspect(path)
    registry.recognised(path)


def read_export(path: Path) -> None:
    """Every clip of an export as plain safetensors."""
    data = LatentDataset(path.parent)
    for n in range(len(data)):
        data[n]


def read_foreign_latents(path: Path) -> None:
    """The latents of another program."""
    for _ in read_foreign(path):
        pass


def read_times_of_images(path: Path) -> None:
    """A folder of images that has its times in a file."""
    with vidlatent.open_video(path.parent) as video:
        for _ in video.frames():
            pass


def read_bench(path: Path) -> None:
    """The rows of a bench that was stopped."""
    BenchJournal(path, {})


def parsers(folder: Path) -> Iterator[Parser]:
    """Every parser, with good files made in `folder` or copied there."""
    toy = vidlatent.load_model("toy", device="cpu")
    latents = _make_latents(folder / "latents", toy)
    yield Parser("latent", latents, mutate_latent, read_latent)
    yield Parser("coded", _make_coded(folder / "coded", toy), mutate_latent, read_coded)
    yield Parser("decode", latents, mutate_latent, decoder(toy))
    yield Parser("picture", latents[:1], partial(mutate_latent, fact="picture"), decoder(toy))
    yield Parser("table", _make_tables(folder / "tables"), _mutate_table, list_source)
    yield Parser("tar", (_make_tar(folder / "tars"), *_hostile("*.tar", folder)), mutate_bytes, list_source)
    for kind in ("tar", "safetensors"):
        yield Parser(f"{kind} shard", _make_shard(folder / f"shards-{kind}", kind), _mutate_shard, read_shard)
    yield Parser("cache", _make_cache(folder / "caches"), mutate_lines, read_cache)
    yield Parser(
        "export", _make_export(folder / "caches" / "cache", folder / "exports"), _mutate_shard, read_export
    )
    yield Parser("foreign", _make_foreign(folder / "foreign"), _mutate_weights, read_foreign_latents)
    yield Parser("times", _make_times(latents[0], folder / "times"), mutate_json, read_times_of_images)
    yield Parser("bench", _make_bench(folder / "bench"), mutate_lines, read_bench)
    yield Parser("config", _copy_configs(folder / "configs"), mutate_json, read_config)
    yield Parser("checkpoint", _make_weights(folder / "weights"), _mutate_weights, read_weights)


def _mutate_table(data: bytes, rng: Random) -> bytes:
    if data.startswith(b"{") and rng.random() < 0.7:
        return mutate_lines(data, rng)
    return mutate_json(data, rng) if data.startswith(b"[") else mutate_bytes(data, rng)


def _mutate_shard(data: bytes, rng: Random) -> bytes:
    if data.startswith(b"{"):
        return mutate_json(data, rng)
    return mutate_latent(data, rng) if data[8:9] == b"{" else mutate_bytes(data, rng)


def _mutate_weights(data: bytes, rng: Random) -> bytes:
    return mutate_latent(data, rng) if data[8:9] == b"{" else mutate_bytes(data, rng)


def _make_latents(folder: Path, toy: Model) -> tuple[Path, ...]:
    """A clip of three frames with sound, and whatever lies among the hostile files."""
    folder.mkdir(parents=True)
    read = ReadOptions(frames=3, size=(32, 32))
    vidlatent.encode(SAMPLE, folder / "a.latent", toy, EncodeOptions(read=read))
    return folder / "a.latent", *_hostile("*.latent", folder)


def _make_coded(folder: Path, toy: Model) -> tuple[Path, ...]:
    """A clip in each form of stored latents."""
    folder.mkdir(parents=True)
    read = ReadOptions(frames=3, size=(32, 32))
    for name, wishes in {"int8": {"store": "int8"}, "planes": {"pack": True}}.items():
        vidlatent.encode(SAMPLE, folder / f"{name}.latent", toy, EncodeOptions(read=read, **wishes))
    with open_latent(folder / "planes.latent") as planes:
        write_as(planes, folder / "packed.latent", pack(planes.read(), 0.1), planes.header)
    return tuple(sorted(folder.iterdir()))


def _hostile(pattern: str, folder: Path) -> tuple[Path, ...]:
    """Copies of the hostile files of a kind in a folder `hostile`, where they lie beside the checkout."""
    folder = folder / "hostile"
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted((SHARED / "hostile").glob(pattern)) if SHARED.is_dir() else []
    return tuple(Path(shutil.copy(path, folder / path.name)) for path in found)


def _make_tables(folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True)
    rows = [{"path": f"clips/{n}.mp4", "start": f"{n}/25", "frames": 9, "caption": "größe"} for n in range(4)]
    text = "path,start,frames,caption\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    made = {
        "a.csv": text,
        "a.tsv": text.replace(",", "\t"),
        "a.json": json.dumps(rows),
        "a.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
    }
    for name, content in made.items():
        (folder / name).write_text(content)
    tables = [folder / name for name in made]
    try:
        import pyarrow
        from pyarrow.parquet import write_table
    except ImportError:
        return tuple(tables)
    write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet")
    return *tables, folder / "a.parquet", *_hostile("*.jsonl", folder)


def _make_tar(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, text in (("0.mp4", "no video"), ("0.txt", "a bike"), ("0.json", '{"caption": "größe"}')):
        (folder / name).write_text(text)
    with tarfile.open(folder / "a.tar", "w") as archive:
        for n, name in enumerate(("0.mp4", "0.txt", "0.json", "0.mp4")):
            archive.add(folder / name, f"./{n // 3}/{name}")
    return folder / "a.tar"


def _make_shard(folder: Path, kind: str) -> tuple[Path, ...]:
    """A shard of two small clips, and its index where it has one."""
    clips.write_clips(folder / "clips", 2)
    clips.cache(folder / "clips", folder / "cache", RunOptions(workers=1, shards=Sharding(kind, 1 << 30)))
    return tuple(p for p in sorted((folder / "cache" / "shards").iterdir()) if not p.name.startswith("."))


def _make_cache(folder: Path) -> tuple[Path, ...]:
    """The small files of a cache of two clips: its marker, its recipe, its manifest and its index."""
    clips.write_clips(folder / "clips", 2)
    clips.cache(folder / "clips", folder / "cache")
    found = sorted(p for p in (folder / "cache").rglob("*.json*") if p.is_file())
    return tuple(found)


def _make_export(cache: Path, folder: Path) -> tuple[Path, ...]:
    """The clips of a cache as plain tensors in safetensors, and the index beside them."""
    list(export(cache, folder, "safetensors"))
    return tuple(p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".json"))


def _make_foreign(folder: Path) -> tuple[Path, ...]:
    """Latents as ComfyUI, musubi-tuner, ai-toolkit, the LTX trainers and others keep them."""
    folder.mkdir(parents=True)
    z = torch.zeros(16, 2, 4, 4)
    save_file({"latent_tensor": z[None], "latent_format_version_0": torch.zeros(0)}, folder / "c.latent")
    facts = {"width": "32", "height": "32", "frame_count": "5"}
    save_file({"latents_2x4x4_float32": z}, folder / "clip_0032x0032_wan.safetensors", facts)
    save_file({"latent": z, "num_frames": torch.tensor(5)}, folder / "a.safetensors")
    packed = {"latents": z.flatten(1).T.contiguous(), "num_frames": 2, "height": 4, "width": 4, "fps": 25.0}
    torch.save(packed, folder / "ltx.pt")
    numpy.save(folder / "z.npy", z.numpy())
    return tuple(p for p in sorted(folder.iterdir()) if p.is_file())


def _make_times(latents: Path, folder: Path) -> tuple[Path, ...]:
    """Images and their times."""
    vidlatent.decode(latents, f"{folder}/")
    return (folder / "timestamps.json",)


def _make_bench(folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True)
    journal = BenchJournal(folder / "bench.jsonl", {})
    for subject in ("toy", "pocket"):
        scores = {"psnr": Score({"mean": 30.0}, (30.0, 30.0))}
        journal.add(ReportRow("a.mp4", subject, "model", frames=2, scores=scores, speed=Speed(1.0, 2.0, 1)))
    return (folder / "bench.jsonl",)


def _copy_configs(folder: Path) -> tuple[Path, ...]:
    """The config.json of every golden case."""
    folder.mkdir(parents=True)
    found = sorted(GOLDEN.glob("*/config.json"))
    return tuple(Path(shutil.copy(path, folder / f"{path.parent.name}.json")) for path in found)


def _make_weights(folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True)
    state = {f"encoder.{n}.weight": torch.zeros(2, 3, n + 1) for n in range(4)}
    save_file(state, folder / "a.safetensors", {"format": "pt"})
    torch.save({"state_dict": state}, folder / "zip.ckpt")
    torch.save({"state_dict": state}, folder / "old.pt", _use_new_zipfile_serialization=False)
    golden = sorted(GOLDEN.glob("*/io.safetensors"), key=lambda path: path.stat().st_size)[:3]
    made = [folder / name for name in ("a.safetensors", "zip.ckpt", "old.pt")]
    made += [Path(shutil.copy(path, folder / f"{path.parent.name}.safetensors")) for path in golden]
    return *made, *_hostile("*.ckpt", folder)
