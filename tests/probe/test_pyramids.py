"""Probes with a pyramid: which upsamplers they take, both networks, training that resumes, results and export."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SMALL, evaluated, small_probe
from torch import Tensor

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.errors import ProtocolError, RunError
from vfm_isbench.isegprobe import export_reference
from vfm_isbench.probe.preparation import follow_protocol
from vfm_isbench.protocol import Injection, Protocol
from vfm_isbench.protocol.validation import HeadName
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.training import Checkpoint, EpochRecord, TrainingSamples, load_checkpoint, save_checkpoint, train
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import collate
from vfm_isbench.upsamplers import Bilinear, Identity, LoadedUpsampler, Upsampler

PAIRS: list[tuple[HeadName, Upsampler]] = [
    ("pyramid", Identity()),
    ("upsampled_pyramid", Bilinear()),
    ("upsampled_pyramid", FakeUpsampler()),
    ("upsampled_pyramid_full", Bilinear()),
]
INJECTIONS: list[Injection] = ["late", "early", "pre_upsampler"]
NARROW = SMALL.replace(pyramid_width=3)


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize(("head", "upsampler"), PAIRS, ids=repr)
def test_both_networks_agree(head: HeadName, upsampler: Upsampler, injection: Injection) -> None:
    """Logits, and a training step with the same random numbers: clicks, loss, gradients."""
    protocol = NARROW.replace(head=head, injection=injection)
    probe = small_probe(protocol, upsampler).eval()
    images, click_maps = torch.rand(2, 2, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    quick = CachedProbe(probe)
    torch.testing.assert_close(quick.logits(quick.encode(images), click_maps), probe(images, click_maps))
    batch = collate([TrainingSamples(FakeDataset(), protocol)[0, item] for item in range(3)])
    found = []
    for speed in (Speed(), Speed(shortcut=False), Speed(images_at_once=1)):
        probe.zero_grad(set_to_none=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            logits, _ = predict_batch(
                probe,
                batch,
                protocol,
                np.random.default_rng(3),
                speed=speed,
                backward=lambda out, _: torch.autograd.backward(out.mean(dim=(1, 2, 3)).sum()),
            )
        found.append([logits, *(parameter.grad for parameter in probe.trainable().parameters())])
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, same, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("head", "upsampler", "advice"), [
    ("pyramid", Bilinear(), "'bilinear' would play no part; take the upsampler 'identity', or head 'upsampled_p"),
    ("upsampled_pyramid", Identity(), "'identity' leaves them on the patch grid; take head 'pyramid'"),
    ("upsampled_pyramid_full", Identity(), "--head pyramid"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused_before_training(
    head: HeadName, upsampler: Upsampler, advice: str
) -> None:
    protocol = NARROW.replace(head=head)
    with pytest.raises(ProtocolError, match=advice):
        follow_protocol(LoadedUpsampler.of(upsampler), protocol)
    with pytest.raises(ProtocolError, match=advice):
        small_probe(protocol, upsampler)


def test_training_with_dropout_goes_on_inside_an_epoch_as_if_nothing_had_interrupted_it(tmp_path: Path) -> None:
    protocol = NARROW.replace(
        head="upsampled_pyramid", epochs=1, milestones=(), samples_per_epoch=3 * SMALL.batch_size, validation_samples=2
    )

    def run(start: Checkpoint | None = None, folder: Path | None = None) -> dict[str, Tensor]:
        probe = small_probe(protocol if start is None else protocol.replace(seed=9))
        numbers = iter(range(9))

        def keep(history: tuple[EpochRecord, ...], tensors: Mapping[str, Tensor]) -> None:
            if folder is not None:
                save_checkpoint(folder / f"{next(numbers)}.safetensors", Checkpoint(protocol, {}, history, tensors))

        train(
            probe,
            TrainingSamples(FakeDataset(), protocol),
            TrainingSamples(FakeDataset(seed=1), protocol, validation=True),
            start=start,
            keep=keep,
            options=RunOptions(progress=False, checkpoint_minutes=math.inf if folder is None else 1e-9),
        )
        return {**probe.trainable().state_dict()}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = run(folder=tmp_path)
        torch.manual_seed(2)  # the caller's random numbers play no part
        again = run(load_checkpoint(tmp_path / "1.safetensors"))
    assert all(torch.equal(again[name], value) for name, value in expected.items())
    plain = _trained_without_dropout(protocol)
    assert not torch.equal(plain["head.decoder.fusion.weight"], expected["head.decoder.fusion.weight"])


def _trained_without_dropout(protocol: Protocol) -> dict[str, Tensor]:
    probe = small_probe(protocol)
    probe.head.get_submodule("decoder.dropout").probability = 0.0
    train(probe, TrainingSamples(FakeDataset(), protocol), None, options=RunOptions(progress=False))
    return {**probe.trainable().state_dict()}


def test_evaluation_is_repeatable_and_equal_by_either_way() -> None:
    protocol = NARROW.replace(head="upsampled_pyramid_full")
    probe = small_probe(protocol)
    quick, whole = (
        evaluated(probe, FakeDataset(), protocol, speed=Speed(shortcut=shortcut))[0] for shortcut in (True, False)
    )
    assert [found.clicks for found in quick] == [found.clicks for found in whole]
    np.testing.assert_allclose([found.ious for found in quick], [found.ious for found in whole], atol=1e-4)


def test_isegprobe_has_no_such_head(tmp_path: Path) -> None:
    protocol = Protocol.preset("reference").replace(head="pyramid", backbone="dinov2_width8")
    probe = small_probe(protocol.replace(simple_vit_depth=1), Identity())
    with pytest.raises(RunError, match="head 'pyramid' has no counterpart in iSegProbe's checkpoints"):
        export_reference(probe, protocol, tmp_path / "model.pth")


def test_the_signature_and_the_group_tell_pyramids_apart() -> None:
    paper = Protocol.preset("paper")
    wide, narrow = paper.replace(head="pyramid"), paper.replace(head="pyramid", pyramid_width=16)
    assert "|head:pyramid|" in wide.signature() and "|head:pyramid_w16|" in narrow.signature()
    assert len({protocol.fingerprint() for protocol in (paper, wide, narrow)}) == 3
    assert "head" in wide.changed_fields()
