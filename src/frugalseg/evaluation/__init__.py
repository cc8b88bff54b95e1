"""Honest numbers: overlap and surface distances in millimetres, with a stated rule for empty masks."""

from frugalseg.evaluation.cases_csv import read_cases_csv, write_cases_csv
from frugalseg.evaluation.overlap import background_averaged_dice, confusion, dice, volume_ml
from frugalseg.evaluation.summary import Summary, summarise, write_summary
from frugalseg.evaluation.surface import SurfaceScores, surface_distances, surface_scores, surface_voxels
from frugalseg.evaluation.table import ANY_FOREGROUND, CaseRow, score_case
from frugalseg.evaluation.text import render

__all__ = [
    "ANY_FOREGROUND",
    "CaseRow",
    "Summary",
    "SurfaceScores",
    "background_averaged_dice",
    "confusion",
    "dice",
    "read_cases_csv",
    "render",
    "score_case",
    "summarise",
    "surface_distances",
    "surface_scores",
    "surface_voxels",
    "volume_ml",
    "write_cases_csv",
    "write_summary",
]
