"""IoU and NoC: pure functions on arrays."""

from vfm_isbench.metrics.iou import intersection_over_union
from vfm_isbench.metrics.noc import mean_iou_at, not_reached, number_of_clicks, stopping_click

__all__ = ["intersection_over_union", "mean_iou_at", "not_reached", "number_of_clicks", "stopping_click"]
