"""The probe: a frozen backbone and upsampler, a click encoder and a head to train."""

from vfm_isbench.probe.build import build_probe, check_combination
from vfm_isbench.probe.probe import Probe

__all__ = ["Probe", "build_probe", "check_combination"]
