"""Draw docs/images/demo.png, the README's picture, from the best case of the demo in `demo/`.

Command: make demo && .venv/bin/python benchmarks/readme_picture.py
"""

from __future__ import annotations

import base64
from pathlib import Path

from frugalseg.data.manifest import read_manifest
from frugalseg.evaluation import read_cases_csv, summarise
from frugalseg.report.pictures import PictureCase, draw_case

ROOT = Path(__file__).parents[1]


def main() -> None:
    demo = ROOT / "demo"
    best = summarise(read_cases_csv(demo / "evaluation" / "cases.csv")).examples["best"]
    file = f"{best.case}.nii.gz"
    places = (demo / "data/imagesTs" / file, demo / "data/labelsTs" / file, demo / "predictions" / file)
    case = PictureCase(best.case, "best", best.means["dice"], *places)
    uri = draw_case(case, read_manifest(demo / "data").scheme)
    (ROOT / "docs/images/demo.png").write_bytes(base64.b64decode(uri.split(",", 1)[1]))


if __name__ == "__main__":
    main()
