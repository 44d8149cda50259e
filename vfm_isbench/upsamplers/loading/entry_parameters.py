"""Parameters of a function or class in a repository, read from its text without running it."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vfm_isbench.upsamplers.loading.settings import refuse_unknown


@dataclass(frozen=True, slots=True)
class Parameters:
    """What can be given by keyword.

    Attributes:
        names: Names of the parameters.
        takes_any: Whether it takes any keyword besides.
    """

    names: tuple[str, ...]
    takes_any: bool


def refuse_unknown_keywords(spec: str, folder: Path, file: str, name: str, given: Collection[str]) -> None:
    """Refuse keywords that a function or class of a repository does not take, before any of its code runs.

    A name that the text does not explain (made by a decorator or in a loop, say) is left to the call.

    Raises:
        UnknownNameError: naming the keywords that it takes.
    """
    found = parameters_of(folder, file, name) if given else None
    if found is not None:
        refuse_unknown(spec, f"{name}()", found.names, found.takes_any, given)


def parameters_of(folder: Path, file: str, name: str, depth: int = 3) -> Parameters | None:
    """Parameters of ``name`` in ``file`` of a repository, followed through imports by name; None if not found."""
    try:
        body = ast.parse((folder / file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return None
    for node in reversed(body):  # the last definition counts
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return None if node.decorator_list else _parameters(node.args)
        if isinstance(node, ast.ClassDef) and node.name == name:
            makers = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
            return _parameters(makers[0].args, skip=1) if makers and not node.decorator_list else None
        if isinstance(node, ast.ImportFrom) and depth:
            for alias in node.names:
                if (alias.asname or alias.name) == name and (target := _file_of(folder, file, node)) is not None:
                    return parameters_of(folder, target, alias.name, depth - 1)
    return None


def _parameters(arguments: ast.arguments, skip: int = 0) -> Parameters:
    names = [part.arg for part in (*arguments.args[skip:], *arguments.kwonlyargs)]
    return Parameters(tuple(names), arguments.kwarg is not None)


def _file_of(folder: Path, file: str, node: ast.ImportFrom) -> str | None:
    """The file of the repository that an import takes names from."""
    base = Path(file).parent
    for _ in range(node.level - 1):
        base = base.parent
    path = (base if node.level else Path()) / (node.module or "").replace(".", "/")
    for candidate in (path.with_suffix(".py") if path.name else path, path / "__init__.py"):
        if (folder / candidate).is_file():
            return candidate.as_posix()
    return None
