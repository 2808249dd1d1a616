import numpy as np
import pytest

from larun import flags as flagtable
from larun.algorithms.background import background
from larun.algorithms.fwhm import DEFAULT_FWHM, FwhmEstimate, estimate_fwhm
from tests.algorithms.star_fields import draw, field
from tests.algorithms.test_cosmic import add_moffat
from tests.algorithms.test_detect import nickel


def estimate(data, variance, flags=None):
    flags = np.zeros(data.shape, np.uint32) if flags is None else flags
    made = background(data, variance, flags & flagtable.UNUSABLE != 0)
    return estimate_fwhm(data, made.level, made.variance, flags)


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.0, 5.0, 8.0, 12.0])
@pytest.mark.parametrize("beta", [2.5, 4.765])
def test_stars_with_cosmic_rays_and_galaxies(rng, fwhm, beta):
    size, stars = (500, 300) if fwhm < 6 else (900, 150)
    sky = field(rng, size, stars, fwhm, beta=beta, faintest=1000 * max(1, fwhm / 3))
    data, variance = sky.data.copy(), sky.variance.copy()
    hits = rng.integers(0, size, (2, stars // 20))
    data[tuple(hits)] += rng.uniform(1000, 20000, stars // 20).astype(np.float32)
    galaxies = rng.uniform(0, size - 1, (2, stars // 10))
    for cx, cy in galaxies.T:
        one = draw((size, size), [cx], [cy], [20000.0], fwhm * rng.uniform(1.3, 2.5), 2.5, reach=int(6 * fwhm))
        data += one.astype(np.float32)
    found = estimate(data, variance)
    assert found.fwhm == pytest.approx(fwhm, rel=0.03)
    assert found.stars >= 20


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_long_tracks_of_cosmic_rays_do_not_pass_for_stars(rng, fwhm):
    sky = field(rng, 500, 150, fwhm, faintest=2000)
    data = sky.data.copy()
    for _ in range(100):  # as many as stars
        y, x, angle = rng.uniform(20, 480), rng.uniform(20, 480), rng.uniform(0, np.pi)
        steps = np.arange(0, rng.uniform(1, 12), 0.5)
        rows, columns = (y + steps * np.sin(angle)).astype(int), (x + steps * np.cos(angle)).astype(int)
        data[rows, columns] += rng.uniform(500, 3000)
    assert estimate(data, sky.variance).fwhm == pytest.approx(fwhm, rel=0.03)


def test_saturated_stars_do_not_count(rng):
    sky = field(rng, 500, 150, 4.0, faintest=5000, brightest=1e7)
    level = 8000.0
    flags = np.where(sky.data > level, flagtable.SATURATED, np.uint32(0)).astype(np.uint32)
    data = np.minimum(sky.data, np.float32(level))
    found = estimate(data, sky.variance, flags)
    assert (flags != 0).sum() > 100
    assert found.fwhm == pytest.approx(4.0, rel=0.03)


def test_a_crowded_field(rng):
    sky = field(rng, 700, 5000, 3.5, faintest=300)
    assert estimate(sky.data, sky.variance).fwhm == pytest.approx(3.5, rel=0.03)


def test_too_few_stars_give_the_documented_default(rng):
    noise = rng.normal(100, 5, (200, 200)).astype(np.float32)
    assert estimate(noise, np.full_like(noise, 25)) == FwhmEstimate(DEFAULT_FWHM, 0, DEFAULT_FWHM)
    spikes = noise.copy()
    spikes[tuple(rng.integers(5, 195, (2, 60)))] += 3000
    assert estimate(spikes, np.full_like(noise, 25)).stars == 0


def test_real_images():
    for name, fewest in (("d1059", 100), ("d1074", 8)):
        data, variance, flags = nickel(name)
        found = estimate(data, variance, flags)
        assert 5.3 < found.fwhm < 6.6
        assert 0.8 * found.fwhm < found.minor < found.fwhm
        assert found.stars >= fewest


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
@pytest.mark.parametrize("ellipticity", [0.0, 0.2, 0.46, 0.6])
def test_trailed_stars_and_their_minor_axis(rng, fwhm, ellipticity):
    image = np.full((600, 600), 200.0)
    y, x = rng.uniform(0, 599, (2, 150))
    for cy, cx, flux in zip(y, x, 10 ** rng.uniform(3.3, 5, 150), strict=True):
        add_moffat(image, cy, cx, flux, fwhm, 3.0, ellipticity=ellipticity, theta=0.7)
    data = rng.poisson(image).astype(np.float32)
    data[tuple(rng.integers(0, 600, (2, 50)))] += 5000
    found = estimate(data, np.maximum(data, 1))
    assert found.stars >= 50
    assert found.fwhm == pytest.approx(fwhm, rel=0.03)
    assert found.minor == pytest.approx(fwhm * np.sqrt(1 - ellipticity), rel=0.04)


@pytest.mark.parametrize("stars", [2, 8])
def test_few_stars_among_galaxies_and_rays(rng, stars):
    for _ in range(6):
        image = np.full((300, 300), 200.0)
        for count, size in ((stars, lambda: 4.16), (3, lambda: rng.uniform(5, 10))):
            for cy, cx in rng.uniform(20, 280, (count, 2)):
                add_moffat(image, cy, cx, 10 ** rng.uniform(4, 5), size(), 3.0)
        data = rng.poisson(image).astype(np.float32)
        data[tuple(rng.integers(0, 300, (2, 20)))] += 5000
        found = estimate(data, np.maximum(data, 1))
        if stars == 2:
            assert found == FwhmEstimate(DEFAULT_FWHM, 0, DEFAULT_FWHM)
        else:
            assert found.fwhm == pytest.approx(4.16, rel=0.05)
            assert found.stars >= 5
