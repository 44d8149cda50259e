"""PyTorch's settings: those of the benchmark inside, those of the caller afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from small import SMALL, evaluated, small_probe
from torch import nn
from torch._C import _len_torch_function_stack
from torch.nn import functional

from vfm_isbench.acceleration.speed import RunOptions, Speed, tf32
from vfm_isbench.probe import Probe
from vfm_isbench.probe.torch_state import benchmark_settings, repeatable_gradients, settings_restored
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.training import TrainingSamples, train
from vfm_isbench.types import ObjectEvidence

_LEFT_OPEN: list[object] = []


def enter_inference_mode() -> None:
    """Enter it for good: it would end with the object."""
    _LEFT_OPEN.append(torch.inference_mode())
    _LEFT_OPEN[-1].__enter__()  # type: ignore[attr-defined]


CHANGES: dict[str, Callable[[], object]] = {
    "grad mode": lambda: torch.set_grad_enabled(False),
    "inference mode": enter_inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16).__enter__(),
    "autocast of CUDA": lambda: torch.set_autocast_enabled("cuda", True),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "seed": lambda: torch.manual_seed(12345),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "cuDNN benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "convolutions": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "rounded products": lambda: torch.set_float32_matmul_precision("medium"),
}
HOSTILE = sorted(set(CHANGES) - {"inference mode", "threads"})


def state() -> dict[str, object]:
    """Everything that a caller could notice."""
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")],
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "overridden functions": _len_torch_function_stack(),
        "random": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "products": torch.get_float32_matmul_precision(),
        "rounded convolutions": torch.backends.cudnn.allow_tf32,
    }


@pytest.fixture(autouse=True)
def _clean_afterwards() -> Iterator[None]:
    with settings_restored():
        yield


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("fails", [False, True])
def test_foreign_code_changes_nothing_after_it(change: str, fails: bool) -> None:
    before = state()
    try:
        with settings_restored():
            CHANGES[change]()
            assert state() != before
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert state() == before


@pytest.mark.parametrize("change", HOSTILE)
def test_the_benchmark_computes_under_its_own_settings_and_leaves_the_callers(change: str) -> None:
    clean = state()
    CHANGES[change]()
    before = state()
    with benchmark_settings():
        assert not torch.backends.cudnn.allow_tf32, "unlike PyTorch's default"
        # A default device can only be overruled by another one.
        ours = {"random": None, "overridden functions": 0, "rounded convolutions": False}
        assert {**state(), **ours} == {**clean, **ours}
    assert state() == before


def test_a_caller_in_inference_mode_can_train() -> None:
    with torch.inference_mode(), torch.device("meta"):
        with benchmark_settings():
            weight = torch.ones(2, requires_grad=True)
            weight.sum().backward()
        assert weight.grad is not None
        assert torch.is_inference_mode_enabled()
        assert torch.empty(0).is_meta


def test_settings_that_pytorch_refuses_to_read_do_not_stop_the_benchmark() -> None:
    """Newer versions raise if two of their interfaces disagree."""
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this version of PyTorch has one interface only")
    torch.backends.fp32_precision = "tf32"
    torch.backends.cudnn.allow_tf32 = False
    try:
        with pytest.raises(RuntimeError):
            assert torch.backends.cudnn.allow_tf32
        with benchmark_settings(), tf32(False):
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = "none"
        torch.backends.cudnn.allow_tf32 = True


def test_random_numbers_of_a_block_that_only_draws_go_on() -> None:
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with settings_restored():
            drawn.append(torch.rand(3))
    assert not torch.equal(*drawn)


def upsample(features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """An upsampler that is not a declared interpolation, so that it is called."""
    return functional.interpolate(features, image.shape[-2:], mode="bicubic")


def leaving_its_mark(change: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The same upsampler, which changes a setting once it has done its work."""

    def marking(features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        upsampled = upsample(features, image)
        CHANGES[change]()
        return upsampled

    return marking


class WithDropout(nn.Module):
    """A click encoder that draws from PyTorch's global random numbers in training, as one of a plugin may."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, click_map: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = functional.dropout(self.inner(click_map), 0.5, self.training)
        return tokens


def probe_of(upsampler: object, protocol: Protocol) -> Probe:
    with benchmark_settings():
        probe = small_probe(protocol, upsampler)  # type: ignore[arg-type]
    probe.click_encoder = WithDropout(probe.click_encoder)
    return probe


def numbers(upsampler: object, protocol: Protocol) -> tuple[list[float], list[ObjectEvidence]]:
    """Losses of a training, and evidence of the evaluation after it."""
    probe = probe_of(upsampler, protocol)
    samples = TrainingSamples(FakeDataset(), protocol)
    history = train(probe, samples, None, options=RunOptions(progress=False))
    evidence, _ = evaluated(probe, FakeDataset(images=2, instances=1), protocol, speed=Speed(read_ahead=False))
    return [record.loss for record in history], evidence


SHORT = SMALL.replace(epochs=1, milestones=())


@pytest.fixture(scope="module")
def clean() -> dict[str, tuple[list[float], list[ObjectEvidence]]]:
    """What a caller who changes nothing gets."""
    protocols = {injection: SHORT.replace(injection=injection) for injection in ("late", "pre_upsampler")}
    return {injection: numbers(upsample, protocol) for injection, protocol in protocols.items()}


@contextmanager
def hostile(change: str) -> Iterator[None]:
    """A caller who changed a setting, and finds it as it was."""
    CHANGES[change]()
    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize("injection", ["late", "pre_upsampler"])
@pytest.mark.parametrize("change", HOSTILE)
def test_numbers_do_not_depend_on_the_callers_settings(change: str, injection: str, clean) -> None:
    with hostile(change):
        assert numbers(upsample, SHORT.replace(injection=injection)) == clean[injection]


@pytest.mark.parametrize("injection", ["late", "pre_upsampler"])
@pytest.mark.parametrize("change", [*HOSTILE, "inference mode"])
def test_numbers_do_not_depend_on_what_an_upsampler_sets(change: str, injection: str, clean) -> None:
    before = state()
    assert numbers(leaving_its_mark(change), SHORT.replace(injection=injection)) == clean[injection]
    assert state() == before


def test_steps_and_strips_restore_settings_too() -> None:
    class Marking(FakeUpsampler):
        def encode_guidance(self, image):
            torch.set_num_threads(3)
            return super().encode_guidance(image)

        def upsample(self, features, guidance):
            torch.set_default_dtype(torch.float64)
            return super().upsample(features, guidance)

        def upsample_strips(self, features, guidance):
            rows = self.upsample(features, guidance).permute(0, 2, 3, 1)
            torch.set_grad_enabled(True)
            for top in range(0, rows.shape[1], 8):
                torch.autocast("cpu", torch.bfloat16).__enter__()
                yield top, rows[:, top : top + 8]

    protocol = SHORT.replace(injection="pre_upsampler")
    before = state()
    expected, _ = evaluated(small_probe(protocol, FakeUpsampler()), FakeDataset(images=1), protocol)
    found, _ = evaluated(small_probe(protocol, Marking()), FakeDataset(images=1), protocol)
    assert found == expected
    assert state() == before


def test_repeatable_gradients_need_other_algorithms_on_cuda_devices_only() -> None:
    def chosen() -> tuple[bool, ...]:
        cuda = torch.backends.cuda
        return torch.backends.cudnn.deterministic, cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled()

    before = chosen()
    with repeatable_gradients(torch.device("cpu")):
        assert chosen() == before
    with pytest.raises(KeyboardInterrupt), repeatable_gradients(torch.device("cuda")):
        assert chosen() == (True, False, False)
        raise KeyboardInterrupt
    assert chosen() == before
