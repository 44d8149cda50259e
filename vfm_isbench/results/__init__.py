"""Results: the record with its evidence, and the standard table."""

from vfm_isbench.results.environment import describe_environment
from vfm_isbench.results.record import DatasetResult, Result

__all__ = ["DatasetResult", "Result", "describe_environment"]
