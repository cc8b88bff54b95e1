"""How much of the segmentation a frozen encoder already tells: a linear classifier on its maps, voxel by voxel.

    .venv/bin/python -m benchmarks.cpc.probe SOURCE STORE RUN [RUN ...] --out FILE

For each run (a training or a pre-training) the classifier is fitted on voxels of the label set that --seed and
--labels name, whatever the run itself has read, and scored by Dice on the cases of dev_cases.json. `random` is
an encoder as it is drawn. SOURCE is Task04_Hippocampus with its dev_cases.json; its test cases are not looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from frugalseg.data.budget import make_split
from frugalseg.data.manifest import read_manifest
from frugalseg.data.store import ArrayCache, StoredCase
from frugalseg.files import write_json
from frugalseg.jobs.build import build
from frugalseg.jobs.initial import Initial, read_initial
from frugalseg.jobs.prepare import prepared
from frugalseg.networks import MultiTaskNetwork

VOXELS = 10_000  # of a labelled case
PENALTY = 1e-3


def features(network: MultiTaskNetwork, image: Tensor, levels: Sequence[int]) -> Tensor:
    """Return (voxels, channels): the maps of some levels of an image (C, x, y, z), brought to its voxels."""
    sides = image.shape[1:]
    padding = [part for side in reversed(sides) for part in (0, -side % 8)]
    whole = functional.pad(image[None], padding)
    with torch.inference_mode():
        maps = network.encoder(whole, torch.zeros(1, dtype=torch.int64))
    parts = [
        functional.interpolate(maps[level].float(), whole.shape[2:], mode="trilinear", align_corners=True)
        for level in levels
    ]
    joined = torch.cat(parts, dim=1)[0, :, : sides[0], : sides[1], : sides[2]]
    return joined.flatten(1).T.clone()


def fit(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, spread and weights of a logistic regression with a quadratic penalty."""
    centre, spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    scaled = functional.pad((x - centre) / spread, (0, 1), value=1.0)
    weights = torch.zeros(scaled.shape[1], classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(scaled @ weights, y) + PENALTY * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return centre, spread, weights.detach()


def volumes(cases: Sequence[StoredCase]) -> Iterator[tuple[Tensor, Tensor]]:
    """Return image and label of each case."""
    arrays = ArrayCache()
    for case in cases:
        assert case.label is not None
        image = np.asarray(arrays.open(case.image)[:], np.float32)
        yield torch.from_numpy(image), torch.from_numpy(np.asarray(arrays.open(case.label)[:])[0].astype(np.int64))


def probe(
    network: MultiTaskNetwork, labelled: Sequence[StoredCase], held: Sequence[StoredCase], levels: Sequence[int]
) -> list[float]:
    """Return each held case's mean Dice over its structures."""
    network.eval()
    generator = np.random.default_rng(0)
    xs, ys = [], []
    for image, label in volumes(labelled):
        places = torch.from_numpy(generator.choice(label.numel(), min(VOXELS, label.numel()), replace=False))
        xs.append(features(network, image, levels)[places])
        ys.append(label.flatten()[places])
    classes = int(max(int(y.max()) for y in ys)) + 1
    centre, spread, weights = fit(torch.cat(xs), torch.cat(ys), classes)
    scores = []
    for image, label in volumes(held):
        scaled = functional.pad((features(network, image, levels) - centre) / spread, (0, 1), value=1.0)
        found, truth = (scaled @ weights).argmax(dim=1), label.flatten()
        each = [
            2 * int(((found == k) & (truth == k)).sum()) / int((found == k).sum() + (truth == k).sum())
            for k in range(1, classes)
        ]
        scores.append(mean(each))
    return scores


def encoder_of(initial: Initial, drawn: bool = False) -> MultiTaskNetwork:
    """Return a network with a run's encoder, or with one as it is drawn."""
    torch.manual_seed(0)
    config = initial.config.model_copy(update={"auxiliary": {}})
    network = build(config, initial.plan, len(initial.channels), initial.scheme)
    if not drawn:
        initial.give(network, initial.scheme)
    return network


def main() -> None:
    """Probe every run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--labels", type=int, default=6)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    manifest = read_manifest(options.source)
    dev = json.loads((options.source / "dev_cases.json").read_text())["dev"]
    view = [case for case in manifest.training if case.name not in dev]
    named = make_split(replace(manifest, training=tuple(view)), options.labels, options.seed)
    rows: list[dict[str, Any]] = []
    for number, run in enumerate(options.runs):
        initial = read_initial(run)
        readable = {*named.labelled, *dev}
        cases = {case.name: case for case in prepared(manifest, readable, options.store, initial.preparation[0])}
        labelled, held = ([cases[name] for name in names] for names in (named.labelled, dev))
        count = len(initial.plan.strides)
        networks = {"random": encoder_of(initial, drawn=True)} if number == 0 else {}
        networks[str(run)] = encoder_of(initial)
        for name, network in networks.items():
            row: dict[str, Any] = {"run": name, "method": initial.config.method if name != "random" else "random"}
            for title, levels in (("all", range(count)), ("deepest", [count - 1]), ("finest", [0])):
                scores = probe(network, labelled, held, list(levels))
                row[title] = round(mean(scores), 4)
            rows.append(row)
            print(row, flush=True)
    write_json(options.out, {"labels": options.labels, "seed": options.seed, "rows": rows})


if __name__ == "__main__":
    main()
