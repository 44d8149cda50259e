"""The benchmark: build the probe, train it, evaluate it, return a result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from vfm_isbench.acceleration.speed import CHECKPOINT_MINUTES, RunOptions, Speed
from vfm_isbench.backbones import Backbone, identify_backbone, load_backbone
from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.datasets.own_names import as_given
from vfm_isbench.estimate import (
    CostEstimate,
    RunPlan,
    Start,
    amounts_of_opened,
    announce,
    estimate_run,
    require_memory_to_train,
)
from vfm_isbench.probe import build_probe
from vfm_isbench.probe.fit import require_fit
from vfm_isbench.probe.preparation import check_and_identify, choose_device, follow_protocol
from vfm_isbench.probe.torch_state import benchmark_settings, current_device, settings_restored
from vfm_isbench.progress import RunProgress, stopped_in_order
from vfm_isbench.protocol import PROTOCOL_REVISION, Protocol
from vfm_isbench.registry.plugins import plugin_origins
from vfm_isbench.results import Result
from vfm_isbench.results.display import quoted
from vfm_isbench.results.environment import package_versions
from vfm_isbench.runs import (
    BenchmarkOptions,
    RunFolder,
    TrainedProbe,
    check_options,
    check_random,
    measure,
    save_result,
)
from vfm_isbench.runs.needs import Needs, find_needs, open_tests
from vfm_isbench.runs.peak_memory import peak_bytes, start_counting
from vfm_isbench.runs.room import check_room_for_run
from vfm_isbench.runs.sole_use import sole_use
from vfm_isbench.storage.hashing import weights_sha256
from vfm_isbench.training import Checkpoint, EpochRecord, TrainingSamples, train
from vfm_isbench.upsamplers import (
    LoadedUpsampler,
    LoadOptions,
    Upsampler,
    UpsamplerIdentity,
    load_upsampler,
    recorded_spec,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Benchmark:
    """Measures upsamplers under one protocol: any number of them, each trained and evaluated by itself.

    A benchmark keeps nothing of a run but the loaded backbone. What a training gave is in the :class:`TrainedProbe`
    that :meth:`train` returns.

    Args:
        protocol: A protocol, or the name of a preset.
        device: "auto" for CUDA if available, else the CPU; or any PyTorch device.
        data_root: Folder that holds the data sets' own folders (SBD, GrabCut, Berkeley, DAVIS). The demo needs none:
            its images are generated.
        output_dir: Folder for checkpoint, evidence and result. An interrupted run continues there; None keeps nothing.
        backbone_weights: File or folder with the backbone's weights; None for the hub and its cache.
        workers: Processes that prepare training samples.
        progress: Show on standard error what runs, how long it should take, and the progress.
        overwrite: Replace another run found in ``output_dir``.
        load_options: How an upsampler given by name may be loaded: its weights, and whether foreign code may run.
        speed: How fast; see :class:`vfm_isbench.Speed`.
        checkpoint_minutes: Minutes between two checkpoints inside an epoch; there is one after every epoch anyway.
        random_weights: Give the backbone random weights, always the same, for a dry run without downloads. The result
            says so. It is neither ranked, exported nor compared with a measurement, and no regression test takes it.
        boundary_iou: Measure boundary IoU after every click, too. It takes some time, and changes no other number.

    While :meth:`run`, :meth:`train` or :meth:`evaluate` is at work in the main thread, it answers Ctrl+C (SIGINT),
    SIGTERM and SIGHUP by finishing the current step or click and keeping its work. Then it raises KeyboardInterrupt, or
    ends the program with exit code 143 or 129. A second Ctrl+C stops at once. Signal handlers that the program has
    installed itself are left alone.

    Raises:
        ProtocolError: if ``protocol`` is neither a protocol nor a name.
        UnknownNameError, DataError, WeightsError, ProtocolError: on the first use, before any training, if a name, a
            folder or the weights are missing.
    """

    def __init__(
        self,
        protocol: Protocol | str = "demo",
        *,
        device: str | torch.device = "auto",
        data_root: str | Path | None = None,
        output_dir: str | Path | None = None,
        backbone_weights: str | Path | None = None,
        workers: int = 0,
        progress: bool = True,
        overwrite: bool = False,
        load_options: LoadOptions | None = None,
        speed: Speed | None = None,
        checkpoint_minutes: float = CHECKPOINT_MINUTES,
        random_weights: bool = False,
        boundary_iou: bool = False,
    ) -> None:
        self.protocol: Final = Protocol.of(protocol)
        self.device: Final = choose_device(device)
        self.data_root: Final = None if data_root is None else Path(data_root)
        self.output_dir: Final = None if output_dir is None else Path(output_dir)
        self.options: Final = RunOptions(
            speed=speed or Speed(),
            workers=workers,
            progress=progress,
            checkpoint_minutes=checkpoint_minutes,
            boundary_iou=boundary_iou,
        )
        self._backbone_weights: Final = None if backbone_weights is None else Path(backbone_weights)
        self._random_weights: Final = check_random(random_weights, self._backbone_weights)
        self._overwrite: Final = overwrite
        self._load_options: Final = load_options

    def __repr__(self) -> str:
        kept = "" if self.output_dir is None else f", kept in {quoted(self.output_dir)}"
        return f"<Benchmark {quoted(self.protocol.label)} on {self.device}{kept}>"

    def run(self, upsampler: Upsampler | str, name: str | None = None, identity: str | None = None) -> Result:
        """Train and evaluate: :meth:`train`, then :meth:`evaluate`.

        Args:
            upsampler: Callable (features B×C×h×w, image B×3×H×W) → features, or the name of an upsampler.
            name: Name in tables; by default the upsampler's own.
            identity: Any text that changes whenever an upsampler does whose code, settings or weights cannot be hashed.

        Raises:
            RunError: if another process or thread is using ``output_dir``, or it belongs to another run.
        """
        with sole_use(self.output_dir):
            needs = self._find_needs(upsampler, evaluates=True)  # a missing test set fails before hours of training
            with self._stopped_in_order(), RunProgress(self.options.progress) as progress:
                options = dataclasses.replace(self.options, run=progress)
                with current_device(self.device):
                    trained = self._train(needs, upsampler, name, identity, options)
                return self._evaluate(trained, needs.tests, options)

    @contextmanager
    def _stopped_in_order(self) -> Iterator[None]:
        """Listen to signals in a block, and say what is kept when one of them has stopped it."""
        if self.output_dir is None:
            kept = "nothing was kept, because there is no output_dir"
        else:
            call = "the same call without overwrite=True" if self._overwrite else "the same call"
            kept = f"the run so far is kept in {self.output_dir}, and {call} continues it"
        with stopped_in_order(self.options.stop, kept):
            yield

    def estimate(self, upsampler: Upsampler | str) -> CostEstimate:
        """What :meth:`run` would take: downloads, time, memory and disk. Nothing is downloaded or written.

        A few training steps and clicks are measured on the device, at the protocol's sizes. Data sets and weights need
        not be here: see :func:`vfm_isbench.estimate.estimate_run`.
        """
        plan = RunPlan(
            protocol=self.protocol,
            device=self.device,
            data_root=self.data_root,
            backbone_weights=self._backbone_weights,
            random_weights=self._random_weights,
            load_options=self._load_options,
            options=self.options,
        )
        return estimate_run(upsampler, plan)

    def train(self, upsampler: Upsampler | str, name: str | None = None, identity: str | None = None) -> TrainedProbe:
        """Check the upsampler, build the probe around it, and train click encoder and head. See :meth:`run`.

        Raises:
            ContractError: if the upsampler does not keep its contract.
            OutOfMemoryError: if the training would not fit into memory.
            RunError: if another process or thread is using ``output_dir``, or it belongs to another run.
        """
        with sole_use(self.output_dir):
            needs = self._find_needs(upsampler, evaluates=False)
            with self._stopped_in_order(), current_device(self.device):
                return self._train(needs, upsampler, name, identity, self.options)

    @benchmark_settings()
    def _find_needs(self, upsampler: Upsampler | str, *, evaluates: bool) -> Needs:
        """Find data, weights and code before anything is trained, so that all that is missing is named at once."""

        def load() -> LoadedUpsampler:
            with settings_restored():  # importing an upsampler's code may run anything
                return load_upsampler(upsampler, self._load_options)

        require_fit(upsampler, self.protocol.backbone)
        with current_device(self.device):
            here = (self.protocol, self.data_root, lambda: self.backbone, load)
            return find_needs(*here, evaluates=evaluates, on_cpu=self.device.type == "cpu")

    @benchmark_settings()
    def _train(
        self,
        needs: Needs,
        upsampler: Upsampler | str,
        name: str | None,
        identity: str | None,
        options: RunOptions,
    ) -> TrainedProbe:
        data = needs.data
        loaded, protocol, remarks = follow_protocol(needs.upsampler, data.protocol)
        images = self.options.speed.images_at_once
        checked = check_and_identify(loaded, protocol, self.backbone, self.device, identity, images_at_once=images)
        found = checked.identity if name is None else dataclasses.replace(checked.identity, name=name)
        probe = build_probe(protocol, self.backbone, checked.upsampler).to(self.device)
        origins = plugin_origins(self.backbone, probe.click_encoder, data.training, data.validation)
        parts = identify_backbone(self.backbone) | ({"plugins": origins} if origins else {})
        spec = upsampler if isinstance(upsampler, str) else None
        claimed = {"random_weights": self._random_weights, "behaviour": dict(checked.behaviour)}
        folder = self._open_folder(protocol, found, parts | claimed, spec)
        described = {**dataclasses.asdict(found), **recorded_spec(spec)}
        dry = {"random_weights": True} if self._random_weights else {}
        extra: dict[str, Any] = {**parts, **dry, "precision": self.options.speed.precision}

        def keep(history: tuple[EpochRecord, ...], tensors: Mapping[str, Tensor]) -> None:
            if folder is not None:
                folder.save_checkpoint(Checkpoint(protocol, described, history, tensors, extra))

        start = None if folder is None else folder.load_checkpoint()
        if folder is not None:
            boundaries = self.options.boundary_iou
            check_room_for_run(folder.folder, probe, protocol, needs.tests, start, boundary_iou=boundaries)
        amounts = amounts_of_opened(data, needs.tests, protocol)
        if start is None or not start.is_complete:
            require_memory_to_train(probe, amounts.training, protocol, self.options, checked.contract.peak_bytes)
        if options.run is not None and options.run.is_shown:
            announce(
                options.run,
                Start(
                    name=found.name,
                    probe=probe,
                    protocol=protocol,
                    contract=checked.contract,
                    amounts=amounts,
                    options=self.options,
                    data_root=self.data_root,
                    folder=self.output_dir,
                    epochs_done=0 if start is None else len(start.history),
                    steps_done=start.unfinished.steps if start and start.unfinished else 0,
                ),
            )
        start_counting(self.device)
        began = time.perf_counter()
        history = train(
            probe,
            TrainingSamples(data.training, protocol, data.weights),
            TrainingSamples(data.validation, protocol, validation=True),
            start=start,
            keep=None if folder is None else keep,
            options=options,
        )
        return TrainedProbe(
            probe=probe,
            protocol=protocol,
            upsampler=found,
            contract=checked.contract,
            behaviour=checked.behaviour,
            history=history,
            training_seconds=time.perf_counter() - began,
            training_peak_bytes=peak_bytes(self.device),
            notes=(*needs.notes, *remarks, *checked.notes, *(folder.notes if folder else ()), *data.notes()),
            plugins=tuple(plugin_origins(data.training, data.validation)),
            precision=self.options.speed.precision,
            folder=folder,
        )

    def evaluate(self, trained: TrainedProbe) -> Result:
        """Evaluate a trained probe click by click, on the test sets of its own protocol.

        Raises:
            RunError: if another process or thread is using the folder of the training, or it belongs to another run by
                now.
        """
        folder = trained.folder
        with sole_use(None if folder is None else folder.folder):
            if folder is not None:
                folder.require_unchanged()
            tests = self.test_datasets(trained.protocol)
            with self._stopped_in_order():
                return self._evaluate(trained, tests, self.options)

    def _evaluate(self, trained: TrainedProbe, tests: Sequence[ObjectDataset], options: RunOptions) -> Result:
        folder, label = trained.folder, options.speed.label()
        weights = weights_sha256(trained.probe.trainable())
        result = measure(
            trained,
            tests,
            store_of=None if folder is None else lambda dataset: folder.evidence(dataset, weights, label),
            options=options,
        )
        if folder is not None:
            save_result(result, folder.result_path(label), folder.folder / "evidence")
        return result

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen backbone, loaded once."""
        with benchmark_settings(), current_device(self.device):
            return load_backbone(
                self.protocol.backbone,
                self.protocol.image_size,
                position_embedding=self.protocol.position_embedding,
                weights=self._backbone_weights,
                pretrained=not self._random_weights,
            ).to(self.device)

    def test_datasets(self, protocol: Protocol) -> list[ObjectDataset]:
        """The test sets of a protocol, opened."""
        names = as_given(protocol.test_datasets, self.protocol.test_datasets)
        return open_tests(protocol.replace(test_datasets=names), self.data_root)

    def _open_folder(
        self, protocol: Protocol, upsampler: UpsamplerIdentity, parts: Mapping[str, Any], spec: str | None
    ) -> RunFolder | None:
        if self.output_dir is None:
            return None
        belongs_to = {
            "protocol": protocol.to_dict(),
            "upsampler": dataclasses.asdict(upsampler),
            "precision": self.options.speed.precision,
            "protocol_revision": PROTOCOL_REVISION,
            "versions": package_versions(),
            **parts,
        }
        return RunFolder(self.output_dir, belongs_to, overwrite=self._overwrite, spec=spec)


