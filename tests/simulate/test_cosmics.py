"""The simulated cosmic rays follow the spectrum their documentation promises."""

import numpy as np
import pytest
from scipy import ndimage

from larun.errors import OptionError
from larun.simulate.cosmics import COMPACT_ELECTRONS, COMPACT_FRACTION, ELECTRONS_PER_MICROMETRE, PITCH, cosmic_rays


def single_rays(count: int, **options: float) -> np.ndarray:
    """Total charge of each of many rays, one in an image."""
    rng = np.random.default_rng(5)
    return np.array([cosmic_rays((41, 41), count=1, rng=rng, **options).sum() for _ in range(count)])


def test_same_generator_same_rays():
    first, second = (cosmic_rays((64, 48), count=20, rng=np.random.default_rng(3)) for _ in range(2))
    assert first.dtype == np.float32
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != cosmic_rays((64, 48), count=20, rng=np.random.default_rng(4)).tobytes()


def test_pixels_hold_whole_electrons():
    image = cosmic_rays((64, 48), count=20, rng=np.random.default_rng(3))
    assert (image == np.rint(image)).all()
    assert image.min() == 0 < image.max()


def test_no_rays_no_charge():
    assert not cosmic_rays((8, 9), count=0, rng=np.random.default_rng(1)).any()


def test_energy_spectrum():
    depth = 1.0
    charge = single_rays(3000, pixel_depth=depth)
    vertical = ELECTRONS_PER_MICROMETRE * PITCH * depth
    # The mean path of 4 cos³θ is 4/3 of the depth and the mean of a Moyal lies 1.27 scales above its mode; hits stop
    # wherever the edge does not cut them, so compare medians: half the tracks have a path below 1.19 depths.
    bulk = np.median(charge[charge > 0.6 * vertical])
    assert 1.1 * vertical < bulk < 1.5 * vertical
    below = (charge < 0.6 * vertical).mean()
    low, high = np.log(COMPACT_ELECTRONS)
    expected = COMPACT_FRACTION * (np.log(0.6 * vertical) - low) / (high - low)
    assert below == pytest.approx(expected, abs=0.03)


def test_deeper_silicon_makes_longer_tracks():
    def pixels(depth: float) -> float:
        image = cosmic_rays((1200, 1200), count=300, rng=np.random.default_rng(8), pixel_depth=depth)
        return (image > 50).sum() / 300

    thin, thick = pixels(1.0), pixels(10.0)
    assert 3 < thin < 8
    assert thick > 2 * thin


def test_azimuth_is_uniform():
    image = cosmic_rays((2000, 2000), count=400, rng=np.random.default_rng(9), pixel_depth=15.0)
    labels, _ = ndimage.label(image > 50, np.ones((3, 3)))
    angles = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        y, x = np.nonzero(labels[box] == number)
        if max(np.ptp(y), np.ptp(x)) > 8:
            cross = np.cov(y, x)
            angles.append(0.5 * np.arctan2(2 * cross[0, 1], cross[1, 1] - cross[0, 0]))
    angles = np.array(angles)
    assert len(angles) > 150
    assert abs(np.exp(2j * angles).mean()) < 3 / np.sqrt(len(angles))


@pytest.mark.parametrize("options", [{"count": -1}, {"count": 1, "pixel_depth": 0.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(OptionError):
        cosmic_rays((8, 8), rng=np.random.default_rng(1), **options)
