"""Groups of flags: the help shows them in sections, commands get them as values, and errors name them."""

import ast
import re
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Annotated

import pytest
import typer

import vidlatent
from vidlatent.cli import app, console
from vidlatent.cli.sections import App, Flags
from vidlatent.errors import VidlatentError, parameter
from vidlatent.jobs.exchange.export import TOOLS
from vidlatent.jobs.exchange.needs import list_words

PACKAGE = Path(vidlatent.__file__).parent
SECTIONS = (
    *("What to read", "How to cut", "Which model, and where it runs", "Which clips", "What is written"),
    "With --store packed: how small",
)


def all_commands(command, name: str = "") -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Every command with the flags of each of its parameters."""
    yield name.strip(), {param.name: param.opts + param.secondary_opts for param in command.params}
    for word, inner in getattr(command, "commands", {}).items():
        yield from all_commands(inner, f"{name} {word}")


def list_commands(command, name: str = "") -> Iterator[tuple[str, object]]:
    """Every command and group, by its words."""
    yield name.strip(), command
    for word, inner in getattr(command, "commands", {}).items():
        yield from list_commands(inner, f"{name} {word}")


COMMANDS = dict(all_commands(typer.main.get_command(app.app)))
FLAGS = {name: {flag for own in flags.values() for flag in own} for name, flags in COMMANDS.items()}


def flag_in(command: str, name: str) -> str:
    """What a parameter is called while a command runs."""

    def ask() -> str:
        console.own_flags.set({param: flags[0] for param, flags in COMMANDS[command].items()})
        return console.flag(name)

    return copy_context().run(ask)


def named_parameters() -> Iterator[tuple[str, str]]:
    """Every parameter that an error of the package names, and where."""
    texts = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    for path in (path for path, text in texts.items() if "parameter(" in text):
        for node in ast.walk(ast.parse(texts[path])):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "parameter":
                (name,) = node.args
                where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                assert isinstance(name, ast.Constant), (
                    f"{where}: name the parameter by a word, not a variable"
                )
                yield name.value, where


NAMED = dict(named_parameters())


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_parameter_that_an_error_names_is_a_flag_of_some_command(name):
    said = {command: flag_in(command, name) for command in COMMANDS}
    having = [command for command in COMMANDS if said[command] in FLAGS[command]]
    assert having, f"{NAMED[name]} says {set(said.values())}: no such flag; console.FLAGS needs a row"


def test_every_row_of_the_table_of_flags_is_a_flag():
    assert set(console.FLAGS.values()) <= set().union(*FLAGS.values())


def test_a_parameter_is_named_as_the_command_that_runs_names_it():
    assert flag_in("encode", "start") == "--start"
    assert flag_in("decode", "start") == "--start"
    assert flag_in("decode", "images") == "--format"
    assert flag_in("cache run", "chunk_s") == "--chunk"
    assert flag_in("models check", "max_memory") == "--max-memory"


def test_help_shows_the_flags_in_sections(capsys):
    assert app.run(["cache", "run", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["Arguments", *SECTIONS, "Options"]
    assert lines[lines.index("How to cut:") + 1].startswith("  --window")
    assert lines[lines.index("What is written:") + 1].startswith("  -o, --output"), (
        "what is required is first"
    )


@pytest.mark.parametrize("command", ["encode", "decode", "cache run", "bench"])
def test_long_commands_leave_no_flag_without_a_section(command, capsys):
    assert app.run([*command.split(), "--help"]) == 0
    rest = capsys.readouterr().out.partition("\nOptions:\n")[2].split("\n\n")[0]
    assert re.findall(r"--\w+", rest) == ["--quiet", "--verbose", "--help"]


def test_every_command_prints_json_and_shows_an_example():
    commands = dict(list_commands(typer.main.get_command(app.app)))
    leaves = {name for name, command in commands.items() if not hasattr(command, "commands")}
    assert not {name for name in leaves if "--json" not in FLAGS[name]}
    assert all(command.epilog.startswith("Example: vidlatent ") for command in commands.values())


def test_help_names_every_tool_that_a_cache_can_be_exported_to(capsys):
    assert app.run(["cache", "export", "--help"]) == 0
    said = capsys.readouterr().out
    assert set(TOOLS) <= set(re.findall(r"[\w-]+", said))
    assert set(list_words()) <= set(re.findall(r"[\w:.-]+", said)), "with all of its architectures"


class Part(Flags):
    """A group of a toy command."""

    heading = "Part"
    size: Annotated[int, typer.Option("--size", help="How large.")]
    name: Annotated[str, typer.Option("--name", help="Of what.")] = "x"


class LargerPart(Part):
    """A group that has the flags of another one, too."""

    name: Annotated[str, typer.Option("--name", help="Of what.")] = "y"
    deep: Annotated[bool, typer.Option("--deep", help="How deep.")] = False


def toy(part: LargerPart, last: Annotated[int, typer.Option("--last")] = 3) -> tuple:
    """Give back what it got."""
    if part.size < 0:
        raise VidlatentError(f"{parameter('size')} {part.size}: {parameter('no_such')}")
    return part.size, part.name, part.deep, last


@pytest.fixture
def toy_app() -> App:
    made = App()
    assert made.command("toy")(toy) is toy, "Python callers keep the function as it is written"
    made.command("other")(toy)
    return made


@pytest.mark.parametrize(
    ("words", "got"),
    [
        (["--size", "2"], (2, "y", False, 3)),
        (["--deep", "--last", "1", "--name", "z", "--size", "2"], (2, "z", True, 1)),
    ],
)
def test_a_command_gets_its_flags_as_one_value(toy_app, words, got):
    assert toy_app(["toy", *words], standalone_mode=False) == got


def test_a_required_flag_of_a_group_is_required(toy_app):
    with pytest.raises(typer.BadParameter.__base__, match="size"):
        toy_app(["toy"], standalone_mode=False)


def test_a_parameter_without_a_flag_is_named_like_one(toy_app):
    with pytest.raises(VidlatentError) as caught:
        copy_context().run(toy_app, ["toy", "--size", "-1"], standalone_mode=False)
    assert str(caught.value) == "size -1: no_such", "Python callers read the parameter's own name"
    assert caught.value.worded(console.flag)[0] == "--size -1: --no-such"


def test_no_file_name_is_taken_for_a_parameter():
    """Names may hold every character but one, and shift characters once marked parameters."""
    name = "".join(chr(code) for code in range(1, 32)) + "\x0esize\x0f"
    assert VidlatentError(f"{name}: {parameter('size')}").worded(console.flag)[0] == f"{name}: --size"
