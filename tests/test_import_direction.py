"""Imports point down only: every part of the package may import what is listed here, and nothing else of ours."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfm_isbench

PACKAGE = Path(vfm_isbench.__file__).parent
NAME = PACKAGE.name
LONGEST = 400
"""Lines of a module."""

BASE = {
    "errors",
    "types",
    "registry",
    "plugins",
    "protocol",
    "protocol_checks",
    "weights",
    "downloads",
    "inert_pickle",
    "strips",
    "winograd",
    "speed",
}
COMPONENTS = {"backbones", "upsamplers", "click_encoders", "heads"}

ALLOWED: dict[str, set[str]] = {
    # The bottom.
    "errors": set(),
    "types": {"errors"},
    "registry": {"errors"},
    "plugins": {"errors", "registry"},
    "protocol_checks": {"errors", "registry"},
    "protocol": {"errors", "registry", "protocol_checks"},
    "inert_pickle": {"errors"},
    "strips": set(),
    "winograd": {"types", "strips"},
    "speed": {"errors"},
    "weights": {"errors", "inert_pickle"},
    "downloads": {"errors"},
    # Parts that know the bottom, and never each other.
    "metrics": BASE,
    "clicks": BASE,
    "datasets": BASE,
    **{component: BASE for component in COMPONENTS},
    # Assembly.
    "probe": BASE | {"backbones", "upsamplers"},
    "build": BASE | COMPONENTS | {"probe"},
    "feature_cache": BASE | {"backbones", "probe", "upsamplers"},
    "shortcut": BASE | {"heads", "probe", "upsamplers"},
    # Use of the assembled probe; training and evaluation do not know each other.
    "training": BASE | {"clicks", "datasets", "probe", "build", "shortcut", "feature_cache"},
    "evaluation": BASE | {"clicks", "datasets", "metrics", "probe", "build", "shortcut", "feature_cache"},
    "reference": BASE | COMPONENTS | {"build", "probe"},
    # Results know neither training nor evaluation.
    "results": BASE | {"metrics"},
    "leaderboard_page": BASE | {"results"},
    "viz": BASE | {"metrics", "results"},
    # Only what needs a probe to make pictures lies above them.
    "replay": BASE | {"datasets", "evaluation", "metrics", "probe", "viz"},
    "feature_maps": BASE | {"backbones", "benchmark", "probe", "upsamplers", "viz"},
    "fakes": BASE | {"backbones", "datasets"},
    "run_folder": BASE | {"results", "training"},
    "measurement": BASE | {"datasets", "evaluation", "probe", "results", "run_folder"},
    # Entries are data: the leaderboard runs nothing, and what reruns an entry is handed in.
    "leaderboard": BASE | {"datasets", "measurement", "metrics", "results", "upsamplers"},
    # The top.
    "benchmark": BASE | COMPONENTS | {"build", "datasets", "measurement", "probe", "results", "run_folder", "training"},
    "checkpoint_evaluation": BASE
    | COMPONENTS
    | {"benchmark", "build", "datasets", "measurement", "probe", "reference", "results", "run_folder", "training"},
    "cli": BASE
    | COMPONENTS
    | {"__init__", "benchmark", "checkpoint_evaluation", "datasets", "leaderboard", "leaderboard_page", "reference"}
    | {"feature_maps", "replay", "results", "viz"},
    "__main__": {"cli"},
    "__init__": BASE | COMPONENTS | {"benchmark", "checkpoint_evaluation", "datasets", "metrics", "probe", "results"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: Path) -> str:
    """The first name below the package: a folder, or a module of the package itself."""
    first = module.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_parts(module: Path) -> Iterator[tuple[int, str]]:
    """Line and part of everything of ours that a module imports, wherever in the file that is."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative imports hide where they point"
            # "from vfm_isbench import x" imports the module x if there is one, otherwise a name of __init__.
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == NAME else [node.module or ""]
            )
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first != NAME:
                continue
            part = rest.partition(".")[0]
            exists = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
            yield node.lineno, part if part and exists else "__init__"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(module: Path) -> None:
    part = part_of(module)
    assert part in ALLOWED, f"{part} has no place in the order of imports: give it one in {Path(__file__).name}"
    wrong = [
        f"line {line} imports {imported}"
        for line, imported in imported_parts(module)
        if imported != part and imported not in ALLOWED[part]
    ]
    assert not wrong, f"{module.relative_to(PACKAGE)}: {'; '.join(wrong)}"


def test_the_order_of_imports_has_no_circle() -> None:
    """What a part may import must, as a whole, lie below it."""
    placed: set[str] = set()
    waiting = {part: allowed - {part} for part, allowed in ALLOWED.items()}
    # The version in __init__ is shown by the command line, which __init__ does not import.
    while waiting:
        ready = {part for part, allowed in waiting.items() if allowed <= placed}
        assert ready, f"a circle among {sorted(waiting)}"
        placed |= ready
        waiting = {part: allowed for part, allowed in waiting.items() if part not in ready}


def test_nothing_but_the_main_module_imports_the_command_line() -> None:
    assert [part for part, allowed in ALLOWED.items() if "cli" in allowed] == ["__main__"]
    assert "cli" not in {
        imported
        for path in MODULES
        if part_of(path) != "__main__"
        for _, imported in imported_parts(path)
        if part_of(path) != "cli"
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_too_long(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_every_form_of_import_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import vfm_isbench.cli\nfrom vfm_isbench import metrics, __version__\nimport numpy, vfm_isbench.types as t\n"
        "from vfm_isbench_extra import cli\ndef f():\n    from vfm_isbench.training.loss import normalized_focal_loss\n"
    )
    assert list(imported_parts(module)) == [(1, "cli"), (2, "metrics"), (2, "__init__"), (3, "types"), (6, "training")]
