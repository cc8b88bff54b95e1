"""What preflight expects of a training step against what it takes: peak memory and time.

Each setting has a process of its own. Memory is the operating system's figure (VmHWM) after three steps; time is
the processor's (process_time) for the shorter of the second and third step, with one thread, so that other work on
the machine changes it little. Random voxels.

Command: .venv/bin/python -m benchmarks.preflight
Preparing and predicting are measured on one large phantom.
Writes benchmarks/results/preflight/README.md and steps.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "preflight"
# method, crop, width, crops a step, precision, patches at a time
SETTINGS: list[tuple[str, tuple[int, int, int], int, int, str, int | None]] = [
    ("encdec", (40, 48, 32), 8, 4, "fp32", None),
    ("encdec", (64, 64, 64), 8, 2, "bf16", None),
    ("encdec", (48, 48, 32), 16, 4, "fp32", None),
    ("vaeseg", (40, 48, 32), 8, 4, "fp32", None),
    ("boundseg", (40, 48, 32), 8, 4, "bf16", None),
    ("boundseg", (64, 64, 32), 8, 4, "fp32", None),
    ("cpcseg", (40, 48, 32), 8, 4, "bf16", None),
    ("cpcseg", (40, 48, 32), 8, 4, "bf16", 30),
    ("sscpcseg", (40, 48, 32), 8, 4, "fp32", None),
    ("ssvaeseg", (48, 48, 48), 8, 4, "bf16", None),
]


def high_water() -> int:
    """Return this process's largest resident memory; unlike ru_maxrss it begins anew with the program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(number: int) -> dict[str, Any]:
    """Take three steps of a setting in this process, after reckoning what they need."""
    import torch

    from frugalseg.config import load_config
    from frugalseg.data.scheme import LabelScheme
    from frugalseg.jobs import build as building
    from frugalseg.jobs import needs
    from frugalseg.jobs.footprint import footprint
    from frugalseg.jobs.pace import seconds_per_byte, step_seconds
    from frugalseg.jobs.resources import resident_bytes
    from frugalseg.networks.encoder import PUBLISHED_STRIDES
    from frugalseg.objectives import Batch
    from frugalseg.training.allocator import keep_freed_memory
    from frugalseg.training.launch import make_fabric
    from frugalseg.training.plan import Plan

    keep_freed_memory()  # as training does
    method, crop, width, samples, precision, chunk = SETTINGS[number]
    config = load_config(method, [f"auxiliary.cpc.chunk={chunk}"] if chunk else [])
    scheme = LabelScheme.from_json({"labels": {"background": 0, "a": 1, "b": 2}})
    kind: Any = precision
    plan = Plan(crop, PUBLISHED_STRIDES, ((3, 3, 3),) * 4, width, (0, 1, 2), "cpu", kind, 3)
    labelled = samples // 2 if method.startswith("ss") else samples
    begun = time.process_time()
    found = footprint(config, plan, 1, scheme, samples, labelled)
    reckoned = time.process_time() - begun
    held = resident_bytes()
    need = needs.training(found, "cpu", 0)
    seconds = step_seconds(found, 10.0, time.process_time)
    probed = time.process_time() - begun - reckoned
    torch.manual_seed(0)
    network = building.build(config, plan, 1, scheme)
    loop = building.make_loop(config, plan, scheme, network, make_fabric("cpu", plan.precision))
    loop.case_names = ("random",)
    network.train()
    times = []
    for step in range(3):
        target = torch.randint(0, 2, (samples, scheme.groups, *crop), dtype=torch.uint8)
        extra = {}
        for name, task in building.tasks_of(network).items():
            for key, array in task.target(target[0].numpy(), (1.0, 1.0, 1.0)).items():
                extra[f"{name}.{key}"] = torch.stack([torch.from_numpy(array)] * samples)
        ones, numbers = torch.ones(samples, 1, *crop, dtype=torch.uint8), torch.zeros(samples, dtype=torch.int64)
        batch = Batch(torch.randn(samples, 1, *crop), target, ones, numbers, numbers, labelled, extra, ones)
        begun = time.process_time()
        loop.step(step, batch)
        times.append(time.process_time() - begun)
    return {
        "setting": f"{method} {'x'.join(map(str, crop))} width {width}, {samples} crops, {precision}"
        + (f", {chunk} patches at a time" if chunk else ""),
        "tensors": found.peak,
        "held": held,
        "expected_bytes": held + need.ram,
        "measured_bytes": high_water(),
        "expected_seconds": seconds,
        "measured_seconds": min(times[1:]),
        "moved": found.moved,
        "seconds_per_byte": seconds_per_byte(time.process_time),
        "operations": found.operations,
        "reckoning_seconds": reckoned,
        "probing_seconds": probed,
    }


