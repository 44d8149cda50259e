"""Training of click encoder and head: simulated clicks, loss, loop, checkpoints."""

from vfm_isbench.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vfm_isbench.training.loop import train
from vfm_isbench.training.loss import normalized_focal_loss
from vfm_isbench.training.records import EpochRecord
from vfm_isbench.training.samples import TrainingSamples

__all__ = [
    "Checkpoint",
    "EpochRecord",
    "TrainingSamples",
    "load_checkpoint",
    "normalized_focal_loss",
    "save_checkpoint",
    "train",
]
