"""Whether a cache suits a trainer: what is refused, and what is only said."""

from collections import Counter
from collections.abc import Callable, Sequence

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.exchange.needs import Needs
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export, Tool
from vidlatent.jobs.exchange.vaes import refuse_other_vae
from vidlatent.models import registry

Say = Callable[[str], None]
FEW = 3  # names in a notice


def check_cache(export: Export, tool: Tool, say: Say) -> None:
    """Refuse what the trainer cannot use, if that is asked for; say what else is not as it expects."""
    needs, pieces, word = export.needs, export.pieces, export.word
    if needs.still:
        refuse_films(pieces, word)
    if export.options.checked:
        refuse_other_vae(export.vae, needs, word, "the cache holds those of")
        refuse_sides(pieces, needs, word)
    elif not export.vae.is_one_of(needs.models):
        say(f"{word} trains on latents of {' or '.join(needs.models)}, not of {export.vae.words()}")
    for line in (
        describe_frames(export),
        describe_rates(pieces, needs, word),
        describe_shapes(pieces) if tool.one_shape and not export.options.split_by_shape else None,
        describe_captions(pieces) if tool.captioned else None,
    ):
        if line:
            say(line)


def refuse_films(pieces: Sequence[Piece], word: str) -> None:
    """Raise UsageError for a clip of several frames."""
    for piece in pieces:
        if piece.row.frames != 1:
            raise UsageError(
                f"{piece.row.source}: has {piece.row.frames} frames, and {word} takes single pictures",
                f"cache with {parameter('frames')} 1",
            )


def refuse_sides(pieces: Sequence[Piece], needs: Needs, word: str) -> None:
    """Raise UsageError where a side is no multiple of what the trainer steps in."""
    for piece in pieces:
        width, height = piece.row.width, piece.row.height
        if width % needs.side or height % needs.side:
            raise UsageError(
                f"{piece.row.source}: {width}x{height}, and {word} takes sides in steps of {needs.side}",
                f"cache with {parameter('trainer')} {word}, or with such a {parameter('size')}",
            )


def describe_frames(export: Export) -> str | None:
    """How many clips end in copies of their last frame."""
    if not export.needs.models or export.needs.still:
        return None
    grid = registry.find(export.needs.models[0]).grid
    padded = [piece for piece in export.pieces if grid.missing_frames(piece.row.frames)]
    if not padded:
        return None
    return (
        f"{len(padded)} of {len(export.pieces)} clips end in copies of their last frame, since their lengths "
        f"are not {grid.least} + {grid.step}k ({_list_few(padded)})"
    )


def describe_rates(pieces: Sequence[Piece], needs: Needs, word: str) -> str | None:
    """How many clips run at another rate than the trainer's."""
    if needs.fps is None:
        return None
    others = [piece for piece in pieces if piece.row.frames > 1 and round(piece.asked_fps(), 2) != needs.fps]
    if not others:
        return None
    return (
        f"{len(others)} of {len(pieces)} clips are not at the {needs.fps} fps of {word} ({_list_few(others)})"
    )


def describe_shapes(pieces: Sequence[Piece]) -> str | None:
    """Which shapes there are, where there are several."""
    shapes = Counter(name_shape(piece) for piece in pieces)
    if len(shapes) < 2:
        return None
    said = ", ".join(f"{name} ({count})" for name, count in shapes.most_common(FEW))
    more = " …" if len(shapes) > FEW else ""
    return (
        f"{len(shapes)} shapes ({said}{more}), which this tool puts into one batch: it fails at batch sizes "
        f"above 1, unless the export is split by shape"
    )


def describe_captions(pieces: Sequence[Piece]) -> str | None:
    """How many clips have no caption."""
    bare = [piece for piece in pieces if not piece.caption]
    return f"{len(bare)} of {len(pieces)} clips have no caption ({_list_few(bare)})" if bare else None


def name_shape(piece: Piece) -> str:
    """Width, height and frames of a clip, as they name a folder."""
    return f"{piece.row.width}x{piece.row.height}x{piece.row.frames}"


def _list_few(pieces: Sequence[Piece]) -> str:
    names = ", ".join(piece.name for piece in pieces[:FEW])
    return names + (" …" if len(pieces) > FEW else "")
