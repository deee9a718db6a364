"""A program that uses vidlatent is understood by type checkers, and by whoever completes names."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT, TESTS

import vidlatent

CLIENT = TESTS / "helpers" / "typed_client.py"
FOLLOWED = CLIENT.with_suffix(".ini")


def run(*words: str) -> subprocess.CompletedProcess:
    """A tool of this environment, in the checkout."""
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", *words, str(CLIENT)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_mypy_finds_no_fault_in_a_program():
    pytest.importorskip("mypy")
    found = run("mypy", "--strict", "--follow-imports=silent", f"--config-file={FOLLOWED}")
    assert found.returncode == 0, found.stdout + found.stderr


def test_pyright_finds_no_fault_in_a_program():
    pytest.importorskip("pyright")
    found = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    try:
        report = json.loads(found.stdout)
    except ValueError:  # the package brings a small program that fetches the checker from npm
        pytest.skip(f"pyright cannot be fetched here: {found.stderr[-200:]}")
    assert report["generalDiagnostics"] == []
    assert report["summary"]["filesAnalyzed"] == 1


def test_type_checkers_read_the_names_that_there_are():
    stub = ast.parse((ROOT / "vidlatent" / "__init__.pyi").read_text())
    homes = {
        alias.asname: node.module
        for node in ast.walk(stub)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == vidlatent._HOMES


def test_the_page_about_python_has_every_public_name():
    table = (ROOT / "docs" / "python.md").read_text().split("## Types")[1]
    assert {*re.findall(r"`(\w+)`", table), "__version__"} == set(vidlatent.__all__)


def test_every_public_name_can_be_completed_and_used():
    assert set(vidlatent.__all__) <= set(dir(vidlatent))
    assert all(getattr(vidlatent, name) is not None for name in vidlatent.__all__)
