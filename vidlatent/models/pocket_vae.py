"""Pocket, our own small video VAE: the bundled default, light enough for a laptop.

Patches of 4×4 pixels fold into channels and are refined frame by frame; then cubes of four frames and 2×2
patches fold into one latent position each, where more causal residual blocks mix space and time. The decoder
mirrors it. Nothing is normalised over space or time, so streaming equals the whole clip. The first frame is
a group of its own: three copies of it stand in front. A decoder has all frames of a group at once, so near
pixels it may look at the next one of the same group and still stream exactly.

Inside, activations are [B·T, C, H, W] channels-last, which is a free view of [B, C, T, H, W]. On a CPU large
frames are near the pixels cut into bands of rows, so that each layer finds the memory of the one before: what
one makes of a whole 1080p frame is so large that the system gives it fresh pages each time, see allocator.py.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import chain, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.arithmetic import quickest
from vidlatent.models.bands import BandStates, RowBand, cut_into_rows
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.causal import TimeState, in_parts, joined
from vidlatent.models.clips import fold_cubes, unfold_cubes
from vidlatent.models.convolution import convolve_frames
from vidlatent.models.horizon import Horizon, back, narrowed, widened
from vidlatent.windows import Plan, TimeRule, even_tiles

GRID = Grid(time=4, space=8)
PATCH = 4  # side of a patch in pixels
FOLD = GRID.space // PATCH  # patches a side that fold together into a latent position
# What a stem's layer makes of a frame in one band. In the encoder four frames wait to be folded.
ENCODER_BAND_BYTES, DECODER_BAND_BYTES = 1 << 23, 1 << 24


@dataclass(frozen=True)
class PocketConfig:
    """Shape of the network: `stem` channels at 1/4 size, `width` at latent size."""

    latent_channels: int = 16
    stem: int = 64
    width: int = 160
    encoder_stem_blocks: int = 1
    encoder_blocks: int = 4
    decoder_blocks: int = 6
    decoder_stem_blocks: int = 2
    looks_ahead: bool = False  # whether the decoder's blocks at 1/4 size see the next frame of the group
    latent_noise: float = 0.02  # standard deviation of the noise it was trained to bear
    limits: tuple[float, ...] = ()  # of the activations in each block, pixels to pixels; empty: none

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "PocketConfig":
        """From a config.json, ignoring keys that are not the network's."""
        known = {f.name: config[f.name] for f in fields(cls) if f.name in config}
        return cls(**{**known, "limits": tuple(known.get("limits", ()))})

    @property
    def horizon(self) -> Horizon:
        """Each block sees one step of its own time back."""
        return Horizon.count(
            GRID,
            [back(self.encoder_stem_blocks), narrowed(GRID.time, GRID.time), back(self.encoder_blocks)],
            [back(self.decoder_blocks), widened(GRID.time), back(self.decoder_stem_blocks)],
        )


class Conv(nn.Conv2d):
    """A convolution in the dtype of what it is given, whatever its weights are kept in."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] → [N, C', h, w]."""
        return F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), padding=self.padding)


class Mix(nn.Conv2d):
    """A convolution of one position: what the channels there become."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] → [N, C', h, w]."""
        return convolve_frames(x, self.weight, self.bias)


