"""Opening a trained model: weights and what they are, checked against their hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from frugalseg.config.schema import Config
from frugalseg.data.preprocess import Preparation
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, read_json_object
from frugalseg.formats import describing, require_version
from frugalseg.inference.window import probabilities, with_flips
from frugalseg.jobs.build import build, deployed_weights, from_facts
from frugalseg.jobs.record import RECORD
from frugalseg.jobs.show import say
from frugalseg.networks import MultiTaskNetwork
from frugalseg.training.plan import Plan, gpu_there
from frugalseg.training.seal import FORMAT_VERSION, WEIGHTS, find_intact
from frugalseg.training.state import BEST, LAST, load_weights


@dataclass(frozen=True)
class Model:
    """A trained network, and what it needs to be told apart from others."""

    network: MultiTaskNetwork
    config: Config
    plan: Plan
    channels: tuple[str, ...]
    scheme: LabelScheme
    folder: Path
    sha256: str
    step: int
    transductive: bool

    @property
    def preparation(self) -> Preparation:
        """What was done to the images that it was trained on."""
        return self.plan.preparation or Preparation(crop_nonzero=self.config.preprocess.crop_nonzero)

    def predict(self, windows: Tensor, flips: bool) -> Tensor:
        """Return probabilities (n, R x K, x, y, z) of windows (n, C, x, y, z), averaged over flips if asked."""

        def once(batch: Tensor) -> Tensor:
            with torch.autocast(self.plan.device, torch.bfloat16, enabled=self.plan.precision == "bf16"):
                logits = self.network.segment(batch.to(self.plan.device))
            return probabilities(logits, self.scheme.groups, self.scheme.classes)

        return with_flips(once, self.plan.mirror_axes if flips else ())(windows)


def load_model(run: Path, checkpoint: str | None = None, device: str | None = None) -> Model:
    """Open the model of a run.

    Args:
        run: The run's folder.
        checkpoint: "last" or "best"; by default `best` where the run has one, which it has only if validation
            labels were part of its budget, else `last`.
        device: "cpu" or "cuda"; by default the GPU if there is one.

    Raises:
        UserError: There is no run or no such checkpoint.
        DataError: A file is damaged or does not fit.
    """
    if not run.is_dir():
        raise UserError("is not a folder; expected one that `frugalseg train --out` made", run)
    if checkpoint not in (None, LAST, BEST):
        raise UserError(f"there is no checkpoint {checkpoint!r}; choose {LAST} or {BEST}", "--checkpoint")
    names = [checkpoint] if checkpoint else [BEST, LAST]
    found = next((item for name in names if (item := find_intact(run / name)) is not None), None)
    if found is None:
        raise UserError(f"holds no checkpoint ({' or '.join(names)}); is it the folder of a training run?", run)
    folder = found.place
    if checkpoint is None and folder.name == LAST:
        _say_best_is_gone(run)
    if found.problem is not None:
        say(f"{found.problem}; the checkpoint before it (step {found.facts['step']}) is used")
    facts = read_json_object(folder / "model.json")
    require_version(facts, FORMAT_VERSION, folder / "model.json")
    with describing("a model", folder / "model.json"):
        config, plan, channels, scheme = from_facts(facts, folder / "model.json")
        if not channels:
            raise ValueError("channels: at least one was expected")
    if config.sampling.labelled == 0:
        raise UserError("is a pre-training, which segments nothing; train on labels first: train --init", run)
    on = device or ("cuda" if gpu_there() else "cpu")
    plan = Plan.from_json({**plan.to_json(), "device": on})
    # Shapes alone at first: what the description asks for is allocated only if the weights are that large, too.
    with describing("a model", folder / "model.json"), torch.device("meta"):
        network = build(config, plan, len(channels), scheme)
    weights = load_weights(folder / WEIGHTS)
    own = network.state_dict()
    for name, tensor in weights.items():
        if name not in own or own[name].shape != tensor.shape:
            raise DataError(
                f"holds a weight {name!r} {tuple(tensor.shape)} that the model does not have; is it "
                "another model's, or another version's?",
                folder,
            )
        if tensor.dtype != own[name].dtype:
            raise DataError(
                f"holds {name!r} of type {tensor.dtype}, {own[name].dtype} is what the model has", folder
            )
        if not torch.isfinite(tensor).all():
            raise DataError(f"holds NaN or infinite numbers in {name!r}: train anew, or take another one", folder)
    missing = sorted(deployed_weights(network) - weights.keys())
    if missing:
        raise DataError(
            f"lacks the weight {missing[0]!r}; was it written by another version of frugalseg?",
            folder / WEIGHTS,
        )
    with describing("a model", folder / "model.json"):
        network = build(config, plan, len(channels), scheme)
    network.load_state_dict(weights, strict=False)
    network.to(on).eval()
    sha256 = hash_file(folder / WEIGHTS)
    return Model(
        network,
        config,
        plan,
        channels,
        scheme,
        folder,
        sha256,
        int(found.facts["step"]),
        bool(facts.get("transductive")),
    )


def _say_best_is_gone(run: Path) -> None:
    """Say that a run's best checkpoint, by its record, is not in its folder, so that another one is used."""
    try:
        best = read_json_object(run / RECORD).get("best")
    except DataError:  # a model that was passed on has no record
        return
    if isinstance(best, dict) and best.get("step"):
        say(f"{run / BEST} is missing, though step {best['step']} was chosen; the last checkpoint is used")
