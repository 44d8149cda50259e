"""Imports point down: no circle among the files, and each room imports only the rooms it may know.

A room is a folder of the package, or a module at its top. Every import counts, wherever in a file it stands: in a
function or for type checking only too. ``python tests/test_import_direction.py [PACKAGE]`` prints the numbers.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "vfm_isbench"
LONGEST = 400
"""Lines of a module."""

Graph = dict[str, set[str]]
"""What each file or room imports."""

BASE = {"errors", "types", "storage", "registry", "protocol"}
COMPONENTS = {"backbones", "click_encoders", "heads", "upsamplers"}

MAY_IMPORT: dict[str, set[str]] = {
    # The ground floor.
    "errors": set(),
    "types": {"errors"},
    "storage": {"errors", "types"},
    "registry": {"errors", "storage"},
    "protocol": {"errors", "registry", "storage", "types"},
    "kernels": {"errors", "types"},
    "progress": {"errors"},
    # What a benchmark is made of. These rooms never import each other.
    "metrics": BASE,
    "clicks": BASE,
    "datasets": BASE,
    "backbones": BASE,
    "click_encoders": BASE,
    "heads": BASE | {"kernels"},
    "upsamplers": BASE | {"kernels"},
    # The probe, and what makes it fast.
    "probe": BASE | COMPONENTS,
    "acceleration": BASE | COMPONENTS | {"kernels", "probe", "progress"},
    "isegprobe": BASE | COMPONENTS | {"probe"},
    # The stages. Training and evaluation do not know each other; results and viz know neither.
    "training": BASE | {"acceleration", "clicks", "datasets", "probe", "progress"},
    "evaluation": BASE | {"acceleration", "clicks", "datasets", "metrics", "probe", "progress"},
    "results": BASE | {"metrics"},
    "viz": BASE | {"metrics", "results"},
    "export": BASE | {"datasets", "results"},
    "runs": BASE
    | COMPONENTS
    | {"acceleration", "clicks", "datasets", "evaluation", "isegprobe", "metrics", "probe", "progress", "results"}
    | {"training"},
    "estimate": BASE | COMPONENTS | {"acceleration", "datasets", "evaluation", "probe", "progress", "runs", "training"},
    # The leaderboard runs nothing: whoever checks an entry hands in the function that reruns it.
    "leaderboard": BASE | {"datasets", "metrics", "results", "runs", "upsamplers"},
    "semantic": BASE | COMPONENTS | {"acceleration", "datasets", "probe", "progress", "results"},
    "testing": BASE | {"backbones", "datasets"},
    # The top.
    "benchmark": BASE
    | COMPONENTS
    | {"acceleration", "datasets", "estimate", "probe", "progress", "results"}
    | {"runs", "training"},
    "baseline": BASE | COMPONENTS | {"benchmark", "datasets", "metrics", "probe", "results", "training"},
    "inspection": BASE
    | COMPONENTS
    | {"acceleration", "benchmark", "datasets", "evaluation", "metrics", "probe", "viz"},
    "__init__": BASE | COMPONENTS | {"acceleration", "benchmark", "datasets", "export", "probe", "results", "runs"},
    "cli": BASE
    | COMPONENTS
    | {
        "__init__",
        "acceleration",
        "baseline",
        "benchmark",
        "datasets",
        "export",
        "inspection",
        "isegprobe",
        "leaderboard",
        "results",
    }
    | {"probe", "progress", "runs", "semantic", "viz"},
    "__main__": {"cli"},
}


def imports(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and path below the package of every file of the package that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write out where a relative import points"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.split(".")[0] == package.name:
                yield node.lineno, _file_of(target.split(".")[1:], package)


def _file_of(names: list[str], package: Path) -> str:
    """The file of a module, or the file of the module that an imported name is taken from."""
    for length in range(len(names), -1, -1):
        path = package.joinpath(*names[:length])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file.relative_to(package).as_posix()
    raise AssertionError(f"{package} has no module for {'.'.join(names)}")


def file_graph(package: Path) -> Graph:
    """Which files of the package each of its files imports."""
    return {
        file.relative_to(package).as_posix(): {target for _, target in imports(file, package)}
        for file in sorted(package.rglob("*.py"))
    }


def room_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def room_graph(files: Graph) -> Graph:
    """Which other rooms each room imports."""
    rooms: Graph = {room_of(file): set() for file in files}
    for file, targets in files.items():
        rooms[room_of(file)] |= {room_of(target) for target in targets} - {room_of(file)}
    return rooms


def circles(graph: Graph) -> list[str]:
    """For every group of nodes that all reach each other, one way round: "a -> b -> a"."""
    ways = {node: way for node in graph if (way := _way_round(node, graph))}
    found: list[str] = []
    while ways:
        node, way = next(iter(ways.items()))
        found.append(" -> ".join(way))
        reached = _reachable(node, graph)
        ways = {n: w for n, w in ways.items() if n not in reached or node not in _reachable(n, graph)}
    return found


def _reachable(start: str, graph: Graph) -> dict[str, str]:
    """Every node that imports lead to from the start, with the node before it on a shortest way."""
    before: dict[str, str] = {}
    waiting = [start]
    for node in waiting:
        for target in sorted(graph[node] - before.keys()):
            before[target] = node
            waiting.append(target)
    return before


def _way_round(start: str, graph: Graph) -> list[str]:
    """A shortest way from a node back to itself; empty if none leads back."""
    before = _reachable(start, graph)
    if start not in before:
        return []
    way = [start, before[start]]
    while way[-1] != start:
        way.append(before[way[-1]])
    return way[::-1]


def floors(graph: Graph) -> int:
    """The number of nodes on the longest chain of imports in a graph without a circle."""
    levels: dict[str, int] = {}
    while len(levels) < len(graph):
        ready = [node for node in graph if node not in levels and graph[node] <= levels.keys()]
        assert ready, f"no floor for a circle: {circles(graph)}"
        levels |= {node: 1 + max((levels[target] for target in graph[node]), default=0) for node in ready}
    return max(levels.values(), default=0)


def arrows(graph: Graph) -> int:
    return sum(map(len, graph.values()))


def summary(package: Path) -> str:
    files = file_graph(package)
    rooms = room_graph(files)
    lines = [
        f"{len(rooms)} rooms ({len([room for room in rooms if (package / room).is_dir()])} of them folders)",
        "floors: endless" if circles(rooms) else f"{floors(rooms)} floors",
        f"{arrows(rooms)} arrows between rooms, {arrows(files)} between {len(files)} files",
        f"{len(circles(rooms))} circles of rooms, {len(circles(files))} of files",
    ]
    return "\n".join([*lines, *(f"  {circle}" for circle in circles(rooms) + circles(files))])


def not_allowed(files: Graph) -> list[str]:
    """Every import between rooms that the table does not list."""
    return [
        f"{file} imports {target}"
        for file, targets in files.items()
        for target in sorted(targets)
        if room_of(target) not in MAY_IMPORT[room_of(file)] | {room_of(file)}
    ]


FILES = file_graph(PACKAGE)


def test_every_room_has_a_place_in_the_table() -> None:
    assert room_graph(FILES).keys() == MAY_IMPORT.keys()


def test_no_import_leads_round_in_a_circle() -> None:
    assert circles(FILES) == []
    assert circles(room_graph(FILES)) == []


def test_every_file_imports_only_rooms_that_its_room_may_know() -> None:
    assert not_allowed(FILES) == []


def test_no_file_imports_the_init_of_a_folder_it_is_in() -> None:
    assert [(file, target) for file in FILES for target in sorted(inits_above(file) & FILES[file])] == []


def inits_above(file: str) -> set[str]:
    return {f"{folder.as_posix()}/__init__.py" for folder in Path(file).parents if folder != Path()}


def test_the_table_has_no_circle() -> None:
    assert circles(MAY_IMPORT) == []


def test_only_the_main_module_imports_the_command_line() -> None:
    assert [room for room, rooms in MAY_IMPORT.items() if "cli" in rooms] == ["__main__"]


def test_no_module_is_too_long() -> None:
    lengths = {file: len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: length for file, length in lengths.items() if length > LONGEST} == {}


def test_the_public_names_stay() -> None:
    import vfm_isbench

    assert vfm_isbench.__all__ == [
        "Benchmark",
        "Comparison",
        "ExportOptions",
        "LoadOptions",
        "Protocol",
        "Regression",
        "Resolution",
        "Result",
        "Speed",
        "TrainedProbe",
        "VfmIsbenchError",
        "VfmIsbenchWarning",
        "__version__",
        "compare",
        "evaluate",
        "evaluate_checkpoint",
        "export_results",
        "regress",
        "resolution",
    ]
    assert all(hasattr(vfm_isbench, name) for name in vfm_isbench.__all__)


def made_up(folder: Path, sources: dict[str, str]) -> Path:
    """A package of the given files."""
    package = folder / "house"
    for name, source in {"__init__": "", **sources}.items():
        file = package / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return package


def test_every_form_of_import_is_seen(tmp_path: Path) -> None:
    package = made_up(
        tmp_path,
        {
            "errors": "",
            "cellar/wine": "",
            "cellar/__init__": "",
            "attic": "import house.errors\nfrom house import cellar, version\nimport os, house.cellar.wine as w\n"
            "from house_of_cards import ace\ndef f():\n    from house.cellar import wine, BARREL\n"
            "if TYPE_CHECKING:\n    from house.errors import HouseError\n",
        },
    )
    assert list(imports(package / "attic.py", package)) == [
        (1, "errors.py"),
        (2, "cellar/__init__.py"),
        (2, "__init__.py"),
        (3, "cellar/wine.py"),
        (6, "cellar/wine.py"),
        (6, "cellar/__init__.py"),
        (8, "errors.py"),
    ]


def test_relative_imports_are_refused(tmp_path: Path) -> None:
    package = made_up(tmp_path, {"attic": "from . import roof\n"})
    with pytest.raises(AssertionError, match=r"attic\.py:1: write out where a relative import points"):
        file_graph(package)


@pytest.mark.parametrize(
    "closing",
    [
        "from house.hall.door import Door",
        "def f():\n    import house.hall.door",
        "if TYPE_CHECKING:\n    from house.hall import door",
    ],
)
def test_a_circle_is_found_and_named(tmp_path: Path, closing: str) -> None:
    package = made_up(
        tmp_path,
        {
            "hall/door": "from house.hall.lock import Lock",
            "hall/lock": "from house.hall import key",
            "hall/key": closing,
            "hall/__init__": "from house.hall.door import Door",
        },
    )
    files = file_graph(package)
    assert circles(files) == ["hall/door.py -> hall/lock.py -> hall/key.py -> hall/door.py"]
    assert circles(room_graph(files)) == []
    assert "1 of files\n  hall/door.py -> hall/lock.py" in summary(package)


def test_a_circle_through_the_init_of_a_room_is_found(tmp_path: Path) -> None:
    package = made_up(
        tmp_path, {"hall/__init__": "from house.hall.door import Door", "hall/door": "from house.hall import Lock"}
    )
    assert circles(file_graph(package)) == ["hall/__init__.py -> hall/door.py -> hall/__init__.py"]


def test_a_circle_of_rooms_without_a_circle_of_files_is_found(tmp_path: Path) -> None:
    package = made_up(
        tmp_path,
        {
            "hall/door": "import house.attic.roof",
            "attic/roof": "",
            "attic/beam": "import house.hall.key",
            "hall/key": "",
        },
    )
    assert circles(file_graph(package)) == []
    assert circles(room_graph(file_graph(package))) == ["attic -> hall -> attic"]
    assert "floors: endless" in summary(package)


def test_every_folder_above_a_file_has_an_init_it_may_not_import() -> None:
    assert inits_above("datasets/scenes/draws.py") == {"datasets/__init__.py", "datasets/scenes/__init__.py"}
    assert inits_above("errors.py") == set(), "the package itself is in no room"


def test_an_import_against_the_table_is_named() -> None:
    assert not_allowed({"metrics/iou.py": {"types.py", "clicks/clicker.py", "metrics/noc.py"}}) == [
        "metrics/iou.py imports clicks/clicker.py"
    ]


def test_the_numbers_of_a_house() -> None:
    graph = {"roof": {"wall"}, "wall": {"floor", "door"}, "door": {"floor"}, "floor": set()}
    assert circles(graph) == []
    assert floors(graph) == 4


if __name__ == "__main__":
    sys.stdout.write(summary(Path(sys.argv[1]).resolve() if sys.argv[1:] else PACKAGE) + "\n")
