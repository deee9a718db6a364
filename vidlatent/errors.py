"""The errors that users see: what failed, in one line, what to do next, in one line, and an exit code."""

import re
from collections.abc import Callable

TERMINATED = 143  # the exit code of a process that was asked to end by SIGTERM: 128 + 15

_MARK = "\0"  # around a parameter's name: the one character that no file name can hold
_PARAMETER = re.compile(f"{_MARK}([a-z_]+){_MARK}")


def parameter(name: str) -> str:
    """Mark the name of a parameter in the text of an error.

    A caller in Python reads `max_memory`, a user of the command line reads `--max-memory`: the code that
    raises knows what is wrong, and only the command line knows which flag the user gave.
    """
    return f"{_MARK}{name}{_MARK}"


def flag(name: str) -> str:
    """How the command line says a parameter: `max_memory` is `--max-memory`."""
    return f"--{name.replace('_', '-')}"


class VidlatentError(Exception):
    """Base of every error that is shown to the user: what failed, and optionally what to do next."""

    exit_code = 1

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what, hint)

    @property
    def what(self) -> str:
        """What failed, with parameters named as in Python."""
        return self.worded(str)[0]

    @property
    def hint(self) -> str | None:
        """What to do next, with parameters named as in Python."""
        return self.worded(str)[1]

    def worded(self, name_of: Callable[[str], str]) -> tuple[str, str | None]:
        """What failed and what to do next, with each parameter as `name_of` says it."""
        what, hint = (text and _PARAMETER.sub(lambda found: name_of(found[1]), text) for text in self.args)
        return what, hint

    def text(self, name_of: Callable[[str], str]) -> str:
        """Fact and advice, a line each, with each parameter as `name_of` says it."""
        what, hint = self.worded(name_of)
        return what if hint is None else f"{what}\nhint: {hint}"

    def __str__(self) -> str:
        return self.text(str)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error tells of too little memory, as PyTorch says it on a GPU and on a CPU."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def say_instead(error: VidlatentError, copy: str, name: str) -> VidlatentError:
    """The same error, with the name of a file in place of that of the copy which was read."""
    return type(error)(*(words and words.replace(copy, name) for words in error.args))


class UsageError(VidlatentError):
    """A parameter, a name, or a combination of them that makes no sense."""

    exit_code = 2


class BadInput(VidlatentError):
    """A file or tensor given as input that cannot be used."""

    exit_code = 3


class BadVideo(BadInput):
    """A video that cannot be opened, read to its end, or that holds no frames."""


class BadLatentFile(BadInput):
    """A `.latent` file that is cut off, of another format or version, or whose header is false."""


class BadWeights(VidlatentError):
    """Weights that are missing, do not fit their config, or hold values no network can use."""

    exit_code = 4


class OutOfResources(VidlatentError):
    """Not enough memory or disk for what was asked."""

    exit_code = 5
