"""What a run saves beside its weights, and how it takes a checkpoint up again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.config import Config
from frugalseg.data.manifest import Manifest
from frugalseg.errors import DataError
from frugalseg.formats import describing
from frugalseg.jobs import build as building
from frugalseg.jobs.chunks import chunks_of, take_chunks
from frugalseg.jobs.record import settings_hash
from frugalseg.jobs.show import say
from frugalseg.jobs.validate import Best
from frugalseg.networks import MultiTaskNetwork
from frugalseg.training.loop import Loop
from frugalseg.training.plan import Plan
from frugalseg.training.seal import LAST
from frugalseg.training.state import TrainingState, load_optimiser, save_checkpoint


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run.

    Attributes:
        folder: The run's.
        config: Its configuration; a checkpoint of another one is not taken up.
        plan: What was chosen from the data.
        manifest: The data set.
        transductive: Whether test images were among the unlabelled ones.
    """

    folder: Path
    config: Config
    plan: Plan
    manifest: Manifest
    transductive: bool

    def save(self, name: str, network: MultiTaskNetwork, loop: Loop, step: int, best: Best, looked: int) -> None:
        """Write RUN/last or RUN/best.

        Args:
            name: Of the checkpoint.
            network: With its weights.
            loop: Around it.
            step: Steps done.
            best: The best look at the validation cases so far.
            looked: The step of the last look.
        """
        facts: dict[str, Any] = {
            "steps": self.plan.steps,
            "config_sha256": settings_hash(self.config),
            "best": best.to_json(),
            "looked": looked,
            "chunks": chunks_of(network),
        }
        scheme = self.manifest.scheme
        save_checkpoint(
            self.folder / name,
            network,
            building.deployed_weights(network),
            loop.optimiser,
            step,
            {
                **building.model_facts(self.config, self.plan, self.manifest.channels, scheme),
                "transductive": self.transductive,
            },
            facts,
            loop.average.weights if loop.average is not None else None,
        )

    def take_up(self, checkpoint: TrainingState, network: MultiTaskNetwork, loop: Loop) -> tuple[Best, int]:
        """Give a network and its loop the state of RUN/last; return the best look so far and the last one's step.

        Raises:
            DataError: It is another run's, or not what this run's state is.
        """
        facts = checkpoint.facts
        if facts.get("config_sha256") != settings_hash(self.config):
            raise DataError("belongs to a run with other settings; was it copied here?", self.folder / LAST)
        if "fallback" in facts:
            say(facts["fallback"])
        with describing("this run's state", self.folder / LAST / "state.json"):
            try:
                network.load_state_dict(checkpoint.model)
            except RuntimeError as error:
                raise ValueError(str(error)) from error
            take_chunks(network, facts.get("chunks", {}))
            load_optimiser(loop.optimiser, checkpoint.optimiser)
            if loop.average is not None and checkpoint.average is not None:
                loop.average.load(checkpoint.average)
            best, looked = Best.from_json(facts["best"]), int(facts["looked"])
        loop.looked = looked
        return best, looked
