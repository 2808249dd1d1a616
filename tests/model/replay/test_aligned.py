"""Aligned frames by their records: made again bit for bit, windows of them, and the stories of their pixels."""

import warnings
from typing import NamedTuple

import attrs
import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import flags as fl
from larun.algorithms.jit import set_threads
from larun.detector import Section
from larun.errors import LarunWarning
from larun.model.replay.windows import Windows
from larun.simulate import simulate_night
from tests.model.conftest import NIGHT
from tests.model.replay.test_windows import all_differing

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")


class Pair(NamedTuple):
    """Two frames of one field, and the second aligned to the first in several ways."""

    folder: object
    reference: larun.Frame
    moved: larun.Frame
    products: dict[str, larun.Frame]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    options = attrs.evolve(NIGHT, frames=2, dither=9.0, star_density=4000.0, cosmic_rate=60.0)
    truth = simulate_night(tmp_path_factory.mktemp("pair") / "raw", seed=5, options=options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        masters = larun.Night(truth.folder).masters()
        first, second = (larun.Frame.read(item.path).calibrate(masters) for item in truth.select("object", "V"))
        moved = second.clean()
        products = {
            "affine": moved.align_to(first),
            "similarity": moved.align_to(first, transform="similarity"),
            "areas": moved.align_to(first, kernel="area", conserve="brightness"),
            "nearest": second.align_to(first.clean(replace=False), kernel="nearest"),
            "phase": moved.align_to(first, method="phase"),
            "part": moved.align_to(first.crop((20, 150), (11, 140))),
        }
    products["crop"] = products["affine"].crop((5, 150), (11, 140))
    products["sum"] = products["affine"] + first
    products["quadratic"] = moved.align_to(first, transform="quadratic")
    products["cubic"] = moved.align_to(first, transform="cubic")
    products["wcs"] = moved.align_to(first, method="wcs")
    products["bin"] = products["affine"].bin(2)
    products["binned part"] = products["wcs"].crop((5, 150), (11, 140)).bin(3)
    return Pair(truth.folder, first, moved, products)


def test_an_aligned_frame_is_made_again_from_the_raw_files(pair, tmp_path):
    path = pair.products["affine"].write(tmp_path / "aligned.fits")
    found = larun.replay(path, raw=pair.folder)
    assert str(found) == "made again, bit for bit the same"
    seen = larun.audit(path)
    assert seen.good, list(map(str, seen.files))
    with fits.open(path) as hdus:
        hdus["SCI"].data[40, 50] += 1
        hdus.writeto(tmp_path / "changed.fits")
    assert not larun.audit(tmp_path / "changed.fits").good
    for name in ("areas", "nearest", "phase", "part"):
        assert larun.replay(pair.products[name], raw=pair.folder).equal, name


def test_one_thread_makes_the_same_bits_and_the_same_record(pair):
    set_threads(1)
    try:
        alone = pair.moved.align_to(pair.reference)
        again = larun.replay(pair.products["affine"], raw=pair.folder)
    finally:
        set_threads(None)
    assert alone.identical(pair.products["affine"])
    assert alone.provenance.id == pair.products["affine"].provenance.id
    assert again.equal


def test_windows_of_aligned_frames_are_those_of_the_whole(pair):
    windows = Windows(pair.folder)
    assert all_differing(pair.products, windows, 15) == []
    assert windows.whole == {}


def test_bent_transforms_are_in_the_record(pair):
    for name, degree in (("quadratic", 2), ("cubic", 3)):
        fitted = pair.products[name].provenance.step.fitted
        assert fitted["degree"] == degree
        assert fitted["polynomial"]["degree"] == degree


def test_a_pixel_of_an_aligned_frame_comes_from_one_of_its_raw_file(pair):
    aligned = pair.products["affine"]
    fitted = aligned.provenance.step.fitted
    x, y = 80, 60
    there = np.array(fitted["matrix"]) @ (x, y) + fitted["offset"]
    story = larun.why(aligned, x, y, raw=pair.folder)
    told = next(part for part in story.parts if part.step == "align")
    assert (told.values["x"], told.values["y"]) == pytest.approx(there, abs=1e-6)
    assert told.values["kernel"] == "lanczos3"
    assert f"x = {there[0]:.3f}, y = {there[1]:.3f}" in told.text
    assert [part.step for part in story.parts][:2] == ["raw", "calibrate"]
    raw = story.parts[0].values
    source = pair.moved.provenance
    while source.root is None:
        source = source.parents[0].provenance
    value = larun.Frame.read(pair.folder / source.root.name).data[raw["y"], raw["x"]]
    assert value == raw["value"]
    assert story.notes == ()


def test_flags_are_told_by_the_pixels_they_came_with(pair):
    aligned = pair.products["affine"]
    y, x = np.argwhere(((aligned.flags & fl.COSMIC) != 0) & ((aligned.flags & (fl.NO_DATA | fl.EDGE)) == 0))[3]
    story = larun.why(aligned, int(x), int(y), raw=pair.folder)
    reason = next(reason for reason in story.flags if reason.flag == "COSMIC")
    assert (reason.step, reason.cause) == ("clean", "cosmic ray")
    y, x = np.argwhere((aligned.flags & fl.BAD) != 0)[40]
    reason = next(r for r in larun.why(aligned, int(x), int(y), raw=pair.folder).flags if r.flag == "BAD")
    assert reason.step.startswith("master")
    y, x = np.argwhere(aligned.flags == fl.NO_DATA)[0]
    story = larun.why(aligned, int(x), int(y), raw=pair.folder)
    assert "outside of the frame" in next(reason.text for reason in story.flags if reason.flag == "NO_DATA")
    assert story.value is None
    y, x = np.argwhere(aligned.flags == fl.EDGE)[0]
    assert "edge" in larun.why(aligned, int(x), int(y), raw=pair.folder).flags[0].text


def test_by_wcs_the_place_is_told_too(pair):
    aligned = pair.moved.align_to(pair.reference, method="wcs")
    story = larun.why(aligned, 90, 70, raw=pair.folder)
    told = next(part for part in story.parts if part.step == "align")
    here = pair.reference.wcs.all_pix2world(90, 70, 0)
    there = pair.moved.wcs.all_world2pix(*here, 0)
    assert (told.values["x"], told.values["y"]) == pytest.approx([float(at) for at in there], abs=0.01)
    section = Section(60, 70, 80, 95)
    cut = larun.window(aligned, (80, 95), (60, 70), raw=pair.folder)
    assert np.array_equal(cut.data, aligned.data[section.slices], equal_nan=True)