def evaluate(
    upsampler: Upsampler | str,
    protocol: Protocol | str = "demo",
    *,
    name: str | None = None,
    identity: str | None = None,
    **options: Unpack[BenchmarkOptions],
) -> Result:
    """Answer the question: how good is this upsampler?

    The options are those of :class:`Benchmark`:

    - ``device``: "auto" (CUDA if available, else the CPU), "cpu", "cuda", "cuda:1", …
    - ``data_root``: folder that holds the data sets' own folders; the demo needs none.
    - ``output_dir``: folder for checkpoint, evidence and result. The same call continues an interrupted run there;
      without a folder, nothing is kept.
    - ``backbone_weights``: file or folder with the backbone's weights; by default those of the hub.
    - ``workers``: processes that prepare training samples; 0 by default.
    - ``progress``: False shows nothing on standard error.
    - ``overwrite``: True replaces another run found in ``output_dir``.
    - ``load_options``: how an upsampler given by name may be loaded, see :class:`vfm_isbench.LoadOptions`.
    - ``speed``: how fast, see :class:`vfm_isbench.Speed`.
    - ``checkpoint_minutes``: minutes between two checkpoints inside an epoch; 10 by default.
    - ``random_weights``: True gives the backbone random weights, for a dry run whose scores mean nothing.
    - ``boundary_iou``: True measures boundary IoU after every click, too.

    Args:
        upsampler: Callable (features B×C×h×w, ImageNet-normalised image B×3×H×W) → features B×C×H'×W', or a name.
        protocol: "demo" (generated images, minutes on a laptop, not for the leaderboard), "paper", …, or a
            :class:`vfm_isbench.Protocol`. To change one of its fields, such as ``seed``:
            ``Protocol.preset("demo").replace(seed=1)``.
        name: Name in tables; by default the upsampler's own.
        identity: Which upsampler it is, if its code, settings and weights cannot be hashed: any text that changes
            whenever they do.
        options: See above.

    Returns:
        The result; ``print`` it for the standard table.

    Raises:
        TypeError: for an option that does not exist.
        ContractError: if the upsampler does not keep its contract.
        UnknownNameError, DataError, WeightsError, ProtocolError: before any training, if a name, a folder or the
            weights are missing.
        RunError: if the device cannot be used, ``output_dir`` holds another run, or another process is using it.

    Example:
        >>> import vfm_isbench
        >>> result = vfm_isbench.evaluate("bilinear", output_dir="runs/bilinear")  # doctest: +SKIP
        >>> print(result)  # doctest: +SKIP
    """
    check_options("evaluate", options, ("name", "identity"), protocol)
    return Benchmark(protocol, **options).run(upsampler, name, identity)
