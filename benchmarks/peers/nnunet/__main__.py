"""Train nnU-Net v2 on a budget of labels, label the test images, score them as ours are scored.

`make .peers/.done` makes its environment (.peers). Fold `all`: nothing is held out, the last checkpoint is the
result, as with our methods; test images are mirrored, as it does by default. On a processor the number of epochs is
chosen so that its schedule ends after two hours or so ("short schedule"); the learning rate falls to 0 within them.

Command: python -m benchmarks.peers.nnunet DATA WORK --labels 6 --seed 0 --epochs 10
Writes WORK/LABELS-SEED/{predictions, scores, record.json}; a step that was done before is not done again, and a
training that was stopped goes on from nnU-Net's last checkpoint (it writes one every 50 epochs).

On another machine it is trained with `elsewhere.py`, after `--plan` here, which ends when that is done; `--trained
FOLDER` then takes what that wrote in place of the training, and predicts here. "training_seconds" is then of the
epochs alone, and "trained_on" says where.

"training_seconds" is the whole command (of a stopped one, all its sittings), with nnU-Net's prediction of the
training cases at its end; "epochs_seconds" is what its log says of the epochs alone (250 steps and 50 for its own
validation, which of fold `all` reads training cases). On a processor it computes in fp32, having no autocast
there; `--bf16` gives it one (trainers/bf16_trainers.py). "peak_bytes" is the largest memory of all its processes
together, shared pages counted once. It takes the cores that it may use: two budgets side by side, a core each, are
`taskset -c 0 ... --labels 6 &` and `taskset -c 1 ... --labels 3`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.nnunet.convert import NUMBER, convert
from benchmarks.peers.tree import TreeMemory

from frugalseg.data.budget import make_split
from frugalseg.data.manifest import read_manifest
from frugalseg.files import hash_file, hash_value
from frugalseg.jobs.evaluate import evaluate, truth_hash

EPOCHS = (1, 5, 10, 20, 50, 100, 250, 1000)  # schedules that it ships trainers for
CONFIGURATION = "3d_fullres"


BF16_EPOCHS = (10, 20, 50)  # and those of trainers/bf16_trainers.py


def trainer(epochs: int, bf16: bool = False) -> str:
    """Return the name of nnU-Net's trainer whose schedule ends after so many epochs."""
    if bf16:
        return f"nnUNetTrainer_{epochs}epochs_bf16"
    if epochs == 1000:
        return "nnUNetTrainer"
    return f"nnUNetTrainer_{epochs}epoch{'' if epochs == 1 else 's'}"


def command(peers: Path, name: str, *words: str) -> list[str]:
    return [str(peers / name), *words]


def run(words: list[str], work: Path, log: Path) -> tuple[float, int]:
    """Run one of its commands; return the seconds it took, and the memory of all its processes, in bytes."""
    folders = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    own = {"nnUNet_extTrainer": str(Path(__file__).parent / "trainers")}
    cores = {"nnUNet_n_proc_DA": str(len(os.sched_getaffinity(0)))}
    environment = {**os.environ, **folders, **own, **cores}
    begun = time.monotonic()
    with log.open("a") as file:
        process = subprocess.Popen(words, env=environment, stdout=file, stderr=subprocess.STDOUT)
        with TreeMemory(process.pid) as memory:
            status = process.wait()
    if status:
        raise SystemExit(f"{Path(words[0]).name} ended with status {status}; see {log}")
    return time.monotonic() - begun, memory.peak


def trained_seconds(results: Path) -> float:
    """Return the seconds of all epochs that nnU-Net's logs name; of one that was trained anew the last time."""
    text = "".join(path.read_text() for path in sorted(results.rglob("training_log_*.txt")))
    found: dict[int, float] = {}
    number = -1
    for epoch, seconds in re.findall(r"Epoch (\d+)\s*$|Epoch time: ([0-9.]+) s", text, re.MULTILINE):
        if epoch:
            number = int(epoch)
        else:
            found[number] = float(seconds)
    return sum(found.values())


