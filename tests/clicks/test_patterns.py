"""Click patterns against their distributions, computed in plain loops, and the rules that every click obeys."""

from __future__ import annotations

import math
from collections import Counter
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfm_isbench.clicks import Scene, candidate_clicks, click_generator, next_click, place_click
from vfm_isbench.protocol.clicker import Clicker
from vfm_isbench.types import IGNORE, Array, Click, ObjectId

Place = tuple[int, int]
DRAWN = ["random", "boundary", "jitter:1.5", "realistic"]
PATTERNS = ["center", "clustered", *DRAWN, "mix:center=0.5,random=0.25,jitter:2=0.25"]


def a_scene(last: Click | None = None) -> Scene:
    """A missed block with a hole, a smaller wrong block, ignored and clicked pixels."""
    truth = np.zeros((14, 16), np.int8)
    truth[1:11, 2:13] = 1
    truth[3, 4] = IGNORE
    predicted = np.zeros(truth.shape, bool)
    predicted[1:3, 2:13] = True
    predicted[12:14, 0:3] = True
    clicked = np.zeros(truth.shape, bool)
    clicked[6, 7] = clicked[4, 9] = True
    return Scene(truth, predicted, clicked, last)


def distances(error: set[Place], shape: Place) -> dict[Place, float]:
    """Distance of each pixel of an error to the nearest pixel outside, those beyond the border included."""
    outside = [
        (row, col) for row in range(-1, shape[0] + 1) for col in range(-1, shape[1] + 1) if (row, col) not in error
    ]
    return {place: min(math.dist(place, other) for other in outside) for place in error}


def larger(scene: Scene) -> tuple[dict[Place, float], bool]:
    """The deeper of the two errors without clicked pixels, and whether it is the missed one."""
    places = list(np.ndindex(scene.ground_truth.shape))
    missed = {p for p in places if scene.ground_truth[p] == 1 and not scene.prediction[p]}
    marked = {p for p in places if scene.ground_truth[p] == 0 and scene.prediction[p]}
    shape = cast(Place, scene.ground_truth.shape)
    both = [{p: d for p, d in distances(error, shape).items() if not scene.clicked[p]} for error in (missed, marked)]
    is_positive = max(both[0].values(), default=0) > max(both[1].values(), default=0)
    return both[0 if is_positive else 1], is_positive


def expected(pattern: str, scene: Scene) -> dict[Place, float]:
    """The probability of each pixel, by the definitions of the protocol."""
    depth, is_positive = larger(scene)
    centre = min(place for place in depth if depth[place] == max(depth.values()))
    if pattern == "random":
        weights = dict.fromkeys(depth, 1.0)
    elif pattern == "boundary":
        weights = {place: 1.0 for place in depth if depth[place] <= 3}
    elif pattern.startswith("jitter:"):
        sigma = float(pattern.removeprefix("jitter:"))

        def below(value: float) -> float:
            return (1 + math.erf(value / sigma / math.sqrt(2))) / 2

        weights = {}
        for place in np.ndindex(scene.ground_truth.shape):
            if scene.ground_truth[place] == int(is_positive) and not scene.clicked[place]:
                steps = [one - middle for one, middle in zip(place, centre, strict=True)]
                weights[place] = math.prod(below(step + 0.5) - below(step - 0.5) for step in steps)
    else:
        sigma = 5 * math.hypot(*scene.ground_truth.shape) / math.hypot(1920, 1080)
        reach = int(4 * sigma + 0.5)
        kernel = [math.exp(-((step / sigma) ** 2) / 2) for step in range(-reach, reach + 1)]
        weights = dict.fromkeys(depth, 0.0)
        for row, col in depth:
            for i, down in enumerate(kernel):
                for j, right in enumerate(kernel):
                    near = depth.get((row + i - reach, col + j - reach), 0.0)
                    weights[row, col] += down * right * near**2
    total = sum(weights.values())
    return {place: weight / total for place, weight in weights.items()}


