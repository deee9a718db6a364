"""The house stands: imports go down the floors, and neighbours on floor 1 never meet."""

import ast
import subprocess
import sys
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
TOPS = {"__init__.py", "__main__.py"}  # they only point at the floors


def floor(module: str) -> str:
    """The floor of a dotted module name; "" is the ground."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else ""


def imports(path: Path) -> set[str]:
    """Every module of ours that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vidlatent"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("vidlatent")}
    return found


FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down_the_floors(file):
    if file.parts[0] in TOPS:
        return
    own = file.parts[0] if len(file.parts) > 1 else ""
    upward = {name for name in imports(PACKAGE / file) if floor(name) not in ALLOWED[own]}
    assert not upward


@pytest.mark.parametrize("module", ["vidlatent", "vidlatent.cli.app", "vidlatent.files", "vidlatent.windows"])
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
