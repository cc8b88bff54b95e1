"""Plans that fit made-up machines: what is made smaller first, what is left alone, and what a refusal says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from frugalseg.config import Config, load_config
from frugalseg.data.manifest import read_manifest
from frugalseg.data.phantom import write_phantom
from frugalseg.data.preprocess import Preparation, PreprocessSettings
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import UserError
from frugalseg.jobs import preflight
from frugalseg.jobs.fitting import with_workers_that_fit
from frugalseg.jobs.footprint import Footprint, patches_of
from frugalseg.jobs.needs import LIBRARIES, MIB, Need, Volume, predicting, prepare_bytes, preparing, training
from frugalseg.jobs.needs_text import duration, needs_line, require_disk, shortage, size
from frugalseg.jobs.preflight import Setting, fit, settings_fixed
from frugalseg.jobs.prepare import cases_from_headers, prepare
from frugalseg.jobs.resources import Resources, resident_bytes
from frugalseg.jobs.train import train
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import CpcSettings
from frugalseg.training.plan import Plan
from tests.faults.corpus import command

GIB = 2**30
SCHEME = LabelScheme.from_json({"labels": {"background": 0, "a": 1}})
SETTING = Setting(1, SCHEME, 0)
PLAN = Plan((32, 32, 32), PUBLISHED_STRIDES, ((3, 3, 3),) * 4, 8, (0,), "cpu", "fp32", 2)


def chunk_of(config: Config) -> int | None:
    task = config.auxiliary["cpc"]
    assert isinstance(task, CpcSettings)
    return task.chunk


@pytest.fixture(autouse=True)
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that holds a byte for each voxel of its crops and of the patches in a chunk, times 1000."""

    def simulated(
        config: Config, plan: Plan, channels: int, scheme: LabelScheme, samples: int, labelled: int
    ) -> Footprint:
        voxels = samples * plan.crop[0] * plan.crop[1] * plan.crop[2]
        patches = 0
        if isinstance(task := config.auxiliary.get("cpc"), CpcSettings):
            total = samples * patches_of(task, plan, channels)
            patches = 1000 * 16**3 * min(task.chunk or total, total)
        return Footprint(1000 * voxels + patches, 0, 0, 0, {}, 0, 0)

    monkeypatch.setattr(preflight, "footprint", simulated)
    monkeypatch.setattr(preflight, "TINY", 0)


def room(need: int) -> Resources:
    """A machine on which a need fits with little to spare."""
    return Resources(round(need / 0.95) + MIB, 1)


def needed(config: Config, plan: Plan = PLAN) -> int:
    return preflight.reckon(config, plan, SETTING)[0].ram


def test_what_fits_is_left_alone() -> None:
    config = load_config("cpcseg", ["sampling.labelled=4"])
    same, plan, need, _ = fit(config, PLAN, SETTING, room(needed(config)))
    assert (same, plan) == (config, PLAN)
    assert need.ram == needed(config)


def test_the_chunk_is_made_smaller_before_anything_else() -> None:
    config = load_config("cpcseg", ["sampling.labelled=4"])
    other, plan, need, _ = fit(config, PLAN, SETTING, room(needed(config) - 5 * MIB))
    assert chunk_of(other) is not None
    assert other.sampling == config.sampling
    assert plan.crop == PLAN.crop
    assert "to fit the memory" in plan.reasons["cpc.chunk"]
    assert need.ram < needed(config) - 5 * MIB


