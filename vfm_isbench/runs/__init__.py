"""A run on disk and in memory: its folder, its evidence, the trained probe, the evaluation."""

from vfm_isbench.runs.checkpoints import evaluate_checkpoint, load_trained
from vfm_isbench.runs.measure import measure, save_result
from vfm_isbench.runs.options import BenchmarkOptions, LoadingOptions, check_options, check_random
from vfm_isbench.runs.run_folder import RunFolder
from vfm_isbench.runs.trained import TrainedProbe

__all__ = [
    "BenchmarkOptions",
    "LoadingOptions",
    "RunFolder",
    "TrainedProbe",
    "check_options",
    "check_random",
    "evaluate_checkpoint",
    "load_trained",
    "measure",
    "save_result",
]
