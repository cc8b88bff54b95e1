"""A run's files half-written, changed, copied or cut short: a line, never a wrong run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from frugalseg.config import Config
from frugalseg.data.budget import Split
from frugalseg.data.readers import case_name
from frugalseg.errors import ConfigError, DataError, UserError
from frugalseg.files import hash_file, read_json_object, write_json
from frugalseg.formats import seal
from frugalseg.jobs import record as recording
from frugalseg.jobs.model import load_model
from frugalseg.jobs.preflight import Setting, reckon
from frugalseg.training.lock import FolderLock
from frugalseg.training.plan import Plan
from frugalseg.training.seal import find_intact
from tests.faults.micro import STEPS, differences, micro_data, micro_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, store, and a run that was left alone."""
    folder = tmp_path_factory.mktemp("place")
    micro_data(folder / "data")
    micro_run(folder / "data", folder / "whole", folder / "store")
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    shutil.copytree(place / "whole", tmp_path / "run")
    return tmp_path / "run"


def go_on(place: Path, run: Path) -> Any:
    return micro_run(place / "data", run, place / "store")


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    elif how == "cut":
        path.write_bytes(bytes(content[: len(content) // 2]))
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("before", ["config.yaml", "split.json", "plan.json", "run.json"])
def test_killed_while_the_record_is_written(
    before: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    for name in ("write_text", "write_json"):
        original = getattr(recording, name)

        def stop(path: Path, value: Any, original: Any = original) -> None:
            if path.name == before:
                raise Killed
            original(path, value)

        monkeypatch.setattr(recording, name, stop)
    with pytest.raises(Killed):
        go_on(place, tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run" / "run.json").exists()
    assert go_on(place, tmp_path / "run").step == STEPS
    assert differences(place / "whole", tmp_path / "run") == []


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "missing"])
@pytest.mark.parametrize("name", ["run.json", "config.yaml", "plan.json", "split.json"])
def test_a_spoilt_record_is_refused_by_name(name: str, how: str, place: Path, run: Path) -> None:
    before = hash_file(run / "last" / "model.safetensors")
    spoil(run / name, how)
    with pytest.raises(DataError) as caught:
        go_on(place, run)
    assert name in str(caught.value)
    assert hash_file(run / "last" / "model.safetensors") == before


def test_a_foreign_folder_is_not_written_to(place: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds no run to go on with, but 'chapter\.tex'"):
        go_on(place, tmp_path / "thesis")


def test_a_folder_in_use_is_refused(place: Path, run: Path) -> None:
    with FolderLock(run), pytest.raises(UserError, match="is in use by process"):
        go_on(place, run)


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "state.safetensors", "state.json", None])
def test_a_spoilt_checkpoint_gives_way_to_the_one_before(
    name: str | None, how: str, place: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name is None:  # the whole folder
        shutil.rmtree(run / "last")
        if how != "missing":
            (run / "last").mkdir()
    else:
        spoil(run / "last" / name, how)
    found = find_intact(run / "last")
    assert found is not None
    assert found.place == run / "last.previous"
    assert load_model(run, "last").step == STEPS - 1
    if how != "flipped" and name is not None:
        return  # one kind of damage a file is enough for the slow part
    go_on(place, run)
    line = next(line for line in capsys.readouterr().err.splitlines() if "the checkpoint before it is used" in line)
    assert str(run / "last") in line
    assert differences(place / "whole", run) == []


def test_the_intact_one_survives_being_killed_after_a_fallback(place: Path, run: Path) -> None:
    """The next checkpoint may not push out the only intact one to make room for the damaged one."""
    from frugalseg.training import state as saving

    spoil(run / "last" / "state.safetensors", "flipped")
    state = saving.read_checkpoint(run / "last")
    assert state is not None
    assert find_intact(run / "last") is not None
    shutil.rmtree(run / "last.previous", ignore_errors=True)  # what the next checkpoint does first
    found = find_intact(run / "last")
    assert found is not None
    assert found.facts["step"] == STEPS - 1


def test_a_damaged_best_gives_way_with_a_line(place: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(run / "best" / "model.safetensors", "flipped")
    shutil.rmtree(run / "best.previous", ignore_errors=True)
    go_on(place, run)
    assert "no intact checkpoint of step" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_refused(place: Path, run: Path) -> None:
    facts = read_json_object(run / "last" / "state.json")
    facts["config_sha256"] = "0" * 64
    write_json(run / "last" / "state.json", seal(facts, "seal"))
    with pytest.raises(DataError, match="belongs to a run with other settings"):
        go_on(place, run)


def test_changed_images_are_refused_by_case(place: Path, run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(place / "data", data)
    path = sorted((data / "imagesTr").iterdir())[0]
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    voxels = np.asarray(image.dataobj).copy()
    voxels[12, 12, 12] += 1
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)
    with pytest.raises(DataError, match=f"of case '{case_name(path)}' is not what the run began"):
        micro_run(data, run, place / "store")


def test_other_conditions_are_named_in_one_line(place: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = read_json_object(run / "run.json")
    facts["machine"] |= {"torch": "1.0", "threads": 77, "processor": "abacus"}
    write_json(run / "run.json", seal(facts))
    go_on(place, run)
    line = next(line for line in capsys.readouterr().err.splitlines() if "the run began with" in line)
    assert "torch 1.0 (now 2." in line
    assert "processor abacus (now " in line
    assert "not bit for bit" in line
    assert "threads" not in line, "a deterministic run keeps its number of threads"
    assert "numpy" not in line


def test_a_run_killed_before_its_report_gets_it(place: Path, run: Path) -> None:
    (run / "report.html").unlink()
    assert go_on(place, run).step == STEPS
    assert (run / "report.html").exists()
    spent = json.loads((run / "run.json").read_text())["spent"]
    assert go_on(place, run).step == STEPS
    assert json.loads((run / "run.json").read_text())["spent"] == spent, "a finished run is left as it is"


def test_lost_rows_are_told(place: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "last")  # so that a step is left to do
    lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
    (run / "metrics.csv").write_text("".join(lines[:3] + lines[4:]))
    go_on(place, run)
    assert "rows of steps before 7 are lost" in capsys.readouterr().err


def test_a_run_whose_step_was_made_smaller_to_fit_goes_on_with_the_same_command(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frugalseg.jobs import fitting
    from frugalseg.jobs import run as running

    class Killed(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Killed

    def smaller(config: Config, plan: Plan, setting: Setting, *_: object) -> tuple[Any, ...]:
        sampling = config.sampling.model_copy(update={"unlabelled": 0})
        config = config.model_copy(update={"sampling": sampling})
        return config, plan.because("batch", "1 labelled crop to fit the memory"), *reckon(config, plan, setting)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit", smaller)
        patch.setattr(running.Run, "fit", stop)
        with pytest.raises(Killed):
            go_on(place, run)
    assert "unlabelled: 0" in (run / "config.yaml").read_text()
    assert go_on(place, run).step == STEPS
    assert "unlabelled: 0" in (run / "config.yaml").read_text()


def test_a_run_whose_patches_were_chunked_to_fit_goes_on_where_there_is_more_memory(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frugalseg.jobs import fitting
    from frugalseg.jobs import run as running

    class Killed(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Killed

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "memory_bytes", lambda device: 10 * 2**20)
        patch.setattr(running.Run, "fit", stop)
        with pytest.raises(Killed):
            go_on(place, run)
    assert "chunk: 10" in (run / "config.yaml").read_text()
    done = go_on(place, run)
    assert done.step == STEPS
    assert "chunk: 10" in (run / "config.yaml").read_text()


def test_a_run_goes_on_with_other_chunks_if_told_to(place: Path, run: Path) -> None:
    """They decide rounding only, and a run that was killed for its memory could not go on otherwise."""
    from frugalseg.config import load_config
    from frugalseg.jobs.record import same_run, settings_hash

    split = Split.from_json(read_json_object(run / "split.json"), run / "split.json")
    whole, other = (load_config(run / "config.yaml", words) for words in ([], ["auxiliary.cpc.chunk=3"]))
    changed = same_run(run, other, split)
    assert changed.auxiliary["cpc"] == whole.auxiliary["cpc"].model_copy(update={"chunk": 3})
    assert changed.model_copy(update={"auxiliary": whole.auxiliary}) == whole
    assert same_run(run, whole, split) == whole
    assert settings_hash(other) == settings_hash(whole)
    with pytest.raises(ConfigError, match=r"another 'auxiliary\.cpc\.weight'"):
        same_run(run, load_config(run / "config.yaml", ["auxiliary.cpc.weight=3"]), split)