class Quantile:
    """Stands in for a generator whose next number is known."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize("pattern", DRAWN)
def test_a_click_falls_on_each_pixel_with_the_probability_of_the_pattern(pattern: str) -> None:
    """Of evenly spread random numbers, each pixel gets its share, to one."""
    scene, numbers = a_scene(), 600
    probability = expected(pattern, scene)
    found: Counter[Place] = Counter()
    for number in range(numbers):
        rng = cast(np.random.Generator, Quantile((number + 0.5) / numbers))
        click = place_click(Clicker.parse(pattern), scene, rng)
        assert click.is_positive
        found[int(click.row), int(click.col)] += 1
    assert sum(probability.values()) == pytest.approx(1)
    for place in np.ndindex(scene.ground_truth.shape):
        assert abs(found[place] - numbers * probability.get(place, 0)) <= 1.001, place


def chi_square(found: Counter[Place], probability: dict[Place, float]) -> float:
    """The p value of counts under a distribution."""
    from scipy import stats

    assert found.keys() <= probability.keys()
    draws = sum(found.values())
    counts, means = zip(*((found[place], draws * share) for place, share in probability.items()), strict=True)
    return float(stats.chisquare(counts, means).pvalue)


def test_the_generators_of_objects_and_clicks_are_independent_draws() -> None:
    scene = a_scene()
    found: Counter[Place] = Counter()
    for image in range(20):
        for number in range(50):
            rng = click_generator(0, ObjectId(f"image{image}", 1), number)
            click = place_click(Clicker.parse("random"), scene, rng)
            found[int(click.row), int(click.col)] += 1
    assert chi_square(found, expected("random", scene)) > 0.01


def test_a_mixture_draws_from_each_pattern_by_its_share() -> None:
    scene, mixed = a_scene(), Clicker.parse("mix:center=0.5,random=0.3,boundary=0.2")
    probability = expected("random", scene)
    near, centre = expected("boundary", scene), next_click(scene.ground_truth, scene.prediction, scene.clicked)
    probability = {place: 0.3 * share + 0.2 * near.get(place, 0) for place, share in probability.items()}
    probability[int(centre.row), int(centre.col)] += 0.5
    found: Counter[Place] = Counter()
    for seed in range(1000):
        click = place_click(mixed, scene, click_generator(seed, ObjectId("one"), 0))
        found[int(click.row), int(click.col)] += 1
    assert chi_square(found, probability) > 0.01


def test_clustered_clicks_the_error_pixel_nearest_to_the_last_click() -> None:
    rng = click_generator(0, ObjectId("one"), 1)
    clustered = Clicker.parse("clustered")
    assert place_click(clustered, a_scene(), rng) == next_click(*truth_prediction_clicked(a_scene()))
    for last in (Click(6, 7, True), Click(13, 15, False), Click(0, 0, True)):
        scene = a_scene(last)
        depth, _ = larger(scene)
        nearest = min(depth, key=lambda place: (math.dist(place, (last.row, last.col)), place))
        assert place_click(clustered, scene, rng) == Click(*nearest, True)


def truth_prediction_clicked(scene: Scene) -> tuple[Array, Array, Array]:
    return scene.ground_truth, scene.prediction, scene.clicked


def random_scene(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 12, size=2)
    truth = rng.choice([-1, 0, 1], size=shape, p=[0.1, 0.4, 0.5]).astype(np.int8)
    last = Click(int(rng.integers(shape[0])), int(rng.integers(shape[1])), bool(rng.integers(2)))
    clicked = rng.random(shape) < 0.3
    return Scene(truth, rng.random(shape) < 0.5, clicked, last if rng.random() < 0.8 else None)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(PATTERNS))
def test_every_click_is_true_and_new(seed: int, pattern: str) -> None:
    scene = random_scene(seed)
    clicker, centre = Clicker.parse(pattern), next_click(*truth_prediction_clicked(scene))
    click = place_click(clicker, scene, click_generator(seed, ObjectId("one"), 0))
    tried = candidate_clicks(4, scene, click_generator(seed, ObjectId("one"), 0))
    assert tried[0] == centre
    place = int(click.row), int(click.col)
    error = (scene.ground_truth == 1) != scene.prediction
    error &= (scene.ground_truth != IGNORE) & ~scene.clicked
    if not error.any():
        assert [click, *tried] == [Click(0, 0, False)] * 2
        return
    error &= (scene.ground_truth == 1) == centre.is_positive
    assert click.is_positive == centre.is_positive
    assert not scene.clicked[place]
    assert scene.ground_truth[place] == int(click.is_positive)
    assert error[place] or "jitter" in pattern
    assert pattern != "center" or click == centre
    assert len({(one.row, one.col) for one in tried}) == len(tried) == min(4, int(error.sum()))
    assert all(error[int(one.row), int(one.col)] and one.is_positive == centre.is_positive for one in tried)


def test_an_edge_that_is_clicked_all_over_leaves_the_rest_of_the_error() -> None:
    truth = np.ones((9, 9), np.int8)
    inner = np.zeros((9, 9), bool)
    inner[3:6, 3:6] = True
    scene = Scene(truth, np.zeros((9, 9), bool), ~inner)
    click = place_click(Clicker.parse("boundary"), scene, click_generator(0, ObjectId("one"), 0))
    assert inner[int(click.row), int(click.col)]


def test_the_random_numbers_are_those_of_seed_object_and_click() -> None:
    first = click_generator(1, ObjectId("one", 2), 3).random()
    assert first == click_generator(1, ObjectId("one", 2), 3).random()
    others = [(2, ObjectId("one", 2), 3), (1, ObjectId("two", 2), 3), (1, ObjectId("one", 1), 3)]
    others += [(1, ObjectId("one"), 3), (1, ObjectId("one", 2), 4)]
    assert first not in [click_generator(*other).random() for other in others]


def test_the_depth_exponent_follows_from_the_published_saliencies() -> None:
    """RClicks, experiments/eval_cm/eval_cm_all.csv: normalised scanpath saliency of the uniform map over the error and
    of the distance transform, at people's clicks. For a disk that covers a share of the image, both are known."""
    published = {
        "GrabCut": (2.44, 3.94), "Berkeley": (3.39, 5.28), "DAVIS": (4.31, 6.68), "COCO-MVal": (6.08, 8.34),
        "TETRIS": (3.99, 6.45),
    }  # fmt: skip
    exponents = []
    for uniform, distance in published.values():
        share = 1 / (1 + uniform**2)  # (1 − share) / √(share · (1 − share)) = uniform
        mean, square = share / 3, share / 6  # of the depth over the image, radius 1
        depth = mean + distance * math.sqrt(square - mean**2)  # mean depth of people's clicks
        exponents.append((3 * depth - 1) / (1 - depth))  # density ∝ depth^γ has mean depth (γ + 1) / (γ + 3)
    assert [round(exponent, 1) for exponent in exponents] == [2.4, 2.3, 2.3, 1.5, 2.7]
