"""Run benchmarks by name, all by default: `python -m benchmarks.speed [NAME ...]`; see the package."""

from __future__ import annotations

import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.speed.machine import describe

NAMES = ("limits", "step", "methods", "prediction", "evaluation", "patches", "preprocessing", "growth", "start")
RESULTS = Path(__file__).parents[1] / "results" / "speed"


def main(names: list[str]) -> None:
    """Run each and write its results."""
    if unknown := sorted(set(names) - set(NAMES)):
        raise SystemExit(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        print(f"== {name}", flush=True)
        module = importlib.import_module(f"benchmarks.speed.{name}")
        values, text = module.main()
        machine = describe()
        day = datetime.now(UTC).date().isoformat()
        kept = {"date": day, "machine": machine, **values}
        (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
        packages = ", ".join(f"{key} {value}" for key, value in machine["packages"].items())
        where = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
        where += f", Python {machine['python']}"
        notes = (module.__doc__ or "").strip().split("\n\n")
        title, rest = notes[0], "\n\n".join(notes[1:])
        command = f"`make bench NAMES={name}`, {day}: {where}; {packages}. Medians of alternating runs."
        (RESULTS / f"{name}.md").write_text(f"# {title}\n\n{rest}\n\n{command}\n\n{text}")


if __name__ == "__main__":
    main(sys.argv[1:])
