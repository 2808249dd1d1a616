"""Stacks by their records: made again from the raw files, and windows of them from what the windows see."""

import warnings
from typing import NamedTuple

import attrs
import numpy as np
import pytest

import larun
from larun.detector import Section
from larun.errors import LarunWarning
from larun.model.planes import same_plane
from larun.model.replay import resampled_rules
from larun.model.replay.recompute import Replayer
from larun.model.replay.windows import Windows
from larun.simulate import simulate_night
from tests.model.conftest import NIGHT
from tests.model.replay.test_windows import differing, random_sections

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")


class Made(NamedTuple):
    """Raw files, calibrated and cleaned frames of one field, and stacks of them."""

    folder: object
    frames: list[larun.Frame]
    products: dict[str, larun.Frame]


def stacks(folder, seed=5, frames=5):
    """Stacks in every way, of a night whose frames lie apart."""
    options = attrs.evolve(NIGHT, frames=frames, dither=8.0, star_density=4000.0, cosmic_rate=60.0)
    truth = simulate_night(folder / "raw", seed=seed, options=options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        masters = larun.Night(truth.folder).masters()
        science = [larun.Frame.read(item.path).calibrate(masters).clean() for item in truth.select("object", "V")]
        science.append(science[0].crop((7, 160), (3, 120)))
        here = larun.StackOptions(footprint="reference")
        alone = [frame.crop((0, 90), (0, 100)) for frame in science[:2]]
        made = {
            "union": larun.Stack.combine(science),
            "mean": larun.Stack.combine(science, method="mean", options=here, weights="sky"),
            "median": larun.Stack.combine(science, method="median", reference=science[2]),
            "wcs": larun.Stack.combine(science, align="wcs", options=here),
            "wcs union": larun.Stack.combine(science, align="wcs"),
            "cubic union": larun.Stack.combine(science, options=larun.StackOptions(transform="cubic")),
            "quadratic": larun.Stack.combine(science, options=attrs.evolve(here, transform="quadratic")),
            "areas": larun.Stack.combine(science, options=larun.StackOptions(kernel="area", scale="exposure")),
            "undithered": larun.Stack.combine([science[0], science[0] * 1.0, science[3]]),
            "two": larun.Stack.combine(alone, options=larun.StackOptions(scale="none", background="none")),
        }
    made["crop"] = made["union"].crop((5, 150), (11, 140))
    made["bin"] = made["union"].bin(2)
    made["scaled"] = made["median"] * 2.0
    return Made(truth.folder, science, made)


def wrong_windows(made, windows, count, seed=1):
    """Windows that are not the crop of their product."""
    rng, found = np.random.default_rng(seed), []
    for name, product in made.products.items():
        for section in random_sections(product.shape, rng, count):
            planes = windows.pixels(product.provenance, section)
            bad = differing(product, planes, section)
            bad += [key for key, plane in planes.own.items() if not alike(getattr(product, key)[section.slices], plane)]
            found += [(name, section, bad)] if bad else []
            assert list(planes.own) == ["coverage", "contributors", "rejected"]
    return found


def alike(one, two):
    return same_plane(one.copy(), two.copy())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return stacks(tmp_path_factory.mktemp("stacks"))


def test_a_stack_of_frames_is_the_same_bit_for_bit(made, tmp_path):
    replayer = Replayer(made.folder)
    for name in ("union", "wcs", "undithered"):
        product = made.products[name].write(tmp_path / f"{name}.fits")
        again = replayer.replay(product)
        assert again.equal, str(again)
        assert again.notes == ()
    here = larun.StackOptions(footprint="reference", scale="none")
    live = larun.Stack.combine(made.frames[:2], options=here).add(made.frames[2], options=here)
    assert replayer.replay(live.add(made.frames[3], reference=_reference(live, made), options=here)).equal


def test_stacks_by_point_spread_functions_are_the_same_bit_for_bit(made, tmp_path):
    replayer = Replayer(made.folder)
    options = larun.StackOptions(footprint="reference")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)  # small frames: too few stars for a PSF
        for method in ("proper", "homogenised"):
            stack = larun.Stack.combine(made.frames[:3], method=method, options=options)
            again = replayer.replay(stack.write(tmp_path / f"{method}.fits"))
            assert again.equal, str(again)
        windows = Windows(made.folder)
        planes = windows.pixels(stack.provenance, Section(20, 40, 30, 60))
    assert same_plane(planes.data.copy(), stack.data[20:40, 30:60].copy())
    assert windows.whole  # a filter sees far: made as a whole