def test_then_the_crops_of_a_step_and_then_the_crop() -> None:
    config = load_config("encdec", ["sampling.labelled=4"])
    each = round(1.1 * 1000 * 32**3)
    other, plan, _, _ = fit(config, PLAN, SETTING, room(LIBRARIES + 2 * each))
    assert other.sampling.labelled == 2
    assert "2 labelled" in plan.reasons["batch"]
    assert plan.crop == PLAN.crop
    other, plan, need, _ = fit(config, PLAN, SETTING, room(LIBRARIES + each // 2))
    assert other.sampling.labelled == 1
    assert plan.crop == (32, 16, 16) or plan.crop[0] * plan.crop[1] * plan.crop[2] <= 32**3 // 2
    assert "crop" in plan.reasons
    assert need.ram <= LIBRARIES + each // 2 + MIB


def test_crops_to_mix_stay_in_every_process() -> None:
    """Two processes with a labelled and an unlabelled crop each cannot have fewer: one could not mix."""
    config = load_config("copy-paste", ["sampling.labelled=4", "sampling.unlabelled=4"])
    each = round(1.1 * 1000 * 32**3)
    beside = replace(SETTING, processes=2, world=2)
    for crops, smaller in ((2.2, False), (1.5, True)):
        here = Resources(2 * round((LIBRARIES + crops * each) / 0.95) + MIB, 2)
        found, plan, _, _ = fit(config, PLAN, beside, here)
        assert found.sampling.labelled == found.sampling.unlabelled == 2
        assert ("crop" in plan.reasons) == smaller
    alone, _, _, _ = fit(config, PLAN, SETTING, room(LIBRARIES + round(2.2 * each)))
    assert alone.sampling.labelled == alone.sampling.unlabelled == 1


def test_what_was_set_stays_and_the_refusal_says_what_would_fit() -> None:
    overrides = ["sampling.labelled=4", "crop=[32,32,32]"]
    config = load_config("encdec", overrides)
    fixed = settings_fixed(config, overrides, from_file=False)
    assert fixed == {"sampling.labelled", "crop"}
    each = round(1.1 * 1000 * 32**3)
    with pytest.raises(UserError, match=r"needs .* of memory.*this would fit: --set sampling.labelled=2$"):
        fit(config, PLAN, SETTING, room(LIBRARIES + 2 * each), fixed)
    with pytest.raises(UserError, match=r"sampling.labelled=1 --set crop=\[\d+,\d+,\d+\]$"):
        fit(config, PLAN, SETTING, room(LIBRARIES + each // 2), fixed)
    with pytest.raises(UserError, match="machine with more memory"):
        fit(config, PLAN, SETTING, Resources(MIB, 1), fixed)


def test_settings_of_a_recipe_file_count_as_set() -> None:
    config = load_config("cpcseg", ["auxiliary.cpc.chunk=5"])
    names = {"sampling.labelled", "sampling.unlabelled"}
    assert settings_fixed(config, [], from_file=True) == {*names, "auxiliary.cpc.chunk"}
    assert settings_fixed(config, [], from_file=False) == set()
    assert settings_fixed(config, ["auxiliary.cpc={chunk: 5}"], from_file=False) == {"auxiliary.cpc.chunk"}


def test_needs_by_hand() -> None:
    step = Footprint(1000 * MIB, 10 * MIB, 40 * MIB, 3 * MIB, {}, 0, 0)
    assert training(step, "cpu", 0) == Need(1100 * MIB + LIBRARIES + 6 * MIB, 0, 150 * MIB)
    assert training(step, "cpu", 2).ram - training(step, "cpu", 0).ram == 2 * (64 + 4 * 3) * MIB
    on_gpu = training(step, "cuda", 0)
    assert (on_gpu.ram, on_gpu.gpu) == (LIBRARIES + 6 * MIB, 1100 * MIB + LIBRARIES)
    cases = [Volume(10, 1), Volume(1000, 1), Volume(100, 4)]
    assert prepare_bytes(cases[2]) == 100 * (8 * 4 + 21)
    # The two largest at a time, and never more than there are.
    assert preparing(cases, 2).ram - LIBRARIES // 4 == 1000 * 29 + 100 * 53
    assert preparing(cases, 9).ram - preparing(cases, 3).ram == 0
    assert preparing(cases, 1).disk == 10 * 3 + 1000 * 3 + 100 * 9
    assert predicting(Volume(2000, 1), 2, 0, 0).ram - predicting(Volume(1000, 1), 2, 0, 0).ram == 31900
    whole, half = (predicting(Volume(1000, 1), 8, 0, 0, share).ram for share in (1.0, 0.5))
    assert whole - half == 35200
    assert Volume(1000, 1, (10, 10, 10)).slab((20, 5, 8)) == 0.5


def test_a_shortage_is_told_for_each_kind_of_memory() -> None:
    assert shortage(Need(GIB), Resources(2 * GIB, 1)) is None
    assert "of memory" in str(shortage(Need(GIB), Resources(2 * GIB, 1), processes=2))
    assert "4.0 GiB of GPU memory, and 2.0 GiB" in str(shortage(Need(1, 4 * GIB), Resources(GIB, 1, 2 * GIB)))
    require_disk(Need(0, 0, GIB), GIB, Path("x"))
    with pytest.raises(UserError, match=r"^x: up to 1\.0 GiB .* 512 MiB are free; make room"):
        require_disk(Need(0, 0, GIB), GIB // 2, Path("x"))


def test_the_line() -> None:
    line = needs_line(Need(GIB, 0, 40 * MIB, 540), Resources(15 * GIB, 1), 80 * GIB)
    told = float(line.removeprefix("needs about ").split(" GiB")[0])
    assert told == pytest.approx((GIB + resident_bytes()) / GIB, rel=0.1)
    assert line.endswith("40 MiB of 80.0 GiB disk, about 9 min")
    assert [duration(s) for s in (0.1, 59, 120, 7200)] == ["1 s", "59 s", "2 min", "2.0 h"]
    assert size(3 * GIB / 2) == "1.5 GiB"


def test_a_dry_run_tells_the_plan_and_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phantom(tmp_path / "data", cases=3, labelled=2, test=1, shape=(32, 32, 32))
    out = tmp_path / "run"
    settings = ["training.steps=2", "crop=[16,16,16]"]
    result = train(tmp_path / "data", out, "encdec", overrides=settings, store=tmp_path / "store", dry_run=True)
    assert (result.step, result.steps) == (0, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing is written"
    said = capsys.readouterr().err
    assert "train: needs about" in said
    assert "prepare: needs about" in said
    assert "crop: set" in said


def test_a_dry_run_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantom(tmp_path / "data", cases=3, labelled=2, test=1, shape=(32, 32, 32))
    monkeypatch.chdir(tmp_path)
    words = ["train", "data", "--method", "encdec", "--steps", "2", "--set", "crop=[16,16,16]", "--store", "store"]
    done = command.run([*words, "--dry-run"])
    assert (done.status, any(line.startswith("train: needs about") for line in done.lines)) == (0, True), done
    for more in ([], ["--resume", "--dry-run"]):
        done = command.run([*words, *more])
        assert (done.status, done.lines[-1].startswith("Error: --out: say which folder")) == (2, True), done
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing is written"


def test_cases_from_headers_are_those_that_are_stored(tmp_path: Path) -> None:
    write_phantom(tmp_path / "data", cases=3, labelled=2, test=1, shape=(24, 28, 26))
    preparation = Preparation(crop_nonzero=False, spacing=(2.0, 1.0, 1.0))
    expected = cases_from_headers(read_manifest(tmp_path / "data"), preparation)
    settings = PreprocessSettings(crop_nonzero=False, spacing=(2.0, 1.0, 1.0))
    for one, two in zip(expected, prepare(tmp_path / "data", tmp_path / "store", settings), strict=True):
        assert (one.name, one.shape) == (two.name, two.shape)
        assert one.spacing == pytest.approx(two.spacing)


def test_loader_processes_have_room_for_their_batches() -> None:
    step = Footprint(0, 0, 0, 10 * MIB, {}, 0, 0)
    config = load_config("encdec")
    asked = load_config("encdec", ["training.workers=3"])
    here = Resources(GIB, 8, shared=100 * MIB)  # four batches of 10 MiB each: two processes
    assert with_workers_that_fit(config, 2, 1, step, here) == config
    assert with_workers_that_fit(config, 3, 1, step, here).training.workers == 2
    assert with_workers_that_fit(config, 3, 2, step, here).training.workers == 1
    assert with_workers_that_fit(config, 3, 9, step, here).training.workers == 0
    with pytest.raises(UserError, match=r"^training\.workers: the batches of 3 .* 100 MiB .*; set it to 2, or"):
        with_workers_that_fit(asked, 3, 1, step, here)
    assert with_workers_that_fit(asked, 3, 1, step, Resources(GIB, 8)) == asked
    assert with_workers_that_fit(asked, 3, 1, None, here) == asked
