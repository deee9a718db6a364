"""`vidlatent cache run`: the latents of a whole dataset."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.budget import BudgetFlags
from vidlatent.cli.cache_progress import show
from vidlatent.cli.console import own_words, say, show_facts
from vidlatent.cli.sections import Flags
from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from fractions import Fraction

    from vidlatent.grid import Grid
    from vidlatent.jobs.cache.frames import Take
    from vidlatent.jobs.cache.options import RunOptions
    from vidlatent.jobs.cache.plan import Part
    from vidlatent.jobs.cache.recipe import Recipe
    from vidlatent.jobs.cache.shards import Sharding
    from vidlatent.jobs.cache.tally import Tally
    from vidlatent.jobs.cache.unchanged import Request
    from vidlatent.jobs.encode import Model
    from vidlatent.jobs.exchange.needs import Needs
    from vidlatent.jobs.models import ModelSpec, Verb


class ReadFlags(o.ReadFlags):
    """How the videos of a dataset become clips."""

    frames: Annotated[
        str | None,
        typer.Option(
            "--frames", help="At most so many frames. Several, 1,25,81: the most that a clip has, no others."
        ),
    ] = None
    take: Annotated[
        str | None,
        typer.Option(
            "--take",
            help="Which of --frames: head, middle, chunk, slide:STRIDE, uniform:N or full.  [default: head]",
        ),
    ] = None
    frames_rule: Annotated[
        str,
        c.one_of(
            "--frames-rule",
            c.FRAMES_RULES,
            "Of frames off the model's grid: cut them, pad (repeat the last), or drop the clip.",
        ),
    ] = "cut"
    bucket: Annotated[
        list[str] | None,
        typer.Option(
            "--bucket", help="Cut and resize to the WxH, or WxHxFRAMES, nearest in shape; repeatable."
        ),
    ] = None
    area: Annotated[
        str | None, typer.Option("--area", help="Make buckets of all shapes with the area of WxH.")
    ] = None
    bucket_step: Annotated[
        int | None,
        typer.Option("--bucket-step", min=1, help="Of their sides.  [default: 16, or what the model takes]"),
    ] = None
    no_upscale: Annotated[
        bool, typer.Option("--no-upscale", help="Leave clips of a smaller area in their size.")
    ] = False
    chunk: Annotated[
        str | None, typer.Option("--chunk", help="Cut long videos into clips of so many seconds.")
    ] = None

    def most_frames(self) -> int | None:
        """Say how many frames a clip has at most; None where its frames are to be an exact number."""
        counts = words.parse_counts(self.frames, "--frames")
        return counts[0] if len(counts) == 1 and self.take is None else None

    def check(self) -> None:
        """Raise UsageError for what is wrong whichever the model is."""
        self.options()
        self.chunk_seconds()
        words.parse_counts(self.frames, "--frames")

    def chunk_seconds(self) -> "Fraction | None":
        """Say how long clips are that are cut by seconds."""
        length = words.parse_seconds(self.chunk, "--chunk")
        if length is not None and length <= 0:
            raise UsageError(f"--chunk {self.chunk}: must be above 0", "give seconds, e.g. --chunk 5")
        return length

    def recipe_options(self, grid: "Grid", usual_step: int | None) -> dict[str, Any]:
        """Make those options of a recipe that say what is read, for a model of this grid.

        `usual_step` is that of the sides of buckets, where nobody says another; None: the usual one.
        """
        from vidlatent.jobs.cache.buckets import BucketWishes

        given = tuple(words.parse_bucket(text, "--bucket") for text in self.bucket or ())
        area = words.parse_integers(self.area, "--area", 2, "832x480")
        wishes = BucketWishes(given, area, self.bucket_step or usual_step, not self.no_upscale)
        buckets = wishes.buckets(grid)
        return {
            "read": self.options(),
            "buckets": buckets,
            "smaller": wishes.smaller(buckets, grid),
            "take": self.choose_take(buckets),
            "frames_rule": self.frames_rule,
            "chunk_s": self.chunk_seconds(),
        }

    def choose_take(self, buckets: tuple[tuple[int, ...], ...]) -> "Take | None":
        """Say which frames clips are made of; None where each is a whole video, or its first frames."""
        from vidlatent.jobs.cache.frames import Take

        counts = words.parse_counts(self.frames, "--frames")
        fixed = tuple(sorted({bucket[2] for bucket in buckets if len(bucket) > 2}))
        if counts and fixed:
            raise UsageError("--frames and --bucket WxHxFRAMES both say how many", "leave one of them out")
        exact = self.take is not None or len(counts) > 1 or fixed
        return Take.parse(self.take, counts or fixed) if exact else None


class RunFlags(o.ModelFlags):
    """Which model is used, and in which processes, on which machines and in how much memory."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, max=o.MOST_PROCESSES, help="Reading processes.  [default: cores - 1]"
        ),
    ] = None
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Keep all processes within this much, e.g. 8G.")
    ] = None
    threads: o.ThreadsOption = None
    stall_timeout: Annotated[
        float,
        typer.Option(
            "--stall-timeout", min=0, help="Give up a clip that hangs for so many seconds; 0: never."
        ),
    ] = 300
    scratch: Annotated[
        str | None,
        typer.Option(
            "--scratch",
            help="Copies of videos from object stores take so much of TMPDIR.  [default: 50G, or half of it]",
        ),
    ] = None
    engine: Annotated[str, c.one_of("--engine", c.ENGINES, "ray: actors on a Ray cluster.")] = "local"
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", help="Of a running cluster.  [default: one on this machine]"),
    ] = None
    ray_actors: Annotated[
        int | None,
        typer.Option(
            "--ray-actors", min=1, max=o.MOST_PROCESSES, help="Models in the cluster.  [default: one per GPU]"
        ),
    ] = None

    def foresee(self, usual: str | None) -> "ModelSpec":
        """Give the facts of the model, or of the `usual` one where none is said, before it is loaded."""
        if self.model is None and self.weights is None:
            self.model = usual
        spec = self.choice().foresee()
        for name in spec.changed().keys() - spec.changed(latents=True).keys():
            raise UsageError(f"--set {name}: says how latents are decoded", "set it when they are decoded")
        return spec

    def load(self, only: "Verb | None" = None) -> "Model":
        """Load the model for the one verb or for both.

        Without --device it goes onto the GPU that torchrun or SLURM gave this process.
        """
        from vidlatent.jobs.cache.plan import choose_device

        return self.choice().load(device=choose_device(), only=only)

    def runner(self, model: "Model") -> Callable[..., "Tally"]:
        """Return the function that does the work: with this model here, or with models on a Ray cluster."""
        from vidlatent.jobs.cache.run import run as run_here

        if self.engine == "ray":
            from vidlatent.jobs.cache.ray_engine import RayOptions, run_on_ray

            where = RayOptions(self.ray_address, self.ray_actors)
            return partial(run_on_ray, choice=self.choice(), where=where)
        if self.engine != "local":
            raise UsageError(f"--engine {self.engine}: unknown", "local or ray")
        return partial(run_here, model=model)