def taken(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a training elsewhere.

    Raises:
        SystemExit: It was another schedule, or other cases.
    """
    told: dict[str, Any] = json.loads((folder / "record.json").read_text())
    if told.pop("trainer") != asked["trainer"] or told.pop("labelled") != sorted(asked["labelled"]):
        raise SystemExit(
            f"{folder}: was trained with another schedule, or on other cases; give that of this budget"
        )
    return told


def lay_out(weights: Path, work: Path, kind: str) -> None:
    """Put what was learnt elsewhere where nnU-Net looks for a model, beside what was planned here."""
    planned = work / "preprocessed" / f"Dataset{NUMBER}_Budget"
    model = work / "results" / planned.name / f"{kind}__nnUNetPlans__{CONFIGURATION}"
    (model / "fold_all").mkdir(parents=True, exist_ok=True)
    for name, source in (("plans.json", "nnUNetPlans.json"), ("dataset.json", "dataset.json")):
        shutil.copy(planned / source, model / name)
    shutil.copy(weights, model / "fold_all" / "checkpoint_final.pth")


def settled(record: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what was done before of what is asked for.

    Raises:
        SystemExit: It was something else that was done there.
    """
    facts: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    if facts and {key: facts.get(key) for key in asked} != asked:
        raise SystemExit(
            f"{record.parent}: was begun with other epochs, device, cases or files; choose another WORK"
        )
    return facts or asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--labels", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the choice of labelled cases")
    parser.add_argument("--epochs", type=int, choices=EPOCHS, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--plan", action="store_true", help="plan, and train elsewhere")
    parser.add_argument("--trained", type=Path, help="what was learnt elsewhere: weights.pth, record.json")
    parser.add_argument("--bf16", action="store_true", help="on a processor, compute its network in bfloat16")
    parser.add_argument("--peers", type=Path, default=Path(".peers/bin"), help="where its commands are")
    given = parser.parse_args()
    if given.bf16 and (given.device != "cpu" or given.epochs not in BF16_EPOCHS):
        parser.error(f"--bf16 is for a processor and {', '.join(map(str, BF16_EPOCHS))} epochs")
    peers: Path = given.peers.absolute()
    manifest = read_manifest(given.data)
    split = make_split(manifest, given.labels, given.seed)
    work = (given.work / f"{given.labels}-{given.seed}").absolute()
    work.mkdir(parents=True, exist_ok=True)
    record = work / "record.json"
    files = [path for case in (*manifest.training, *manifest.test) for path in case.images]
    asked: dict[str, Any] = {
        "trainer": trainer(given.epochs, given.bf16),
        "labelled": list(split.labelled),
        "test_sha256": truth_hash(given.data),
        "images_sha256": hash_value([hash_file(path) for path in files]),
    }
    elsewhere = given.plan or given.trained is not None
    asked |= (
        {"device": "elsewhere"} if elsewhere else {"device": given.device, "cores": len(os.sched_getaffinity(0))}
    )
    facts = settled(record, asked)
    if given.trained is not None:
        facts |= taken(given.trained, asked)
    source = convert(manifest, split, work / "raw")
    number, log, kind = str(NUMBER), work / "log.txt", trainer(given.epochs, given.bf16)
    predictions, results = work / "predictions", work / "results"
    goes_on = ["--c"] if any(results.rglob("checkpoint_latest.pth")) else []
    steps = {
        "planning": command(peers, "nnUNetv2_plan_and_preprocess", "-d", number, "-c", CONFIGURATION, "-np", "2"),
        "training": command(
            peers, "nnUNetv2_train", number, CONFIGURATION, "all", "-tr", kind, "-device", given.device, *goes_on
        ),
        "prediction": command(
            peers, "nnUNetv2_predict", "-i", str(source / "imagesTs"), "-o", str(predictions), "-d", number,
            "-c", CONFIGURATION, "-f", "all", "-tr", kind, "-device", given.device, "-npp", "1", "-nps", "1",
        ),
    }  # fmt: skip
    if given.plan:
        steps = {"planning": steps["planning"]}
    for name, words in steps.items():
        key = f"{name}_seconds"
        if key in facts:
            continue
        begun, spent = time.monotonic(), float(facts.get(f"{name}_stopped_seconds", 0.0))
        try:
            if name == "prediction" and given.trained is not None:
                lay_out(given.trained / "weights.pth", work, kind)
            seconds, peak = run(words, work, log)
        except BaseException:
            facts[f"{name}_stopped_seconds"] = round(spent + time.monotonic() - begun, 1)
            record.write_text(json.dumps(facts, indent=1))
            raise
        facts |= {key: round(spent + seconds, 1), f"{name}_peak_bytes": peak}
        if name == "training":
            facts["epochs_seconds"] = round(trained_seconds(results), 1)
        record.write_text(json.dumps(facts, indent=1))
    if given.plan:
        print(f"planned; train with elsewhere.py on {work / 'preprocessed'}, then give --trained")
        return
    scores = work / "scores"
    shutil.rmtree(scores, ignore_errors=True)
    result = evaluate(predictions, given.data, scores)
    mean = result.summary.overall["dice"]
    facts |= {
        "peer": "nnunetv2 " + version(peers),
        "dice": None if mean is None else round(mean.mean, 4),
    }
    record.write_text(json.dumps(facts, indent=1))
    print(f"nnU-Net, {given.labels} labels, seed {given.seed}: Dice {facts['dice']}, {facts['training_seconds']} s")


def version(peers: Path) -> str:
    asked = [str(peers / "python"), "-c", "from importlib.metadata import version; print(version('nnunetv2'))"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
