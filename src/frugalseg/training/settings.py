"""Settings of training itself: length, optimiser, schedule, precision, seed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from frugalseg.settings import Settings


class TrainingSettings(Settings):
    """How long, with what, and from which seed."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser steps. Without steps, minutes and epochs: what fits into `usual_minutes`."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Length of training; a timed warm-up turns it into a number of steps before the first one."""
    usual_minutes: Annotated[float, Field(gt=0)] = 12.0
    """Length of training in minutes where no length is set."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Length of training in passes over the volumes that it draws from: the labelled ones, or all of them where
    unlabelled ones take part."""
    optimiser: Literal["adamw", "published"] = "adamw"
    """`adamw`, or `published`: Adam whose decay multiplies each weight by 1 - weight_decay in every step, whatever
    the learning rate (Iwasawa et al. 2020: 1e-5)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate at the start."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay of the weights; see `optimiser`."""
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    """`poly`: (1 - step / steps) ** 0.9, as published; `cosine`: half a cosine. Both end at 0."""
    schedule_unit: Literal["step", "epoch"] = "step"
    """When the learning rate moves: in every step, or once per epoch, as published."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the steps over which the learning rate rises linearly from 0."""
    clip: Annotated[float, Field(gt=0)] | None = 12.0
    """Largest norm of the gradient; a larger one is scaled down."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a running mean of the weights, e.g. 0.99, which then is the model; none by default."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network; `auto` is bf16 where the processor has it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is the GPU if there is one."""
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes on each machine, one a GPU if there are GPUs; a step's samples are spread over all processes."""
    nodes: Annotated[int, Field(ge=1, le=4096)] = 1
    """Machines; see docs/distributed.md."""
    deterministic: bool = False
    """On a CPU: refuse operations that have no deterministic form, and keep to the number of threads that the run
    began with when it goes on elsewhere. On a GPU: the deterministic forms where there are some."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the first weights and of every sample."""
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Processes that cut and augment samples; by default half as many as processors, none for two, 8 at most."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest time between two checkpoints."""
    validate_every: Annotated[int, Field(ge=1)] = 200
    """Steps between two looks at the validation cases, where the budget has some."""

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSettings:
        lengths = [name for name in ("steps", "minutes", "epochs") if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise ValueError(f"{lengths[0]} and {lengths[1]} are both set; choose one")
        if self.schedule_unit == "epoch" and self.epochs is None:
            raise ValueError("schedule_unit is epoch, which needs epochs to be set as the length")
        return self
