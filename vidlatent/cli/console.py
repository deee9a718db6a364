"""What people see: progress and errors on stderr, data on stdout."""

import os
import shlex
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any

import typer

from vidlatent import errors
from vidlatent.files import is_about_name
from vidlatent.printable import make_printable

PLAIN_EVERY_S = 10.0
NUMBERS_COLUMNS = 45  # of a line of progress, beside the name of what it is about
SHORTEST = 9

# Parameters of jobs whose flag has another name. Those that a command's own function calls alike need no row.
FLAGS = {
    "actors": "--ray-actors",
    "address": "--ray-address",
    "buckets": "--bucket",
    "chunk_s": "--chunk",
    "codecs": "--codec",
    "files": "--metric-file",
    "shard_bytes": "--shard-size",
}
# The flags of the command that runs, by the parameters of its function.
own_flags: ContextVar[dict[str, str]] = ContextVar("own_flags")
# Whether the command that runs is quiet, and whether it is verbose.
talk: ContextVar[tuple[bool, bool]] = ContextVar("talk", default=(False, False))
# The words that the command line was called with, for those who want to repeat what a report says.
own_words: ContextVar[list[str]] = ContextVar("own_words")


def complain(error: errors.VidlatentError) -> None:
    """Print an error: one line that says what failed, and one that says what to do."""
    if talk.get()[1]:
        traceback.print_exception(error)
    red, plain = ("\033[31m", "\033[0m") if _coloured() else ("", "")
    what, hint = error.worded(flag)
    print(f"{red}error:{plain} {make_printable(what)}", file=sys.stderr)
    if hint:
        print(f"hint: {make_printable(hint)}", file=sys.stderr)


def name_resource(error: Exception, file: str = "") -> errors.VidlatentError | None:
    """Say of what the system has too little, or what it cannot do; None for a fault of our own.

    Of a name that no file can have, or that this user may not use, it says so.
    `file` is the one that was worked on, where there are several.
    """
    text, where = str(error).lower(), f"{file}: " if file else ""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else where
        what = f"{where}{error.strerror or error}"
        if is_about_name(error):
            return errors.UsageError(what, "check this path: what is there, and who may read and write it")
        return errors.OutOfResources(
            what, "the disk, its network or a limit of the system (`ulimit -a`) fails"
        )
    if errors.is_out_of_memory(error):
        advice = "give --max-memory, e.g. --max-memory 4G, or --tile"
        return errors.OutOfResources(f"{where}out of memory ({error})", advice)
    if "can't start new thread" in text:
        advice = "raise the limit: `ulimit -u`"
        return errors.OutOfResources(f"{where}the system starts no more threads ({error})", advice)
    return None


def flag(parameter: str) -> str:
    """Return the flag of a parameter; where `decode` runs, that of `images` is --format."""
    own = own_flags.get({}).get(parameter) or FLAGS.get(parameter)
    return own or errors.flag(parameter)


def name_command() -> str:
    """The command that runs, as a shell takes it again."""
    return shlex.join(["vidlatent", *own_words.get([])])


def agrees(question: str, default: bool, otherwise: str) -> bool:
    """Whether a person says yes; what is so `otherwise` is said.

    Raises UsageError where nobody is there to answer.
    """
    try:
        if typer.confirm(question, default=default, err=True):
            return True
    except typer.Abort as e:  # Ctrl-C, or the end of what could be read
        typer.echo(err=True)  # ends the line of the question
        raise errors.UsageError(f"{otherwise}: nobody answered", "--yes does not ask") from e
    say(otherwise)
    return False


def say(line: str) -> None:
    """Print a line for people, on stderr, unless they want none."""
    if not talk.get()[0]:
        print(make_printable(line), file=sys.stderr, flush=True)


def say_notice(line: str) -> None:
    """Say one thing that a job assumed, dropped or changed."""
    say(f"note: {line}")


def say_failure(what: str, error: str) -> None:
    """Say what became of something, with the text of its error: what failed, and on a line below the hint."""
    fact, _, hint = error.partition("\nhint: ")
    say(f"{what}: {fact}")
    if hint:
        say(f"  hint: {hint}")


def say_notices(lines: tuple[str, ...] | list[str]) -> None:
    """Say what a job assumed, dropped or changed, a line each."""
    for line in lines:
        say_notice(line)


def counted(number: int, one: str, more: str | None = None) -> str:
    """A number and its noun: 1 file, 2 files; `more` is the plural where it is not `one` and an s."""
    return f"{number} {one if number == 1 else more or one + 's'}"


def print_json(document: Any) -> None:
    """Print the JSON document of a command as the last line of stdout; indented in a terminal."""
    import json

    print(json.dumps(document, indent=2 if sys.stdout.isatty() else None, default=str), flush=True)


def show_facts(facts: dict[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    """Print facts, or rows of the same facts, as a table or as JSON."""
    if as_json:
        print_json(facts)
        return
    from vidlatent.cli import tables  # which loads rich

    tables.show_rows(facts) if isinstance(facts, list) else tables.show_facts(facts)


def _coloured() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def start_progress() -> "Bar | PlainLines":
    """Return what shows the progress: a bar in a terminal, lines elsewhere; they are not said if quiet."""
    quiet = talk.get()[0]
    return Bar() if not quiet and sys.stderr.isatty() and "CI" not in os.environ else PlainLines()


class Bar:
    """A bar with frames, frames per second and time left."""

    def __init__(self) -> None:
        self._bar = None

    def begin(self, what: str, total: int | None) -> None:
        """Start a new bar for `what`."""
        from tqdm import tqdm

        self.close()
        name = shorten(make_printable(os.path.basename(what)), terminal_columns() - NUMBERS_COLUMNS)
        self._bar = tqdm(desc=name, total=total, unit=" frames", dynamic_ncols=True)

    def frames(self, done: int) -> None:
        """Move the bar."""
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def terminal_columns() -> int:
    """How many columns the terminal of stderr has; where nobody can say, as many as most have."""
    try:
        return os.get_terminal_size(2).columns
    except (OSError, ValueError):
        return 80


def shorten(text: str, room: int) -> str:
    """Leave out the middle of a text that is too long; a few characters stay in any case."""
    room = max(SHORTEST, room)
    half = room // 2
    return text if len(text) <= room else f"{text[:half]}…{text[half + 1 - room :]}"


class PlainLines:
    """A line every ten seconds, for logs."""

    def begin(self, what: str, total: int | None) -> None:
        """Say nothing yet: a job of less than ten seconds needs no progress."""
        self._what, self._total = os.path.basename(what), total
        self._began = self._said = time.monotonic()

    def frames(self, done: int) -> None:
        """Print a line, unless the last one is less than ten seconds old."""
        now = time.monotonic()
        if now - self._said < PLAIN_EVERY_S:
            return
        self._said = now
        rate = done / (now - self._began)
        left = f", {(self._total - done) / rate:.0f} s left" if self._total and self._total > done else ""
        of = f" of {self._total}" if self._total else ""
        say(f"{self._what}: {done}{of} frames, {rate:.1f} frames/s{left}")

    def close(self) -> None:
        """Do nothing: there is no bar to end."""
