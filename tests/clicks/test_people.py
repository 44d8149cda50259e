"""People's clicks: the file of RClicks, and the map that clicks are drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vfm_isbench.clicks import PeopleFile, Scene, click_generator, place_click
from vfm_isbench.errors import DataError
from vfm_isbench.protocol.clicker import Clicker
from vfm_isbench.types import Click, ObjectId

HEADER = "dataset,full_stem,image_stem,object_stem,click_type,model_type,device,x,y,w,h"
LINES = [
    "GrabCut,106024,106024,,first,,pc,30,20,60,40",
    "GrabCut,106024,106024,,first,,mobile,-5,500,60,40",
    "GrabCut,106024_ritm,106024,,fn,ritm,pc,6,4,60,40",
    "COCO,7_______3,7,3,first,,pc,1,2,10,10",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my clicks.csv"
    path.write_text("\n".join([HEADER, *LINES]) + "\n")
    return path


def test_clicks_are_found_by_data_set_image_and_object(file: Path) -> None:
    people = PeopleFile(file)
    assert people.name.startswith("my-clicks@") and len(people.name) == len("my-clicks@") + 12
    assert people.of("grabcut", ObjectId("106024.jpg")) is not None
    assert people.of("coco_mval", ObjectId("7.jpg", 3)) is people.of("coco_mval", ObjectId("7.jpg")) is not None
    assert people.of("coco_mval", ObjectId("7.jpg", 1)) is None
    assert people.of("davis", ObjectId("106024.jpg")) is None
    assert people.check("grabcut", [ObjectId("106024.jpg"), ObjectId("1.jpg")]).startswith("1 of 2 objects have clicks")
    with pytest.raises(DataError, match="no click on any object of data set 'davis'; its data sets are COCO, GrabCut"):
        people.check("davis", [ObjectId("106024.jpg")])


def test_places_are_scaled_to_the_image_and_clamped_to_it(file: Path) -> None:
    clicks = PeopleFile(file).of("grabcut", ObjectId("106024.jpg"))
    assert clicks is not None
    # So small that nothing is smoothed.
    weights = clicks.map((20, 30), is_first=True, is_positive=True)
    assert {(int(row), int(col)) for row, col in np.argwhere(weights > 0.5)} == {(10, 15), (19, 0)}
    assert np.argwhere(clicks.map((40, 60), is_first=False, is_positive=True) > 0.5).tolist() == [[4, 6]]
    assert not clicks.map((40, 60), is_first=False, is_positive=False).any()


def test_a_click_is_drawn_where_people_clicked_in_the_error_else_by_the_model(file: Path) -> None:
    truth = np.ones((40, 60), np.int8)
    nothing = np.zeros(truth.shape, bool)
    people = PeopleFile(file).of("grabcut", ObjectId("106024.jpg"))
    realistic = Clicker.parse("realistic:my-clicks@0123456789ab")
    rngs = [click_generator(seed, ObjectId("one"), 0) for seed in range(40)]
    found = {place_click(realistic, Scene(truth, nothing, nothing, None, people), rng) for rng in rngs}
    assert found == {Click(20, 30, True), Click(39, 0, True)}
    elsewhere = nothing.copy()
    elsewhere[15:, :] = True
    drawn = [click_generator(seed, ObjectId("one"), 0) for seed in range(3)]
    assert place_click(realistic, Scene(truth, elsewhere, nothing, None, people), drawn[0]).row < 15
    later = Scene(truth, nothing, nothing, Click(0, 0, True), people)
    assert place_click(realistic, later, drawn[1]) == Click(4, 6, True)
    same = click_generator(2, ObjectId("one"), 0)
    without = Scene(truth, ~elsewhere, nothing, Click(0, 0, True), people)
    model = Scene(truth, ~elsewhere, nothing, Click(0, 0, True), None)
    assert place_click(realistic, without, same) == place_click(Clicker.parse("realistic"), model, drawn[2])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("GrabCut,1,1,,second,,pc,1,1,9,9", "line 2: click_type is not one of first, fn, fp"),
        ("GrabCut,1,1,,first,,pc,one,1,9,9", "line 2: could not convert"),
        ("GrabCut,1,1,,first,,pc,1,1,0,9", "line 2: position or size is out of range"),
        ("GrabCut,1,1,,first,,pc,1,nan,9,9", "line 2: position or size is out of range"),
        ("GrabCut,1,1,,first", "line 2: "),
    ],
)
def test_lines_that_make_no_sense_are_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(DataError, match=why):
        PeopleFile(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.csv: cannot be read .*Give RClicks' clicks.csv"):
        PeopleFile(tmp_path / "absent.csv")
    (tmp_path / "other.csv").write_text("dataset,x,y\n")
    with pytest.raises(DataError, match="lacks the columns image_stem, object_stem, click_type, w, h"):
        PeopleFile(tmp_path / "other.csv")
