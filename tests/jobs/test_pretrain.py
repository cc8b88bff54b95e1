"""Pre-training reads no label; training begins with its encoder; stopped anywhere, both go on exactly."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from frugalseg.cli import app
from frugalseg.config import Config
from frugalseg.data.phantom import write_phantom
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import ConfigError, UserError
from frugalseg.files import read_json_object
from frugalseg.jobs.card import card
from frugalseg.jobs.folds import train_folds
from frugalseg.jobs.initial import read_initial
from frugalseg.jobs.predict import predict
from frugalseg.jobs.preflight import settings_fixed
from frugalseg.jobs.train import TrainResult, train
from frugalseg.training.loop import Loop

SETTINGS = (
    "crop=[16,16,16]",
    "network.width=8",
    "pretrain.steps=4",
    "pretrain.auxiliary.cpc.patch=[8,8,8]",
    "pretrain.auxiliary.cpc.blocks=1",
    "sampling.labelled=1",
    "training.steps=4",
    "training.learning_rate=0.02",
    "training.checkpoint_seconds=0.001",
    "training.workers=0",
    "training.device=cpu",
    "training.deterministic=true",
    "augment=none",
)
SAME = ("last/model.safetensors", "last/state.safetensors", "metrics.csv")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretraining")
    write_phantom(folder / "data", cases=4, labelled=3, test=1, shape=(24, 24, 24), seed=1)
    run(folder, "whole")
    return folder


def run(place: Path, out: str, *settings: str, **options: Any) -> TrainResult:
    options = {"labels": 2, "method": "cpc-then-encdec", **options}
    return train(place / "data", place / out, overrides=[*SETTINGS, *settings], store=place / "store", **options)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "last" / "model.safetensors")


def assert_same(one: Path, two: Path) -> None:
    for name in SAME:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_every_volume_and_no_label_is_read(place: Path, tmp_path: Path) -> None:
    split = read_json_object(place / "whole" / "pretrain" / "split.json")
    assert (split["labels_read"], split["labelled"], len(split["unlabelled"])) == (0, [], 4)
    assert read_json_object(place / "whole" / "split.json")["labels_read"] == 2
    write_phantom(tmp_path / "data", cases=4, labelled=3, test=1, shape=(24, 24, 24), seed=1)
    for path in [*(tmp_path / "data" / "labelsTr").iterdir(), *(tmp_path / "data" / "labelsTs").iterdir()]:
        path.write_bytes(b"no label")
    run(tmp_path, "alone", pretraining=True)
    assert_same(tmp_path / "alone", place / "whole" / "pretrain")


def test_encoder_from_there_and_the_rest_as_drawn(place: Path) -> None:
    before = weights(place / "whole" / "pretrain")
    initial = read_initial(place / "whole" / "pretrain")
    from frugalseg.jobs.build import build

    config = initial.config.model_copy(update={"auxiliary": {}})
    torch.manual_seed(5)
    network = build(config, initial.plan, len(initial.channels), initial.scheme)
    drawn = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    told = initial.give(network, initial.scheme)
    assert told.endswith("(4 steps): encoder")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if name.startswith("encoder.") else drawn[name]), name
    changed = [name for name in drawn if not torch.equal(drawn[name], network.state_dict()[name])]
    assert changed


def test_a_branch_goes_on_where_the_training_has_it_too(place: Path) -> None:
    joint = ["auxiliary.cpc.kind=cpc", "auxiliary.cpc.patch=[8,8,8]", "auxiliary.cpc.blocks=1"]
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("frugalseg.jobs.run.say", told.append)
        run(place, "joint", *joint, init=place / "whole" / "pretrain")
    assert any(line.endswith("(4 steps): encoder, cpc") for line in told)


def test_two_commands_are_one(place: Path) -> None:
    runner = CliRunner()
    common = [str(place / "data"), "--method", "cpc-then-encdec", "--store", str(place / "store")]
    common += [word for setting in SETTINGS for word in ("--set", setting)]
    first = runner.invoke(app, ["pretrain", *common, "--out", str(place / "first")])
    assert first.exit_code == 0, first.output
    assert_same(place / "first", place / "whole" / "pretrain")
    words = [
        "train",
        "--method",
        "sscpcseg",
        *common,
        "--labels",
        "2",
        "--init",
        str(place / "first"),
        "--out",
        str(place / "second"),
    ]
    second = runner.invoke(app, words)
    assert second.exit_code == 0, second.output
    assert_same(place / "second", place / "whole")
    assert not (place / "second" / "pretrain").exists()
    began = read_json_object(place / "second" / "run.json")["initial"]
    assert (began["step"], began["labels_read"], began["method"]) == (4, 0, "cpc-then-encdec")
    told = runner.invoke(app, ["info", str(place / "second")]).output
    assert re.search(r"began with +the weights of \S+first \(cpc-then-encdec, 4 steps\), which read no label", told)
    assert "Began with the weights of" in card(place / "second")
    assert "which read no label" in (place / "second" / "report.html").read_text()
    again = runner.invoke(app, [*words, "--resume"])
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_stopped_in_either_part_it_ends_the_same(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    original = Loop.step
    taken: list[int] = []

    def step(self: Loop, *arguments: Any) -> dict[str, float]:
        if len(taken) == stop:
            raise RuntimeError("killed")
        taken.append(arguments[0])
        return original(self, *arguments)

    (tmp_path / "data").symlink_to(place / "data")
    (tmp_path / "store").symlink_to(place / "store")
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "step", step)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path, "run")
    run(tmp_path, "run", resume=True)
    assert_same(tmp_path / "run" / "pretrain", place / "whole" / "pretrain")
    assert_same(tmp_path / "run", place / "whole")


def test_no_fold_s_pre_training_sees_its_held_out_images(place: Path) -> None:
    train_folds(place / "data", place / "folds", 3, "cpc-then-encdec", 3, overrides=SETTINGS, store=place / "store")
    for number, held_out in enumerate(read_json_object(place / "folds" / "folds.json")["folds"]):
        split = read_json_object(place / "folds" / f"fold-{number}" / "pretrain" / "split.json")
        assert len(held_out) == 1
        assert len(split["unlabelled"]) == 3
        assert not set(held_out) & set(split["unlabelled"])


def test_validation_images_are_not_in_it_either(place: Path) -> None:
    run(place, "validated", "training.validate_every=4", validation=1)
    validation = read_json_object(place / "validated" / "split.json")["validation"]
    assert len(validation) == 1
    assert not set(validation) & set(
        read_json_object(place / "validated" / "pretrain" / "split.json")["unlabelled"]
    )


def test_from_a_supervised_run_decoder_too_and_the_head_for_the_same_structures(place: Path) -> None:
    initial = read_initial(place / "whole")
    assert not initial.pretrained
    from frugalseg.jobs.build import build

    network = build(initial.config, initial.plan, len(initial.channels), initial.scheme)
    assert initial.give(network, initial.scheme).endswith("encoder, decoder, head")
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in weights(place / "whole").items())
    value = json.loads(json.dumps(initial.scheme.to_json()).replace(initial.scheme.structures[0], "another"))
    other = LabelScheme.from_json(value)
    network = build(initial.config, initial.plan, len(initial.channels), other)
    assert initial.give(network, other).endswith("encoder, decoder")


def test_a_running_mean_begins_with_them(place: Path) -> None:
    settings = ("training.average=0.9", "training.steps=1", "training.learning_rate=1e-12")
    run(place, "mean", *settings, init=place / "whole" / "pretrain")
    before, after = weights(place / "whole" / "pretrain"), weights(place / "mean")
    for name, tensor in before.items():
        if name.startswith("encoder."):
            torch.testing.assert_close(after[name], tensor, rtol=1e-5, atol=1e-7)


def test_what_cannot_be(place: Path, tmp_path: Path) -> None:
    whole = place / "whole" / "pretrain"
    with pytest.raises(UserError, match=r"has the width 8, this run 16: its weights do not fit"):
        run(place, "wide", "network.width=16", init=whole)
    with pytest.raises(UserError, match="is not a folder; expected one that `frugalseg pretrain`"):
        run(place, "none", init=tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no checkpoint"):
        run(place, "none", init=tmp_path)
    with pytest.raises(UserError, match="0 labelled crops are a pre-training: that is `frugalseg pretrain`"):
        run(place, "none", "sampling.labelled=0", "sampling.unlabelled=1")
    with pytest.raises(ConfigError, match="'encdec' has no pre-training; choose a recipe"):
        train(place / "data", place / "none", "encdec", pretraining=True)
    with pytest.raises(ConfigError, match="'edges' learns from labels, of which a pre-training reads none"):
        run(place, "none", "pretrain.auxiliary.edges.kind=boundary")
    with pytest.raises(UserError, match="several processes cannot pre-train and train in one go"):
        run(place, "none", "training.devices=2", "sampling.labelled=2")
    with pytest.raises(UserError, match="is a pre-training, which segments nothing"):
        predict(whole, [place / "data"], tmp_path / "predictions")
    with pytest.raises(UserError, match=r"has the blocks \(1, 2, 2, 4\), this run \(1, 1, 1, 1\)"):
        run(place, "none", "network.blocks=[1,1,1,1]", init=whole)
    assert not (place / "none").exists()
    words = ["train", str(place / "data"), "--folds", "2", "--init", str(whole), "--out", str(tmp_path / "folds")]
    assert "may have seen the held-out images" in str(CliRunner().invoke(app, words).exception)


def test_a_run_goes_on_with_the_weights_it_began_with(place: Path, tmp_path: Path) -> None:
    whole = place / "whole" / "pretrain"
    run(place, "went", init=whole)
    with pytest.raises(UserError, match=r"was begun with --init .*; repeat its command"):
        run(place, "went", "training.steps=4", init=place / "whole", resume=True)
    plain = [item for item in SETTINGS if not item.startswith("pretrain.")]
    train(place / "data", place / "plain", "encdec", 2, overrides=plain, store=place / "store")
    with pytest.raises(UserError, match="was begun without --init; repeat its command"):
        train(place / "data", place / "plain", "encdec", 2, overrides=plain, resume=True, init=whole)


def test_labels_and_test_images_seen_before_are_told(place: Path) -> None:
    run(place, "onwards", init=place / "whole")
    assert "which read 2 labels of its own" in card(place / "onwards")
    run(place, "further", init=place / "onwards")
    assert "which read 2 labels of its own" in card(place / "further"), "the same two labels"
    run(place, "saw-tests", pretraining=True, transductive=True)
    with pytest.raises(UserError, match="has seen the image of the test case"):
        run(place, "none", init=place / "saw-tests")
    run(place, "told", init=place / "saw-tests", transductive=True)
    assert read_json_object(place / "told" / "run.json")["transductive"] is True


def test_the_best_checkpoint_is_not_chosen_by_labels_that_the_first_weights_learnt(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = read_json_object(place / "whole" / "split.json")
    assert len(split["labelled"]) == 2
    more = {"labels": 3, "validation": 2, "init": place / "whole"}
    with pytest.raises(UserError, match="has learnt the label of the validation case 'phantom"):
        run(place, "none", **more)
    assert not (place / "none").exists()
    run(place, "fair", **{**more, "init": place / "whole" / "pretrain"})
    assert read_json_object(place / "fair" / "split.json")["validation"]
    assert "the first weights have seen the images of 2 of 2 validation cases" in capsys.readouterr().err


def test_a_test_image_is_known_under_any_name(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    facts = read_json_object(tmp_path / "data" / "dataset.json")
    (image,) = (tmp_path / "data" / "imagesTs").iterdir()
    shutil.copy(image, tmp_path / "data" / "imagesTr" / "other.nii.gz")
    image.unlink()
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({**facts, "test": []}))
    run(tmp_path, "run", pretraining=True)
    with pytest.raises(UserError, match="has seen the image of the test case"):
        run(place, "none", init=tmp_path / "run")


def test_other_preparation_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="was trained with other preprocess settings"):
        run(place, "none", "preprocess.crop_nonzero=false", init=place / "whole" / "pretrain")


def test_strides_are_those_of_the_weights_whatever_this_crop_would_have(place: Path) -> None:
    run(place, "larger", "crop=[24,24,24]", "network.blocks=[1,2,2,4]", init=place / "whole" / "pretrain")
    strides = [read_json_object(place / name / "plan.json")["strides"] for name in ("larger", "whole/pretrain")]
    assert strides[0] == strides[1]


def test_own_pre_training_and_init_are_not_mixed_up(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was begun with a pre-training of its own; leave --init out"):
        run(place, "whole", init=place / "whole" / "pretrain", resume=True)


def test_a_rehearsal_tells_both_parts_and_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place, "none", dry_run=True)
    told = capsys.readouterr().err
    assert "before it: 4 steps of pre-training (cpc)" in told
    assert told.count("train: needs about") == 2
    assert not (place / "none").exists()


def test_sizes_that_are_set_of_a_pre_training_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[set[str]] = []

    def fixed(config: Config, overrides: list[str], from_file: bool) -> set[str]:
        given.append(settings_fixed(config, overrides, from_file))
        return given[-1]

    monkeypatch.setattr("frugalseg.jobs.train.settings_fixed", fixed)
    run(place, "set", "pretrain.crops=1", "pretrain.auxiliary.cpc.chunk=4", pretraining=True)
    assert given == [{"sampling.labelled", "sampling.unlabelled", "auxiliary.cpc.chunk", "crop"}]


def test_an_unfinished_run_is_no_start(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Loop.step

    def step(self: Loop, number: int, *rest: Any) -> dict[str, float]:
        if number == 2:
            raise RuntimeError("killed")
        return original(self, number, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "step", step)
        with pytest.raises(RuntimeError, match="killed"):
            run(place, "half", pretraining=True)
    with pytest.raises(UserError, match=r"has taken 2 of its 4 steps; end it first"):
        run(place, "after", init=place / "half")


def test_masked_reconstruction_gives_its_decoder_too(place: Path) -> None:
    told: list[str] = []
    settings = [item for item in SETTINGS if ".cpc." not in item]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("frugalseg.jobs.run.say", told.append)
        train(place / "data", place / "rebuilt", "mae-then-encdec", 2, overrides=settings, store=place / "store")
    assert any(line.endswith("(4 steps): encoder, decoder") for line in told)


@pytest.mark.parametrize("kind", ["reconstruction", "deep_supervision", "vae", "boundary"])
def test_tasks_fit_a_decoder_that_appends_its_skips(kind: str, place: Path) -> None:
    settings = [item for item in SETTINGS if ".cpc." not in item and not item.startswith("pretrain.")]
    wide = ["network.skip=concat", f"auxiliary.second.kind={kind}"]
    out = place / f"appended-{kind}"
    train(place / "data", out, "encdec", 2, overrides=[*settings, *wide], store=place / "store")
    row = next(csv.DictReader((out / "metrics.csv").open()))
    assert any(name.startswith("second.") and float(value) > 0 for name, value in row.items() if value)
