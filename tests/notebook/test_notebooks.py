"""Notebooks: upsamplers defined in cells, without a file of ``__main__``, and the whole example in a real kernel."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from IPython.core.compilerop import CachingCompiler
from tiny import TINY

from vfm_isbench import Benchmark
from vfm_isbench.upsamplers import identity_of

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "notebook.ipynb"

FUNCTION = """import torch.nn.functional as F
MODE = "area"
def enlarge(features, image):
    return F.interpolate(features, image.shape[-2:], mode=MODE)
"""
MODULE = """import torch
import torch.nn.functional as F
class Enlarge(torch.nn.Module):
    def __init__(self, mode="area"):
        super().__init__()
        self.mode = mode
    def forward(self, features, image):
        return F.interpolate(features, image.shape[-2:], mode=self.mode)
enlarge = Enlarge()
"""


class Cells:
    """Runs cells as a kernel does: with IPython's compiler, in a ``__main__`` that has no file."""

    def __init__(self, main: types.ModuleType) -> None:
        self.main = main
        self._compiler = CachingCompiler()
        self._count = 0

    def run(self, text: str) -> Any:
        self._count += 1
        name = self._compiler.cache(text, self._count)
        exec(compile(text, name, "exec"), vars(self.main))
        return vars(self.main)["enlarge"]


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Cells:
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert not hasattr(main, "__file__")
    return Cells(main)


@pytest.mark.parametrize("text", [FUNCTION, MODULE], ids=["function", "module"])
def test_a_cell_that_is_run_again_is_the_same_upsampler_and_an_edited_one_is_not(cells: Cells, text: str) -> None:
    first = identity_of(cells.run(text))
    assert first.sha256 is not None and first.name in ("enlarge", "Enlarge")
    cells.run(f"unrelated = 1\n{text}")
    assert identity_of(cells.run(text)) == first
    assert identity_of(cells.run(text.replace("area", "nearest"))).sha256 != first.sha256
    elsewhere = identity_of(cells.run(f"# another comment above\n{text}"))
    assert elsewhere == first, "what stands around it in the cell does not count"


def test_a_run_with_workers_and_a_folder(cells: Cells, tmp_path: Path) -> None:
    protocol = TINY.replace(epochs=1, milestones=())
    run = Benchmark(protocol, device="cpu", workers=1, output_dir=tmp_path, progress=False)
    first = run.run(cells.run(MODULE))
    again = run.run(cells.run(MODULE))  # the finished run in the folder
    assert first.upsampler["sha256"] == again.upsampler["sha256"] is not None
    assert first.datasets["scenes"].objects == again.datasets["scenes"].objects


def test_the_example_has_no_outputs_that_would_rot() -> None:
    cells = json.loads(EXAMPLE.read_text(encoding="utf-8"))["cells"]
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells)
    assert EXAMPLE.stat().st_size < 5000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_runs_in_a_kernel_and_shows_tables(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLE, as_version=4)
    # Where workers are started anew instead of forked, they would import a file of __main__ if there were one.
    workers = (
        'import multiprocessing\nmultiprocessing.set_start_method("spawn", force=True)\n'
        'vfm_isbench.evaluate(bicubic, protocol, device="cpu", workers=1, progress=False)'
    )
    notebook.cells.append(nbformat.v4.new_code_cell(workers))
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    tables = [output for output in outputs if "<table" in output.get("data", {}).get("text/html", "")]
    assert len(tables) == 3, "two results and a comparison"
    (line,) = [output for output in outputs if "<progress" in output.get("data", {}).get("text/html", "")]
    assert "3 of 3 objects 100%" in line["data"]["text/plain"], "one line, in its last state"
    streams = [output for output in outputs if output["output_type"] == "stream"]
    assert {output["name"] for output in streams} == {"stdout"}, "no red text on standard error"
    assert not any("\r" in output["text"] or "\x1b" in output["text"] for output in streams)
    assert r"\toprule" in streams[-1]["text"]
