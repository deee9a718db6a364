"""CONTRIBUTING.md is true: what it names is there, and every folder of the package has its place in it."""

import re

import pytest
from helpers.paths import ROOT

PAGES = ("CONTRIBUTING.md", "README.md")
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
PROSE = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
QUOTED = re.findall(r"`([^`\n]+)`", PROSE)
ELSEWHERE = {"../shared", ".venv/"}  # made by bin/test, and what may lie beside a checkout
PATHS = {word for text in QUOTED for word in text.split() if "/" in word or word.endswith(".md")} - ELSEWHERE
DRAWN = PAGE.split("## How data flows")[1].split("```")[1]
NAMES = {text for text in QUOTED if re.fullmatch(r"[A-Za-z_]\w*", text)}
NAMES |= set(re.findall(r"[a-z]+_\w+|[A-Z][a-z]+[A-Z]\w+", DRAWN))
SOURCES = [path for folder in ("vidlatent", "tests") for path in (ROOT / folder).rglob("*.py")]


@pytest.fixture(scope="module")
def words() -> set[str]:
    """Every word in the code."""
    return {word for path in SOURCES for word in re.findall(r"\w+", path.read_text())}


@pytest.mark.parametrize("path", sorted(PATHS))
def test_every_path_in_backticks_exists(path):
    assert (ROOT / path).exists()
    assert (ROOT / path).is_dir() == path.endswith("/"), "folders end with a slash, files do not"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_on_the_page_is_in_the_code(words, name):
    assert name in words


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text())
    assert all((ROOT / link).exists() for link in links if "://" not in link)


def test_every_folder_of_the_package_has_its_place_on_the_page():
    folders = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("vidlatent/**/__init__.py")}
    assert {f"{folder}/" for folder in folders} <= PATHS


@pytest.mark.parametrize(
    ("table", "file"),
    [
        ("FAMILY_MODULES", "vidlatent/models/registry.py"),
        ("METRICS", "vidlatent/metrics/table.py"),
        ("TOOLS", "vidlatent/jobs/exchange/export.py"),
        ("VideoVAE", "vidlatent/models/base.py"),
        ("TimeRule", "vidlatent/windows.py"),
        ("Metric", "vidlatent/metrics/base.py"),
        ("Tool", "vidlatent/jobs/exchange/tool.py"),
        ("Form", "vidlatent/io/coded/form.py"),
        ("FORMS", "vidlatent/io/coded/table.py"),
    ],
)
def test_what_one_adds_to_is_where_the_page_says(table, file):
    assert re.search(rf"`{table}`[^`]*`{re.escape(file)}`", PROSE)
    assert re.search(rf"^(class )?{table}\b", (ROOT / file).read_text(), re.MULTILINE)
