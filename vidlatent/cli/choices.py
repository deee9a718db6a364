"""Flags that take one of a few words: the help shows them, shells complete them, capitals do not matter."""

from collections.abc import Mapping
from typing import Any

import typer

from vidlatent.dtypes import DTYPES
from vidlatent.errors import UsageError

# What the tables of the jobs have as well. They are written again, as importing those would import torch;
# tests/cli/test_choices.py compares them.
ALIGNMENTS = ("exact", "start", "overlap", "index")
ENGINES = ("local", "ray")
FITS = ("stretch", "crop", "pad")
FRAMES_RULES = ("cut", "pad", "drop")
IMAGES = ("png", "tiff")
KEEP_OR_DROP = ("keep", "drop")
MATRICES = ("bt601", "bt709", "bt2020nc", "bt470bg", "fcc", "smpte170m", "smpte240m")
POSTERIORS = ("mode", "sample", "full")
PROTOCOLS = ("od-vae-paper", "cv-vae-paper")
SHARDS = ("tar", "safetensors")
STORES = (*DTYPES, "int8")
FILE_STORES = (*STORES, "packed")  # where the model is at hand: to pack takes it
SPACES = ("raw", "normalised")

DTYPE_ALIASES = {dtype.torch: name for name, dtype in DTYPES.items()}  # as torch calls them


def one_of(flag: str, values: tuple[str, ...], help: str, aliases: Mapping[str, str] | None = None) -> Any:
    """Make the option of a flag that takes one of `values`; `aliases` are other words for some of them."""

    def parse(
        text: str,
    ) -> str:  # a function: older versions of Typer ask for its name, and a partial has none
        return choose(flag, values, aliases or {}, text)

    return typer.Option(
        flag,
        help=help,
        metavar="|".join(values),
        parser=parse,
        autocompletion=lambda: list(values),
    )


def dtype_option(flag: str, help: str) -> Any:
    """Make the option of a flag that takes a dtype, by our name for it or by torch's."""
    return one_of(flag, tuple(DTYPES), help, DTYPE_ALIASES)


def choose(flag: str, values: tuple[str, ...], aliases: Mapping[str, str], text: str) -> str:
    """Return the one of `values` that is meant; raises UsageError where none is."""
    known = {value.lower(): value for value in values} | aliases
    if (found := known.get(text.strip().lower())) is None:
        raise UsageError(f"{flag} {text}: unknown", f"one of {', '.join(values)}")
    return found
