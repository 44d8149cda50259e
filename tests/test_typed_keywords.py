"""Keyword arguments that are passed on have the names and types of what they are passed to."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import vfm_isbench
from vfm_isbench import Benchmark, Protocol, evaluate, evaluate_checkpoint
from vfm_isbench.errors import ProtocolError
from vfm_isbench.protocol import ProtocolFields
from vfm_isbench.runs import BenchmarkOptions, LoadingOptions, load_trained


def keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and types of the keyword-only arguments of a function."""
    hints = typing.get_type_hints(function)
    found = inspect.signature(function).parameters.values()
    return {each.name: hints[each.name] for each in found if each.kind is each.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ProtocolFields, typing.get_type_hints(Protocol)),
        (BenchmarkOptions, keywords(Benchmark.__init__)),
        (LoadingOptions, keywords(load_trained)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_names_and_types_are_those_of_the_target(options: Any, expected: Mapping[str, Any]) -> None:
    assert list(typing.get_type_hints(options).items()) == list(expected.items())
    assert options.__required_keys__ == frozenset()


@pytest.mark.parametrize(
    ("function", "name", "options"),
    [
        (evaluate, "options", BenchmarkOptions),
        (evaluate_checkpoint, "loading", LoadingOptions),
        (Protocol.replace, "changes", ProtocolFields),
    ],
)
def test_the_functions_are_declared_with_them(function: Callable[..., Any], name: str, options: type) -> None:
    annotations = inspect.get_annotations(inspect.unwrap(function))
    assert annotations[name] == f"Unpack[{options.__name__}]"


def test_no_public_function_takes_keywords_of_any_name() -> None:
    public = [getattr(vfm_isbench, name) for name in vfm_isbench.__all__]
    files = {Path(inspect.getfile(thing)) for thing in public if inspect.isclass(thing) or inspect.isfunction(thing)}
    functions = [
        node
        for file in sorted(files)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None and not node.name.startswith("_")
    ]
    assert [node.name for node in functions if "Unpack" not in ast.unparse(node.args.kwarg.annotation)] == []
    assert len(functions) >= 3


def test_a_wrong_name_is_still_refused_where_nothing_checks_types() -> None:
    with pytest.raises(ProtocolError, match="epochs"):
        Protocol().replace(epoch=3)
    with pytest.raises(TypeError, match=r"evaluate\(\) has no argument 'divice'\. Did you mean 'device'\?"):
        evaluate("bilinear", divice="cpu")
    with pytest.raises(TypeError, match=r"'progress'\? It takes name, identity, device, .*, boundary_iou$"):
        evaluate("bilinear", progres=False)


def test_a_field_of_the_protocol_is_told_from_an_option() -> None:
    said = "has no argument 'seed', because that is a field of the protocol: give "
    with pytest.raises(TypeError, match=re.escape(f"{said}Protocol.preset('demo').replace(seed=1) as protocol")):
        evaluate("bilinear", "demo", seed=1)
    with pytest.raises(TypeError, match=re.escape(f"{said}protocol.replace(seed=1) as protocol")):
        evaluate("bilinear", Protocol(), seed=1)
