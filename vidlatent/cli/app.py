"""The command line as a whole, and the one place where errors become words and exit codes."""

import signal
import sys
from typing import Annotated

import typer

import vidlatent
from vidlatent.allocator import map_large_blocks
from vidlatent.cli import (
    bench,
    cache,
    compare,
    compat,
    decode,
    encode,
    importing,
    inspect,
    models,
    peek,
    repack,
)
from vidlatent.cli.console import complain, name_resource, own_words
from vidlatent.cli.measuring import MeasuringCommand
from vidlatent.cli.sections import App
from vidlatent.errors import TERMINATED, VidlatentError

INTERRUPTED = 130

app = App(
    name="vidlatent",
    help="Videos into latents and back, with video VAEs.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("encode", epilog="Example: vidlatent encode in.mp4 -o in.latent")(encode.command)
app.command("decode", epilog="Example: vidlatent decode in.latent -o out.mp4")(decode.command)
app.command("import", epilog=importing.EXAMPLE)(importing.command)
app.command("peek", epilog=peek.EXAMPLE)(peek.command)
app.command("repack", epilog=repack.EXAMPLE)(repack.command)
app.command("inspect", epilog="Example: vidlatent inspect in.latent --verify")(inspect.command)
app.command("bench", cls=MeasuringCommand, epilog=bench.EXAMPLE)(bench.command)
app.command("compare", cls=MeasuringCommand, epilog=compare.EXAMPLE)(compare.command)
app.command("compat", epilog=compat.EXAMPLE)(compat.command)
app.add_typer(cache.app, name="cache")
app.add_typer(models.app, name="models")


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        print(vidlatent.__version__)
        raise typer.Exit


@app.callback()
def general(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Videos into latents and back, with video VAEs."""


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    map_large_blocks()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.exit(run())


def run(words: list[str] | None = None) -> int:
    """Run the command that `words` say, or those of this process, and return the exit code.

    Every error of ours, and the user's own interruption, ends here.
    """
    own_words.set(sys.argv[1:] if words is None else words)
    try:
        return app(words, prog_name="vidlatent", standalone_mode=False) or 0
    except VidlatentError as e:
        complain(e)
        return e.exit_code
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted: nothing was written under the target's name", file=sys.stderr)
        return INTERRUPTED
    except typer.BadParameter.__base__ as e:  # whatever is wrong with the words of the command
        e.show()
        return e.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; say nothing more
        return 0
    except (MemoryError, RuntimeError, OSError) as e:
        if (error := name_resource(e)) is None:
            raise
        complain(error)
        return error.exit_code
