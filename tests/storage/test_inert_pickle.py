"""Checkpoints with foreign objects are read, and nothing they name is ever imported, run or altered."""

from __future__ import annotations

import builtins
import collections
import copyreg
import os
import pickle
import random
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vfm_isbench.errors import WeightsError
from vfm_isbench.storage.inert_pickle import Placeholder, read_torch_file

TRACE = "trap-was-sprung"
COMMAND = f"open({TRACE!r}, 'w').close()"
SHELL = f"touch {TRACE}"


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class Attributes:
    """An object of a class that only this test knows."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class Items(dict[str, Any]):
    """Pickled like ``easydict.EasyDict``: items, and the same again as attributes."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.__dict__.update(values)


class Elements(list[Any]):
    """A foreign list."""


def archive(path: Path, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in records.items():
            file.writestr(f"archive/{name}", content)
    return path


def program_file(folder: Path, program: bytes) -> Path:
    return archive(folder / "program.pth", {"data.pkl": program})


def text(value: str) -> bytes:
    return pickle.BINUNICODE + len(value.encode()).to_bytes(4, "little") + value.encode()


def stack_global(module: str, name: str) -> bytes:
    return text(module) + text(name) + pickle.STACK_GLOBAL


TRAPS: dict[str, bytes] = {
    "os.system": pickle.dumps(Calls(os.system, SHELL)),
    "builtins.exec": pickle.dumps(Calls(exec, COMMAND), 2),
    "builtins.eval": pickle.dumps(Calls(eval, COMMAND), 2),
    "a chain of getattr and __import__": (
        pickle.PROTO
        + b"\x04"
        + stack_global("builtins", "getattr")
        + stack_global("builtins", "__import__")
        + (text("os") + pickle.TUPLE1 + pickle.REDUCE)
        + (text("system") + pickle.TUPLE2 + pickle.REDUCE)
        + (text(SHELL) + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP)
    ),
    "a dotted name": (
        pickle.PROTO
        + (b"\x04" + stack_global("torch._utils", "torch.os.system"))
        + (text(SHELL) + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP)
    ),
    "INST": b"(S'" + SHELL.encode() + b"'\niposix\nsystem\n.",
    "OBJ": b"(cposix\nsystem\nS'" + SHELL.encode() + b"'\no.",
    "a call inside the state of an object": pickle.dumps(Attributes(inner=Calls(os.system, SHELL))),
    "an element": pickle.dumps([Calls(os.system, SHELL)]),
    "a key": pickle.dumps({Calls(os.system, SHELL): 1}),
}


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a sprung trap leaves in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / TRACE


@pytest.mark.parametrize("kind", TRAPS)
def test_nothing_in_a_file_is_run(kind: str, trace: Path) -> None:
    pickle.loads(TRAPS[kind])
    assert trace.exists(), "this trap proves nothing"
    trace.unlink()
    read_torch_file(program_file(trace.parent, TRAPS[kind]))
    assert not trace.exists()


def test_what_is_not_run_is_a_placeholder(tmp_path: Path) -> None:
    for kind in ("os.system", "a chain of getattr and __import__", "a dotted name", "INST", "OBJ"):
        assert isinstance(read_torch_file(program_file(tmp_path, TRAPS[kind])), Placeholder)
    dotted = read_torch_file(program_file(tmp_path, TRAPS["a dotted name"]))
    assert (dotted.path, dotted.args) == ("torch._utils.torch.os.system", (SHELL,))
    chain = read_torch_file(program_file(tmp_path, TRAPS["a chain of getattr and __import__"]))
    assert (chain.path, chain.args) == ("builtins.getattr", (SHELL,))


def test_nothing_is_imported_or_fetched(tmp_path: Path) -> None:
    assert "antigravity" not in sys.modules
    program = (
        pickle.PROTO + b"\x02cantigravity\nfly\n0" + pickle.dumps(Calls(torch.hub.load, "owner/repo", "entry"), 2)[2:]
    )
    found = read_torch_file(program_file(tmp_path, program))
    assert (found.path, found.args) == ("torch.hub.load", ("owner/repo", "entry"))
    assert "antigravity" not in sys.modules


def test_known_classes_and_functions_cannot_be_altered(tmp_path: Path) -> None:
    rebuild, ordered = torch._utils._rebuild_tensor_v2, collections.OrderedDict
    before = (rebuild.__defaults__, dict(vars(rebuild)), dict(vars(ordered)), dict(vars(builtins)))
    state = pickle.dumps((None, {"__defaults__": (1,), "items": 2}), 2)[2:-1]
    for name in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"):
        found = read_torch_file(program_file(tmp_path, pickle.PROTO + b"\x02" + name + state + pickle.BUILD + b"."))
        assert isinstance(found, Placeholder)
    assert before == (rebuild.__defaults__, dict(vars(rebuild)), dict(vars(ordered)), dict(vars(builtins)))


def test_attributes_of_an_ordered_dictionary_are_left_out(tmp_path: Path) -> None:
    state = collections.OrderedDict(a=1)
    state.keys = "shadowed"  # type: ignore[assignment,method-assign]
    found = read_torch_file(program_file(tmp_path, pickle.dumps(state, 2)))
    assert found == {"a": 1}
    assert list(found.keys()) == ["a"]


@pytest.fixture
def registered() -> Iterator[None]:
    copyreg.add_extension("posix", "system", 240)
    yield
    copyreg.remove_extension("posix", "system", 240)


@pytest.mark.usefixtures("registered")
def test_registered_extensions_are_refused(trace: Path) -> None:
    program = pickle.PROTO + b"\x02\x82\xf0" + text(SHELL) + pickle.TUPLE1 + pickle.REDUCE + b"."
    pickle.loads(program)
    trace.unlink()
    with pytest.raises(WeightsError, match="EXT1"):
        read_torch_file(program_file(trace.parent, program))
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_placeholders_keep_what_was_stored(tmp_path: Path, protocol: int) -> None:
    content = {
        "plain": [1, -2.5, 2**70, True, None, "ü", b"\x00", (1,), (1, 2, 3, 4), {"k": {3, 4}}, frozenset({5})],
        "attributes": Attributes(lr=1e-3, inner=Attributes(x=1)),
        "items": Items(type="dinov2", params=Items(mode="early")),
        "elements": Elements([1, 2]),
    }  # fmt: skip
    found = read_torch_file(program_file(tmp_path, pickle.dumps(content, protocol)))
    assert found["plain"][:6] == content["plain"][:6]  # type: ignore[index]
    assert found["attributes"].path.startswith("copy_reg." if protocol < 2 else f"{__name__}.Attributes")
    assert found["attributes"].state["lr"] == 1e-3
    assert found["attributes"].state["inner"].state == {"x": 1}
    if protocol >= 2:
        assert found["items"].items["params"].items == {"mode": "early"}
        assert found["items"].state["type"] == "dinov2"
        assert found["elements"].values == [1, 2]
    if protocol >= 4:
        assert found["plain"][6:11] == content["plain"][6:11]  # type: ignore[index]


def test_objects_that_hold_themselves(tmp_path: Path) -> None:
    parent, children = Attributes(), Items()
    parent.children, children["parent"] = children, parent  # type: ignore[attr-defined]
    found = read_torch_file(program_file(tmp_path, pickle.dumps(parent)))
    assert found.state["children"].items["parent"] is found


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16),
    *(torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128),
]


