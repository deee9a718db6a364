"""How files name the weights of an LTX-Video VAE, and what their names and shapes say of the network.

The authors number the blocks of the encoder and of the decoder in the order they run in, and so do we.
diffusers groups them into levels; the same block may then have another number in another release, so its
number is counted from all the names in the file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isqrt, prod

from vidlatent.models.base import Shapes
from vidlatent.models.ltx_config import AUTHORS, no_diffusion

DIFFUSION_DECODER = "decoder.det_stages."  # one of LTX-2.5's two, which is no VAE's
_STATISTICS = "per_channel_statistics."
_OF_STATISTICS = {  # of the latents of many clips; only the first two are used
    "mean-of-means": "latents_mean",
    "std-of-means": "latents_std",
    "channel": None,
    "mean-of-stds": None,
    "mean-of-stds_over_std-of-means": None,
}
_AUTHORS_WORDS = {
    "last_time_embedder.": "time_embedder.",
    "last_scale_shift_table": "scale_shift_table",
    "timestep_embedder.": "",
    "conv_shortcut.": "conv_shortcut.conv.",
}
_DIFFUSERS_WORDS = {
    "resnets.": "res_blocks.",
    "timestep_embedder.": "",
    "norm3.": "norm3.norm.",
    "conv_shortcut.": "conv_shortcut.conv.",  # LTX-2's; those of LTX-Video are called so already
}
_LEVEL = re.compile(
    r"(encoder|decoder)\.(mid_block|(?:down|up)_blocks\.\d+)(\.(?:down|up)samplers\.0|\.conv_(?:in|out))?\."
)
_PARTS = ("conv_in", "upsamplers.0", "", "downsamplers.0", "conv_out")  # of a level, in the order they run in
_SAMPLERS = {2: "time", 4: "space", 8: "all"}  # by how many positions they make one of, or of one


def rename_authors(key: str) -> str | None:
    """A key of the authors' files → ours; None = known and dropped."""
    if key.startswith(_STATISTICS):
        return _OF_STATISTICS.get(key.removeprefix(_STATISTICS), key)
    return _worded(key, _AUTHORS_WORDS)


def rename_diffusers(keys: Iterable[str]) -> Callable[[str], str | None]:
    """What turns a key of a diffusers file that has these `keys` into ours."""
    levels = {found.groups() for key in keys if (found := _LEVEL.match(key))}
    numbers: dict[tuple, str] = {}
    for half, blocks in (("encoder", "down_blocks"), ("decoder", "up_blocks")):
        own = sorted((level for level in levels if level[0] == half), key=_turn)
        numbers |= {level: f"{half}.{blocks}.{n}." for n, level in enumerate(own)}

    def rename(key: str) -> str | None:
        found = _LEVEL.match(key)
        head, rest = (numbers[found.groups()], key[found.end() :]) if found else ("", key)
        return head + _worded(rest, _DIFFUSERS_WORDS)

    return rename


def _turn(level: tuple[str, str, str | None]) -> tuple[bool, int, int]:
    """Where a part of a level stands in the order of execution."""
    half, block, part = level
    middle = block == "mid_block"
    number = 0 if middle else int(block.rpartition(".")[2])
    return middle == (half == "encoder"), number, _PARTS.index((part or "").removeprefix("."))


def _worded(key: str, words: Mapping[str, str]) -> str:
    for theirs, ours in words.items():
        key = key.replace(theirs, ours)
    return key.replace("conv_shortcut.conv.conv.", "conv_shortcut.conv.")


