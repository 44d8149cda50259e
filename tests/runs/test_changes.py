"""A trained probe evaluated with other clicks: no retraining, another protocol in the result, and no ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SMALL, small_probe
from tiny import TINY

from vfm_isbench import Benchmark, Protocol, Result, cli, compare, evaluate_checkpoint
from vfm_isbench.acceleration.speed import RunOptions
from vfm_isbench.errors import DataError, IncomparableError, ProtocolError
from vfm_isbench.runs.changes import EVALUATION_FIELDS, changed_in_evaluation
from vfm_isbench.testing.fakes import FakeDataset
from vfm_isbench.training import TrainingSamples, train

OTHERS: dict[str, Any] = {
    "max_clicks": 2,
    "clicker": "random",
    "flip_test": False,
    "prediction_threshold": 0.4,
    "zoom_in": False,
    "zoom_threshold": 0.4,
    "zoom_expansion": 1.2,
    "zoom_min_size": 30,
    "zoom_recompute_iou": 0.6,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "nearest"
    protocol = TINY.replace(epochs=1, milestones=(), validation_samples=0, max_clicks=2, object_limit=2)
    Benchmark(protocol, device="cpu", output_dir=folder, progress=False).run("nearest")
    return folder


def test_a_checkpoint_is_evaluated_under_another_pattern(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_run, output = Result.load(run / "result.json"), tmp_path / "random.json"
    arguments = ["eval", str(run), "--device", "cpu", "--quiet", "--limit", "1", "--output", str(output)]
    assert cli.main([*arguments, "--clicker", "random", "--set", "flip_test=false"]) == 0
    assert "|clicks:random2|flip:no|" in capsys.readouterr().out
    result = Result.load(output)
    expected = as_run.protocol.replace(clicker="random", flip_test=False, object_limit=1)
    assert result.protocol == expected
    (first,), (second,) = (one.datasets["scenes"].objects[:1] for one in (as_run, result))
    assert first.object_id == second.object_id and first.clicks != second.clicks
    with pytest.raises(IncomparableError, match="clicker center and random"):
        compare(as_run, result)
    again = evaluate_checkpoint(run, device="cpu", progress=False, limit=1)
    assert again.datasets["scenes"].objects[0].ious == first.ious


def test_a_result_of_people_names_their_file_but_not_its_folder(run: Path, tmp_path: Path) -> None:
    evaluated = Result.load(run / "result.json").datasets["scenes"].objects
    lines = [
        f"scenes,{Path(one.object_id.image).stem},{one.object_id.instance},first,{column},3,320,240"
        for one in evaluated[:1]
        for column in range(320)
    ]
    file = tmp_path / "private" / "clicks.csv"
    file.parent.mkdir()
    file.write_text("\n".join(["dataset,image_stem,object_stem,click_type,x,y,w,h", *lines]))
    result = evaluate_checkpoint(run, device="cpu", progress=False, clicker=f"realistic:{file}")
    assert result.protocol.clicker.startswith("realistic:clicks@")
    assert "private" not in str(result.to_dict())
    assert any("1 of 2 objects have clicks of people (clicks@" in note for note in result.notes)
    file.write_text(file.read_text().replace("scenes,", "DAVIS,"))
    with pytest.raises(DataError, match="no click on any object of data set 'scenes'"):
        evaluate_checkpoint(run, device="cpu", progress=False, clicker=f"realistic:{file}")
    with pytest.raises(
        ProtocolError, match=r"a run cannot have the click pattern realistic:.*: train with another one"
    ):
        Benchmark(TINY.replace(clicker=f"realistic:{file}"), device="cpu", progress=False).run("nearest")


def test_what_decided_the_training_cannot_be_changed() -> None:
    for field in ("disk_radius", "head", "seed", "training_threshold"):
        with pytest.raises(ProtocolError, match=f"field {field} decided how the probe was trained, so an evaluation"):
            changed_in_evaluation(TINY, {field: getattr(TINY, field)})
    with pytest.raises(ProtocolError, match="unknown protocol field 'cliker'. Did you mean 'clicker'"):
        changed_in_evaluation(TINY, {"cliker": "random"})
    with pytest.raises(ProtocolError, match="write jitter:5"):
        changed_in_evaluation(TINY, {"clicker": "jitter"})


def test_no_training_reads_the_fields_that_an_evaluation_can_change() -> None:
    assert tuple(OTHERS) == EVALUATION_FIELDS
    assert set(OTHERS) <= {field.name for field in dataclasses.fields(Protocol)}

    def trained(protocol: Protocol) -> dict[str, torch.Tensor]:
        probe = small_probe(protocol)
        samples = TrainingSamples(FakeDataset(), protocol)
        train(
            probe,
            samples,
            TrainingSamples(FakeDataset(), protocol, validation=True),
            options=RunOptions(progress=False),
        )
        return probe.trainable().state_dict()

    short = SMALL.replace(epochs=1, milestones=())
    first, second = trained(short), trained(changed_in_evaluation(short, OTHERS))
    assert all(torch.equal(first[name], second[name]) for name in first)