class TimeBlock(nn.Module):
    """Residual block whose 3×3 kernel sees half of the channels now and the others a step of time ago.

    The last `ahead` of the channels it sees a step of time later instead, where the group of frames goes on.
    """

    def __init__(self, channels: int, ahead: int = 0) -> None:
        super().__init__()
        self.ahead = ahead
        self.space = Conv(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.limit = math.inf  # where no norm holds activations, they may run away on odd pictures

    def forward(self, x: Tensor, batch: int, state: TimeState, after: Tensor | None = None) -> Tensor:
        """[B·t, C, h, w] → the same; nothing comes of no frames, and then the state stays as it is.

        `after` [B, C, h, w] is the frame that follows these, if their group has one.
        """
        if not len(x):
            return x
        x = x.contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled():  # the same without writing over what gradients need
            clip = unfold_time(x, batch)
            seen = fold_time(displaced(clip, state.recall(self), self.ahead))
            state.remember(self, clip[:, x.shape[1] // 2 : x.shape[1] - self.ahead, -1:])
            return x + self.mix(F.silu(self.space(seen)).clamp(max=self.limit))
        dtype = quickest(x.dtype, x.device)
        seen = self.displaced(x, batch, state, after, dtype)
        y = F.silu(self.space(seen), inplace=True).clamp_(max=self.limit)
        pixels, spent, y = (each.movedim(1, -1).flatten(0, 2) for each in (x, seen, y))  # views [B·t·h·w, C]
        mix = self.mix.weight.flatten(1).T.to(dtype)
        if dtype == x.dtype:
            pixels.addmm_(y, mix)  # on a CPU twice as fast as to convolve and add
        else:
            pixels.add_(torch.mm(y, mix, out=spent))
        return x

    def displaced(
        self, x: Tensor, batch: int, state: TimeState, after: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """What the function says, of a clip that `state` continues: [B·t, C, h, w] → a copy of that shape."""
        seen = torch.empty_like(x, dtype=dtype)
        whole, into = unfold_time(x, batch), unfold_time(seen, batch)
        half, end = x.shape[1] // 2, x.shape[1] - self.ahead
        late, past = whole[:, half:end], state.recall(self)
        into[:, :half] = whole[:, :half]
        into[:, half:end, 1:] = late[:, :, :-1]
        into[:, half:end, :1] = late[:, :, :1] if past is None else past
        if self.ahead:
            into[:, end:, :-1] = whole[:, end:, 1:]
            into[:, end:, -1] = (whole[:, :, -1] if after is None else after)[:, end:]
        state.remember(self, late[:, :, -1:])
        return seen


def displaced(x: Tensor, past: Tensor | None, ahead: int) -> Tensor:
    """A clip [B, C, t, h, w] with the second half of its channels a step late.

    `past` is what came before of those; at the start of a clip its first frame is its own past. The last
    `ahead` channels are a step early instead: see `upcoming`.
    """
    half, end = x.shape[1] // 2, x.shape[1] - ahead
    now, late, early = x[:, :half], x[:, half:end], x[:, end:]
    before = late[:, :, :1] if past is None else past
    late = torch.cat([before, late[:, :, :-1]], dim=2)
    return torch.cat([now, late, upcoming(early)] if ahead else [now, late], dim=1)


def upcoming(x: Tensor) -> Tensor:
    """Groups of frames [B, C, T, h, w] a step early; the last frame of each group stays where it is.

    A frame more than groups hold is the clip's first, a group of its own.
    """
    groups, alone = divmod(x.shape[2], GRID.time)
    first, whole = x[:, :, :alone], x[:, :, alone:].unflatten(2, (groups, GRID.time))
    early = torch.cat([whole[:, :, :, 1:], whole[:, :, :, -1:]], dim=3)
    return torch.cat([first, early.flatten(2, 3)], dim=2)


def blocks(channels: int, count: int, ahead: int = 0) -> nn.ModuleList:
    """So many residual blocks."""
    return nn.ModuleList(TimeBlock(channels, ahead) for _ in range(count))


class Encoder(nn.Module):
    """Pixels → latents."""

    def __init__(self, c: PocketConfig) -> None:
        super().__init__()
        self.stem = Mix(3 * PATCH**2, c.stem)
        self.stem_blocks = blocks(c.stem, c.encoder_stem_blocks)
        self.fold = Mix(c.stem * GRID.time * FOLD**2, c.width)
        self.blocks = blocks(c.width, c.encoder_blocks)
        self.head = Mix(c.width, c.latent_channels)

    def forward(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, C, t, H/8, W/8]."""
        batch, whole = len(video), torch.is_grad_enabled() or state.on_gpu(video)
        first = 1 if state.begins(self) else 0  # so that every part completes a group
        cuts = tuple(range(first, video.shape[2], GRID.time))
        parts = [video] if whole else [part for part in video.tensor_split(cuts, dim=2) if part.shape[2]]
        x = fold_time(torch.cat(list(in_parts(self.folded, parts, state)), dim=2))
        for block in self.blocks:
            x = block(x, batch, state)
        return unfold_time(self.head(x), batch)

    def folded(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → the groups complete by then, [B, width, t, H/8, W/8]."""
        height, width = (side // GRID.space for side in video.shape[3:])
        row_bytes = FOLD**2 * width * self.stem.out_channels * len(video) * video.element_size()
        most, beside = ENCODER_BAND_BYTES // row_bytes, -(-len(self.stem_blocks) // FOLD)
        bands = cut_into_rows(video, state, height, most, beside)
        if len(bands) == 1:
            return self.folded_rows(video, bands[0], state)
        states = state.once(self, lambda: BandStates(len(bands)))
        done = [
            self.folded_rows(video[..., band.times(GRID.space).seen, :], band, each)
            for band, each in zip(bands, states.for_call(state), strict=True)
        ]
        return torch.cat(done, dim=3)

    def folded_rows(self, video: Tensor, band: RowBand, state: TimeState) -> Tensor:
        """The same of the rows that a band sees: [B, 3, T, H', W] → [B, width, t, the rows it gives, W/8]."""
        batch, _, frames, *_ = video.shape
        whole = torch.is_grad_enabled() or state.on_gpu(video)
        parts = [video] if whole else video.split(1, dim=2)  # one stays in a CPU's cache
        given = band.times(FOLD).given
        x = joined((part[..., given, :] for part in in_parts(self.near_pixels, parts, state)), frames)
        x = state.extend(self.fold, x, kernel=GRID.time, stride=GRID.time)
        groups = x.shape[2] // GRID.time  # what fills none stays in the state
        return unfold_time(self.fold(fold_cubes(x[:, :, : groups * GRID.time], GRID.time, FOLD)), batch)

    def near_pixels(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, stem, T, H/4, W/4]."""
        batch = len(video)
        x = self.stem(fold_cubes(video, 1, PATCH))
        for block in self.stem_blocks:
            x = block(x, batch, state)
        return unfold_time(x, batch)


class Decoder(nn.Module):
    """Latents → pixels."""

    def __init__(self, c: PocketConfig) -> None:
        super().__init__()
        self.head = Mix(c.latent_channels, c.width)
        self.blocks = blocks(c.width, c.decoder_blocks)
        self.unfold = Mix(c.width, GRID.time * FOLD**2 * c.stem)
        self.ahead = c.stem // 4 if c.looks_ahead else 0
        self.stem_blocks = blocks(c.stem, c.decoder_stem_blocks, self.ahead)
        self.stem = Mix(c.stem, 3 * PATCH**2)

    def forward(self, latents: Tensor, state: TimeState) -> Tensor:
        """[B, C, t, h, w] → [B, 3, T, 8h, 8w]."""
        batch = len(latents)
        x = self.head(fold_time(latents))
        for block in self.blocks:
            x = block(x, batch, state)
        first = GRID.time - 1 if state.begins(self) else 0  # the first latent stands for one frame
        if torch.is_grad_enabled() or (state.on_gpu(latents) and not self.ahead):
            x = unfold_cubes(self.unfold(x), batch, GRID.time, FOLD)
            return self.near_pixels(x[:, :, first:], state)
        x = unfold_time(x, batch)
        bands = self.bands_of(x, state)
        if len(bands) == 1:
            return joined(self.frames(x, first, state), GRID.time * x.shape[2] - first)
        return self.banded(x, first, bands, state)

    def bands_of(self, x: Tensor, state: TimeState) -> list[RowBand]:
        """The bands of rows in which latents [B, width, t, h, w] become frames."""
        row_bytes = FOLD**2 * x.shape[4] * self.stem.in_channels * len(x) * x.element_size()
        most, beside = DECODER_BAND_BYTES // row_bytes, -(-len(self.stem_blocks) // FOLD)
        return cut_into_rows(x, state, x.shape[3], most, beside)

    def banded(self, x: Tensor, first: int, bands: list[RowBand], state: TimeState) -> Tensor:
        """Groups [B, width, t, h, w] → all of their frames from that numbered `first`, band by band."""
        batch, _, groups, *sides = x.shape
        height, width = (side * GRID.space for side in sides)
        whole = x.new_empty(batch, GRID.time * groups - first, height, width, 3).movedim(-1, 1)
        states = state.once(self, lambda: BandStates(len(bands)))
        for band, each in zip(bands, states.for_call(state), strict=True):
            pixels = band.times(GRID.space)
            for n, frame in enumerate(self.frames(x[..., band.seen, :], first, each)):
                whole[:, :, n : n + 1, pixels.own] = frame[..., pixels.given, :]
        return whole

    def frames(self, x: Tensor, first: int, state: TimeState) -> Iterator[Tensor]:
        """Groups [B, width, t, h, w] → frames [B, 3, 1, H, W], from that numbered `first`.

        Each goes on to the next block as soon as the frame after it is there: so few at a time stay in a
        CPU's cache.
        """
        more, groups = state.more, x.shape[2]
        for group in range(groups):
            numbers = range(first if group == 0 else 0, GRID.time)
            shown = (self.unfolded(x[:, :, group], n) for n in numbers)
            for block in self.stem_blocks:
                shown = through(block, shown, state, more or group + 1 < groups)
            for frame in shown:
                yield unfold_cubes(self.stem(frame), len(x), 1, PATCH)

    def unfolded(self, x: Tensor, n: int) -> Tensor:
        """Frame `n` of a group [B, width, h, w] → [B, stem, H/4, W/4]."""
        weight, bias = (p.chunk(GRID.time)[n] for p in (self.unfold.weight, self.unfold.bias))
        return unfold_cubes(convolve_frames(x, weight, bias), len(x), 1, FOLD)[:, :, 0]

    def near_pixels(self, x: Tensor, state: TimeState) -> Tensor:
        """A clip [B, stem, T, H/4, W/4] from its first frame → [B, 3, T, H, W]."""
        batch, x = len(x), fold_time(x)
        for block in self.stem_blocks:
            x = block(x, batch, state)
        return unfold_cubes(self.stem(x), batch, 1, PATCH)


def through(block: TimeBlock, frames: Iterator[Tensor], state: TimeState, more: bool) -> Iterator[Tensor]:
    """Frames [B, C, H, W] of a group through a block, each when the next is known; `more`: groups follow."""
    for frame, after in pairwise(chain(frames, [None])):
        state.more = more or after is not None
        yield block(frame, len(frame), state, after)


class PocketVAE(nn.Module):
    """The whole model; its posterior has the constant variance it was trained to bear."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = PocketConfig.of(spec.config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.logvar = 2 * math.log(config.latent_noise)
        if config.limits and len(config.limits) != len(self.time_blocks()):
            raise BadWeights(f"config: {len(config.limits)} limits for {len(self.time_blocks())} blocks")
        for block, limit in zip(self.time_blocks(), config.limits, strict=False):
            block.limit = limit

    def time_blocks(self) -> list[TimeBlock]:
        """The residual blocks, in the order in which a clip meets them."""
        return [module for module in self.modules() if isinstance(module, TimeBlock)]

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w]; off-grid tails and edges are floored."""
        rows, columns = (side // GRID.space * GRID.space for side in video.shape[-2:])
        mean = self.encoder(video[..., :rows, :columns], state)
        yield torch.cat([mean, torch.full_like(mean, self.logvar)], dim=1)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, C, t, h, w] → [B, 3, T, H, W], not clamped."""
        yield self.decoder(latents, state)


def fold_time(x: Tensor) -> Tensor:
    """[B, C, T, H, W] → [B·T, C, H, W], free of copies when channels-last."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_time(x: Tensor, batch: int) -> Tensor:
    """[B·T, C, H, W] → [B, C, T, H, W]."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a Pocket network with this config."""
    shape = PocketConfig.of(config)
    return ModelSpec(
        name=str(config.get("name", "pocket")),
        family="pocket",
        grid=GRID,
        channels=shape.latent_channels,
        plan=Plan(encode_time=TimeRule(8), decode_time=TimeRule(4)),
        scale=tuple(config.get("scale", (1.0,))),
        shift=tuple(config.get("shift", (0.0,))),
        licence="Apache-2.0",
        tiles=lambda tile, overlap: even_tiles(tile, overlap, GRID.space),
        summary="our own small model, bundled: streaming-exact, for laptops, previews and tests",
        config={"_class_name": "PocketVAE", **config, **asdict(shape)},
        horizon=shape.horizon,
        longer_on_gpu=4,
    )


FAMILY = Family(
    name="pocket",
    class_names=("PocketVAE",),
    specs=(spec_of({}),),
    spec_of=spec_of,
    build=PocketVAE,
    rename=lambda key: key,
)
