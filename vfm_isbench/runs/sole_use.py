"""One writer at a time in a run folder, and for a result file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vfm_isbench.errors import RunError
from vfm_isbench.storage.locks import LockHeld, locked


@contextmanager
def sole_use(folder: Path | None) -> Iterator[None]:
    """Keep every other run out of a run folder during a ``with`` block; without a folder, do nothing.

    Args:
        folder: Created if missing; removed again if the block leaves nothing in it.

    Raises:
        RunError: if another process or thread uses the folder, or it cannot be created.
    """
    if folder is None:
        yield
        return
    with (
        _created(folder),
        _refusing(folder / "run.lock", f"the folder {folder}", "output_dir=… (command line: --output)"),
    ):
        yield


@contextmanager
def sole_writer(output: Path) -> Iterator[None]:
    """Keep every other evaluation from writing the same result file; arguments and errors as :func:`sole_use`."""
    with (
        _created(output.parent),
        _refusing(output.with_name(f"{output.name}.lock"), str(output), "output=… (command line: --output)"),
    ):
        yield


@contextmanager
def _refusing(lock: Path, what: str, option: str) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock))
        except LockHeld as held:
            raise RunError(
                f"{what} is in use by {held}. Wait until that has finished, or choose another with {option}."
                + (f" {held.advice}" if held.advice else "")
            ) from None
        yield


@contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create a folder with its parents, and remove those that are empty afterwards."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the output folder {folder} cannot be written: {error}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # not empty, or gone
            for each in missing:
                each.rmdir()
