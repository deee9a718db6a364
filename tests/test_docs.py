"""What README.md and docs/ show is true: their Python runs, and their commands have such flags."""

import re
import shlex
import shutil
from itertools import chain
from pathlib import Path

import click
import pytest
import torch
from helpers import video_clips
from helpers.paths import ROOT
from typer.main import get_command

import vidlatent
from vidlatent.cli.app import app

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>.*?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
WITH_PYTHON = [page for page in PAGES if BLOCK.search(page.read_text())]
NOT_RUN = {  # a reader does not see the remark in front of such a block; here they are listed
    ("README.md", "needs the weights of a pipeline"),
    ("cache.md", "needs a store"),
    ("gpu.md", "needs a GPU"),
    ("python.md", "needs the weights of a pipeline"),
    ("recipes.md", "needs the weights of a pipeline"),
}
FRAMES = 21


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Path:
    """The folder that the examples speak of: a clip, its latents, and a cache of some clips."""
    folder, model = tmp_path_factory.mktemp("docs"), vidlatent.load_model(device="cpu")
    recipe = video_clips.Recipe(stamps=tuple(range(0, 40 * FRAMES, 40)), audio="aac")
    video_clips.make(folder / "in.mp4", recipe)
    vidlatent.encode(folder / "in.mp4", folder / "clip.latent", model)
    (folder / "cache").mkdir()
    for n in range(4):  # a folder of .latent files is read as a cache is
        vidlatent.save_latents(folder / "cache" / f"{n}.latent", torch.randn(1, 16, 9, 6, 8), model, fps=25)
    return folder


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs_as_it_stands(page, things, tmp_path, monkeypatch):
    folder = shutil.copytree(things, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text, names = page.read_text(), {"__name__": "__main__"}
    for found in BLOCK.finditer(text):
        if found["why"] is None:
            before = "\n" * text.count(
                "\n", 0, found.start("code")
            )  # so that errors name the line of the page
            exec(compile(before + found["code"], str(page), "exec"), names)


def test_blocks_that_are_not_run_are_known():
    found = {
        (page.name, block["why"])
        for page in WITH_PYTHON
        for block in BLOCK.finditer(page.read_text())
        if block["why"] is not None
    }
    assert found == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def commands(page: Path) -> list[list[str]]:
    """The words of every command `vidlatent` in the shell blocks of a page."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = chain.from_iterable(cut_into_commands(line) for line in lines)
    return [found[1:] for found in words if found and Path(found[0]).name == "vidlatent"]


def cut_into_commands(line: str) -> list[list[str]]:
    """A line of shell as commands: what stands between ;, && and |."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    lexer.whitespace_split = True
    cut: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&|<>()"):
            cut.append([])
        else:
            cut[-1].append(word)
    return cut


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_in_the_commands_of_a_page_exists(page):
    for words in commands(page):
        command, rest = find_command(words)
        known = set(chain.from_iterable(p.opts + p.secondary_opts for p in command.params)) | {"--help", "-h"}
        flags = {word.partition("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)}
        assert flags <= known, f"{' '.join(words)}: {sorted(flags - known)}"


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words name, through its groups, and what follows."""
    command, context = get_command(app), None
    while hasattr(command, "commands") and words and words[0] in command.commands:
        context = click.Context(command, parent=context)
        command, words = command.commands[words[0]], words[1:]
    return getattr(command, "commands", {}).get("run", command), words  # `cache clips/` is `cache run clips/`
