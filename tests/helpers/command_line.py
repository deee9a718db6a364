"""The command line, run in this process."""

from typing import NamedTuple

from vidlatent.cli import app


class Run(NamedTuple):
    """What one command left behind."""

    code: int
    out: str
    err: str

    def failed(self, code: int, *words: str) -> None:
        """It ended with this code and one clear complaint that has these words."""
        assert self.code == code, self.err
        assert self.err.count("error:") == 1 and "Traceback" not in self.err
        assert all(word in self.err for word in words), self.err


def run_here(capsys, *words: object) -> Run:
    """Run one command; what was printed before it is forgotten."""
    capsys.readouterr()
    code = app.run([str(word) for word in words])
    return Run(code, *capsys.readouterr())
