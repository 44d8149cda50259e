"""Results in the formats of others: the Hugging Face Hub, Every Eval Ever, model cards, CSV and LaTeX."""

from vfm_isbench.export.formats import FORMATS, export_results
from vfm_isbench.export.options import ExportOptions
from vfm_isbench.export.scores import Score, scores_of

__all__ = ["FORMATS", "ExportOptions", "Score", "export_results", "scores_of"]
