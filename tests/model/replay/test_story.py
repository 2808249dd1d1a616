"""Why a pixel has its value and its flags: agreement with what was simulated, and the words."""

import json
from collections import Counter

import attrs
import numpy as np
import pytest
from scipy.ndimage import binary_dilation

import larun
from larun.errors import OptionError
from larun.model.replay.telling import tell
from larun.model.replay.windows import Windows
from larun.provenance import OPERATIONS

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")


@pytest.fixture(scope="module")
def windows(struck):
    return Windows(struck.folder)


def truly(struck, reason, x, y):
    """Whether the simulated truth is what a reason says."""
    truth = struck.truth
    (frame,) = truth.select("object", "V")
    if reason.flag in ("COSMIC", "INTERPOLATED"):  # deposits below one electron are not in the truth
        return binary_dilation(truth.cosmics(frame) > 0, np.ones((3, 3)))[y, x]
    excess = truth.chip(frame).hot[y, x] or any(truth.cosmics(dark)[y, x] > 0 for dark in truth.select("dark"))
    return {
        ("BAD", "master_dark", "excess"): excess,
        ("FLAT_INVALID", "master_flat", "bad in a master"): excess,
        ("FLAT_INVALID", "master_flat", "sensitivity"): x in truth.camera.dead_columns,
        ("SATURATED", "calibrate", "raw counts"): struck.raw.data[y, x] >= truth.camera.saturation,
    }.get((reason.flag, reason.step, reason.cause), False)


@pytest.mark.parametrize(("flag", "most"), [("COSMIC", 25), ("BAD", 12), ("FLAT_INVALID", 12), ("SATURATED", 8)])
def test_every_reason_is_what_was_simulated(struck, windows, flag, most):
    places = np.argwhere(struck.clean.flags & larun.flags.bits_of(flag))
    assert len(places) >= most
    for y, x in np.random.default_rng(1).permutation(places)[:most].tolist():
        story = tell(struck.clean, x, y, windows)
        assert flag in {reason.flag for reason in story.flags}
        wrong = [str(reason) for reason in story.flags if not truly(struck, reason, x, y)]
        assert wrong == [], str(story)
    assert windows.whole == {}


def test_the_numbers_are_those_of_the_frame(struck, windows):
    y, x = np.argwhere(struck.clean.flags == 0)[1000].tolist()
    story = tell(struck.clean, x, y, windows)
    raw, calibrated, cleaned = story.parts
    assert (raw.step, calibrated.step, cleaned.step) == ("raw", "calibrate", "clean")
    assert raw.values["value"] == struck.raw.data[y, x]
    told = calibrated.values
    selection = struck.masters.select(struck.raw)
    assert told["bias"] == selection.bias.data[y, x]
    assert told["flat"] == selection.flat.data[y, x]
    electrons = (told["raw"] - told["overscan"] - told["bias"]) * told["gain"]
    electrons -= told["gain"] * struck.raw.exposure * told["dark"]
    assert electrons / told["flat"] == pytest.approx(struck.frame.data[y, x], rel=1e-5)
    assert set(told["shared"]) == {"bias", "dark", "flat"}
    assert sum(told["shared"].values()) + told["variance"] == pytest.approx(story.error**2, rel=1e-5)
    assert story.flags == ()


def test_a_cosmic_ray_tells_its_iteration_and_what_stands_for_it(struck, windows):
    y, x = np.argwhere(struck.clean.flags == larun.flags.bits_of("COSMIC", "INTERPOLATED"))[7].tolist()
    cosmic, interpolated = tell(struck.clean, x, y, windows).flags
    assert 1 <= cosmic.values["iteration"] <= 4
    assert interpolated.values["before"] == struck.frame.data[y, x]
    assert interpolated.values["after"] == struck.clean.data[y, x]
    once = struck.frame.clean(iterations=int(cosmic.values["iteration"]))
    assert once.flags[y, x] & larun.flags.COSMIC


def test_a_master_tells_which_frames_were_left_out(struck, windows):
    dark = struck.masters.of("dark")[0]
    frames = struck.truth.select("dark")
    hits = np.sum([struck.truth.cosmics(frame) > 300 for frame in frames], axis=0)
    hits[struck.truth.chip().hot] = 0
    places = np.argwhere(hits == 1)[:10].tolist()
    for y, x in places:
        (struck_frame,) = [frame.path.name for frame in frames if struck.truth.cosmics(frame)[y, x] > 300]
        (part,) = tell(dark, x, y, windows).parts
        out = {frame["name"]: frame["sigma"] for frame in part.values["frames"] if not frame["used"]}
        assert list(out) == [struck_frame]
        assert out[struck_frame] > 5
        assert f"{struck_frame} left out" in part.text


def test_other_products_are_told_by_their_inputs(struck, windows):
    x, y = struck.truth.camera.dead_columns[0], 20
    for image, place in ((struck.clean.crop((30, 60), (10, 50)), (x - 30, y - 10)), (struck.raw, (x, y))):
        story = tell(image, *place, windows)
        assert story.parts[0].step == "raw"
        assert story.parts[0].values["x"] == x
        assert story.parts[0].values["y"] == y
    binned = tell(struck.clean.bin(2), x // 2, y // 2, windows)
    assert "FLAT_INVALID" in {reason.flag for reason in binned.flags}
    assert f"x = {x // 2 * 2} … {x // 2 * 2 + 1}" in str(binned)
    total = tell(struck.clean + struck.frame, x, y, windows)
    assert Counter(part.step for part in total.parts) == {"raw": 1, "calibrate": 1, "clean": 1, "add": 1}
    assert total.parts[-1].step == "add"
    assert {(reason.flag, reason.step) for reason in total.flags} == {("FLAT_INVALID", "master_flat")}


def test_the_door_and_plain_containers(struck):
    story = larun.why(struck.clean, 40, 20, raw=struck.folder)
    assert json.loads(json.dumps(story.to_dict()))["flags"][0]["flag"] == "FLAT_INVALID"
    with pytest.raises(OptionError, match="must lie within"):
        larun.why(struck.clean, 400, 20, raw=struck.folder)


def test_a_value_that_the_record_does_not_give_is_noted(struck, windows, monkeypatch):
    y, x = np.argwhere(struck.clean.flags == 0)[1000].tolist()
    assert tell(struck.clean, x, y, windows).notes == ()
    data, flags = struck.clean.data.copy(), struck.clean.flags.copy()
    data[y, x] += 3
    flags[y, x] |= larun.flags.COSMIC
    changed = tell(attrs.evolve(struck.clean, data=data, flags=flags), x, y, windows)
    assert changed.notes[0] == "its flags are COSMIC, its record gives none"
    assert f"it holds {data[y, x]:.9g}, its record gives {struck.clean.data[y, x]:.9g}" in str(changed)
    monkeypatch.setitem(OPERATIONS, "clean", attrs.evolve(OPERATIONS["clean"], version=99))
    (note,) = tell(struck.clean, x, y, windows).notes
    assert "clean was version" in note
    assert "99" in note
    gone = np.argwhere(~np.isfinite(struck.masters.of("flat")[0].data))[0].tolist()
    assert tell(struck.masters.of("flat")[0], *gone[::-1], windows).notes == ()
