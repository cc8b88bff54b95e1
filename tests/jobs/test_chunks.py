"""Chunks that became smaller in a run stay so when it goes on."""

from __future__ import annotations

from frugalseg.config import load_config
from frugalseg.data.scheme import LabelScheme
from frugalseg.jobs import build as building
from frugalseg.jobs.chunks import chunks_of, take_chunks
from frugalseg.networks import MultiTaskNetwork
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.training.plan import Plan

SCHEME = LabelScheme.from_json({"labels": {"background": 0, "a": 1}})
PLAN = Plan((16, 16, 32), PUBLISHED_STRIDES, ((3, 3, 3),) * 4, 8, (0,), "cpu", "fp32", 2)


def network(method: str = "cpcseg", *settings: str) -> MultiTaskNetwork:
    return building.build(load_config(method, settings), PLAN, 1, SCHEME)


def test_the_smaller_of_the_recorded_and_the_configured_chunk_is_taken() -> None:
    patch = "auxiliary.cpc.patch=[8,8,8]"
    first = network("cpcseg", patch)
    assert chunks_of(first) == {"cpc": None}
    task = building.tasks_of(first)["cpc"]
    assert task.spare_memory(4) is not None
    smaller = chunks_of(first)
    size = smaller["cpc"]
    assert size is not None
    resumed = network("cpcseg", patch)
    take_chunks(resumed, smaller)
    assert chunks_of(resumed) == smaller
    configured = network("cpcseg", patch, f"auxiliary.cpc.chunk={size + 1}")
    take_chunks(configured, smaller)
    assert chunks_of(configured) == smaller
    take_chunks(configured, {"cpc": size + 5})
    assert chunks_of(configured) == smaller
    take_chunks(resumed, {})  # a checkpoint of before chunks were recorded
    take_chunks(resumed, {"cpc": None})
    assert chunks_of(resumed) == smaller
    assert chunks_of(network("encdec")) == {}
