"""What a run says while it goes on: one line with the time left."""

from vfm_isbench.progress.line import Part, RunProgress
from vfm_isbench.progress.showable import showable

__all__ = ["Part", "RunProgress", "showable"]