class TaskFlags(Flags):
    """Which clips of the dataset are encoded by this run, and how many may fail."""

    heading = "Which clips"
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="Part I/N of the clips.  [default: as torchrun or SLURM say, else all]"),
    ] = None
    steal: Annotated[
        bool, typer.Option("--steal", help="After that part, take clips of others that nobody has begun.")
    ] = False
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed clips again.")] = False
    max_failures: Annotated[
        int, typer.Option("--max-failures", min=0, help="Exit with 1 where more clips failed.")
    ] = 0
    caption_extension: Annotated[
        list[str] | None,
        typer.Option(
            "--caption-extension",
            help="Of texts beside videos that are their captions; repeatable.  [default: .txt, .caption]",
        ),
    ] = None
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Hash all sources, also those that look unchanged.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done.")] = False

    def options(self, run: RunFlags, write: "WriteFlags") -> "RunOptions":
        """Make the options of the run: those that change no entry."""
        from vidlatent.jobs.cache.captions import choose_extensions
        from vidlatent.jobs.cache.options import RunOptions

        return RunOptions(
            workers=run.workers,
            max_memory=words.parse_bytes(run.max_memory, "--max-memory"),
            shard=self.part(run.engine),
            steal=self.steal,
            retry_failed=self.retry_failed,
            rehash=self.rehash,
            threads=run.threads,
            stall_timeout=run.stall_timeout,
            shards=write.sharding(),
            caption_extensions=choose_extensions(self.caption_extension),
            thumbnails=write.thumbnails,
            scratch=words.parse_bytes(run.scratch, "--scratch"),
        )

    def request(self, sources: list[str]) -> "Request":
        """Say what is asked for, word for word, so that a run with nothing to do is known at once."""
        from vidlatent.jobs.cache.captions import choose_extensions
        from vidlatent.jobs.cache.unchanged import Request

        return Request.of(own_words.get([]), sources, choose_extensions(self.caption_extension))

    def part(self, engine: str) -> "Part":
        """Say which part of the clips is meant; where torchrun or SLURM chose it, the user is told."""
        from vidlatent.jobs.cache.plan import ALL, choose_part

        if engine == "ray" and self.shard is None:  # which shares out all clips itself
            return ALL
        part = choose_part(self.shard)
        if part.told_by:
            which = f"part {part.index}/{part.count} of the clips"
            say(f"note: {which}, by {part.told_by} (--shard 0/1: all clips)")
        return part


