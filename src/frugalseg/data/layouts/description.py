"""What labels and channels mean where no dataset.json lists the cases: a JSON with the same keys, or a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frugalseg.errors import DataError, did_you_mean
from frugalseg.files import read_json_object

DEFAULT_LABELS = {"background": 0, "foreground": 1}
KEYS = (
    "annotated_classes",
    "channel_names",
    "description",
    "groups",
    "ignore",
    "labels",
    "licence",
    "license",
    "modality",
    "name",
    "reference",
    "regions",
    "regions_class_order",
    "validation",
)


def read_description(path: Path | None) -> dict[str, Any]:
    """Return what the JSON says; without one, labels are background (0) and foreground (1).

    Raises:
        DataError: It is no JSON object, has a key that says nothing here, or lacks "labels".
    """
    if path is None:
        return {"labels": dict(DEFAULT_LABELS)}
    content = read_json_object(path)
    for key in content:
        if key not in KEYS:
            raise DataError(
                f"has the key {key[:60]!r}, which says nothing where a CSV or folders list the cases."
                f"{did_you_mean(key, KEYS)} Known: {', '.join(KEYS)}",
                path,
            )
    if "labels" not in content:
        raise DataError('has no "labels", an object such as {"background": 0, "lesion": 1}', path)
    return content
