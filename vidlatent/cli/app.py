"""The command line as a whole, and the one place where errors become words and exit codes."""

import errno
import io
import os
import signal
import sys
from contextlib import suppress
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
from vidlatent.errors import VidlatentError

SIGNALLED = 128  # and the number of a signal: the exit code of a process that the signal has ended
INTERRUPTED = SIGNALLED + 2  # SIGINT

app = App(
    name="vidlatent",
    help="Videos into latents and back, with video VAEs.",
    epilog="Example: vidlatent encode in.mp4 -o in.latent",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("encode", epilog="Example: vidlatent encode in.mp4 -o in.latent")(encode.command)
app.command("decode", cls=decode.DecodeCommand, epilog="Example: vidlatent decode in.latent -o out.mp4")(
    decode.command
)
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
        bool, typer.Option("--version", "-V", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Videos into latents and back, with video VAEs."""


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    map_large_blocks()
    open_closed_streams()
    print_names_as_they_are()
    listen_to_endings()
    code = run()
    try:
        sys.stdout.flush()
    except OSError:  # said already; what is left must not be tried again while Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def listen_to_endings() -> None:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, end this process as an error would.

    What is half made is then removed. A SIGHUP that is ignored, as `nohup` wants it, stays ignored.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and (name == "SIGTERM" or signal.getsignal(number) != signal.SIG_IGN):
            signal.signal(number, lambda number, _: sys.exit(SIGNALLED + number))


class ClosedStream(io.TextIOBase):
    """Stands in for a stream that whoever started this process has closed: to write is an error."""

    def write(self, text: str) -> int:
        """Refuse."""
        raise OSError(errno.EBADF, "is closed, so nothing can be printed", "stdout")


def open_closed_streams() -> None:
    """Give the first three descriptors to nothing where they are closed, so that no file gets them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = ClosedStream() if sys.stdout is None else sys.stdout
    sys.stderr = open(os.devnull, "w") if sys.stderr is None else sys.stderr  # noqa: SIM115 stays open


def print_names_as_they_are() -> None:
    """Let stdout give back the bytes of file names that are no UTF-8: whoever reads it opens these files."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


def say_interrupted() -> int:
    """Say what Ctrl-C has left behind, and return the exit code for it."""
    print("interrupted: nothing was written under the target's name", file=sys.stderr)
    return INTERRUPTED


def say_ended(code: int) -> int:
    """Say what a request to end has left behind, if anybody listens still, and return its exit code."""
    with suppress(OSError, ValueError):  # the terminal may be gone, and other codes are no signal's
        name = signal.Signals(code - SIGNALLED).name
        print(f"ended by {name}: nothing was written under the target's name", file=sys.stderr)
    return code


def run(words: list[str] | None = None) -> int:
    """Run the command that `words` say, or those of this process, and return the exit code.

    Every error of ours, and the user's own interruption, ends here.
    """
    own_words.set(sys.argv[1:] if words is None else words)
    try:
        code = app(words, prog_name="vidlatent", standalone_mode=False) or 0
        sys.stdout.flush()  # a disk that is full refuses only now
        return say_interrupted() if code == INTERRUPTED else code  # Typer makes this code of Ctrl-C
    except VidlatentError as e:
        complain(e)
        return e.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return say_interrupted()
    except SystemExit as e:  # of `listen_to_endings`
        return say_ended(int(e.code or 0))
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