class WriteFlags(o.PosteriorFlags):
    """What is kept of every clip, and where."""

    output: Annotated[
        Any,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the cache; also s3://…",
            parser=words.parse_root,
            metavar="<path>",
        ),
    ]
    trainer: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="TOOL[:ARCH]: rate, sides, dtype and VAE as it expects; see cache export --help.",
        ),
    ] = None
    first_frame: Annotated[
        bool,
        typer.Option("--first-frame", help="Also latents of the first frame alone, for image-to-video."),
    ] = False
    shards: Annotated[
        str | None,
        c.one_of("--shards", c.SHARDS, "Pack entries into tar (WebDataset) or safetensors.  [default: no]"),
    ] = None
    shard_size: o.ShardSizeOption = "1G"
    thumbnails: Annotated[
        int,
        typer.Option("--thumbnails", min=0, help="Keep so many small frames of each clip, for cache report."),
    ] = 0
    as_json: o.JsonOption = False

    def needs(self) -> "Needs | None":
        """Say what the trainer needs that was named; None where none was."""
        from vidlatent.jobs.exchange.needs import find_needs

        return find_needs(self.trainer)[2] if self.trainer else None

    def suit(self, recipe: "Recipe", spec: "ModelSpec") -> "Recipe":
        """Make the recipe what the trainer expects, where one was named and nothing else was said."""
        from vidlatent.jobs.exchange.suit import suit

        if not self.trainer:
            return recipe
        suited = suit(recipe, spec, self.trainer)
        return replace(suited, posterior=self.posterior or suited.posterior)  # mode may have been said, too

    def sharding(self) -> "Sharding | None":
        """Say into which shards entries are packed; None leaves every entry a file."""
        from vidlatent.jobs.cache.shards import Sharding

        return (
            Sharding(self.shards, words.parse_bytes(self.shard_size, "--shard-size")) if self.shards else None
        )


def command(  # noqa: PLR0913  sections of the help
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders, videos, globs, tables (.csv .tsv .json .jsonl .parquet), WebDataset tars; also s3://…"
        ),
    ],
    read: ReadFlags,
    cut: o.CutFlags,
    run: RunFlags,
    tasks: TaskFlags,
    write: WriteFlags,
    budget: BudgetFlags,
) -> int:
    """Make the latents of every clip that are not in the cache yet."""
    from vidlatent.jobs.cache.unchanged import find_unchanged, note_finished

    request = tasks.request(sources)
    if (unchanged := find_unchanged(write.output, request)) is not None:
        return show(lambda progress: unchanged, tasks.max_failures, write.as_json)

    from vidlatent.jobs.cache.before import check_before_loading  # these load torch
    from vidlatent.jobs.cache.estimate import dry_run

    options = tasks.options(run, write)
    kept = {**write.posterior_options(), "budget": budget.budget(write.store, write.pack)}
    read.check()
    check_before_loading(sources, write.output)
    needs = write.needs()
    make = partial(make_recipe, read, cut, write, kept)
    foreseen = make(run.foresee(needs.model if needs else None))  # complains before weights are fetched
    model = run.load(foreseen.only)
    recipe = make(model.spec)
    if tasks.dry_run:
        show_facts(asdict(dry_run(sources, write.output, model, recipe, options)), write.as_json)
        return 0
    work = partial(run.runner(model), sources, write.output, recipe=recipe, options=options)
    note = partial(note_finished, write.output, request, model.file)
    return show(work, tasks.max_failures, write.as_json, note)


def make_recipe(
    read: ReadFlags, cut: o.CutFlags, write: WriteFlags, kept: dict[str, Any], spec: "ModelSpec"
) -> "Recipe":
    """Make the recipe that the user's words say for a model; `kept` is what of a clip, and in which form."""
    from vidlatent.jobs.cache.recipe import Recipe
    from vidlatent.jobs.models import plan_for

    needs = write.needs()
    from_reading = read.recipe_options(spec.grid, needs.side if needs else None)
    plan = plan_for(spec, cut.wishes())
    recipe = Recipe(plan, **from_reading, **kept, measure=write.measure, first_frame=write.first_frame)
    return write.suit(recipe, spec)
