"""Baselines of regression tests: whether recorded results still hold under the installed version, and making them."""

from vfm_isbench.baseline.check import BaselineCheck, check_baseline
from vfm_isbench.baseline.first_epoch import first_epoch
from vfm_isbench.baseline.make import BaselinePlan, make_baseline, refuse_another_upsampler
from vfm_isbench.baseline.prospect import Prospect, UpsamplerChoice, prospect_of, protocol_today
from vfm_isbench.baseline.recorded import Recorded, load_baseline, load_recorded

__all__ = [
    "BaselineCheck",
    "BaselinePlan",
    "Prospect",
    "Recorded",
    "UpsamplerChoice",
    "check_baseline",
    "first_epoch",
    "load_baseline",
    "load_recorded",
    "make_baseline",
    "prospect_of",
    "protocol_today",
    "refuse_another_upsampler",
]
