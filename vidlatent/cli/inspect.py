"""`vidlatent inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli.console import print_json


def command(
    file: Annotated[Path, typer.Argument(help="A .latent, a video, an image, or weights.")],
    verify: Annotated[bool, typer.Option("--verify", help="Read everything, and check it.")] = False,
    stream: o.StreamOption = 0,
    as_json: o.JsonOption = False,
) -> int:
    """Tell what a file says about itself."""
    from vidlatent.cli.tables import show_facts
    from vidlatent.jobs.inspect import inspect

    facts = inspect(file, verify, stream)
    print_json(facts) if as_json else show_facts(facts)
    return 0
