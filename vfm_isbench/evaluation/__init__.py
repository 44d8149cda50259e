"""Click-by-click evaluation: zoom-in, flip, prediction, and the loop over objects."""

from vfm_isbench.evaluation.loop import DatasetEvaluation, EvaluationTimes, evaluate_dataset, evaluate_objects
from vfm_isbench.evaluation.predictor import ObjectPredictor
from vfm_isbench.evaluation.zoom_in import Box

__all__ = ["Box", "DatasetEvaluation", "EvaluationTimes", "ObjectPredictor", "evaluate_dataset", "evaluate_objects"]
