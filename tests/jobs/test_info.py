"""`frugalseg info`: what a run is, quickly and without PyTorch, and which of its files are damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from frugalseg.errors import DataError, UserError
from frugalseg.jobs.info import info, render
from frugalseg.jobs.model import load_model
from frugalseg.training.lock import FolderLock
from tests.faults.micro import STEPS, micro_data, micro_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    micro_run(micro_data(folder / "data"), folder / "run", folder / "store")
    return folder / "run"


def test_it_says_what_the_run_is(run: Path) -> None:
    found = info(run)
    assert (found.method, found.seed, found.step, found.steps) == ("sscpcseg", 0, STEPS, STEPS)
    assert found.labels_read == 3
    assert (len(found.labelled), len(found.validation), found.unlabelled) == (2, 1, 1)
    assert found.deterministic
    assert not found.transductive
    assert found.state == "finished"
    assert {"torch", "numpy", "frugalseg", "python", "threads", "processor", "precision"} <= set(found.machine)
    assert found.checks is None
    text = render(found)
    assert "labels read         3: the first 3 of 3 labelled cases" in text
    assert f"steps               {STEPS} of {STEPS} (100 %)" in text
    with FolderLock(run):
        assert info(run).state.startswith(f"at work: process {os.getpid()} on ")


def test_verify_names_every_damaged_file(run: Path) -> None:
    whole = info(run, verify_files=True)
    assert whole.intact
    assert whole.checks is not None
    assert set(whole.checks) >= {
        "run.json",
        "config.yaml",
        "plan.json",
        "split.json",
        "last",
        "last.previous",
        "best",
    }
    places = {name: name for name in ("run.json", "config.yaml", "plan.json", "split.json")}
    places |= {"last": "last/model.safetensors", "best": "best/state.json"}
    for name, place in places.items():
        path = run / place
        good = path.read_bytes()
        bad = bytearray(good)
        bad[bad.rindex(b"e")] ^= 2
        path.write_bytes(bytes(bad))
        try:
            found = info(run, verify_files=True)
        except DataError:  # so damaged that nothing can be told
            pass
        else:
            assert not found.intact
            assert found.checks is not None
            assert [key for key, text in found.checks.items() if text != "ok"] == [name]
        path.write_bytes(good)


def test_verify_misses_checkpoints_that_were_there(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("last", "last.previous"):
        shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
    found = info(tmp_path / "run", verify_files=True)
    assert found.checks is not None
    assert found.checks["last"] == f"is missing, though {STEPS} steps were taken"


def test_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no run\.json"):
        info(tmp_path)


def test_the_command_imports_no_torch_and_prints_json(run: Path) -> None:
    code = (
        "import sys; sys.argv = ['frugalseg', 'info', sys.argv[1], '--json', '--verify']\n"
        "from frugalseg.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'blosc2', 'nibabel'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["format_version"] == 1
    assert value["step"] == STEPS
    assert set(value["checks"].values()) == {"ok"}


def test_a_best_checkpoint_that_is_gone_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    load_model(tmp_path / "run")
    assert "is missing" not in capsys.readouterr().err
    for name in ("best", "best.previous"):
        shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
    found = info(tmp_path / "run", verify_files=True)
    assert found.checks is not None
    assert found.checks["best"].startswith("is missing, though that of step ")
    assert load_model(tmp_path / "run").folder.name == "last"
    assert "best is missing, though step" in capsys.readouterr().err


def test_what_people_pass_on_names_no_case_and_no_folder(run: Path) -> None:
    facts = json.loads((run / "plan.json").read_text())
    assert facts["reasons"], "the run's own record has them"
    names = [case for part in ("labelled", "validation") for case in getattr(info(run), part)]
    for path in sorted((run / "last").iterdir()):
        if path.suffix == ".json":
            text = path.read_text()
            assert str(run.parent) not in text, path
            assert not [name for name in names if name in text], path
    assert json.loads((run / "last" / "model.json").read_text())["plan"]["reasons"] == {}
