"""What is to be made of every clip of a dataset, and of one clip in particular."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil

from vidlatent.errors import UsageError, parameter
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache.buckets import Bucket, Smaller, choose_bucket
from vidlatent.jobs.cache.frames import CUT, FRAMES_RULES, FULL, Numbering, Take
from vidlatent.jobs.encode import EncodeOptions
from vidlatent.jobs.models import Verb
from vidlatent.jobs.reading.survey import Probe
from vidlatent.jobs.small.budget import PACKED, Budget, check_store_and_budget
from vidlatent.windows import Plan


@dataclass(frozen=True)
class Recipe:
    """How clips become latents. `plan` is followed to the letter, whatever memory there is.

    `buckets` are sizes (width, height): each clip is cropped and scaled to the one whose shape is nearest.
    Where they have a third number, it is how many frames clips of that size have. `smaller` says which clips
    are not scaled up to a bucket. With `chunk_s` long videos are cut into clips of so many seconds; `take`
    chooses clips by numbers of frames instead. `frames_rule` says what becomes of a clip whose frames do not
    fit the model's grid: its last ones are left out ("cut"), the last one is repeated ("pad"), or it is left
    out itself ("drop"). With `first_frame` an entry also holds what image-to-video models are fed. `store`
    and `pack` say in which form latents are stored, and with `store` "packed" a `budget` what that may cost.
    With `measure` an entry says how near its pictures come to the source.
    """

    plan: Plan
    read: ReadOptions = field(default_factory=ReadOptions)
    posterior: str = "mode"
    seed: int = 0
    store: str | None = None
    buckets: tuple[Bucket, ...] = ()
    chunk_s: Fraction | None = None
    frames_rule: str = CUT
    take: Take | None = None
    smaller: Smaller | None = None
    first_frame: bool = False
    pack: bool = False
    budget: Budget | None = None
    measure: bool = False

    def __post_init__(self) -> None:
        check_store_and_budget(self.store, self.pack, self.posterior, self.budget)
        if self.frames_rule not in FRAMES_RULES:
            known = f"one of {', '.join(FRAMES_RULES)}"
            raise UsageError(f"{parameter('frames_rule')} {self.frames_rule}: unknown", known)
        self.options()  # which says what is wrong with what it is given
        if self.chunk_s is not None:
            self._check_chunks(self.chunk_s)
        if len({len(bucket) for bucket in self.buckets}) > 1:
            raise UsageError(
                f"{parameter('buckets')}: some say a number of frames, and some do not",
                "give all as WxHxF, or all as WxH",
            )

    def _check_chunks(self, length: Fraction) -> None:
        """Raise UsageError where videos cannot be cut into clips of so many seconds."""
        asked, fps = f"{parameter('chunk_s')} {float(length):g}", self.read.fps
        if length <= 0:
            raise UsageError(f"{asked}: must be above 0", "give seconds")
        if fps is not None and length * fps < 1:
            raise UsageError(f"{asked}: is less than a frame, with {parameter('fps')} {float(fps):g}")
        if self.take is not None or self.fixed_counts:
            raise UsageError(
                f"{parameter('chunk_s')} cuts by seconds, {parameter('take')} by frames",
                f"choose one of them; {parameter('take')} chunk cuts by frames",
            )

    @property
    def fixed_counts(self) -> tuple[int, ...]:
        """The numbers of frames that buckets say, ascending."""
        return tuple(sorted({bucket[2] for bucket in self.buckets if len(bucket) > 2}))

    @property
    def allowed(self) -> Budget | None:
        """What packing may cost; None where latents are not packed."""
        return (self.budget or Budget()) if self.store == PACKED else None

    @property
    def is_measured(self) -> bool:
        """Whether a clip is decoded after it was encoded, to measure what that costs."""
        return self.measure or self.allowed is not None

    @property
    def only(self) -> Verb | None:
        """Which verb of a model is enough for it; None: both are needed."""
        return None if self.is_measured else "encode"

    def options(self) -> EncodeOptions:
        """The same for the encode job; a cache holds no sound. What is packed is made of floats."""
        store = None if self.store == PACKED else self.store
        return EncodeOptions(
            self.read, self.plan, self.posterior, self.seed, store, audio=False, pack=self.pack
        )


@dataclass(frozen=True)
class Cut:
    """One clip to make of a video: [start, end) in seconds, None at the outer ends, and its most frames.

    `first` is the number of its first frame in the video, as far as the header tells. With `exact` a clip of
    fewer frames is left out; `left_out` says why there is no clip at all.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None
    first: int = 0
    exact: bool = False
    left_out: str = ""


