"""The weights that a run begins with: those of another run, as far as both have them.

A pre-training (a run without labelled crops) has trained the encoder, its tasks' branches, and the decoder if a
task goes through it; what it has not trained is as it was drawn, and is not taken. Of any other run everything is
taken that has the same name and shape, but the head only if both segment the same structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frugalseg.config import Config
from frugalseg.data.choose import choose_kinds
from frugalseg.data.manifest import Manifest
from frugalseg.data.preprocess import Preparation
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_value, read_json_object
from frugalseg.formats import describing, require_version
from frugalseg.jobs.build import from_facts
from frugalseg.jobs.labels_read import KEY, LabelsRead, labels_read
from frugalseg.jobs.record import RECORD, SPLIT
from frugalseg.networks import MultiTaskNetwork, NetworkSettings
from frugalseg.training.plan import Plan
from frugalseg.training.seal import FORMAT_VERSION, LAST, WEIGHTS, find_intact
from frugalseg.training.state import load_weights

TRUNK = ("encoder", "decoder", "head")


@dataclass(frozen=True)
class Initial:
    """Where weights come from, and what they are the weights of."""

    run: Path
    step: int
    sha256: str
    config: Config
    plan: Plan
    channels: tuple[str, ...]
    scheme: LabelScheme
    labels_read: int
    transductive: bool
    keys: frozenset[str]
    labels: LabelsRead
    weights: Mapping[str, Tensor]

    @property
    def pretrained(self) -> bool:
        """Whether no label was read."""
        return self.config.sampling.labelled == 0

    def to_json(self, own: bool) -> dict[str, Any]:
        """Return what run.json says of it; `own`: it is the recipe's pre-training, in the run's own folder."""
        return {
            "own": own,
            "run": str(self.run.resolve()),
            "method": self.config.method,
            "step": self.step,
            "sha256": self.sha256,
            "labels_read": self.labels_read,
            "labels": self.labels.to_json(),
        }

    @property
    def preparation(self) -> tuple[Preparation, dict[str, str]]:
        """What was done to the images that these weights know, and why."""
        old = Preparation(crop_nonzero=self.config.preprocess.crop_nonzero)
        return self.plan.preparation or old, {"preparation": f"as for the first weights, {self.run}"}

    def sized(self, network: NetworkSettings) -> NetworkSettings:
        """Return the network's settings with the width of these weights, unless one is set."""
        return network if network.width is not None else network.model_copy(update={"width": self.plan.width})

    def require_fit(self, config: Config, plan: Plan, manifest: Manifest) -> None:
        """Refuse weights of a network that looks at other images, or at images otherwise.

        Raises:
            UserError: Names what differs.
        """
        if len(manifest.channels) != len(self.channels):
            raise UserError(
                f"was trained on {len(self.channels)} channels ({', '.join(self.channels)}), these images have "
                f"{len(manifest.channels)} ({', '.join(manifest.channels)})",
                self.run,
            )
        if config.preprocess != self.config.preprocess:
            raise UserError(
                "was trained with other preprocess settings; leave them as they are there, so that the encoder "
                "sees images as it knows them, or pre-train with these",
                self.run,
            )
        kinds = [choose_kinds(names, config.preprocess) for names in (self.channels, manifest.channels)]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"was trained on images scaled as {', '.join(kinds[0])} ({', '.join(self.channels)}), these would "
                f"be as {', '.join(kinds[1])} ({', '.join(manifest.channels)})",
                self.run,
            )
        blocks = [each.network.blocks[: len(plan.strides)] for each in (self.config, config)]
        for what, before, now in (("width", self.plan.width, plan.width), ("blocks", *blocks)):
            if before != now:
                raise UserError(
                    f"has the {what} {before}, this run {now}: its weights do not fit; leave crop and network "
                    "settings out, or pre-train with the same ones",
                    self.run,
                )

    def give(self, network: MultiTaskNetwork, scheme: LabelScheme) -> str:
        """Put the weights into a network and return what was taken, for people.

        Raises:
            DataError: Not even the encoder fits.
        """
        trained = any(task.trains_decoder for task in self.config.auxiliary.values())
        own = network.state_dict()
        taken: dict[str, Tensor] = {}
        for name, tensor in self.weights.items():
            part = name.partition(".")[0]
            if self.pretrained and (part == "head" or (part == "decoder" and not trained)):
                continue
            if part == "head" and scheme.structures != self.scheme.structures:
                continue
            if name in own and own[name].shape == tensor.shape:
                if not torch.isfinite(tensor).all():
                    raise DataError(f"holds NaN or infinite numbers in {name!r}; choose another run", self.run)
                taken[name] = tensor
        lacking = [name for name in own if name.startswith("encoder.") and name not in taken]
        if lacking:
            raise DataError(
                f"has no weight {lacking[0]!r} of the shape {tuple(own[lacking[0]].shape)}; settings of the "
                "network (network.*) must be those that it was trained with",
                self.run,
            )
        network.load_state_dict({**own, **taken})
        return f"first weights from {self.run} ({self.step} steps): {', '.join(_parts(taken))}"


def read_initial(run: Path) -> Initial:
    """Read the last checkpoint of a run; with a running mean, the mean.

    Raises:
        UserError: It is no run, or holds no checkpoint.
        DataError: A file is damaged.
    """
    if not run.is_dir():
        raise UserError("is not a folder; expected one that `frugalseg pretrain` or `train` made", run)
    found = find_intact(run / LAST)
    if found is None:
        raise UserError(f"holds no checkpoint ({LAST}); is it the folder of a run that has ended?", run)
    with describing("a run's state", found.place / "state.json"):
        step, steps = int(found.facts["step"]), int(found.facts["steps"])
    if step < steps:
        raise UserError(
            f"has taken {step} of its {steps} steps; end it first, with its own command and --resume", run
        )
    where = found.place / "model.json"
    facts = read_json_object(where)
    require_version(facts, FORMAT_VERSION, where)
    with describing("a model", where):
        config, plan, channels, scheme = from_facts(facts, where)
        transductive = bool(facts["transductive"])
    split, record = read_json_object(run / SPLIT), read_json_object(run / RECORD)
    with describing("a run", run):
        before = record.get("initial") or {"labels_read": 0}
        labels = labels_read(record, split)
        count = len(labels.trained | labels.chosen)
        if not labels.complete:
            count = int(split["labels_read"]) + int(before["labels_read"])
        seen = {str(key)[:KEY] for key in record["data"]["cases"].values()}
        # The key of a case is that of its image only where nothing else is learnt from it.
        images = dict(record["data"].get("images", {}))
        seen |= {str(file).removeprefix(f"{name}.")[:KEY] for name, file in images.items()}
    weights = load_weights(found.place / "state.safetensors")
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("optimiser.")}
    weights |= load_weights(found.place / WEIGHTS)  # the running mean, where one is kept
    sha256 = hash_value({"files": found.facts["sha256"], "step": step})
    return Initial(
        run, step, sha256, config, plan, channels, scheme, count, transductive, frozenset(seen), labels, weights
    )


def _parts(taken: Mapping[str, Tensor]) -> list[str]:
    """Return the parts that weights belong to: encoder, decoder, head, or a branch's name."""
    names = (name.split(".") for name in taken)
    parts = {name[0] if name[0] in TRUNK else name[1] for name in names}
    return [*(part for part in TRUNK if part in parts), *sorted(parts - set(TRUNK))]
