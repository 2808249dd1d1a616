"""Frames out of focus, whose stars are rings: aligned by their middles, or refused with what to do."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import larun
from larun.algorithms.rings import ring_stars
from larun.errors import NotAligned

pytestmark = pytest.mark.filterwarnings("ignore:.*too few stars to measure:larun.errors.LarunWarning")

N = 400
SEEING = 3.0
TURN = math.radians(1.0)
MATRIX = np.array([[math.cos(TURN), -math.sin(TURN)], [math.sin(TURN), math.cos(TURN)]])
OFFSET = np.array([13.3, -21.7])


def field(count, seed=60):
    rng = np.random.default_rng(seed)
    return rng.uniform(-40, N + 40, (2, count)), 10 ** rng.uniform(4.0, 5.3, count)


def ring(x, y, diameter):
    """A pupil with a hole of 0.4, one side 5 % brighter, blurred by seeing, integrated over pixels."""
    half, over = int(diameter / 2 + 10), 3
    at = (np.arange((2 * half + 1) * over) + 0.5) / over - 0.5 - half
    dx, dy = np.meshgrid(at + round(x) - x, at + round(y) - y)
    radius = np.hypot(dx, dy)
    hole = 0.4 if diameter > 5 else 0.0
    light = ((radius < diameter / 2) & (radius >= hole * diameter / 2)) * (1 + 0.05 * dx / (diameter / 2))
    light = gaussian_filter(light, SEEING / 2.3548 * over)
    side = 2 * half + 1
    light = light.reshape(side, over, side, over).mean(axis=(1, 3))
    return light / light.sum(), round(x) - half, round(y) - half


def exposure(stars, diameter, seed, *, moved=False):
    xy, flux = stars
    at = MATRIX @ xy + OFFSET[:, None] if moved else xy
    image = np.full((N + 160, N + 160), 100.0)  # with margins of 80
    for x, y, f in zip(*at, flux, strict=True):
        if -50 < x < N + 50 and -50 < y < N + 50:
            light, left, low = ring(x, y, diameter)
            image[low + 80 : low + 80 + len(light), left + 80 : left + 80 + len(light)] += f * light
    image = image[80:-80, 80:-80]
    data = np.random.default_rng(seed).normal(image, np.sqrt(image + 25))
    return larun.Frame.from_arrays(
        data, variance=image + 25, unit="electron", gain=1.0, read_noise=5.0, saturation=1e7, header={"EXPTIME": 60.0}
    )


def away(fitted):
    """Largest distance between where a transform puts the frame's corners and middle, and where they are."""
    x, y = (item.ravel() for item in np.meshgrid([20, 200, 380], [20, 200, 380]))
    there = np.array(fitted["matrix"]) @ np.stack([x, y]) + np.array(fitted["offset"])[:, None]
    return float(np.max(np.hypot(*(there - MATRIX @ np.stack([x, y]) - OFFSET[:, None]))))


@pytest.mark.parametrize("diameter", [15.0, 20.0, 25.0])
def test_middles_and_sizes_of_rings_are_found(diameter):
    x, y = (item.ravel() for item in np.meshgrid(*[np.arange(45.0, N - 40, 65.0)] * 2))
    rng = np.random.default_rng(2)
    stars = np.stack([x, y]) + rng.uniform(-8, 8, (2, x.size)), 10 ** rng.uniform(4.3, 5.3, x.size)
    frame = exposure(stars, diameter, 1)
    found = ring_stars(frame.data, frame.flags)
    assert found.diameter == pytest.approx(diameter, abs=0.7)
    gap = np.hypot(*(found.xy[:, None] - stars[0].T).transpose(2, 0, 1)).min(axis=1)
    assert len(gap) > 0.7 * x.size
    assert np.max(gap) < 0.5
    assert np.median(gap) < 0.25  # the middle of the light: one side is brighter


def test_stars_in_focus_are_no_rings():
    frame = exposure(field(60), 2.0, 1)
    assert ring_stars(frame.data, frame.flags) is None
    nothing = larun.Frame.from_arrays(
        np.random.default_rng(1).normal(100, 5, (200, 200)), variance=np.full((200, 200), 25.0), unit="electron"
    )
    assert ring_stars(nothing.data, nothing.flags) is None


@pytest.mark.parametrize(("one", "two"), [(15.0, 15.0), (25.0, 25.0), (18.0, 22.0)])
def test_rings_align_to_a_fifth_of_a_pixel(one, two):
    stars = field(60)
    reference, moved = exposure(stars, one, 1), exposure(stars, two, 2, moved=True)
    fitted = moved.align_to(reference).provenance.step.fitted
    assert away(fitted) < 0.2
    assert fitted["rings"] == pytest.approx([one, two], abs=0.7)


def test_rings_and_stars_in_focus_align_or_are_refused():
    """Never by the bright side of a ring, which lies half of its size away."""
    outcomes, said = [], []
    for count, seed in ((60, 60), (25, 25), (150, 150)):
        stars = field(count, seed)
        reference, moved = exposure(stars, 20.0, 1), exposure(stars, 2.0, 2, moved=True)
        try:
            outcomes.append(away(moved.align_to(reference).provenance.step.fitted))
        except NotAligned as error:
            said.append(str(error))
    assert len(outcomes) + len(said) == 3
    assert outcomes
    assert max(outcomes) < 0.25
    assert all("rings of 20 pixels" in text and "method='wcs'" in text for text in said)


def test_frames_out_of_focus_stack():
    stars = field(60)
    frames = [exposure(stars, 18.0, 1), exposure(stars, 18.0, 2, moved=True), exposure(stars, 18.0, 3)]
    made = larun.Stack.combine(
        frames, reference=frames[0], options=larun.StackOptions(footprint="reference", scale="exposure")
    )
    notes = {note["frame"]: note for note in made.provenance.step.fitted["frames"]}
    assert away(notes[frames[1].provenance.id]) < 0.2
    found = ring_stars(made.data, made.flags)
    assert found.diameter == pytest.approx(18.0, abs=0.7)
