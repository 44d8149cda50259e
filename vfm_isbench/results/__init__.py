"""Results with their evidence, the standard table, comparisons with intervals, and a regression test."""

from vfm_isbench.results.comparability import why_incomparable
from vfm_isbench.results.comparison import Comparison, compare
from vfm_isbench.results.dataset_result import DatasetResult
from vfm_isbench.results.difference import Difference
from vfm_isbench.results.environment import describe_environment
from vfm_isbench.results.intervals import Estimate, estimate_difference, estimate_mean
from vfm_isbench.results.judgement import Judgement
from vfm_isbench.results.record import Result
from vfm_isbench.results.regression import Regression, regress
from vfm_isbench.results.resolution import Resolution, resolution
from vfm_isbench.results.sides import Side, group_sides, load_result
from vfm_isbench.results.signature import score_signature

__all__ = [
    "Comparison",
    "DatasetResult",
    "Difference",
    "Estimate",
    "Judgement",
    "Regression",
    "Resolution",
    "Result",
    "Side",
    "compare",
    "describe_environment",
    "estimate_difference",
    "estimate_mean",
    "group_sides",
    "load_result",
    "regress",
    "resolution",
    "score_signature",
    "why_incomparable",
]
