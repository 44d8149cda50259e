"""How long a call of an upsampler takes."""

from __future__ import annotations

import time
from statistics import median

import torch

from vfm_isbench.upsamplers.loaded import LoadedUpsampler
from vfm_isbench.upsamplers.trial_inputs import Trial
from vfm_isbench.upsamplers.violations import call_caught

_CALLS = 5
_SECONDS = 2.0


@torch.no_grad()
def milliseconds(upsampler: LoadedUpsampler, trial: Trial) -> float:
    """Median time of a call; the calls made before were the warm-up.

    Raises:
        ContractError: if the upsampler raises, although equal calls worked before.
    """
    taken: list[float] = []
    while len(taken) < _CALLS and sum(taken) < _SECONDS:
        _synchronize(trial.features.device)
        start = time.perf_counter()
        call_caught(upsampler, trial.features, trial.image, is_repeated=True)
        _synchronize(trial.features.device)
        taken.append(time.perf_counter() - start)
    return 1000 * median(taken)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
