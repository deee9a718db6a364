"""Every value of every command may be mistyped. That is said, never a traceback, before a model is loaded."""

import inspect
from collections import Counter
from collections.abc import Iterator
from typing import get_args

import pytest
import typer

from vidlatent.cli import app
from vidlatent.engine import load

WORDS = {  # a command of each kind, on a clip of five frames of 16x16
    "encode": "{clip} -o {new}.latent -m toy --device cpu",
    "decode": "{latent} -o {new}.mp4 --device cpu",
    "cache run": "{gone} -o {new} -m toy --device cpu",
    "cache report": "{gone} -o {new}.html",
    "cache verify": "{gone}",
    "cache export": "{gone} -o {new} --to webdataset",
    "bench": "{clip} -m toy --device cpu --runs 1 --metrics psnr",
    "compare": "{clip} {clip} --metrics psnr --device cpu",
    "compat": "{clip} --video-vae toy --image-vae toy --device cpu",
    "peek": "{latent} -o {new}.png",
    "repack": "{latent} -o {new}.latent",
    "inspect": "{clip}",
    "import": "{latent} -o {new}.latent -m toy",
}
TEXTS = {  # flags whose numbers are part of a text
    **dict.fromkeys(
        ("--start", "--end", "--from", "--to", "--frames", "--fps", "--chunk", "--max-memory"), "{}"
    ),
    **dict.fromkeys(("--size", "--area", "--bucket"), "{}x{}"),
    "--crop": "0,0,{},{}",
    "--raw": "{}x{}:rgb24:{}",
    "--rates": "{}",
    "--shard": "0/{}",
    "--shard-size": "{}",
    "--take": "slide:{}",
}
SEEN_BY_READING = "no frame in the span asked for"  # headers may be wrong about the length of a clip
NUMBERS = ("0", "-1", "1" + "0" * 30)
NOT_NUMBERS = {"decode": ("--to",), "cache export": ("--to",)}  # flags of the same name that take words


def list_commands(command, name: str = "") -> Iterator[tuple[str, object]]:
    yield name.strip(), command
    for word, inner in getattr(command, "commands", {}).items():
        yield from list_commands(inner, f"{name} {word}")


def list_numbers(command) -> Iterator[tuple[str, str]]:
    """The flags of a command that take numbers, each with the text around them."""
    kinds = inspect.signature(command.callback).parameters
    for param in command.params:
        if param.name not in kinds:  # --help
            continue
        kind, flag = get_args(kinds[param.name].annotation)[0], param.opts[0]
        if {kind, *get_args(kind)} & {int, float}:
            yield flag, "{}"
        elif flag in TEXTS:
            yield flag, TEXTS[flag]


COMMANDS = dict(list_commands(typer.main.get_command(app.app)))
CASES = [
    (name, flag, text)
    for name, command in COMMANDS.items()
    if command.callback is not None and name
    for flag, text in list_numbers(command)
    if flag not in NOT_NUMBERS.get(name, ())
]


@pytest.fixture
def loaded(monkeypatch) -> Counter:
    """How many models were loaded."""
    count, make = Counter(), load.Model

    def counted(*args: object, **kwargs: object) -> object:
        count["models"] += 1
        return make(*args, **kwargs)

    monkeypatch.setattr(load, "Model", counted)
    return count


@pytest.mark.parametrize(("name", "flag", "text"), CASES)
def test_no_number_is_a_traceback(vidlatent, little, loaded, name, flag, text):
    for number in NUMBERS:
        loaded.clear()
        words = WORDS[name].format(**little).split()
        run = vidlatent(*name.split(), *words, flag, text.format(*[number] * 3))
        assert run.code in (0, 1, 2, 3, 5), run.err
        assert "Traceback" not in run.err
        late = run.code == 2 and loaded["models"] and SEEN_BY_READING not in run.err
        assert not late, f"said after a model was loaded: {run.err}"


def list_words(command) -> Iterator[str]:
    """The flags of a command that take words: names, choices, settings; no paths."""
    kinds = inspect.signature(command.callback).parameters
    for param in command.params:
        if param.name in kinds and param.param_type_name == "option":
            kind = get_args(kinds[param.name].annotation)[0]
            if {kind, *get_args(kind)} & {str, list[str]}:
                yield param.opts[0]


WORD_CASES = [
    (name, flag)
    for name, command in COMMANDS.items()
    if name in WORDS
    for flag in list_words(command)
    if flag not in ("--output", "-o", "--caption-extension")
]


@pytest.mark.parametrize(("name", "flag"), WORD_CASES)
def test_no_word_that_means_nothing_costs_a_model(vidlatent, little, loaded, name, flag):
    words = WORDS[name].format(**little).split()
    run = vidlatent(*name.split(), *words, flag, "foo")
    assert run.code in (0, 1, 2, 3), run.err
    assert "Traceback" not in run.err and not loaded["models"], run.err
