"""The house stands: imports go down the floors and along the shelves, never up, and never in a circle."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "vidlatent"
ALLOWED = {  # what each floor may import from
    "cli": {"cli", "jobs", ""},
    "jobs": {"jobs", "engine", "io", "models", "metrics", "assets", ""},
    "engine": {"engine", "models", ""},
    "io": {"io", ""},
    "models": {"models", ""},
    "metrics": {"metrics", ""},
    "": {""},
}
SHELVES = {  # of floors that have shelves: what each shelf may import from, beside its own files
    "io": set(),  # the files that lie on no shelf
    "io/coded": {"io"},
    "io/sources": {"io"},
    "io/picture": set(),
    "io/latent": {"io", "io/coded", "io/picture"},
    "io/read": {"io", "io/picture", "io/sources"},
    "io/sound": {"io", "io/picture", "io/read", "io/sources"},
    "io/write": {"io", "io/picture", "io/read", "io/sound"},
    "jobs": set(),
    "jobs/reading": set(),
    "jobs/small": {"jobs"},
    "jobs/measure": {"jobs", "jobs/reading", "jobs/small"},
    "jobs/report": {"jobs", "jobs/cache", "jobs/measure"},
    "jobs/cache": {"jobs", "jobs/reading", "jobs/small"},
    "jobs/readback": {"jobs/cache"},
    "jobs/exchange": {"jobs", "jobs/cache", "jobs/readback"},
}
TOPS = {"__init__.py", "__main__.py"}  # they only point at the floors
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))


def module_of(file: Path) -> str:
    """The dotted name of a file of the package."""
    parts = file.with_suffix("").parts
    return ".".join(("vidlatent", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_of(file): file for file in FILES}


def floor(module: str) -> str:
    """The floor of a dotted module name; "" is the ground."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else ""


def shelf(file: Path) -> str:
    """The folder that a file lies in, seen from the package."""
    return file.parent.as_posix()


def imports(source: str) -> set[str]:
    """Every name of ours that Python code imports, wherever in the code: at its top, or in a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole module, so that they can be found"
            if (node.module or "").split(".")[0] == "vidlatent":
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "vidlatent"}
    return found


def imported_modules(file: Path) -> set[str]:
    """Every module of ours that a file imports, or imports something from."""
    found = imports((PACKAGE / file).read_text())
    return {name if name in MODULES else name.rpartition(".")[0] for name in found} & MODULES.keys()


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """The largest sets of names that all lead to one another."""
    reached = {name: _reached(graph, name) for name in graph}
    return {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    }


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down_the_floors(file):
    if file.parts[0] in TOPS:
        return
    own = file.parts[0] if len(file.parts) > 1 else ""
    upward = {name for name in imports((PACKAGE / file).read_text()) if floor(name) not in ALLOWED[own]}
    assert not upward


@pytest.mark.parametrize("file", [file for file in FILES if shelf(file) in SHELVES], ids=str)
def test_imports_go_down_the_shelves(file):
    own = shelf(file)
    beside = {shelf(MODULES[name]) for name in imported_modules(file) if floor(name) == file.parts[0]}
    assert not beside - SHELVES[own] - {own}


def test_every_shelf_of_a_floor_with_shelves_has_its_row():
    floors = {name.split("/")[0] for name in SHELVES}
    assert {shelf(file) for file in FILES if file.parts[0] in floors} == SHELVES.keys()


def test_shelves_have_an_order():
    assert not circles(SHELVES)


def test_no_files_import_each_other_in_a_circle():
    assert not circles({name: imported_modules(file) for name, file in MODULES.items()})


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}, "f": {"a"}}
    assert circles(graph) == {frozenset("bc"), frozenset("e")}


def test_imports_in_functions_are_seen():
    code = "import vidlatent.files\ndef f():\n    from vidlatent.io.latent import header, layout\n"
    assert imports(code) == {"vidlatent.files", "vidlatent.io.latent.header", "vidlatent.io.latent.layout"}


@pytest.mark.parametrize("module", ["vidlatent", "vidlatent.cli.app", "vidlatent.files", "vidlatent.windows"])
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_folder_of_the_package_goes_into_the_wheel():
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {".".join(("vidlatent", *file.parent.parts)) for file in FILES}
    assert set(settings["packages"]) == folders | {"vidlatent.assets"}
