"""t."""
from vfm_isbench.upsamplers import interpolation, jbu
from vfm_isbench.upsamplers.base import UPSAMPLERS
