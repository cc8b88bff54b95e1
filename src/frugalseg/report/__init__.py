"""A page that a person opens: scores, pictures of cases, how the model came about. One file, nothing fetched."""

from frugalseg.report.page import EvaluationPart, write_report
from frugalseg.report.pictures import PictureCase

__all__ = ["EvaluationPart", "PictureCase", "write_report"]