@st.composite
def tensors(draw: st.DrawFn) -> list[Tensor]:
    """A tensor and views of it."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    whole = (torch.rand(shape) * 9).to(draw(st.sampled_from(DTYPES)))
    views = [whole, whole.unsqueeze(0)]
    if shape:
        views += [whole.transpose(0, -1), whole[1:], whole[..., ::2]]
    return draw(st.permutations(views))


@settings(max_examples=40)
@given(content=tensors())
def test_tensors_equal_those_that_torch_reads(content: list[Tensor], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tensors") / "plain.pth"
    torch.save({"list": content, "parameter": torch.nn.Parameter(torch.ones(2)), "epoch": 3}, path)
    expected, found = torch.load(path, weights_only=True), read_torch_file(path)
    assert (found.keys(), found["epoch"]) == (expected.keys(), 3)
    assert torch.equal(found["parameter"], expected["parameter"])
    for tensor, other in zip(found["list"], expected["list"], strict=True):
        assert (tensor.dtype, tensor.shape, tensor.stride()) == (other.dtype, other.shape, other.stride())
        assert torch.equal(tensor, other)
    assert len({tensor.untyped_storage().data_ptr() for tensor in found["list"]}) == 1, "views share their storage"


@pytest.mark.parametrize("shape", [(10**6, 10**6), (2,)])
def test_views_that_repeat_elements_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Otherwise a file with one number could become a tensor of terabytes when copied."""
    torch.save({"a": torch.ones(1).expand(shape)}, tmp_path / "bomb.pth")
    with pytest.raises(WeightsError, match=r"bomb\.pth .* more elements than its storage"):
        read_torch_file(tmp_path / "bomb.pth")


