"""The configuration of a run: one closed schema, filled from a recipe file and --set options."""

from frugalseg.config.load import load_config, recipe_names, recipe_text
from frugalseg.config.schema import Config

__all__ = ["Config", "load_config", "recipe_names", "recipe_text"]
