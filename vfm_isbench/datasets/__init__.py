"""Data sets: readers of the published layouts, and the embedded scenes."""

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.catalogue import DATASET_PLUGINS, list_datasets, open_dataset, training_weights

__all__ = ["DATASET_PLUGINS", "ObjectDataset", "list_datasets", "open_dataset", "training_weights"]
