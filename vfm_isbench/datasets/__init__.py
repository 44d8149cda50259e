"""Data sets: readers of the published layouts, and the embedded scenes."""

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.catalogue import list_datasets, open_dataset, training_weights

__all__ = ["ObjectDataset", "list_datasets", "open_dataset", "training_weights"]
