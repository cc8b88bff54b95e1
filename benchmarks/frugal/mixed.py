"""Dice of the mean of several predictions' probabilities, on the development cases.

    frugalseg predict RUN DATA --flips --no-register --probabilities --out NET
    frugalseg register DATA --labels 6 --seed 100 --probabilities --out LAID
    python -m benchmarks.frugal.mixed DATA NET LAID
    python -m benchmarks.frugal.mixed DATA NET=0.6 LAID=0.4

DATA is the development view (benchmarks/development.py). Prints the mean over cases of the structures' mean Dice,
the spread over cases, the worst case, each structure, and the structures taken as one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from frugalseg.data.manifest import read_manifest, test_labels
from frugalseg.evaluation import dice
from frugalseg.jobs.predict import file_words

SUFFIX = ".nii.gz"


def probabilities(folder: Path, case: str, words: list[str]) -> NDArray[np.float32]:
    """Return the classes' probabilities (K, x, y, z), background first."""
    files = [folder / f"{case}_probability_{word}{SUFFIX}" for word in words]
    found = np.stack([np.asarray(nib.Nifti1Image.from_filename(file).dataobj, np.float32) for file in files])
    return np.concatenate([1 - found.sum(axis=0, keepdims=True), found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("predictions", nargs="+", help="folder, or folder=share")
    given = parser.parse_args()
    parts = [
        (Path(name), float(share or 1)) for name, _, share in (text.partition("=") for text in given.predictions)
    ]
    manifest = read_manifest(given.data)
    if "development" not in manifest.name:
        raise SystemExit(f"{given.data}: is not the development view; nothing is mixed and chosen on test cases")
    words = file_words(manifest.scheme.structures)
    rows = []
    for case, label in sorted(test_labels(manifest.source).items()):
        truth = np.asarray(nib.Nifti1Image.from_filename(label).dataobj)
        mixed = sum(share * probabilities(folder, case, words) for folder, share in parts)
        found = np.asarray(mixed).argmax(axis=0)
        each = [dice(truth == k, found == k) for k in range(1, len(words) + 1)]
        rows.append([float(np.mean(each)), *each, dice(truth > 0, found > 0)])
    table = np.array(rows)
    mean = table.mean(axis=0)
    structures = ", ".join(f"{word} {value:.3f}" for word, value in zip(words, mean[1:]))
    print(
        f"Dice {mean[0]:.4f} (sd {table[:, 0].std(ddof=1):.3f}, worst {table[:, 0].min():.3f}); "
        f"{structures}, all as one {mean[-1]:.3f}; {' + '.join(given.predictions)}"
    )


if __name__ == "__main__":
    main()
