"""Pictures of results, objects and features: pure functions that return a matplotlib figure.

They need the extra ``plots`` (matplotlib), know results but neither training nor evaluation, and do not change
matplotlib's settings.
"""

from vfm_isbench.viz.canvas import FORMATS, save_figure
from vfm_isbench.viz.contact_sheet import ShownObject, contact_sheet
from vfm_isbench.viz.curves import failure_curves, iou_curves
from vfm_isbench.viz.feature_pca import joint_colours
from vfm_isbench.viz.feature_table import FeatureRow, feature_table
from vfm_isbench.viz.histogram import noc_histogram
from vfm_isbench.viz.resolution import resolution_over_time
from vfm_isbench.viz.scatter import object_scatter
from vfm_isbench.viz.selection import best_objects, find_objects, worst_objects
from vfm_isbench.viz.series import Series, group_by_seed

__all__ = [
    "FORMATS",
    "FeatureRow",
    "Series",
    "ShownObject",
    "best_objects",
    "contact_sheet",
    "failure_curves",
    "feature_table",
    "find_objects",
    "group_by_seed",
    "iou_curves",
    "joint_colours",
    "noc_histogram",
    "object_scatter",
    "resolution_over_time",
    "save_figure",
    "worst_objects",
]
