"""Data sets: readers of the published layouts, and the embedded scenes."""

from vfm_isbench.datasets.base import ObjectDataset, read_sample
from vfm_isbench.datasets.catalogue import (
    DATASET_PLUGINS,
    TrainingData,
    list_datasets,
    open_dataset,
    open_training_data,
)

__all__ = [
    "DATASET_PLUGINS",
    "ObjectDataset",
    "TrainingData",
    "list_datasets",
    "open_dataset",
    "open_training_data",
    "read_sample",
]
