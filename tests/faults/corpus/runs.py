"""Run folders and checkpoints that are damaged, incomplete, changed, or of another version."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tests.faults.corpus import sealing
from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import Scene, remove
from tests.faults.corpus.sealing import LAST, alone, drop, flip, model, put, record, split, state, weights

NONE_LEFT = "start the run anew in another folder"
MODEL, STATE, RUN = "last/model.json", "last/state.json", "run.json"
OTHER = "another version"


def wrong(
    name: str, command: str, where: str, found: str, todo: str, change: Callable[[Scene], Any], *more: str
) -> None:
    """Register a run that was changed so."""

    def apply(scene: Scene) -> Sequence[object]:
        change(scene)
        return [*([scene.data] if command == "predict" else []), *more]

    apply.__name__, apply.__module__ = name, __name__
    malformed(command, where, found, todo)(apply)


def damaged(name: str) -> Callable[[Scene], Any]:
    return lambda scene: (alone(scene), flip(scene, name, 700))


def shortened(name: str) -> Callable[[Scene], Any]:
    def change(scene: Scene) -> None:
        alone(scene)
        scene.file(f"{LAST}/{name}", (scene.folder / LAST / name).read_bytes()[:100])

    return change


def tensors(content: bytes) -> Callable[[Scene], Any]:
    def change(scene: Scene) -> None:
        scene.file(f"{LAST}/model.safetensors", content)
        state(scene)

    return change


wrong(
    "weights_with_a_flipped_bit",
    "predict",
    "last",
    "model.safetensors does not have the hash",
    NONE_LEFT,
    damaged("model.safetensors"),
)
wrong(
    "weights_cut_short",
    "resume",
    "last",
    "no intact checkpoint is left",
    "model.safetensors does not have the hash",
    shortened("model.safetensors"),
)
wrong(
    "optimiser_with_a_flipped_bit",
    "resume",
    "last",
    "state.safetensors does not have the hash",
    NONE_LEFT,
    damaged("state.safetensors"),
)
wrong(
    "model_facts_with_a_flipped_bit",
    "predict",
    "last",
    "model.json does not have the hash",
    NONE_LEFT,
    damaged("model.json"),
)
wrong("state_with_a_flipped_bit", "predict", "last", "state.json: is ", NONE_LEFT, damaged("state.json"))
wrong("state_cut_short", "predict", "last", "state.json: is not valid JSON", NONE_LEFT, shortened("state.json"))
wrong(
    "state_of_a_newer_format",
    "predict",
    STATE,
    "has format 99",
    "update frugalseg",
    lambda s: state(s, put(format_version=99)),
)
wrong(
    "state_of_no_format",
    "predict",
    "last",
    "has no format version (expected 1)",
    "damaged",
    lambda s: state(s, drop("format_version")),
)
wrong(
    "state_without_hashes",
    "predict",
    "last",
    "state.json: does not describe a checkpoint ('sha256' is missing)",
    NONE_LEFT,
    lambda s: state(s, drop("sha256")),
)
wrong(
    "state_without_a_step",
    "predict",
    "last",
    "state.json: does not describe a checkpoint ('step' is missing)",
    NONE_LEFT,
    lambda s: state(s, drop("step")),
)
wrong(
    "state_with_a_step_of_text",
    "predict",
    "last",
    "state.json: does not describe a checkpoint (invalid literal for int() with base 10: 'two')",
    NONE_LEFT,
    lambda s: state(s, put(step="two")),
)
wrong(
    "state_with_a_negative_step",
    "resume",
    "last",
    "/state.json: does not describe a run's state (step is -5)",
    "was it changed, or written by another version of frugalseg?",
    lambda s: state(s, put(step=-5)),
)
wrong(
    "state_without_optimiser_groups",
    "resume",
    STATE,
    "does not describe a run's state ('optimiser_groups' is missing)",
    OTHER,
    lambda s: state(s, drop("optimiser_groups")),
)
wrong(
    "state_with_other_optimiser_groups",
    "resume",
    STATE,
    "does not describe this run's state (loaded state dict has a different nu",
    OTHER,
    lambda s: state(s, put(optimiser_groups=[{}])),
)
wrong(
    "state_of_other_settings",
    "resume",
    "last",
    "belongs to a run with other settings",
    "was it copied here?",
    lambda s: state(s, put(config_sha256="0")),
)
wrong(
    "state_without_the_best",
    "resume",
    STATE,
    "does not describe this run's state ('best' is missing)",
    OTHER,
    lambda s: state(s, drop("best")),
)
wrong(
    "checkpoint_without_weights",
    "predict",
    "last",
    "model.safetensors: does not exist",
    NONE_LEFT,
    lambda s: (alone(s), remove(s.folder / LAST / "model.safetensors")),
)
wrong(
    "no_checkpoint",
    "predict",
    "run",
    "holds no checkpoint (best or last)",
    "is it the folder of a training run?",
    lambda s: (alone(s), remove(s.folder / LAST)),
)
wrong(
    "weight_of_another_shape",
    "predict",
    "last",
    "holds a weight",
    "is it another model's, or another version's?",
    lambda s: weights(s, sealing.first(lambda t: t[..., :1])),
)
wrong(
    "weight_of_another_type",
    "predict",
    "last",
    "of type torch.int64",
    "the model has",
    lambda s: weights(s, sealing.first(lambda t: t.long())),
)
wrong(
    "weight_that_is_not_a_number",
    "predict",
    "last",
    "holds NaN or infinite numbers in",
    "train anew",
    lambda s: weights(s, sealing.first(lambda t: t * np.nan)),
)
wrong(
    "weight_of_another_model",
    "predict",
    "last",
    "holds a weight 'strange'",
    "the model does not have",
    lambda s: weights(s, lambda w: w.update(strange=torch.ones(3))),
)
wrong(
    "weight_missing",
    "predict",
    "model.safetensors",
    "lacks the weight",
    OTHER,
    lambda s: weights(s, lambda w: w.pop(sorted(w)[0])),
)
wrong(
    "weight_of_another_shape_to_go_on",
    "resume",
    "last",
    "/state.json: does not describe this run's state (Error(s) in loading sta",
    OTHER,
    lambda s: weights(s, sealing.first(lambda t: t[..., :1])),
)
wrong(
    "optimiser_of_another_shape",
    "resume",
    "last",
    "/state.json: does not describe this run's state (exp_avg of weight 0 is ",
    OTHER,
    lambda s: weights(s, sealing.first(lambda t: t[..., :1]), "state.safetensors"),
)
wrong(
    "optimiser_of_odd_names",
    "resume",
    "last",
    "/state.json: does not describe a run's state (not enough values to unpac",
    "was it changed, or written by another version of frugalseg?",
    lambda s: weights(s, lambda w: w.update({"optimiser.x": torch.ones(1)}), "state.safetensors"),
)
wrong(
    "safetensors_header_of_exabytes",
    "predict",
    "model.safetensors",
    "cannot be read as safetensors (Error while deserializing header: header too large",
    "copy it anew",
    tensors(struct.pack("<Q", 2**60) + b"{}"),
)
wrong(
    "safetensors_header_of_no_json",
    "predict",
    "model.safetensors",
    "cannot be read as safetensors (Error while deserializing header: invalid JSON",
    "copy it anew",
    tensors(struct.pack("<Q", 8) + b"notjson!" + bytes(100)),
)
wrong(
    "safetensors_offsets_outside",
    "predict",
    "model.safetensors",
    "cannot be read as safetensors (Error while deserializing header: invalid header length",
    "copy it anew",
    tensors(struct.pack("<Q", 62) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36000000]}}'),
)
wrong(
    "safetensors_empty",
    "predict",
    "model.safetensors",
    "cannot be read as safetensors (Error while deserializing header: header too small",
    "copy it anew",
    tensors(b""),
)
wrong(
    "model_of_a_newer_format",
    "predict",
    MODEL,
    "has format 7",
    "update frugalseg",
    lambda s: model(s, put(format_version=7)),
)
wrong(
    "model_without_settings",
    "predict",
    MODEL,
    "does not describe a model ('config' is missing)",
    OTHER,
    lambda s: model(s, drop("config")),
)
wrong(
    "model_with_unknown_settings",
    "predict",
    MODEL,
    "does not describe a model (1 validation error for Config colour Extra in",
    OTHER,
    lambda s: model(s, lambda m: m["config"].update(colour=1)),
)
wrong(
    "model_with_a_scheme_of_text",
    "predict",
    MODEL,
    "channels must be a list of names, scheme an object",
    OTHER,
    lambda s: model(s, put(scheme="box")),
)
wrong(
    "model_with_channels_of_a_number",
    "predict",
    MODEL,
    "does not describe a model (channels must be a list of names",
    OTHER,
    lambda s: model(s, put(channels=2)),
)
wrong(
    "model_of_no_channel",
    "predict",
    MODEL,
    "does not describe a model (channels: ",
    "at least one was expected",
    lambda s: model(s, put(channels=[])),
)
wrong(
    "model_of_a_billion_features",
    "predict",
    "last/model.json",
    "plan: width is 1000000000",
    "1 to 4096 was expected",
    lambda s: model(s, lambda m: m["plan"].update(width=10**9)),
)
wrong(
    "model_of_a_negative_crop",
    "predict",
    "last/model.json",
    "plan: crop is [8, 8, -8]",
    "1 to 4096 was expected",
    lambda s: model(s, lambda m: m["plan"].update(crop=[8, 8, -8])),
)
wrong(
    "model_of_a_thousand_levels",
    "predict",
    "last/model.json",
    "plan: strides has 1000 levels",
    "1 to 16 were expected",
    lambda s: model(s, lambda m: m["plan"].update(strides=[[2, 2, 2]] * 1000)),
)
wrong(
    "model_of_strides_of_text",
    "predict",
    "last/model.json",
    "does not describe a plan (not enough values to unpack (expected 3, got 1",
    OTHER,
    lambda s: model(s, lambda m: m["plan"].update(strides="222")),
)
wrong(
    "model_of_kernels_of_a_hundred",
    "predict",
    "last/model.json",
    "does not describe a plan (plan: kernels has 2 levels, strides 4)",
    "was it changed, or written by another version of frugalseg?",
    lambda s: model(s, lambda m: m["plan"].update(kernels=[[100] * 3] * 2)),
)
wrong(
    "model_without_a_plan",
    "predict",
    MODEL,
    "does not describe a model ('plan' is missing)",
    OTHER,
    lambda s: model(s, drop("plan")),
)
wrong(
    "unknown_checkpoint",
    "predict",
    "--checkpoint",
    "there is no checkpoint 'newest'",
    "choose last or best",
    lambda s: None,
    "--checkpoint",
    "newest",
)
wrong(
    "best_that_was_never_kept",
    "predict",
    "run",
    "holds no checkpoint (best)",
    "training run",
    lambda s: None,
    "--checkpoint",
    "best",
)
wrong(
    "record_missing",
    "info",
    "run",
    "holds no run.json",
    "`frugalseg train --out` made",
    lambda s: remove(s.run / RUN),
)
wrong(
    "record_missing_to_go_on",
    "resume",
    RUN,
    "is missing, but there is a checkpoint (last)",
    NONE_LEFT,
    lambda s: remove(s.run / RUN),
)
wrong(
    "record_changed",
    "info",
    RUN,
    "is damaged or was changed",
    "the hash that was written with it",
    lambda s: s.json("run/run.json", put(seed=7)),
)
wrong(
    "record_of_a_newer_format",
    "info",
    RUN,
    "has format 2",
    "update frugalseg",
    lambda s: record(s, put(format_version=2)),
)
wrong(
    "record_without_data",
    "info",
    RUN,
    "does not describe a run (KeyError: 'data')",
    OTHER,
    lambda s: record(s, drop("data")),
)
wrong(
    "record_with_spent_of_text",
    "info",
    RUN,
    "does not describe a run (",
    OTHER,
    lambda s: record(s, put(spent="long")),
)
wrong(
    "record_with_a_best_of_text",
    "info",
    RUN,
    "does not describe a run (ValueError: dictionary update sequence element ",
    OTHER,
    lambda s: record(s, put(best="case")),
)
wrong(
    "record_without_files",
    "resume",
    RUN,
    "does not describe a run ('files' is missing)",
    OTHER,
    lambda s: record(s, drop("files")),
)
wrong(
    "record_without_cases",
    "resume",
    RUN,
    "does not describe a run ('cases' is missing)",
    OTHER,
    lambda s: record(s, lambda r: r["data"].pop("cases")),
)
wrong(
    "record_without_a_machine",
    "resume",
    RUN,
    "does not describe a run ('machine' is missing)",
    OTHER,
    lambda s: record(s, drop("machine")),
)
wrong(
    "settings_changed",
    "resume",
    "config.yaml",
    "is damaged or was changed after the run began",
    "restore it",
    lambda s: s.file("run/config.yaml", "method: x\n"),
)
wrong(
    "settings_of_another_version",
    "resume",
    "config.yaml",
    "has settings that this version of frugalseg does not know",
    OTHER,
    lambda s: (s.file("run/config.yaml", "method: x\ncolour: red\n"), record(s)),
)
wrong(
    "plan_changed",
    "resume",
    "plan.json",
    "is damaged or was changed after the run began",
    "start a new run",
    lambda s: s.json("run/plan.json", put(steps=9)),
)
wrong(
    "plan_without_a_crop",
    "resume",
    "plan.json",
    "'crop' is missing",
    OTHER,
    lambda s: (s.json("run/plan.json", drop("crop")), record(s)),
)
wrong(
    "plan_of_a_list",
    "info",
    "plan.json",
    "holds a JSON list",
    "an object was expected",
    lambda s: s.file("run/plan.json", "[]"),
)
wrong(
    "plan_without_steps",
    "info",
    "run.json",
    "does not describe a run (KeyError: 'steps')",
    OTHER,
    lambda s: s.json("run/plan.json", drop("steps")),
)
wrong(
    "split_changed",
    "resume",
    "split.json",
    "is damaged or was changed after the run began",
    "restore it",
    lambda s: s.json("run/split.json", put(rule="mine")),
)
wrong(
    "split_of_a_newer_format",
    "info",
    "split.json",
    "has format 3",
    "update frugalseg",
    lambda s: s.json("run/split.json", put(format_version=3)),
)
wrong(
    "split_without_labels",
    "resume",
    "split.json",
    "does not describe a split ('labelled' is missing)",
    "was it changed, or written by another version",
    lambda s: split(s, drop("labelled")),
)
wrong(
    "split_with_labels_of_text",
    "resume",
    "split.json",
    "does not describe a split (lists of names of cases",
    "were expected)",
    lambda s: split(s, put(labelled="case_00")),
)
wrong("split_missing", "info", "split.json", "does not exist", "restore it", lambda s: remove(s.run / "split.json"))
wrong(
    "run_that_is_a_file",
    "predict",
    "run",
    "is not a folder",
    "`frugalseg train --out` made",
    lambda s: (shutil.rmtree(s.run), s.file("run", "x")),
)
wrong(
    "other_labels_to_go_on",
    "resume",
    "run",
    "the run in this folder reads other labels",
    "repeat its command",
    lambda s: None,
    "--labels",
    "2",
)
wrong(
    "other_data_to_go_on",
    "resume",
    "run",
    "the image or label of case 'case_03' is not what the run began with",
    "restore it",
    lambda s: s.nifti("data/imagesTr/case_03.nii.gz", s.voxels("data/imagesTr/case_04.nii.gz") + 1),
)


@legal("predict-test")
def damaged_checkpoint_before_an_intact_one(scene: Scene) -> None:
    shutil.rmtree(scene.run / "last.previous")
    shutil.copytree(scene.run / "last", scene.run / "last.previous")
    flip(scene, "model.safetensors", 700)
