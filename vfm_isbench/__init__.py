"""vfm_isbench: how good is my feature upsampler? A benchmark by interactive segmentation.

>>> import vfm_isbench
>>> result = vfm_isbench.evaluate("bilinear")  # doctest: +SKIP
"""

from importlib.metadata import version as _version

__version__ = _version("vfm_isbench")

from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.benchmark import Benchmark, evaluate
from vfm_isbench.errors import VfmIsbenchError, VfmIsbenchWarning
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Comparison, Regression, Resolution, Result, compare, regress, resolution
from vfm_isbench.runs import TrainedProbe, evaluate_checkpoint
from vfm_isbench.upsamplers import LoadOptions

__all__ = [
    "Benchmark",
    "Comparison",
    "LoadOptions",
    "Protocol",
    "Regression",
    "Resolution",
    "Result",
    "Speed",
    "TrainedProbe",
    "VfmIsbenchError",
    "VfmIsbenchWarning",
    "__version__",
    "compare",
    "evaluate",
    "evaluate_checkpoint",
    "regress",
    "resolution",
]
