"""Stories that go on below steps of a user's own, where these are known and where they are not."""

import sys
import types

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.model.replay.telling import tell
from larun.model.replay.windows import Windows

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")

SOURCE = """
import numpy as np

def marked(image, value):
    flags = image.flags.copy()
    flags[20, 60] |= np.uint32(2)
    return image.with_planes(data=image.data + np.float32(value), flags=flags)

def cut(image):
    return image.crop((5, 100), (5, 100))
"""


@pytest.fixture
def steps(monkeypatch):
    """A user's module."""
    module = types.ModuleType("my_steps")
    exec(compile(SOURCE, "my_steps.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "my_steps", module)
    return module


def by_step(story):
    return {part.step: part for part in story.parts}


def test_the_story_goes_on_below_a_step_that_is_known(struck, steps):
    windows = Windows(struck.folder)
    dead = struck.truth.camera.dead_columns[0]
    product = struck.frame.pipe(steps.marked, 7.0).clean()
    story = tell(product, dead, 20, windows)
    assert [part.step for part in story.parts] == ["raw", "calibrate", "pipe", "clean"]
    before, after = by_step(story)["pipe"].values["self"], struck.frame.data[20, dead]
    assert before == after
    assert "my_steps:marked (source " in by_step(story)["pipe"].text
    assert f"where {before:.6g} was" in by_step(story)["pipe"].text
    assert {(reason.flag, reason.step) for reason in story.flags} == {("FLAT_INVALID", "master_flat")}
    (reason,) = tell(product, 60, 20, windows).flags
    assert (reason.flag, reason.step, reason.cause) == ("SATURATED", "pipe", "own function")


def test_it_says_so_where_a_function_is_not_known_and_goes_on(struck, steps, monkeypatch):
    dead = struck.truth.camera.dead_columns[0]
    product = struck.frame.pipe(steps.marked, 7.0).clean().crop((10, 100), (10, 90))
    monkeypatch.delitem(sys.modules, "my_steps")
    windows = Windows(struck.folder)
    story = tell(product, dead - 10, 10, windows)
    assert [part.step for part in story.parts] == ["raw", "calibrate", "pipe", "clean", "crop"]
    said = by_step(story)
    assert "my_steps:marked (source " in said["pipe"].text
    assert "stands between" in said["pipe"].text
    assert "my_steps:marked is not known here: import its module first" in said["pipe"].text
    assert "what it worked on cannot be made here" in said["clean"].text
    assert said["raw"].values["x"] == dead
    assert said["calibrate"].values["raw"] == struck.raw.data[20, dead]
    assert {(reason.flag, reason.step) for reason in story.flags} == {("FLAT_INVALID", "master_flat")}
    (reason,) = tell(product, 50, 10, windows).flags
    assert (reason.flag, reason.text) == ("SATURATED", "the record does not tell why")
    told = tell(product, dead - 10, 10, Windows(struck.folder, functions=[steps.marked]))
    assert "gives" in by_step(told)["pipe"].text


def test_a_function_that_changed_is_named(struck, steps, monkeypatch):
    product = struck.frame.pipe(steps.marked, 7.0)
    exec(compile(SOURCE.replace("data + ", "data - "), "my_steps.py", "exec"), steps.__dict__)
    story = tell(product, 30, 30, Windows(struck.folder))
    assert "my_steps:marked has another source than it had" in by_step(story)["pipe"].text
    assert story.parts[0].step == "raw"


def test_where_a_function_moves_pixels_the_story_ends_and_says_so(struck, steps, monkeypatch):
    product = struck.frame.pipe(steps.cut)
    story = tell(product, 30, 30, Windows(struck.folder))
    assert {part.step for part in story.parts} == {"pipe"}
    assert "other rows and columns" in str(story)
    monkeypatch.delitem(sys.modules, "my_steps")
    story = tell(product, 30, 30, Windows(struck.folder))
    assert [part.step for part in story.parts] == ["pipe"]


def test_pixels_from_memory_are_named_and_what_lies_below_is_told(struck):
    product = struck.frame.with_planes(data=struck.frame.data * 2)
    story = tell(product, 30, 30, Windows(struck.folder))
    assert [part.step for part in story.parts] == ["raw", "calibrate", "with_planes"]
    assert "only their digest" in by_step(story)["with_planes"].text
    made = larun.Frame.from_arrays(np.ones((20, 20)))
    assert "it began as arrays in memory" in str(tell(made * 2.0, 3, 3, Windows(struck.folder)))


def test_both_operands_of_a_sum_are_told_and_of_many_not_all(struck):
    windows = Windows(struck.folder)
    paths = [frame.path for kind in ("object", "flat", "dark") for frame in struck.truth.select(kind)]
    one, two, *more = [larun.Frame.read(path) for path in paths]
    story = tell(one + two, 30, 30, windows)
    assert [part.step for part in story.parts] == ["raw", "raw", "add"]
    assert {part.values["value"] for part in story.parts[:2]} == {one.data[30, 30], two.data[30, 30]}
    assert by_step(story)["add"].values.keys() == {"operand", "operand 2"}
    total = one + two
    for frame in more[:8]:
        total = total + frame
    assert "more than 8 images went in" in str(tell(total, 30, 30, windows))


def test_flags_of_a_camera_are_its_own(struck, tmp_path):
    class RoofCamera(larun.Frame):
        """Flags a pixel in every frame."""

        instrument_flags = (fl.Flag("LEAKING", 24, "light from the side"),)

        @classmethod
        def matches(cls, header):
            return False

        @classmethod
        def flag_raw(cls, data, header, first_row):
            flags = np.zeros(data.shape, np.uint32)
            if first_row <= 20 < first_row + len(data):
                flags[20 - first_row, 30] = fl.BAD | np.uint32(1 << 24)
            return flags

    path = struck.truth.select("object", "V")[0].path
    frame = RoofCamera.read(path)
    story = tell(frame, 30, 20, Windows(struck.folder))
    assert {(reason.flag, reason.step, reason.cause) for reason in story.flags} == {
        ("BAD", "raw", "camera"),
        ("LEAKING", "raw", "camera"),
    }
    assert "RoofCamera" in story.flags[0].text