def _reference(stack, made):
    known = stack.provenance.step.fitted["running"]["reference"]
    return next(frame for frame in made.frames if frame.provenance.id == known)


def test_acceptance_39_any_window_of_a_stack_is_that_of_the_whole(made):
    windows = Windows(made.folder)
    assert wrong_windows(made, windows, 5) == []
    assert windows.whole == {}  # nothing had to be made as a whole
    assert all(product.contributors.max() > 1 for product in made.products.values())
    assert sum(int(product.rejected.sum()) for product in made.products.values()) > 100
    assert made.products["undithered"].shared


def test_surroundings_that_are_too_narrow_are_found_out(made, monkeypatch):
    few = made._replace(products={name: made.products[name] for name in ("union", "wcs")})
    monkeypatch.setattr(resampled_rules, "HALO", 0)
    monkeypatch.setattr(resampled_rules, "MARGIN", -1)  # less than the taps of the kernel
    windows = Windows(made.folder)
    assert wrong_windows(few, windows, 6)
    assert windows.whole == {}


def test_a_window_has_all_planes_of_a_stack(made):
    stack = made.products["union"]
    section = Section(60, 75, 80, 101)
    cut = larun.window(stack._replace(rejected=stack.rejected + np.uint16(1)), (80, 101), (60, 75), raw=made.folder)
    assert type(cut) is type(stack)
    assert np.array_equal(cut.rejected, stack.rejected[section.slices])
    assert np.array_equal(cut.coverage, stack.coverage[section.slices])


def test_a_pixel_of_a_stack_is_told_by_its_frames(made):
    stack = made.products["union"]
    assert stack.rejected.max() > 0
    inner = (slice(20, -20), slice(20, -20))
    y, x = (20 + int(at) for at in np.argwhere((stack.rejected[inner] == 1) & (stack.contributors[inner] >= 4))[5])
    story = larun.why(stack, x, y, raw=made.folder)
    told = next(part for part in story.parts if part.step == "stack")
    rows = told.values["frames"]
    assert len(rows) == len(made.frames)
    assert sum(row["used"] for row in rows) == stack.contributors[y, x]
    (out,) = (row for row in rows if row["why"] == "rejected")
    assert f"{out['name']} was left out" in told.text
    used = [row for row in rows if row["used"]]
    mean = np.average([row["value"] for row in used], weights=[row["weight"] for row in used])
    assert mean == pytest.approx(stack.data[y, x], rel=1e-5)
    assert story.notes == ()
    # on with the frame that was left out, at its own place, down to the raw file
    note = next(item for item in stack.provenance.step.fitted["frames"] if item["name"] == out["name"])
    there = np.array(note["matrix"]) @ (np.array([x, y]) + stack.provenance.step.fitted["origin"]) + note["offset"]
    assert (out["x"], out["y"]) == pytest.approx(there, abs=1e-5)
    assert [part.step for part in story.parts].count("raw") == 2
    y, x = np.argwhere(stack.contributors == 0)[0]
    empty = larun.why(stack, int(x), int(y), raw=made.folder)
    assert "do not reach it" in str(empty)
    assert any(reason.flag == "NO_DATA" for reason in empty.flags)


if __name__ == "__main__":  # a thousand windows: python -m tests.model.replay.test_stacks
    import sys
    import tempfile
    import time
    from pathlib import Path

    warnings.simplefilter("ignore", LarunWarning)
    with tempfile.TemporaryDirectory() as folder:
        all_of_them = stacks(Path(folder))
        begun, opened = time.process_time(), Windows(all_of_them.folder)
        number = -(-int(sys.argv[1] if len(sys.argv) > 1 else 1000) // len(all_of_them.products))
        bad_ones = wrong_windows(all_of_them, opened, number, seed=7)
        print(f"{number * len(all_of_them.products)} windows, {len(bad_ones)} differ; as a whole: {opened.whole}")
        print(*bad_ones, f"{time.process_time() - begun:.0f} s", sep="\n")


def test_a_drizzled_stack_is_the_same_bit_for_bit(made, tmp_path):
    stack = larun.Stack.drizzle(made.frames[:4], scale=0.6, pixfrac=0.8)
    again = Replayer(made.folder).replay(stack.write(tmp_path / "drizzled.fits"))
    assert again.equal, str(again)
    section = Section(20, 70, 31, 90)
    planes = Windows(made.folder).pixels(stack.provenance, section)
    assert differing(stack, planes, section) == []