def stage(job: str, work: str) -> dict[str, Any]:
    """Prepare, or predict, one volume of 192 cubed in this process, after reckoning what that needs."""
    from frugalseg.data.preprocess import PreprocessSettings
    from frugalseg.jobs import needs
    from frugalseg.jobs import predict as predicting
    from frugalseg.jobs import prepare as preparing
    from frugalseg.jobs.resources import resident_bytes

    found: list[tuple[int, needs.Need]] = []

    def kept(original: Any) -> Any:
        def reckon(*args: Any) -> Any:
            found.append((resident_bytes(), original(*args)))
            return found[-1][1]

        return reckon

    place, crop = Path(work), "64,64,64"
    if job == "make":
        from frugalseg.data.phantom import write_phantom
        from frugalseg.jobs.train import train

        write_phantom(place / "large", cases=2, labelled=1, test=1, shape=(192, 192, 192))
        write_phantom(place / "small", cases=2, labelled=1, test=1, shape=(64, 64, 64))
        settings = ["training.steps=1", f"crop=[{crop}]", "inference.overlap=0.25", "training.workers=0"]
        settings.append("preprocess.crop_nonzero=false")  # what is cut away is not known before: no border here
        train(place / "small", place / "run", "encdec", overrides=settings, store=place / "store")
        return {}
    if job == "prepare":
        preparing.preparing = kept(preparing.preparing)  # type: ignore[attr-defined]
        preparing.prepare(place / "large", place / "store", PreprocessSettings(crop_nonzero=False), workers=1)
    else:
        predicting.predicting = kept(predicting.predicting)  # type: ignore[attr-defined]
        predicting.predict(place / "run", [place / "large"], place / "predictions")
    held, need = found[-1]
    return {
        "setting": f"{job} 192x192x192, four channels",
        "expected_bytes": held + need.ram,
        "measured_bytes": high_water(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a page."""
    lines = [
        "# Expected and measured: one training step, and preparing and predicting one volume\n",
        "`.venv/bin/python -m benchmarks.preflight`. Memory: the process's peak (VmHWM). Time: the processor's "
        "seconds (`process_time`), one thread, on a machine that was busy with other work.\n",
        "| setting | memory expected MiB | measured MiB | ratio | step expected s | measured s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory = row["expected_bytes"] / row["measured_bytes"]
        pace = ["-", "-", "-"]
        if "expected_seconds" in row:
            seconds = (row["expected_seconds"], row["measured_seconds"])
            pace = [f"{value:.2f}" for value in (*seconds, seconds[0] / seconds[1])]
        lines.append(
            f"| {row['setting']} | {row['expected_bytes'] / 2**20:.0f} | {row['measured_bytes'] / 2**20:.0f} | "
            f"{memory:.2f} | {' | '.join(pace)} |"
        )
    ratios = [row["expected_bytes"] / row["measured_bytes"] for row in rows]
    text = f"\nMemory: expected is {min(ratios):.2f} to {max(ratios):.2f} of what was measured"
    paces = [row["expected_seconds"] / row["measured_seconds"] for row in rows if "expected_seconds" in row]
    text += f"; time: {min(paces):.2f} to {max(paces):.2f}" if paces else ""
    lines.append(
        f"{text}.\nThe time of a single setting moves by a tenth or two from one run of this command to the next "
        "where other work shares the\nprocessor's caches; the worst that was seen beside other jobs is 1.4. The "
        "volume has no border of zeros: one that is cut away is\nnot known before, and then less is needed than is "
        "told. Nothing ran on a GPU."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the settings one after another."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    rows = []
    with tempfile.TemporaryDirectory() as work:
        stages = [[job, work] for job in ("make", "prepare", "predict")]
        for words in [*([str(number)] for number, _ in enumerate(SETTINGS)), *stages]:
            command = [sys.executable, "-m", "benchmarks.preflight", *words]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            if row := json.loads(done.stdout.splitlines()[-1]):
                rows.append(row)
                print(row, flush=True)
                (RESULTS / "steps.json").write_text(json.dumps(rows, indent=1) + "\n")
                (RESULTS / "README.md").write_text(table(rows))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(measure(int(sys.argv[1]))))
    elif len(sys.argv) == 3:
        print(json.dumps(stage(sys.argv[1], sys.argv[2])))
    else:
        main()
