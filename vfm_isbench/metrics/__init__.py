"""IoU, boundary IoU, NoC and what follows from them: pure functions on arrays."""

from vfm_isbench.metrics.boundary import BoundaryIou
from vfm_isbench.metrics.iou import intersection_over_union
from vfm_isbench.metrics.noc import (
    failure_curve,
    failures,
    iou_auc,
    mean_iou_at,
    not_reached,
    number_of_clicks,
    stopping_click,
)

__all__ = [
    "BoundaryIou",
    "failure_curve",
    "failures",
    "intersection_over_union",
    "iou_auc",
    "mean_iou_at",
    "not_reached",
    "number_of_clicks",
    "stopping_click",
]
