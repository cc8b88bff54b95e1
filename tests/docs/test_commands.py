"""Every command that the README and the docs show is run, on tiny phantoms, in the order of its page."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from frugalseg.data.phantom import write_phantom
from tests.faults.corpus import command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Its commands need the task that the page adds; tests/docs/test_add_a_task.py builds it and trains with it.
OWN_TEST = "add-a-task.md"
# What makes the training of a page's command short; everything else is run as it stands there.
SHORT = (
    "--steps 2 --set crop=[24,24,24] --set network.width=8 --set network.blocks=[1,1,1] --set training.workers=0"
)
SHORT_PRE = (
    "--set pretrain.auxiliary.cpc.patch=[8,8,8] --set pretrain.auxiliary.cpc.blocks=1 --set pretrain.steps=2"
)
SHORT_CPC = "--set auxiliary.cpc.patch=[8,8,8] --set auxiliary.cpc.blocks=1"


def shell_lines(page: Path) -> list[str]:
    """Return the commands of a page's sh blocks (those of a cluster are bash blocks), continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    lines = (line.split("  #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def ended(words: Sequence[str]) -> tuple[int, str]:
    """Run a command here, which spares it its imports; one for several processes starts its program again."""
    assert words[0] == "frugalseg", words
    if "--devices" in words:
        program = [sys.executable, "-m", *words]
        process = subprocess.run(program, capture_output=True, text=True, check=False, timeout=300)
        return process.returncode, process.stderr
    done = command.run(words[1:])
    return done.status, "\n".join(done.lines)


def write_table(page: Path, folder: Path) -> None:
    """Write the CSV that the page shows, and the JSON that it shows for it."""
    text = page.read_text(encoding="utf-8")
    table = re.findall(r"^```csv\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    described = re.findall(r"^```json\n(.*?)^```", text.split("## CSV of paths")[1], re.MULTILINE | re.DOTALL)
    (folder / "cases.csv").write_text(table[0])
    (folder / "cases.json").write_text(described[0])


def prepared(line: str) -> str:
    """Shorten a training command: its length and sizes, and every fixed number of minutes or steps."""
    if line.startswith("frugalseg study"):
        line = re.sub(r"--labels \S+", "--labels 1,6 --label-seeds 1", line)
        line = re.sub(r"--steps \S+", "", line)
        patch = "--set sscpcseg:auxiliary.cpc.patch=[8,8,8]" if "sscpcseg" in line else ""
        return f"{line} {SHORT} {patch} --store store"
    if not line.startswith(("frugalseg train", "frugalseg pretrain")):
        return line
    line = re.sub(r"--(minutes|steps) \S+|--quick", "", line)
    method = re.search(r"--method (\S+)", line)
    cpc = method is not None and "cpc" in method[1]
    small = SHORT_PRE if method is not None and "then" in method[1] else SHORT_CPC if cpc else ""
    return f"{line} {SHORT} {small} --store store"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != OWN_TEST], ids=lambda page: page.name)
def test_commands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where the store is without --store
    lines = shell_lines(page)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    if any(line.startswith("frugalseg") for line in lines):
        write_phantom(tmp_path / "DATA", cases=8, labelled=6, test=2, shape=(28, 28, 24), seed=1)
    if page.name == "data.md":
        write_table(page, tmp_path)
    for line in lines:
        if line.startswith("make "):
            assert line.split()[1] in targets, line
            continue
        status, told = ended(shlex.split(prepared(line)))
        assert status == 0, (line, told)


def test_the_readme_shows_the_whole_job() -> None:
    lines = " ".join(shell_lines(ROOT / "README.md"))
    for word in ("make demo", "make test", "check", "train", "predict", "evaluate"):
        assert word in lines


def test_links_to_files_are_not_dead() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
            target = link[0] or link[1]
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), (page.name, target)
