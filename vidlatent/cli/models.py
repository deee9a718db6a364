"""`vidlatent models`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli.console import agrees, print_json, say, show_facts
from vidlatent.cli.sections import App

app = App(help="List, show, check and fetch models.", epilog="Example: vidlatent models list")
Name = Annotated[str, typer.Argument(help="Name of a model.")]


@app.command("list", epilog="Example: vidlatent models list")
def list_models(as_json: o.JsonOption = False) -> int:
    """List all models: shape, licence, and whether weights are here.

    The column `trust` says what is known of published weights: their hash, their commit, or nothing until
    the first download.
    """
    from vidlatent.jobs.models import list_missing_extras, list_models

    show_facts([asdict(row) for row in list_models()], as_json)
    for line in list_missing_extras():
        say(line)
    return 0


@app.command(epilog="Example: vidlatent models show od-vae-1.2")
def show(name: Name, as_json: o.JsonOption = False) -> int:
    """Show every fact of a model."""
    from vidlatent.jobs.models import describe_model

    show_facts(describe_model(name), as_json)
    return 0


@app.command(epilog="Example: vidlatent models check weights/model.safetensors --config weights/config.json")
def check(
    path: Annotated[Path, typer.Argument(help="Folder or weight file.")],
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> int:
    """Check that weights fit their network, strictly."""
    from vidlatent.jobs.models import check as check_weights

    show_facts(check_weights(path, config), as_json)
    return 0


@app.command(epilog="Example: vidlatent models pull od-vae-1.2 --yes")
def pull(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: o.JsonOption = False,
) -> int:
    """Fetch a model's weights, after a question.

    It is shown before how large they are, what their licence is, and why they will be believed.
    """
    from vidlatent.jobs.models import look_up_download
    from vidlatent.jobs.models import pull as fetch

    offer = look_up_download(name)
    size = f"{offer.bytes / 1e6:.0f} MB" if offer.bytes else "size unknown"
    say(f"{name}: {offer.where}, {size}, licence: {offer.licence}")
    say(f"trusts: {offer.trust}")
    if not yes and not agrees("Fetch it?", True, "nothing was fetched"):
        return 1
    path = fetch(name)
    print_json({"model": name, "weights": path}) if as_json else print(path)
    return 0
