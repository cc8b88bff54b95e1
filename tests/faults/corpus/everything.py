"""The corpus as a whole: importing this fills the registry."""

from tests.faults.corpus import (
    compressed,
    geometries,
    headers,
    lists,
    names,
    predictions,
    recipes,
    runs,
    stores,
    voxels,
)
from tests.faults.corpus.registry import LEGAL, MALFORMED

GROUPS = (compressed, headers, geometries, voxels, names, lists, recipes, runs, stores, predictions)

__all__ = ["GROUPS", "LEGAL", "MALFORMED"]
