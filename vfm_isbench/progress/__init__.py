"""What a run says while it goes on, in one line with the time left, and how a signal stops it."""

from vfm_isbench.progress.line import Part, RunProgress
from vfm_isbench.progress.showable import showable
from vfm_isbench.progress.stopping import StopSignals, stopped_in_order

__all__ = ["Part", "RunProgress", "StopSignals", "showable", "stopped_in_order"]
