"""vfm_isbench: how good is my feature upsampler? A benchmark by interactive segmentation.

>>> import vfm_isbench
>>> result = vfm_isbench.evaluate("bilinear")  # doctest: +SKIP
"""

import importlib
from importlib.metadata import version as _version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfm_isbench.acceleration.speed import Speed
    from vfm_isbench.benchmark import Benchmark, evaluate
    from vfm_isbench.errors import VfmIsbenchError, VfmIsbenchWarning
    from vfm_isbench.export import ExportOptions, export_results
    from vfm_isbench.protocol import Protocol
    from vfm_isbench.results import Comparison, Regression, Resolution, Result, compare, regress, resolution
    from vfm_isbench.runs import TrainedProbe, evaluate_checkpoint
    from vfm_isbench.upsamplers import LoadOptions

__version__ = _version("vfm_isbench")

__all__ = [
    "Benchmark",
    "Comparison",
    "ExportOptions",
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
    "export_results",
    "regress",
    "resolution",
]

# Loaded when they are first used. PyTorch takes seconds to import, and Ctrl+C should end the command line without a
# traceback in that time, which needs code that runs before it.
_WHERE = {
    "vfm_isbench.acceleration.speed": ("Speed",),
    "vfm_isbench.benchmark": ("Benchmark", "evaluate"),
    "vfm_isbench.errors": ("VfmIsbenchError", "VfmIsbenchWarning"),
    "vfm_isbench.export": ("ExportOptions", "export_results"),
    "vfm_isbench.protocol": ("Protocol",),
    "vfm_isbench.results": (
        "Comparison",
        "Regression",
        "Resolution",
        "Result",
        "compare",
        "regress",
        "resolution",
    ),
    "vfm_isbench.runs": ("TrainedProbe", "evaluate_checkpoint"),
    "vfm_isbench.upsamplers": ("LoadOptions",),
}


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
