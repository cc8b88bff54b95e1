"""A recipe and --set options, parted by zero bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.faults.fuzz.harness import instrumented, start

with instrumented():
    from frugalseg.config import Config, load_config, recipe_names, recipe_text
    from frugalseg.config.load import save_config

SETTINGS = (
    "crop=[8,8,8]",
    "training.steps=5",
    "training.learning_rate=1e-3",
    "augment=strong",
    "network.width=null",
    "auxiliary.cpc.patch=[8,8,8]",
    "auxiliary.v.kind=vae",
    "mirror_axes=[x,y]",
)
WORDS = [
    *Config.model_fields,
    *SETTINGS,
    "? ",
    "- ",
    *[
        "kind",
        "weight",
        "!!python/object:os.system",
        "&a",
        "*a",
        "<<",
        ".nan",
        ".inf",
        "1_0",
        "60:60",
        "---",
        "{",
        "[",
        "2001-01-01",
        "!!binary",
        "!!set",
    ],
]


def target(data: bytes, folder: Path) -> None:
    """Load the configuration; what is accepted must survive being saved and read again."""
    recipe, *settings = data.split(b"\0")
    path = folder / "recipe.yaml"
    path.write_bytes(recipe)
    config = load_config(path, [item.decode("utf-8", "replace") for item in settings])
    path.write_text(save_config(config), encoding="utf-8")
    assert load_config(path) == config


def seeds() -> Iterator[bytes]:
    """Yield two of the shipped recipes, and options."""
    for name in recipe_names()[:2]:
        yield recipe_text(name).encode()
    for setting in SETTINGS:
        yield b"method: m\n\0" + setting.encode()


if __name__ == "__main__":
    start("recipe", target, seeds(), WORDS)
