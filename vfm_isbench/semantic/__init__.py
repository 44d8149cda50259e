"""A second task on the same frozen features: semantic segmentation by a linear probe."""

from vfm_isbench.semantic.confusion import class_ious, confusion, mean_iou
from vfm_isbench.semantic.data import SemanticDataset, open_classes
from vfm_isbench.semantic.feature_measures import boundary_sharpness, pooled_agreement
from vfm_isbench.semantic.result import SemanticResult
from vfm_isbench.semantic.run import probe_semantic
from vfm_isbench.semantic.settings import SemanticSettings

__all__ = [
    "SemanticDataset",
    "SemanticResult",
    "SemanticSettings",
    "boundary_sharpness",
    "class_ious",
    "confusion",
    "mean_iou",
    "open_classes",
    "pooled_agreement",
    "probe_semantic",
]
