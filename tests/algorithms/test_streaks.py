"""Straight streaks: found where they are, and nowhere else."""

import numpy as np
import pytest

from larun.algorithms.streaks import find_streaks, line_sums
from larun.errors import OptionError
from larun.simulate.faults import Trail, trail_light
from larun.simulate.stars import render

SHAPE = (512, 640)


def _noise(rng, sigma=10.0):
    return rng.normal(0, sigma, SHAPE).astype(np.float32)


def test_sums_along_lines_are_those_of_the_pixels_on_them(rng):
    values = rng.normal(size=(16, 24)).astype(np.float32)
    sums = line_sums(values)
    assert sums.shape == (16, 40)
    np.testing.assert_allclose(sums[0, 16:], values.sum(axis=0), rtol=1e-5, atol=1e-5)
    diagonal = [values[n, n + 3] for n in range(16)]
    assert sums[15, 16 + 3] == pytest.approx(sum(diagonal), abs=1e-4)
    with pytest.raises(OptionError, match="12 rows"):
        line_sums(values[:12])


@pytest.mark.parametrize("angle", [5.0, 33.0, 45.0, 72.0, 100.0, 135.0, 171.0])
@pytest.mark.parametrize("brightness", [60.0, 2000.0])
def test_a_streak_is_found_where_it_is(rng, angle, brightness):
    trail = Trail(x=330.0, y=250.0, angle=angle, width=3.0, brightness=brightness)
    (found,) = find_streaks(_noise(rng) + trail_light(SHAPE, trail)[0].astype(np.float32), np.ones(SHAPE, bool))
    assert abs((found.angle - angle + 90) % 180 - 90) < 1.0
    towards = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    away = (330.0 - found.x1) * towards[1] - (250.0 - found.y1) * towards[0]
    assert abs(away) < 6.0
    assert found.sigma > 8
    assert found.brightness == pytest.approx(brightness, rel=0.4)


def test_two_streaks_are_two(rng):
    image = _noise(rng)
    for angle, y in ((20.0, 100.0), (110.0, 300.0)):
        image += trail_light(SHAPE, Trail(x=300.0, y=y, angle=angle, brightness=200.0))[0].astype(np.float32)
    found = find_streaks(image, np.ones(SHAPE, bool))
    assert sorted(round(streak.angle / 5) * 5 for streak in found) == [20, 110]


def test_noise_stars_and_defects_are_no_streaks(rng):
    """Unmasked faint stars, bright halves of stars, a gradient, bad columns and rows: no alarm in 40 images."""
    alarms = 0
    for _ in range(40):
        x, y = rng.uniform(0, 640, 300), rng.uniform(0, 512, 300)
        flux = 10 ** rng.uniform(1.5, 4.0, 300)
        image = _noise(rng) + render(SHAPE, x, y, flux, fwhm=3.5, beta=2.5).astype(np.float32)
        image += np.linspace(0, 30, 640, dtype=np.float32)
        image[:, rng.integers(640)] += 60.0
        image[rng.integers(512), 200:] -= 50.0
        usable = np.ones(SHAPE, bool)
        usable[:, rng.integers(640)] = False
        alarms += len(find_streaks(image, usable))
    assert alarms == 0


def test_what_cannot_be_searched_holds_none(rng):
    assert find_streaks(np.zeros((20, 20), np.float32), np.ones((20, 20), bool)) == ()
    assert find_streaks(np.zeros(SHAPE, np.float32), np.ones(SHAPE, bool)) == ()
    assert find_streaks(_noise(rng), np.zeros(SHAPE, bool)) == ()
    with pytest.raises(OptionError, match="threshold = 0"):
        find_streaks(_noise(rng), np.ones(SHAPE, bool), threshold=0.0)