def config_of(shapes: Shapes) -> dict[str, object]:
    """The config, of the authors' kind, that shapes by our names describe.

    Two facts leave no trace there: whether samplers of the decoder have a path around their convolution, and
    what surrounds its frames. Both follow from how the releases differ otherwise (see `LtxConfig`).
    """
    if any(key.startswith(DIFFUSION_DECODER) for key in shapes):
        raise no_diffusion()
    encoder, decoder = list(_encoder_blocks(shapes)), list(_decoder_blocks(shapes))
    timestep = "decoder.time_embedder.linear_1.weight" in shapes
    strided = any(name in ("compress_all", "compress_time", "compress_space") for name, _ in encoder)
    uniform = all(name == "compress_all" for name, _ in decoder if name.startswith("compress_"))
    like_2_0 = uniform and not strided and not timestep
    for name, said in decoder:
        if name.startswith("compress_"):
            said["residual"] = timestep or like_2_0
    widths = prod(said.get("multiplier", 1) for _, said in decoder)
    top, latent_channels = shapes["decoder.conv_in.conv.weight"][:2]
    base, patched = shapes["encoder.conv_in.conv.weight"][:2]
    return {
        "_class_name": AUTHORS,
        "latent_channels": latent_channels,
        "patch_size": isqrt(patched // 3),
        "encoder_blocks": [list(block) for block in encoder],
        "decoder_blocks": [list(block) for block in reversed(decoder)],
        "encoder_base_channels": base,
        "decoder_base_channels": top // widths,
        "timestep_conditioning": timestep,
        "encoder_spatial_padding_mode": "zeros",
        "decoder_spatial_padding_mode": "reflect" if like_2_0 else "zeros",
    }


def _encoder_blocks(shapes: Shapes) -> Iterator[tuple[str, dict[str, object]]]:
    """The authors' name of every block of the encoder, in the order of execution, and what is said of it."""
    for block, kind, width in _blocks(shapes, "encoder.down_blocks."):
        if kind == "res_x":
            yield kind, {"num_layers": _count(shapes, block)}
        elif kind == "res_x_y":
            outputs, inputs = shapes[f"{block}conv1.conv.weight"][:2]
            yield kind, {"multiplier": outputs // inputs}
        elif kind == "strided":
            yield "compress_all", {}
        else:
            folded, inputs = shapes[f"{block}conv.conv.weight"][:2]
            yield f"compress_{_SAMPLERS[width // folded]}_res", {"multiplier": width // inputs}


def _decoder_blocks(shapes: Shapes) -> Iterator[tuple[str, dict[str, object]]]:
    """The same of the decoder, in the order of execution too."""
    for block, kind, width in _blocks(shapes, "decoder.up_blocks."):
        if kind == "res_x":
            noise = f"{block}res_blocks.0.per_channel_scale1" in shapes
            yield kind, {"num_layers": _count(shapes, block), "inject_noise": noise}
        elif kind == "res_x_y":
            outputs, inputs = shapes[f"{block}conv1.conv.weight"][:2]
            yield kind, {"multiplier": inputs // outputs}
        else:
            unfolded, inputs = shapes[f"{block}conv.conv.weight"][:2]
            yield f"compress_{_SAMPLERS[unfolded // width]}", {"multiplier": inputs // width}


_MARKS = {
    "res_blocks.0.conv1.conv.weight": "res_x",
    "conv1.conv.weight": "res_x_y",
    "conv.conv.weight": "sampler",
    "conv.weight": "strided",
}


def _blocks(shapes: Shapes, head: str) -> Iterator[tuple[str, str, int]]:
    """Every block: where its names begin, its kind, and the width of the block behind it (0: none is)."""
    numbers = {int(key.removeprefix(head).partition(".")[0]) for key in shapes if key.startswith(head)}
    names = [f"{head}{n}." for n in range(len(numbers))]
    for block, behind in zip(names, [*names[1:], ""], strict=True):
        kinds = [kind for mark, kind in _MARKS.items() if block + mark in shapes]
        if not kinds:
            raise KeyError(f"{block}res_blocks.0.conv1.conv.weight")
        widths = [shapes[behind + mark][1] for mark in _MARKS if behind + mark in shapes]
        yield block, kinds[0], widths[0] if widths else 0


def _count(shapes: Shapes, block: str) -> int:
    """How many residual blocks there are in a block."""
    return sum(key.startswith(f"{block}res_blocks.") and key.endswith(".conv1.conv.weight") for key in shapes)
