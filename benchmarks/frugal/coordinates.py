"""Would it help a network to know where in the volume a voxel lies? A data set whose images say so, and runs on it.

Three channels more: each voxel's place along the image's axes, -1 at one end and 1 at the other (z-scores of it;
where a crop reaches beyond the volume they are 0, the middle). Crops are turned, scaled and flipped with
them; changes of intensities leave them alone, in this process: runs need `training.workers=0` and no `--processes`.

Command: python -m benchmarks.frugal.coordinates write DATA OUT
         python -m benchmarks.frugal.coordinates study OUT ...    (as `frugalseg study`)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from frugalseg.cli import main
from frugalseg.data import patches
from frugalseg.data.augment import Draw
from frugalseg.data.intensities import intensities


def write(source: Path, folder: Path) -> None:
    """Write the data set `source` (one channel, Decathlon layout) with three channels more below `folder`."""
    facts: dict[str, Any] = json.loads((source / "dataset.json").read_text())
    number = 0
    for part in ("Tr", "Ts"):
        (folder / f"images{part}").mkdir(parents=True)
        (folder / f"labels{part}").mkdir()
        for path in sorted((source / f"images{part}").glob("*.nii.gz")):
            image = nib.Nifti1Image.from_filename(path)
            values = np.asarray(image.dataobj, np.float32)
            axes = np.meshgrid(
                *(np.linspace(-1, 1, side, dtype=np.float32) for side in values.shape), indexing="ij"
            )
            number += 1  # z-scores undo it; two cases with the same channel would be taken for copies
            axes = [axis * np.float32(1 + number / 1000) for axis in axes]
            found = nib.Nifti1Image(np.stack([values, *axes], axis=-1), image.affine)
            nib.save(found, folder / f"images{part}" / path.name)
        for path in (source / f"labels{part}").glob("*.nii.gz"):
            (folder / f"labels{part}" / path.name).symlink_to(path.resolve())
    facts["modality"] = {"0": "MRI", "1": "place x", "2": "place y", "3": "place z"}
    (folder / "dataset.json").write_text(json.dumps(facts, indent=1) + "\n")


def of_the_first(image: NDArray[np.float32], drawn: Draw) -> NDArray[np.float32]:
    """Change the intensities of the first channel."""
    changed = intensities(image.copy(), drawn)
    changed[1:] = image[1:]
    return changed


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        if any(word.startswith(("--processes", "--ray")) for word in sys.argv):
            raise SystemExit(
                "other processes would change the intensities of all channels; leave out --processes, --ray"
            )
        patches.intensities = of_the_first  # type: ignore[attr-defined]
        main()
