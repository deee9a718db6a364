"""Video VAEs of diffusers, a chunk of a clip at a time: each class as it cuts a clip itself, but streaming.

The classes give the whole clip at once, and keep what they remember of it on themselves, if they stream at
all. Here a clip's memory is in its `TimeState`, so clips may interleave and an error leaves nothing behind.
Chunks may be of any size: what a class needs at once is collected first.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.errors import BadInput
from vidlatent.models.base import ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.models.layers import as_clip, as_frames

CERTAIN = -30.0  # log-variance where a class knows none
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Network(Protocol):
    """A model whose network is an instance of a class of diffusers."""

    spec: ModelSpec
    vae: nn.Module


Drive = Callable[[Network, Tensor, TimeState], Iterator[Tensor]]


class ClipMemory:
    """What is kept of a clip between calls: inputs that wait, outputs to be blended, a class's own caches."""

    def __init__(self) -> None:
        self.taken = 0  # inputs that have gone in
        self.held: Tensor | None = None
        self.caches: Mapping = {}
        self._waiting: Tensor | None = None

    @classmethod
    def of(cls, network: Network, state: TimeState) -> "ClipMemory":
        """The memory of the clip that `state` is of."""
        return state.once(network.vae, cls)

    def add(self, x: Tensor) -> None:
        """Let the inputs [B, C, T, H, W] wait behind those that do."""
        self._waiting = x.clone() if self._waiting is None else torch.cat([self._waiting, x], dim=2)

    @property
    def waiting(self) -> int:
        """How many inputs wait."""
        return 0 if self._waiting is None else self._waiting.shape[2]

    def first(self, count: int) -> Tensor:
        """The first inputs that wait, which go on waiting."""
        return self._waiting[:, :, :count]

    def take(self, count: int) -> Tensor:
        """The first inputs that wait, which then have gone in."""
        chunk, self._waiting = self._waiting[:, :, :count], self._waiting[:, :, count:].clone()
        self.taken += chunk.shape[2]
        return chunk

    def hold(self, chunk: Tensor, count: int) -> Tensor:
        """The outputs of a chunk but for its last `count`, which are held until `cross_fade`."""
        self.held = chunk[:, :, chunk.shape[2] - count :].clone()
        return chunk[:, :, : chunk.shape[2] - count]

    def cross_fade(self, chunk: Tensor) -> Tensor:
        """A chunk whose first outputs are mixed with those that were held, 0, 1/n, 2/n … of the chunk."""
        if self.held is None:
            return chunk
        count = self.held.shape[2]
        weight = (torch.arange(count, device=chunk.device, dtype=chunk.dtype) / count).view(-1, 1, 1)
        mixed = self.held * (1 - weight) + chunk[:, :, :count] * weight
        return torch.cat([mixed, chunk[:, :, count:]], dim=2)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return sum(tensor.nbytes for tensor in tensors_in([self._waiting, self.held, self.caches]))


def tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors in nested lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(each)


def chunks(memory: ClipMemory, x: Tensor, sizes: tuple[int, int], step: int, more: bool) -> Iterator[Tensor]:
    """A clip in a first chunk and equal ones after it, of so many inputs, as soon as they are there.

    At its end comes what is left, as far as it fills outputs: the first input fills one, then `step` do.
    """
    memory.add(x)
    while memory.waiting >= (size := sizes[bool(memory.taken)]):
        yield memory.take(size)
    if not more and (count := memory.waiting):
        lead = 0 if memory.taken else 1
        left = lead + (count - lead) // step * step
        if left:
            yield memory.take(left)


@contextmanager
def lent(part: nn.Module, name: str, memory: ClipMemory, keep: Callable[[nn.Module, Tensor], Tensor]):
    """The caches of a class that has them on its layers, as the attribute `name`: while the block runs.

    They are those of the clip, and afterwards in its memory again, as much of each as `keep` says.
    """
    layers = [layer for layer in part.modules() if name in vars(layer)]
    try:
        for layer in layers:
            setattr(layer, name, memory.caches.get(layer))
        yield
        memory.caches = {
            layer: keep(layer, getattr(layer, name)) for layer in layers if getattr(layer, name) is not None
        }
    finally:
        for layer in layers:
            setattr(layer, name, None)


