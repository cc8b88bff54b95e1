"""Runs with a teacher: no label beyond the budget is read, a stopped run ends alike, the model is the teacher."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from frugalseg.config import load_config
from frugalseg.data.phantom import write_phantom
from frugalseg.errors import ConfigError
from frugalseg.jobs.mixtures import require_same_mixtures
from frugalseg.jobs.model import load_model
from frugalseg.jobs.train import train
from frugalseg.training.loop import Loop

TINY = ["crop=[24,24,32]", "network.width=8", "network.blocks=[1,1,1,1]", "training.steps=4", "training.workers=0"]
METHODS = ["mean-teacher", "copy-paste"]
CPC = ["auxiliary.cpc.kind=cpc", "auxiliary.cpc.patch=[8,8,8]", "auxiliary.cpc.blocks=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=5, labelled=4, test=1, shape=(26, 26, 24), seed=1)
    return folder


def go(data: Path, out: Path, method: str, *more: str, resume: bool = False) -> None:
    store = data.parent / "store"
    train(data, out, method, labels=2, overrides=[*TINY, *more], store=store, resume=resume)


def weights_of(run: Path, file: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(run / "last" / file)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_cpc", [False, True])
def test_a_stopped_run_ends_as_one_that_was_left_alone(
    method: str, with_cpc: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [*(CPC if with_cpc else []), "training.checkpoint_seconds=0.001"]
    go(data, tmp_path / "whole", method, *more)

    class Stopped(Exception):
        pass

    original = Loop.step

    def interrupted(self: Loop, step: int, batch: object) -> dict[str, float]:
        if step == 2:
            raise Stopped
        return original(self, step, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", interrupted)
        with pytest.raises(Stopped):
            go(data, tmp_path / "halves", method, *more)
    go(data, tmp_path / "halves", method, *more, resume=True)
    for file in ("model.safetensors", "state.safetensors"):
        one, two = weights_of(tmp_path / "whole", file), weights_of(tmp_path / "halves", file)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), file
    with (tmp_path / "whole" / "metrics.csv").open() as file_:
        rows = list(csv.DictReader(file_))
    assert all(float(row["consistency.share"]) > 0 for row in rows)
    assert float(rows[0]["consistency.gradient_ratio"]) > 0
    assert with_cpc == ("cpc.info_nce" in rows[0])


@pytest.mark.parametrize(
    ("method", "labelled", "before", "now", "refused"),
    [
        ("copy-paste", 2, 1, 2, False),
        ("copy-paste", 3, 1, 2, True),
        ("copy-paste", 3, 2, 1, True),
        ("copy-paste", 3, 2, 2, False),
        ("mean-teacher", 3, 1, 2, False),
    ],
)
def test_other_processes_that_would_mix_other_crops_are_refused(
    method: str, labelled: int, before: int, now: int, refused: bool
) -> None:
    one, two = (
        load_config(method, [f"training.devices={count}", f"sampling.labelled={labelled}", "sampling.unlabelled=3"])
        for count in (before, now)
    )
    if refused:
        with pytest.raises(ConfigError, match=r"would mix other crops \(copy_paste\); go on with as many"):
            require_same_mixtures(one, two, Path("run"))
    else:
        require_same_mixtures(one, two, Path("run"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["vae", "boundary", "reconstruction", "deep_supervision"])
def test_any_branch_goes_with_any_teacher(task: str, method: str, data: Path, tmp_path: Path) -> None:
    go(data, tmp_path / "run", method, f"auxiliary.second.kind={task}", "training.steps=2")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["consistency.share"]) > 0 for row in rows)
    assert sum(name.startswith("second.") for name in rows[0]) > 0
    assert all(math.isfinite(float(value)) for row in rows for name, value in row.items() if value and "." in name)


@pytest.mark.parametrize("method", METHODS)
def test_labels_outside_the_budget_change_nothing(method: str, data: Path, tmp_path: Path) -> None:
    import json
    import shutil

    go(data, tmp_path / "run", method)
    hidden = set(json.loads((tmp_path / "run" / "split.json").read_text())["unlabelled"])
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    spoilt = [path for path in (copy / "labelsTr").iterdir() if path.name.split(".")[0] in hidden]
    assert len(spoilt) == 2
    for path in spoilt:
        path.write_bytes(b"no image")
    store = tmp_path / "store"
    train(copy, tmp_path / "again", method, labels=2, overrides=TINY, store=store)
    one, two = weights_of(tmp_path / "run"), weights_of(tmp_path / "again")
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("method", METHODS)
def test_the_teacher_moves_the_student_and_is_the_model(
    method: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Loop] = []
    original = Loop.run

    def kept(self: Loop, *args: object) -> int:
        seen.append(self)
        return original(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Loop, "run", kept)
    go(data, tmp_path / "run", method)
    (loop,) = seen
    assert loop.teacher is not None
    teacher = loop.teacher.network.state_dict()
    assert not any(parameter.requires_grad for parameter in loop.teacher.network.parameters())
    assert all(parameter.grad is None for parameter in loop.teacher.network.parameters())
    model = load_model(tmp_path / "run", device="cpu").network.state_dict()
    assert all(torch.equal(model[name], teacher[name]) for name in model)
    student = loop.network.state_dict()
    assert any(not torch.equal(student[name], teacher[name]) for name in model)
    go(data, tmp_path / "without", method, "semisup.weight=1e-9")
    one, two = weights_of(tmp_path / "run"), weights_of(tmp_path / "without")
    assert any(not torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("training.average=null", "semisup needs a teacher"),
        ("sampling.unlabelled=0", "needs labelled and unlabelled crops in every step"),
        ("sampling.mix=published", "needs labelled and unlabelled crops in every step"),
    ],
)
def test_what_it_cannot_do_without_is_asked_for(settings: str, message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        go(data, tmp_path / "run", "mean-teacher", settings)
