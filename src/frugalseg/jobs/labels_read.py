"""Whose labels a run has learnt from: its own, and those that its first weights and its teachers had learnt from.

Cases are told by the content of their images, not by names, which another data set may have, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = 16  # digits of a key in the names of stored files


@dataclass(frozen=True)
class LabelsRead:
    """Keys of the images whose labels trained the weights, and of those whose labels chose among checkpoints.

    `complete`: False where an older version recorded only how many there were.
    """

    trained: frozenset[str]
    chosen: frozenset[str]
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"trained": sorted(self.trained), "chosen": sorted(self.chosen), "complete": self.complete}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> LabelsRead:
        """Read what `to_json` wrote."""
        trained, chosen = (frozenset(str(key) for key in value[name]) for name in ("trained", "chosen"))
        return LabelsRead(trained, chosen, bool(value["complete"]))


def labels_read(record: Mapping[str, Any], split: Mapping[str, Any]) -> LabelsRead:
    """Return what a run has read, given its run.json and split.json.

    Raises:
        KeyError, TypeError, ValueError: They are not what a run writes.
    """
    images = dict(record["data"].get("images", {}))
    keys = {str(name): str(key)[:KEY] for name, key in record["data"]["cases"].items()}
    # The key of a case is that of its image only where nothing else is learnt from it.
    keys |= {name: str(file).removeprefix(f"{name}.")[:KEY] for name, file in images.items()}
    trained = {keys[name] for name in split["labelled"]}
    chosen = {keys[name] for name in split["validation"]}
    complete = True
    for before in (record.get("initial"), *(record.get("teachers") or {"members": []})["members"]):
        if before is None or not before["labels_read"]:
            continue
        if "labels" not in before:
            complete = False
            continue
        known = LabelsRead.from_json(before["labels"])
        trained, chosen, complete = trained | known.trained, chosen | known.chosen, complete and known.complete
    return LabelsRead(frozenset(trained), frozenset(chosen), complete)