def without_logvar(mean: Tensor, logvar: float) -> Tensor:
    """Moments [B, 2C, t, h, w] of latents that are certain."""
    return torch.cat([mean, torch.full_like(mean, logvar)], dim=1)


# --- AutoencoderKLMagvit: caches on its layers; a first frame, then four; a latent at a time ---


def encode_magvit(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]."""
    memory, vae = ClipMemory.of(network, state), network.vae
    for chunk in chunks(memory, video, (1, 4), 4, state.more):
        with lent(vae.encoder, "prev_features", memory, _of_magvit):
            h = vae.encoder(chunk)
        yield vae.quant_conv(h)


def decode_magvit(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    memory, vae = ClipMemory.of(network, state), network.vae
    for chunk in chunks(memory, latents, (1, 1), 1, state.more):
        with lent(vae.decoder, "prev_features", memory, _of_magvit):
            video = vae.decoder(vae.post_quant_conv(chunk))
        yield video


def _of_magvit(layer: nn.Module, cache: Tensor) -> Tensor:
    """All of a convolution's cache; an up-sampler only wants to know that there was a frame."""
    return cache if isinstance(layer, nn.Conv3d) else cache.new_empty(0)


# --- AutoencoderKLKVAEVideo: a cache that is an argument; 17 frames, then 16, for norms see a chunk ---

KVAE_FRAMES = 16


def encode_kvae(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w], certain: the class knows no variance (0 its log)."""
    memory, vae = ClipMemory.of(network, state), network.vae
    memory.caches = memory.caches or vae._make_encoder_cache()
    for chunk in chunks(memory, video, (1 + KVAE_FRAMES, KVAE_FRAMES), network.spec.grid.time, state.more):
        yield without_logvar(vae.encoder(chunk, memory.caches).chunk(2, dim=1)[0], 0.0)


def decode_kvae(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    memory, vae = ClipMemory.of(network, state), network.vae
    memory.caches = memory.caches or vae._make_decoder_cache()
    size = KVAE_FRAMES // network.spec.grid.time
    for chunk in chunks(memory, latents, (1 + size, size), 1, state.more):
        if chunk.shape[2] == 1 < size and memory.taken > 1:
            raise BadInput(
                f"{memory.taken} latents: the last one would lose {network.spec.grid.time - 1} of its frames",
                f"give a number of latents that does not leave one over after {1 + size} + {size}·k",
            )
        yield vae.decoder(chunk, memory.caches)


# --- AutoencoderVidTok, causal: caches on its layers; decoding looks one latent ahead ---

VIDTOK_FRAMES = 16


def encode_vidtok(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]; copies of the first frame stand before it."""
    memory, time = ClipMemory.of(network, state), network.spec.grid.time
    if video.shape[2] and state.begins(network.vae.encoder):
        video = torch.cat([video[:, :, :1]] * (time - 1) + [video], dim=2)
    for chunk in chunks(memory, video, (time, VIDTOK_FRAMES), time, state.more):
        yield _run_vidtok(network.vae.encoder, chunk, memory, first=memory.taken == time)


