"""Trains the first epoch again: the sharpest evidence, short of a whole run, that a version gives the same numbers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vfm_isbench.baseline.prospect import UpsamplerChoice
from vfm_isbench.benchmark import Benchmark
from vfm_isbench.datasets import open_training_data
from vfm_isbench.errors import ComparisonError
from vfm_isbench.probe import build_probe
from vfm_isbench.probe.preparation import check_and_identify, follow_protocol
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, settings_restored
from vfm_isbench.training import EpochRecord, TrainingSamples, train
from vfm_isbench.upsamplers import load_upsampler


class _EpochIsOver(Exception):
    """Ends a training early, with the record of the epoch that is over."""

    def __init__(self, record: EpochRecord) -> None:
        super().__init__()
        self.record = record


@benchmark_settings()
def first_epoch(benchmark: Benchmark, upsampler: UpsamplerChoice) -> EpochRecord:
    """Train the first epoch as :meth:`vfm_isbench.Benchmark.train` does, without validation; keep nothing.

    Its record depends on initial weights, training images, augmentation, simulated clicks, backbone, upsampler, head,
    loss and optimizer.

    Args:
        benchmark: The benchmark, with the seed in its protocol.
        upsampler: The upsampler.

    Raises:
        ComparisonError: if nobody said which upsampler.
        VfmIsbenchError: like a run.
    """
    if upsampler.spec is None:
        raise ComparisonError("the first epoch needs an upsampler: add --upsampler")
    with current_device(benchmark.device):
        data = open_training_data(benchmark.protocol, benchmark.data_root)
        with settings_restored():  # importing an upsampler's code may run anything
            loaded = load_upsampler(upsampler.spec, upsampler.load_options)
        loaded, protocol, _ = follow_protocol(loaded, data.protocol)
        checked = check_and_identify(loaded, protocol, benchmark.backbone, benchmark.device, upsampler.identity)
        probe = build_probe(protocol, benchmark.backbone, checked.upsampler).to(benchmark.device)

        def stop(history: tuple[EpochRecord, ...], _tensors: Mapping[str, Tensor]) -> None:
            if history:  # not a checkpoint inside the epoch
                raise _EpochIsOver(history[-1])

        samples = TrainingSamples(data.training, protocol, data.weights)
        try:
            train(probe, samples, None, keep=stop, options=benchmark.options)
        except _EpochIsOver as over:
            return over.record
    raise AssertionError("a training has at least one epoch")
