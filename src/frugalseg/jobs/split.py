"""Lay a data set out by a published split: its test cases leave the training folder, where runs could read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from frugalseg.config.load import split_text
from frugalseg.data.imagetypes import image_suffix
from frugalseg.data.manifest import Case, read_manifest, require_files
from frugalseg.data.mend_files import place as placed
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object, write_json, write_text
from frugalseg.jobs.show import bar, say


def split(name: str, data: Path, out: Path) -> None:
    """Write a data set of the same images (hard links where the disk allows it, or copies) in the split's roles.

    Training and validation cases go to imagesTr and labelsTr, test cases to imagesTs and labelsTs, the validation
    cases' names to "validation" in dataset.json, and each budget to budgets/N.txt, for `train --labelled`.

    Args:
        name: A shipped split.
        data: The data set, all of whose cases lie in imagesTr with a label.
        out: Folder for the result; must not exist or be empty.

    Raises:
        UserError: There is no such split, or `out` is not empty.
        DataError: A case of the split is missing.
    """
    chosen: dict[str, Any] = json.loads(split_text(name))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("exists and is not empty; choose another folder", out)
    manifest = read_manifest(data)
    require_files(manifest)
    content = read_json_object(data / "dataset.json")
    raw = "file_ending" in content  # nnU-Net's layout, which lists no files
    cases = {case.name: case for case in manifest.labelled}
    wanted = [*chosen["train"], *chosen["validation"], *chosen["test"]]
    missing = [case for case in wanted if case not in cases]
    if missing:
        raise DataError(
            f"has no labelled case {missing[0]!r} ({len(missing)} of the split's {len(wanted)} are missing); "
            f"expected {chosen['data_set']} as it was downloaded",
            data,
        )
    test = set(chosen["test"])
    with bar("laying out", len(wanted)) as advance:
        for case in wanted:
            _lay(cases[case], out, "Ts" if case in test else "Tr", raw)
            advance()
    for budget in chosen["budgets"]:
        write_text(out / "budgets" / f"{budget}.txt", "\n".join(chosen["train"][:budget]) + "\n")
    if raw:
        content = {key: value for key, value in content.items() if key != "dataset"}
        content["numTraining"] = len(chosen["train"]) + len(chosen["validation"])
    else:
        content["training"] = [
            {"image": f"imagesTr/{cases[case].image.name}", "label": f"labelsTr/{_label_name(cases[case])}"}
            for case in (*chosen["train"], *chosen["validation"])
        ]
        content["test"] = [f"imagesTs/{cases[case].image.name}" for case in chosen["test"]]
        content |= {"numTraining": len(content["training"]), "numTest": len(content["test"])}
    if not any(isinstance(values, list) for values in content["labels"].values()):
        content["regions"] = chosen["regions"]
    content |= {"validation": chosen["validation"], "split": {"name": name, "source": chosen["source"]}}
    write_json(out / "dataset.json", content)
    say(
        f"{out}: {len(chosen['train'])} training, {len(chosen['validation'])} validation and {len(test)} test "
        f"cases; budgets of {', '.join(map(str, chosen['budgets']))} labels in {out / 'budgets'} "
        "(train --labelled FILE)"
    )


def _lay(case: Case, out: Path, part: str, raw: bool) -> None:
    assert case.label is not None
    places = _channel_files(case) if raw else [case.image.name]
    pairs = [(source, f"images{part}/{place}") for source, place in zip(case.images, places, strict=True)]
    for source, place in (*pairs, (case.label, f"labels{part}/{_label_name(case)}")):
        target = out / place
        # A label that trains is never a link: people go on correcting it, and some programs write into the file.
        placed(source, target, link=source != case.label or part != "Tr")


def _label_name(case: Case) -> str:
    assert case.label is not None
    return f"{case.name}{image_suffix(case.label)}"


def _channel_files(case: Case) -> list[str]:
    """Name a case's channel files as nnU-Net does, whatever "dataset" called them."""
    return [f"{case.name}_{place:04d}{image_suffix(file)}" for place, file in enumerate(case.images)]