def decode_vidtok(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W], as the class's own tiled decoding cuts time.

    A chunk waits until the one after it is known to be full: at the end of a clip a short one joins it.
    """
    memory, time = ClipMemory.of(network, state), network.spec.grid.time
    size = VIDTOK_FRAMES // time
    memory.add(latents)
    while (count := _next_of_vidtok(memory, size, state.more)) is not None:
        first, ahead = not memory.taken, memory.first(count + 1)
        memory.take(count)
        video = _run_vidtok(network.vae.decoder, ahead, memory, first)
        last = (ahead.shape[2] - count) * time  # frames of the latent that was only looked at
        yield video[:, :, time - 1 if first else 0 : video.shape[2] - last]


def _next_of_vidtok(memory: ClipMemory, size: int, more: bool) -> int | None:
    """Latents of the next chunk; None where there is none yet."""
    if not memory.waiting:
        return None
    if not memory.taken:
        return 1 if memory.waiting > 1 or not more else None
    if memory.waiting >= 2 * size:
        return size
    return None if more else memory.waiting


def _run_vidtok(part: nn.Module, x: Tensor, memory: ClipMemory, first: bool) -> Tensor:
    for layer in part.modules():
        if "is_first_chunk" in vars(layer):
            layer.is_first_chunk = first
    with lent(part, "causal_cache", memory, _of_vidtok):
        return part(x)


def _of_vidtok(layer: nn.Module, cache: Tensor) -> Tensor:
    """As many frames as a convolution needs of what it keeps, which is all; others keep what they need."""
    needed = vars(layer).get("time_pad", cache.shape[2])
    return cache[:, :, cache.shape[2] - needed :].clone()


def prepare_vidtok(vae: nn.Module) -> None:
    """Tell the decoder's layers how many of their frames are those of the latent that is only looked at."""
    decoder, ahead = vae.decoder, 1
    levels = []
    for level in reversed(range(decoder.num_resolutions)):
        levels.append((decoder.up_temporal[level], ahead))
        if level in decoder.spatial_us and level in decoder.tempo_us:
            ahead *= 2
            levels.append((decoder.up_temporal[level].upsample, ahead))
    for part, frames in [(decoder, 1), *levels, (decoder.conv_out, ahead)]:
        for layer in part.modules():
            if "cache_offset" in vars(layer):
                layer.cache_offset = frames


# --- AutoencoderKLMochi: its encoder attends to all earlier frames; its decoder's cache is an argument ---


def encode_mochi(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] of a whole clip, or of a window of it → moments [B, 2C, t, h, w]."""
    yield network.vae.encoder(video)[0]


def decode_mochi(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    if not latents.shape[2]:
        return
    memory, time = ClipMemory.of(network, state), network.spec.grid.time
    video, memory.caches = network.vae.decoder(latents, conv_cache=memory.caches or None)
    yield video[:, :, 0 if memory.taken else time - 1 :]
    memory.taken += latents.shape[2]


def prepare_mochi(vae: nn.Module) -> None:
    """Give the decoder's convolutions a memory: among copies of the edge the class lets them have none."""
    for layer in vae.decoder.modules():
        if vars(layer).get("pad_mode") == "replicate":
            layer.forward = partial(_convolve_and_remember, layer)


