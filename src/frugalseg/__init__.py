"""frugalseg: segment 3D biomedical images when only a handful are labelled.

The API is the command line's words: `prepare`, `train`, `predict`, `evaluate`. They are imported when first used,
so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frugalseg.jobs.evaluate import evaluate
    from frugalseg.jobs.predict import predict
    from frugalseg.jobs.prepare import prepare
    from frugalseg.jobs.train import train

__version__ = "0.1.0.dev0"
__all__ = ["__version__", "evaluate", "predict", "prepare", "train"]


def __getattr__(name: str) -> Any:
    if name in ("evaluate", "predict", "prepare", "train"):
        from importlib import import_module

        return getattr(import_module(f"frugalseg.jobs.{name}"), name)
    raise AttributeError(f"module 'frugalseg' has no attribute {name!r}")
