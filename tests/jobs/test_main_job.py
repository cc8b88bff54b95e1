"""The main job through the command line, on tiny phantoms: train, stop, go on, predict, evaluate; wrong uses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer

from frugalseg.data.phantom import write_phantom
from frugalseg.jobs.run import TrainResult
from tests.faults.corpus import command

TINY = ["--set", "crop=[24,24,24]", "--set", "network.width=8", "--set", "network.blocks=[1,1,1]",
        "--set", "auxiliary.cpc.patch=[8,8,8]", "--set", "auxiliary.cpc.blocks=1",
        "--set", "training.checkpoint_seconds=0.001"]  # fmt: skip


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    code = "from frugalseg.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=4, labelled=2, test=2, shape=(28, 28, 24), seed=1)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def trained(data: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    done = run(
        "train",
        data,
        "--method",
        "sscpcseg",
        "--labels",
        "2",
        "--steps",
        "3",
        "--out",
        out,
        "--store",
        store,
        *TINY,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_run_folder(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "plan.json", "split.json", "run.json", "metrics.csv", "timing.csv", "last"} <= names
    assert len((trained / "metrics.csv").read_text().splitlines()) == 4
    assert json.loads((trained / "split.json").read_text())["labels_read"] == 2


def test_resume_gives_the_same_weights(trained: Path, data: Path, store: Path, tmp_path: Path) -> None:
    from frugalseg.errors import TrainingError
    from frugalseg.jobs import train as job
    from frugalseg.training import loop as looping

    out = tmp_path / "run"
    overrides = [item for item in TINY if item != "--set"] + ["training.steps=3"]

    class Stopped(Exception):
        pass

    original = looping.Loop.step

    def interrupted(self: looping.Loop, step: int, batch: object) -> dict[str, float]:
        if step == 2:
            raise Stopped
        return original(self, step, batch)  # type: ignore[arg-type]

    looping.Loop.step = interrupted  # type: ignore[method-assign]
    try:
        with pytest.raises((Stopped, TrainingError)):
            job.train(data, out, "sscpcseg", labels=2, overrides=overrides, store=store)
    finally:
        looping.Loop.step = original  # type: ignore[method-assign]
    assert json.loads((out / "last" / "state.json").read_text())["step"] == 2
    result = job.train(data, out, "sscpcseg", labels=2, overrides=overrides, store=store, resume=True)
    assert result.step == 3
    for name in ("last/model.safetensors", "last/state.safetensors", "metrics.csv"):
        assert (out / name).read_bytes() == (trained / name).read_bytes(), name
    again = job.train(data, out, "sscpcseg", labels=2, overrides=overrides, store=store, resume=True)
    assert again.step == 3


def test_validation_labels_choose_best_and_a_resumed_run_chooses_the_same(
    data: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frugalseg.jobs import train as job
    from frugalseg.jobs.model import load_model
    from frugalseg.training import loop as looping

    overrides = [item for item in TINY if item != "--set"]
    overrides += ["training.steps=4", "training.average=0.9", "training.validate_every=1"]

    def go(out: Path, resume: bool = False) -> None:
        job.train(data, out, "sscpcseg", labels=2, overrides=overrides, store=store, validation=1, resume=resume)

    go(tmp_path / "a")
    split = json.loads((tmp_path / "a" / "split.json").read_text())
    assert (len(split["labelled"]), len(split["validation"]), split["labels_read"]) == (1, 1, 2)
    looks = (tmp_path / "a" / "validation.csv").read_text().splitlines()
    scores = [float(line.split(",")[1]) for line in looks[1:]]
    assert len(scores) == 4
    best = json.loads((tmp_path / "a" / "best" / "state.json").read_text())
    assert best["step"] == 1 + scores.index(max(scores))
    assert load_model(tmp_path / "a").folder.name == "best"
    assert load_model(tmp_path / "a", "last").step == 4
    original = looping.Loop.step

    def killed(self: looping.Loop, step: int, batch: object) -> dict[str, float]:
        if step == 2:
            raise KeyboardInterrupt
        return original(self, step, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(looping.Loop, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "b")
    go(tmp_path / "b", resume=True)
    for name in ("last/model.safetensors", "last/state.safetensors", "best/model.safetensors", "validation.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_predict_and_evaluate(trained: Path, data: Path, tmp_path: Path) -> None:
    done = run("predict", trained, data, "--out", tmp_path / "p", "--probabilities", "--flips")
    assert done.returncode == 0, done.stderr
    for image in sorted((data / "imagesTs").iterdir()):
        source, label = nib.load(image), nib.load(tmp_path / "p" / image.name)
        assert isinstance(source, nib.Nifti1Image)
        assert isinstance(label, nib.Nifti1Image)
        assert label.shape == source.shape[:3]
        assert np.array_equal(label.affine, source.affine)
        for field in ("qform_code", "sform_code", "quatern_b", "srow_x", "pixdim"):
            assert np.array_equal(label.header[field], source.header[field])
        assert set(np.unique(np.asarray(label.dataobj))) <= {0, 1, 2, 3}
        outside = np.asarray(source.dataobj).max(axis=3) == 0
        assert (np.asarray(label.dataobj)[outside] == 0).mean() > 0.5
    done = run("evaluate", tmp_path / "p", data, "--out", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    assert "whole_tumour" in done.stdout
    assert (tmp_path / "e" / "cases.csv").exists()
    summary = json.loads((tmp_path / "e" / "summary.json").read_text())
    assert summary["n_cases"] == 2


def test_one_case_by_channel_name_equals_the_4d_file(trained: Path, data: Path, tmp_path: Path) -> None:
    image = sorted((data / "imagesTs").iterdir())[0]
    whole = nib.load(image)
    assert isinstance(whole, nib.Nifti1Image)
    options: list[str | Path] = []
    for index, name in enumerate(("FLAIR", "T1w", "T1gd", "T2w")):
        part = np.asarray(whole.dataobj)[..., index]
        nib.save(nib.Nifti1Image(part, whole.affine), tmp_path / f"{name}.nii.gz")
        options = [f"--channel={name}={tmp_path / f'{name}.nii.gz'}", *options]
    assert run("predict", trained, *options, "--case", "it", "--out", tmp_path / "a").returncode == 0
    assert run("predict", trained, image, "--out", tmp_path / "b").returncode == 0
    one, two = nib.load(tmp_path / "a" / "it.nii.gz"), nib.load(tmp_path / "b" / image.name)
    assert isinstance(one, nib.Nifti1Image)
    assert isinstance(two, nib.Nifti1Image)
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
    missing = run("predict", trained, *options[1:], "--out", tmp_path / "c")
    assert missing.returncode == 2
    assert "T2w is missing" in missing.stderr


@pytest.mark.parametrize("case", ["../../evil", "a/b", "..", "a\\b"])
def test_a_prediction_never_leaves_its_folder(case: str, trained: Path, data: Path, tmp_path: Path) -> None:
    from frugalseg.errors import UserError
    from frugalseg.jobs.predict import predict

    image = sorted((data / "imagesTs").iterdir())[0]
    named = dict.fromkeys(("FLAIR", "T1w", "T1gd", "T2w"), image)
    with pytest.raises(UserError, match="cannot name a file"):
        predict(trained, out=tmp_path / "p" / "a" / "b", channels=named, case=case)
    assert list(tmp_path.rglob("*")) == []


def test_going_on_with_other_workers(data: Path, store: Path, tmp_path: Path) -> None:
    from frugalseg.jobs.train import train

    overrides = [item for item in TINY if item != "--set"] + ["training.steps=2"]
    train(data, tmp_path / "run", "sscpcseg", labels=2, overrides=[*overrides, "training.workers=0"], store=store)
    again = [*overrides, "training.workers=1", "training.checkpoint_seconds=9"]
    assert train(data, tmp_path / "run", "sscpcseg", labels=2, overrides=again, store=store, resume=True).step == 2


def test_wrong_uses_end_in_one_line_and_status_2(trained: Path, data: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.nii.gz").write_bytes(sorted((data / "imagesTs").iterdir())[0].read_bytes()[:2000])
    base: list[str | Path] = [
        "train",
        data,
        "--method",
        "sscpcseg",
        "--store",
        store,
        "--out",
        tmp_path / "new",
        *TINY,
        "--steps",
        "1",
    ]
    cases: list[tuple[list[str | Path], str]] = [
        (["predict", trained, tmp_path / "nothing.nii.gz", "--out", tmp_path / "o"], "does not exist"),
        (["predict", trained, tmp_path / "cut.nii.gz", "--out", tmp_path / "o"], "damaged or cut short"),
        ([*base, "--set", "training.stps=1"], "did you mean 'training.steps'"),
        ([*base, "--labels", "0"], "choose 1 to 2"),
        ([*base, "--method", "sscpseg"], "Did you mean 'sscpcseg'"),
        ([*base, "--set", "crop=[25,24,24]"], "cannot be divided"),
        (["train", data, "--out", data, "--store", store], "not empty"),
        ([*base[:-2], "--minutes", "0"], "greater than 0"),
        ([*base, "--set", "auxiliary.cpc.stride=[0,8,8]"], "auxiliary.cpc.stride"),
        ([*base, "--set", "auxiliary.cpc.patch=[-8,8,8]"], "auxiliary.cpc.patch"),
        (
            [*base, "--set", "auxiliary.cpc.pattern=ichimatsu", "--set", "auxiliary.cpc.patch=[16,16,16]"],
            "2 targets",
        ),
        (["demo", "--out", tmp_path / "cut.nii.gz"], "choose another --out"),
        (
            ["predict", trained, tmp_path, "--checkpoint", "../run/last", "--out", tmp_path / "o"],
            "choose last or best",
        ),
        (["check", tmp_path / "empty"], "has no dataset.json"),
        (["evaluate", tmp_path / "empty", data, "--out", tmp_path / "o"], "holds no prediction"),
    ]
    for arguments, message in cases:
        done = command.run(arguments)
        told = "\n".join(done.lines)
        assert done.status == 2, (arguments, told)
        assert message in told, (arguments, told)
        assert "Traceback" not in told
        assert done.lines[-1].startswith("Error: ")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "o").exists()


def test_a_demo_that_is_stopped_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while it trains, it neither predicts with half a model nor ends as if all were well."""
    from frugalseg.cli import demo as command
    from frugalseg.jobs import demo as job

    stopped = TrainResult(tmp_path / "run", 3, 100, signal.SIGTERM)
    monkeypatch.setattr(job, "train", lambda *_, **__: stopped)
    monkeypatch.setattr(job, "write_phantom", lambda *_, **__: None)
    monkeypatch.setattr(job, "check", lambda *_: None)
    monkeypatch.setattr(job, "render", lambda *_: "")
    monkeypatch.setattr(job, "predict", lambda *_: pytest.fail("it went on"))
    with pytest.raises(typer.Exit) as left:
        command.demo(tmp_path / "demo")
    assert left.value.exit_code == 128 + signal.SIGTERM