def test_overlapping_views_larger_than_their_storage_are_refused(tmp_path: Path) -> None:
    torch.save(torch.arange(6.0).as_strided((3, 4), (1, 1)), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="more elements than its storage"):
        read_torch_file(tmp_path / "a.pth")
    torch.save(torch.arange(6.0).as_strided((2, 3), (1, 1)), tmp_path / "b.pth")
    assert read_torch_file(tmp_path / "b.pth").tolist() == [[0, 1, 2], [1, 2, 3]]


def test_parameters_and_tensors_with_attributes_are_read(tmp_path: Path) -> None:
    """Optimisers and Lightning write such tensors, into files that also hold foreign objects."""
    parameter, tensor = torch.nn.Parameter(torch.arange(4.0).reshape(2, 2)), torch.arange(3)
    parameter.is_shared_, tensor.note = True, "x"  # type: ignore[attr-defined]
    content = {"parameter": parameter, "tensor": tensor, "plain": torch.nn.Parameter(torch.ones(1)), "o": Items(a=1)}
    torch.save(content, tmp_path / "a.ckpt")
    found = read_torch_file(tmp_path / "a.ckpt")
    assert torch.equal(found["parameter"], parameter.detach()) and not found["parameter"].requires_grad
    assert torch.equal(found["tensor"], tensor) and torch.equal(found["plain"], torch.ones(1))
    assert not hasattr(found["tensor"], "note")


def test_counters_of_batch_norm_stay_whole_numbers(tmp_path: Path) -> None:
    state = torch.nn.DataParallel(torch.nn.BatchNorm2d(2)).state_dict()
    state["module.num_batches_tracked"] += 2**40
    torch.save({"state_dict": state, "o": Items(a=1)}, tmp_path / "a.ckpt")
    counter = read_torch_file(tmp_path / "a.ckpt")["state_dict"]["module.num_batches_tracked"]
    assert (counter.dtype, counter.shape, counter.item()) == (torch.int64, (), 2**40)


