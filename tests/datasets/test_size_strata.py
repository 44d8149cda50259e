"""The sample of objects by size: fixed, the same everywhere, and as varied in size as the whole."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfm_isbench.datasets.size_strata import list_sha256, sample_by_size
from vfm_isbench.types import ObjectId


def made_up(count: int) -> dict[ObjectId, int]:
    """Objects of very different sizes, two per image, from whole numbers alone."""
    areas = (1 + (number * 2654435761 % 2**32) ** 2 // 2**47 for number in range(count))
    return {ObjectId(f"2008_{number // 2:06d}", 1 + number % 2): area for number, area in enumerate(areas)}


def test_the_rule_stays() -> None:
    """Another list under the same name would make scores incomparable that look comparable."""
    assert (
        list_sha256(sample_by_size(made_up(6671), 600))
        == "a97678277172529e8bb9375ca5f4582c358683fd084a97af33cc742d53ec49bc"
    )


@given(st.integers(0, 60), st.integers(1, 20), st.randoms(use_true_random=False))
def test_neither_the_order_of_the_objects_nor_anything_else_matters(n: int, count: int, rng: random.Random) -> None:
    areas = made_up(n)
    chosen = sample_by_size(areas, count)
    assert len(chosen) == len(set(chosen)) == min(n, count)
    assert chosen == [object_id for object_id in areas if object_id in set(chosen)], "in the order of the data set"
    shuffled = list(areas)
    rng.shuffle(shuffled)
    assert set(sample_by_size({key: areas[key] for key in shuffled}, count)) == set(chosen)


def test_every_size_is_as_frequent_as_among_all_objects() -> None:
    areas = made_up(6671)
    chosen = [areas[object_id] for object_id in sample_by_size(areas, 600)]
    everyone = np.sort(list(areas.values()))
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        threshold = everyone[int(share * len(everyone))]
        assert np.mean(np.array(chosen) < threshold) == pytest.approx(share, abs=1 / 600)


def test_one_object_of_each_stratum_the_one_with_the_smallest_hash() -> None:
    areas = made_up(30)
    by_size = sorted(areas, key=lambda object_id: (areas[object_id], str(object_id)))
    expected = {
        min(by_size[start : start + 3], key=lambda o: hashlib.sha256(f"{o.image}:{o.instance}".encode()).hexdigest())
        for start in range(0, 30, 3)
    }
    assert set(sample_by_size(areas, 10)) == expected


def test_the_hash_of_a_list_depends_on_its_order() -> None:
    first, second = ObjectId("a", 1), ObjectId("b")
    assert list_sha256([first, second]) == hashlib.sha256(b"a:1\nb\n").hexdigest()
    assert list_sha256([second, first]) != list_sha256([first, second])