def _convolve_and_remember(
    layer: nn.Module, inputs: Tensor, conv_cache: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What a causal convolution among copies of the edge gives, and the frames that it needs next time."""
    past = inputs[:, :, :1].expand(-1, -1, layer.time_pad, -1, -1) if conv_cache is None else conv_cache
    known = torch.cat([past, inputs], dim=2)
    sides = (layer.width_pad, layer.width_pad, layer.height_pad, layer.height_pad, 0, 0)
    cache = known[:, :, known.shape[2] - layer.time_pad :].clone()
    return layer.conv(F.pad(known, sides, mode="replicate")), cache


# --- AutoencoderKLCosmos: no memory; it attends to earlier frames ---


def encode_cosmos(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] of a whole clip, or of a window of it → moments [B, 2C, t, h, w], certain."""
    yield without_logvar(network.vae.quant_conv(network.vae.encoder(video)), CERTAIN)


def decode_cosmos(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] of a whole clip, or of a window of it → pixels [B, 3, T, H, W]."""
    yield network.vae.decoder(network.vae.post_quant_conv(latents))


# --- AutoencoderKLTemporalDecoder (SVD): frames alone; decoded so many together ---


def encode_svd(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, T, h, w], each frame by itself."""
    for frame in video.unbind(2):
        yield network.vae.quant_conv(network.vae.encoder(frame))[:, :, None]


def decode_svd(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, T, h, w] → pixels [B, 3, T, H, W], so many frames together as the setting says."""
    memory, size = ClipMemory.of(network, state), int(network.spec.setting("chunk"))
    for chunk in chunks(memory, latents, (size, size), 1, state.more):
        batch, _, frames = chunk.shape[:3]
        still = chunk.new_zeros(batch, frames)
        video = network.vae.decoder(as_frames(chunk), num_frames=frames, image_only_indicator=still)
        yield as_clip(video, batch)


# --- AutoencoderKLAllegro: windows of 24 frames (6 latents) that share 8 (2), mixed where they do ---

ALLEGRO_FRAMES, ALLEGRO_SHARED = 24, 8


def encode_allegro(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]."""
    vae = network.vae
    windows = _windows_of_allegro(network, video, state, (ALLEGRO_FRAMES, ALLEGRO_SHARED), vae.encoder)
    yield from (as_clip(vae.quant_conv(as_frames(h)), len(h)) for h in windows)


def decode_allegro(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    vae, time = network.vae, network.spec.grid.time
    z = as_clip(vae.post_quant_conv(as_frames(latents)), len(latents)) if latents.shape[2] else latents
    sizes = (ALLEGRO_FRAMES // time, ALLEGRO_SHARED // time)
    yield from _windows_of_allegro(network, z, state, sizes, vae.decoder)


def _windows_of_allegro(
    network: Network, x: Tensor, state: TimeState, sizes: tuple[int, int], part: nn.Module
) -> Iterator[Tensor]:
    """What `part` makes of windows of so many inputs, of which so many are shared with the next."""
    memory, (size, shared) = ClipMemory.of(network, state), sizes
    memory.add(x)
    while memory.waiting >= size:
        window = memory.first(size)
        memory.take(size - shared)
        y = part(window)
        yield memory.hold(memory.cross_fade(y), y.shape[2] * shared // size)
    if not state.more:
        _demand_rest(memory, shared if memory.held is not None else 0, network.spec)
        yield from _held(memory)


def _held(memory: ClipMemory) -> Iterable[Tensor]:
    return () if memory.held is None else (memory.held,)


def _demand_rest(memory: ClipMemory, rest: int, spec: ModelSpec) -> None:
    """Raise BadInput where a clip ends so that the class would leave a part of it out."""
    if memory.waiting != rest:
        raise BadInput(
            f"{spec.name} cannot end a clip here: {memory.taken + memory.waiting} frames or latents",
            f"give {spec.grid.least} + {spec.grid.stride}·k frames, "
            f"or {spec.grid.latents(spec.grid.least)} + {spec.grid.latents(spec.grid.stride)}·k latents",
        )


# --- AutoencoderKLMiniMaxH3: clips of 17 frames, each 5 latents; the last three of a clip are dropped ---


def encode_minimax_h3(network: Network, video: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]."""
    memory, vae = _untiled(network, state)
    length, drop = vae.config.clip_length, vae.config.token_drop
    memory.add(to_imagenet(video))
    while memory.waiting >= length or (memory.waiting and not state.more):
        clip = memory.take(length)
        short = length - clip.shape[2]
        clip = torch.cat([clip] + [clip[:, :, -1:]] * short, dim=2)
        yield from _held(memory)
        yield memory.hold(vae._encode_clip(clip), drop)


def decode_minimax_h3(network: Network, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""
    memory, vae = _untiled(network, state)
    chunk, overlap, before = vae.tokens_chunk_size, vae.token_overlap, vae.frame_pre_padding
    frames = chunk * network.spec.grid.time
    memory.add(latents)
    while memory.waiting >= chunk + overlap:
        z = memory.first(chunk + overlap)
        memory.take(chunk)
        clip = vae._decode_clip(z)
        video = memory.cross_fade(clip[:, :, before:frames])
        memory.held = clip[:, :, frames + before :].clone()
        yield from_imagenet(video)
    if not state.more:
        _demand_rest(memory, overlap if memory.held is not None else 0, network.spec)
        yield from map(from_imagenet, _held(memory))


def _untiled(network: Network, state: TimeState) -> tuple[ClipMemory, nn.Module]:
    """The memory of the clip and the VAE, which cuts frames into tiles if its setting says so."""
    network.vae.use_tiling = bool(network.spec.setting("tiles"))
    return ClipMemory.of(network, state), network.vae


def to_imagenet(video: Tensor) -> Tensor:
    """Pixels in [-1, 1] → what the class takes: [0, 1] less a mean, over a deviation."""
    mean, std = (video.new_tensor(values).view(-1, 1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((video + 1) / 2 - mean) / std


def from_imagenet(video: Tensor) -> Tensor:
    """What the class gives → pixels in [-1, 1]."""
    mean, std = (video.new_tensor(values).view(-1, 1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (video * std + mean) * 2 - 1