def test_a_state_dict_of_a_module_is_read(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": Items(a=1)}, tmp_path / "model.ckpt")
    found = read_torch_file(tmp_path / "model.ckpt")["state_dict"]
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


@pytest.fixture
def records(tmp_path: Path) -> dict[str, bytes]:
    """The records of an intact file, for tampering."""
    torch.save({"a": torch.arange(6.0).reshape(2, 3)}, tmp_path / "sound.pth")
    with zipfile.ZipFile(tmp_path / "sound.pth") as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def pattern(values: list[int]) -> bytes:
    """How pickle writes the tensor's offset, or a pair of small numbers."""
    return b"".join(pickle.BININT1 + bytes([value]) for value in values)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (pattern([2, 3]), pattern([2, 4])),
        (pattern([2, 3]), pattern([200, 3])),
        (pattern([3, 1]), pattern([4, 1])),
        (pattern([3, 1]), pickle.BININT + (-3).to_bytes(4, "little", signed=True) + pattern([1])),
        (pattern([3, 1]), pickle.BININT + (2**31 - 1).to_bytes(4, "little") + pattern([1])),
        (pattern([6]), pattern([7])),
        (pattern([6]), pattern([1])),
        (b"FloatStorage", b"DoubleStorage"),
        (b"FloatStorage", b"QuantumStorage"),
        (b"FloatStorage", b"serialization"),
        (b"_rebuild_tensor_v2", b"_rebuild_parameter"),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_refused(
    tmp_path: Path, records: dict[str, bytes], old: bytes, new: bytes
) -> None:
    assert old in records["data.pkl"]
    path = archive(tmp_path / "bad.pth", {**records, "data.pkl": records["data.pkl"].replace(old, new)})
    with pytest.raises(WeightsError, match=r"bad\.pth could not be read as a checkpoint because it is broken"):
        read_torch_file(path)


def test_other_kinds_of_file_are_refused(tmp_path: Path, records: dict[str, bytes]) -> None:
    def refused(name: str, match: str) -> None:
        with pytest.raises(WeightsError, match=f"{name}.*{match}"):
            read_torch_file(tmp_path / name)

    refused("absent.pth", "torch.save")
    torch.save({"a": 1}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    refused("old.pth", "since version 1.6")
    archive(tmp_path / "script.pt", {**records, "constants.pkl": b""})
    refused("script.pt", "TorchScript")
    archive(tmp_path / "none.zip", {"something.txt": b""})
    refused("none.zip", "0 records data.pkl")
    archive(tmp_path / "packed.pth", {**records, "data/0": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    refused("packed.pth", "compressed, or overlap")
    archive(tmp_path / "order.pth", {**records, "byteorder": b"big" if sys.byteorder == "little" else b"little"})
    refused("order.pth", "byte order")
    archive(tmp_path / "lacking.pth", {name: records[name] for name in records if name != "data/0"})
    refused("lacking.pth", "broken: KeyError")


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_files_are_refused(tmp_path: Path, records: dict[str, bytes], damage: str) -> None:
    content = (tmp_path / "sound.pth").read_bytes()
    start = content.index(records["data/0"])
    changed = content[: len(content) // 2] if damage == "cut" else content[:start] + b"\xff" + content[start + 1 :]
    (tmp_path / "damaged.pth").write_bytes(changed)
    with pytest.raises(WeightsError, match="damaged.pth could not be read"):
        read_torch_file(tmp_path / "damaged.pth")


def test_deeply_nested_tuples_as_keys_are_refused(tmp_path: Path) -> None:
    """Hashing them would overflow the stack of the process."""
    program = pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.TUPLE1 * 10**5 + pickle.NONE + pickle.SETITEM + b"."
    with pytest.raises(WeightsError, match="nested tuple as a key"):
        read_torch_file(program_file(tmp_path, program))


@given(seed=st.integers(0, 10**6))
def test_garbled_programs_are_read_or_refused(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """However the program is mutilated, only our own error is raised."""
    draw = random.Random(seed)
    program = bytearray(
        pickle.dumps({"a": Attributes(b=[1, (2, 3)]), "c": Items(d=b"xyz"), "e": {1}}, draw.choice([0, 2, 4]))
    )
    for _ in range(draw.randint(1, 5)):
        program[draw.randrange(len(program))] = draw.randrange(256)
    try:
        read_torch_file(program_file(tmp_path_factory.mktemp("garbled"), bytes(program)))
    except WeightsError as error:
        assert "program.pth" in str(error)
