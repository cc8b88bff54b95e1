"""Help comes at once, for every command; errors of the command line itself end in a line and status 2."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

COMMANDS = ["check", "prepare", "train", "predict", "evaluate", "demo", "recipes"]


def run(*arguments: str, code: str = "from frugalseg.cli import main; main()") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_every_command_is_listed_with_a_sentence() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        line = next(line for line in done.stdout.splitlines() if line.strip().startswith(command + " "))
        assert len(line.split()) > 4, line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    options = [line for line in done.stdout.splitlines() if line.startswith("  --")]
    assert options
    for line in options:
        assert re.match(r"  --\S+( / --\S+)?( <[^>]+>)?  +\S", line), f"no help: {line}"


@pytest.mark.parametrize("arguments", [(), ("train",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = """
import sys
from frugalseg.cli import app
try:
    app()
except SystemExit:
    pass
heavy = {'torch', 'numpy', 'nibabel', 'scipy', 'matplotlib', 'lightning_fabric', 'rich'} & set(sys.modules)
print('heavy:', sorted(heavy))
"""
    assert "heavy: []" in run(*arguments, "--help", code=code).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("chek", "data"), "check"),
        (("train", "data", "--out", "run", "--metod", "encdec"), "--method"),
        (("train", "data"), "--out"),
        (("train", "data", "--out", "run", "--labels", "six"), "--labels"),
        (("train", "data", "--out", "run", "--validation", "some"), "--validation"),
    ],
)
def test_wrong_words(arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
