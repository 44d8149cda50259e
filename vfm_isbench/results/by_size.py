"""The objects of a data set by their size."""

from __future__ import annotations

from collections.abc import Mapping

from vfm_isbench.errors import ResultError
from vfm_isbench.results.dataset_result import DatasetResult
from vfm_isbench.storage.printable import printable

SIZES: Mapping[str, tuple[float, float]] = {
    "small (below 1 %)": (0.0, 0.01),
    "medium (1 to 10 %)": (0.01, 0.1),
    "large (10 % or more)": (0.1, 1.01),
}
"""Sizes of objects: from and below which share of their image.

Not pixels, as in COCO: the network sees every image or crop at one size, and the images of a data set differ in theirs.
"""


def by_size(datasets: Mapping[str, DatasetResult]) -> dict[str, DatasetResult]:
    """Results on the objects of each size, by data set and size; sizes that no object has are left out.

    Raises:
        ResultError: if the evidence lacks the sizes, as that of versions up to 0.4.0 does.
    """
    found: dict[str, DatasetResult] = {}
    for name, result in datasets.items():
        shares = result.size_shares
        if shares is None:
            raise ResultError(
                f"data set {printable(name)!r}: the sizes of its objects are unknown, because it was evaluated with "
                "version 0.4.0 or earlier. Evaluate the checkpoint again (command line: vfm-isbench eval RUN_FOLDER "
                "--output FILE)"
            )
        for label, (low, high) in SIZES.items():
            chosen = (shares >= low) & (shares < high)
            if chosen.any():
                found[f"{name}, {label}"] = result.of_objects(chosen)
    return found
