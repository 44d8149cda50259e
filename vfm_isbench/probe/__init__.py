"""The probe: a frozen backbone and upsampler, a click encoder and a head to train."""

from vfm_isbench.probe.build import build_probe, check_combination
from vfm_isbench.probe.probe import EncodedImage, Probe

__all__ = ["EncodedImage", "Probe", "build_probe", "check_combination"]
