"""Click-by-click evaluation: zoom-in, flip, prediction, and the loop over objects."""

from vfm_isbench.evaluation.lockstep import ClickedObject, EvaluationTimes, Lockstep, evaluate_objects
from vfm_isbench.evaluation.loop import DatasetEvaluation, evaluate_dataset
from vfm_isbench.evaluation.predictor import ObjectPredictor
from vfm_isbench.evaluation.zoom_in import Box

__all__ = [
    "Box",
    "ClickedObject",
    "DatasetEvaluation",
    "EvaluationTimes",
    "Lockstep",
    "ObjectPredictor",
    "evaluate_dataset",
    "evaluate_objects",
]