def adapt_to_clip(recipe: Recipe, probe: Probe | None) -> Recipe:
    """The recipe of one clip, with the bucket that suits it as its size, and the frames of that bucket."""
    if probe is None:
        return recipe
    if not recipe.buckets:
        return keep_to_steps(recipe, probe)
    size = choose_bucket(recipe.buckets, probe)
    if recipe.fixed_counts:
        counts = tuple(sorted(bucket[2] for bucket in recipe.buckets if bucket[:2] == size))
        take = replace(recipe.take, counts=counts) if recipe.take else Take(counts)
        recipe = replace(recipe, take=take)
    if recipe.smaller is not None:
        size = recipe.smaller.size(probe) or size
    return replace(recipe, read=replace(recipe.read, size=size, fit="crop"))


def keep_to_steps(recipe: Recipe, probe: Probe) -> Recipe:
    """The recipe of a clip that keeps its size, but for what its sides have more than a number of steps."""
    read = recipe.read
    if recipe.smaller is None or read.size is not None or read.crop is not None:
        return recipe
    size = recipe.smaller.size(probe)
    if size in (None, (probe.width, probe.height)):
        return recipe
    return replace(recipe, read=replace(read, size=size, fit="crop"))


def cut_into_clips(recipe: Recipe, probe: Probe | None) -> list[Cut]:
    """The clips of a video: the whole, one for each chunk of seconds, or those that `take` chooses."""
    read = recipe.read
    told = None if probe is None else Numbering.of(read, probe)
    rate = read.fps or (probe and probe.rate)
    if rate and recipe.chunk_s is not None and recipe.chunk_s * rate < 1:
        why = f"chunks of {float(recipe.chunk_s):g} s are shorter than a frame, {float(1 / rate):g} s"
        return [Cut(read.start, read.end, left_out=why)]
    if recipe.take is None or probe is None:
        spans = cut_into_spans(recipe, probe)
        first = [told.within(replace(read, start=start))[0] if told else 0 for start, _ in spans]
        return [Cut(*span, read.frames, number) for span, number in zip(spans, first, strict=True)]
    if told is None:
        return [Cut(read.start, read.end, left_out="its header does not tell how many frames it has")]
    begin, stop = told.within(read)
    picked = recipe.take.pick(max(0, stop - begin))
    if not picked:
        shortest = min(recipe.take.counts)
        return [
            Cut(
                read.start,
                read.end,
                left_out=f"{max(0, stop - begin)} frames, the shortest clip has {shortest}",
            )
        ]
    return [
        Cut(
            start=told.time_before(begin + first) if first else read.start,
            end=read.end,
            frames=count,
            first=begin + first,
            exact=recipe.take.mode != FULL,
        )
        for first, count in picked
    ]


def cut_into_spans(recipe: Recipe, probe: Probe | None) -> list[tuple[Fraction | None, Fraction | None]]:
    """[start, end) in seconds of every clip of a video; the outer ends are None, so no frame is lost."""
    read, length = recipe.read, recipe.chunk_s
    if length is None or probe is None or probe.duration_s is None:
        return [(read.start, read.end)]
    first = probe.first_s or Fraction(0)
    begin = first if read.start is None else max(first, read.start)
    end = first + probe.duration_s if read.end is None else min(first + probe.duration_s, read.end)
    rate = read.fps or probe.rate
    last_frame = end - (1 / rate if rate else 0)  # where a clip begins, at the latest
    count = max(1, ceil((last_frame - begin) / length)) if last_frame > begin else 1
    cuts = [begin + k * length for k in range(1, count)]
    return list(zip([read.start, *cuts], [*cuts, read.end], strict=True))
