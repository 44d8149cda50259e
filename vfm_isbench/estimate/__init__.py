"""What a run would take: downloads, time, memory and disk, known or measured before anything starts."""

from vfm_isbench.estimate.amounts import amounts_of_opened
from vfm_isbench.estimate.announcement import Start, announce
from vfm_isbench.estimate.cost import CostEstimate
from vfm_isbench.estimate.estimate import RunPlan, estimate_run
from vfm_isbench.estimate.memory import require_memory_to_train

__all__ = [
    "CostEstimate",
    "RunPlan",
    "Start",
    "amounts_of_opened",
    "announce",
    "estimate_run",
    "require_memory_to_train",
]
