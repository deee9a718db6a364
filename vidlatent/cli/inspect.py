"""`vidlatent inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli.console import show_facts


def command(
    file: Annotated[
        Path, typer.Argument(help="A .latent, a video, an image, weights, or latents of another program.")
    ],
    verify: Annotated[bool, typer.Option("--verify", help="Read everything, and check it.")] = False,
    stream: o.StreamOption = 0,
    as_json: o.JsonOption = False,
) -> int:
    """Tell what a file says about itself."""
    from vidlatent.jobs.exchange.inspecting import inspect_foreign
    from vidlatent.jobs.inspect import inspect

    foreign = None if stream else inspect_foreign(file, verify)
    show_facts(foreign or inspect(file, verify, stream), as_json)
    return 0
