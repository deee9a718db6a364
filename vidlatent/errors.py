"""What can go wrong, in words a user can act on: one line of fact, one line of advice, one exit code."""


class VidlatentError(Exception):
    """Base of every error that is the user's to see: what failed, and optionally what to do next."""

    exit_code = 1

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.hint is None else f"{self.what}\nhint: {self.hint}"


class UsageError(VidlatentError):
    """A flag, a name or a combination of them that cannot be meant."""

    exit_code = 2


class BadInput(VidlatentError):
    """A file or tensor given as input that cannot be used."""

    exit_code = 3


class BadVideo(BadInput):
    """A video that cannot be opened, read to its end, or that holds no frames."""


class BadLatentFile(BadInput):
    """A `.latent` file that is torn, foreign, from another version, or whose header lies."""


class BadWeights(VidlatentError):
    """Weights that are missing, do not fit their config, or hold values no network can use."""

    exit_code = 4


class OutOfResources(VidlatentError):
    """Not enough memory or disk for what was asked."""

    exit_code = 5
