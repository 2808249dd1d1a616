"""The proper coadd against what theory says of it, and what it does where frames have holes, rays and ends."""

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.mapping import affine
from larun.algorithms.matched import tap_covariance
from larun.algorithms.proper import proper_coadd, proper_psf
from larun.algorithms.stacking import MeanOptions, stack
from larun.detector import Section
from larun.errors import OptionError
from tests.algorithms.coadd_fields import (
    SEEING,
    SIDE,
    layers,
    matched_fluxes,
    neighbours,
    optimum,
    pixels,
    stars,
)

SHAPE = (SIDE, SIDE)


def whole(made, count=5):
    return (made.flags == 0) & (made.contributors == count)


@pytest.fixture(scope="module")
def bright():
    x, y = stars()
    given, psfs = layers(x, y, 20000.0)
    return x, y, given, psfs, proper_coadd(given, psfs, SHAPE), proper_psf(given, psfs, SHAPE)


def test_noise_is_white_and_as_large_as_told(bright):
    x, y, given, _, made, psf = bright
    pulls = (made.data - psf.draw(SHAPE, x, y, np.full(x.size, 20000.0))) / np.sqrt(made.variance)
    good = whole(made)
    assert good.mean() > 0.85
    assert np.std(pulls[good]) == pytest.approx(1, abs=0.01)
    assert abs(np.mean(pulls[good])) < 0.02
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0)):
        assert abs(neighbours(pulls, good, dy, dx)) < 0.01
    assert np.percentile(made.variance[good], 5) == pytest.approx(1 / sum(one.weight for one in given), rel=0.03)


def test_light_is_kept_and_the_psf_is_that_of_the_sum(bright):
    x, y, _, _, made, psf = bright
    found = matched_fluxes(made.data, psf, x, y) / 20000
    assert np.mean(found) == pytest.approx(1, abs=0.002)
    assert np.std(found) < 0.008
    assert np.sum(pixels(psf, reach=30)) == pytest.approx(1, abs=0.003)
    assert psf.fwhm < np.median(SEEING)
    # the mean star, pixel by pixel
    rest = made.data - psf.draw(SHAPE, x, y, np.full(x.size, 20000.0))
    inner = [(round(b), round(a)) for a, b in zip(x, y, strict=True)]
    mean = np.mean([rest[j - 16 : j + 17, i - 16 : i + 17] for j, i in inner], axis=0)
    assert np.max(np.abs(mean)) < 0.004 * 20000 * pixels(psf).max()


def test_faint_stars_have_the_signal_to_noise_of_all_frames_together():
    """The scatter of fluxes at places without stars, against theory, and against the mean with the best weights."""
    x, y = stars(step=13)
    none = np.zeros(x.size)
    found, other = [], []
    for seed in range(20, 26):
        given, psfs = layers(x, y, none, seed=seed)
        made, psf = proper_coadd(given, psfs, SHAPE), proper_psf(given, psfs, SHAPE)
        found.append(matched_fluxes(made.data, psf, x, y))
        for_stars = [one._replace(weight=one.weight / one.fwhm**2) for one in given]
        plain = stack(for_stars, SHAPE)
        total = sum(one.weight for one in for_stars)
        star = sum(one.weight / total * pixels(own) for one, own in zip(for_stars, psfs, strict=True))
        other.append(
            [
                np.sum(plain.data[round(b) - 16 : round(b) + 17, round(a) - 16 : round(a) + 17] * star)
                / np.sum(star**2)
                for a, b in zip(x, y, strict=True)
            ]
        )
    best = optimum(1.0, psfs)
    proper, mean = 1 / np.std(found), 1 / np.std(other)
    assert np.size(found) > 3000
    assert proper == pytest.approx(best, rel=0.03)
    assert 1.0 < proper / mean < 1.08
    told = np.sqrt(np.sum(pixels(psf) ** 2) * sum(one.weight for one in given))
    assert told == pytest.approx(best, rel=0.005)


def test_threads_memory_and_copies_decide_nothing(bright):
    _, _, given, psfs, made, _ = bright
    before = jit.threads()
    try:
        jit.set_threads(1)
        other = proper_coadd(given, psfs, SHAPE, options=MeanOptions(max_memory=1e6))
    finally:
        jit.set_threads(before)
    for one, two in zip(made[:6], other[:6], strict=True):
        assert one.tobytes() == two.tobytes()


def test_rays_and_masks_of_one_frame_smear_over_nothing():
    x, y = stars()
    clean, psfs = layers(x, y, 3000.0)
    grid = np.stack(np.mgrid[60 : SIDE - 60 : 23, 60 : SIDE - 60 : 23], axis=-1).reshape(-1, 2)
    # what two of five frames see is a star that varies: no two rays are near each other
    places = np.random.default_rng(5).permutation(grid)[:125].reshape(5, 25, 2)

    def spoil(k, data, flags):
        for n, (row, column) in enumerate(places[k]):
            if n % 2:
                data[row, column : column + 3] += 20000  # nobody has said so
            else:
                data[row, column : column + 2] = 1e5
                flags[row, column : column + 2] |= fl.COSMIC

    dirty, _ = layers(x, y, 3000.0, spoil=spoil)
    one, two = (proper_coadd(given, psfs, SHAPE) for given in (clean, dirty))
    assert two.rejected.sum() > 100
    assert (two.contributors == 4).sum() > 300
    good = whole(one) & ((two.flags & fl.UNUSABLE) == 0)
    away = (two.data - one.data)[good] / np.sqrt(one.variance[good])
    assert np.max(np.abs(away)) < 4  # a ray has thousands
    told = np.sqrt(two.variance / one.variance)[two.contributors == 4]
    assert 1.0 < np.median(told) < 1.4
    psf = proper_psf(clean, psfs, SHAPE)
    kept = matched_fluxes(two.data, psf, x, y) / matched_fluxes(one.data, psf, x, y)
    assert np.mean(kept) == pytest.approx(1, abs=0.005)


def test_what_no_frame_knows_has_no_value_and_is_told_around():
    x, y = stars()

    def spoil(k, data, flags):
        data[200:204, 200:204], flags[200:204, 200:204] = 1e6, fl.SATURATED

    given, psfs = layers(x, y, 3000.0, turned=0.0, spoil=spoil, shifts=[(0.0, 0.0)] * 5)
    made = proper_coadd(given, psfs, SHAPE)
    assert np.isnan(made.data[200:204, 200:204]).all()
    assert np.isnan(made.data).sum() == 16
    assert ((made.flags[200:204, 200:204] & fl.NO_DATA) != 0).all()
    assert (made.flags[198, 201] & fl.SATURATED) != 0
    assert (made.flags[190, 190] & fl.SATURATED) == 0
    near = np.abs(made.data[180:224, 180:224])
    assert np.nanmax(near) < 400  # nothing of 10⁶


def test_where_frames_end_the_others_go_on():
    x, y = stars()
    shifts = [(0.0, 0.0), (60.3, 0.2), (-0.4, 50.4), (0.0, 0.0), (-80.6, 0.7)]
    given, psfs = layers(x, y, 3000.0, turned=0.0, shifts=shifts)
    made = proper_coadd(given, psfs, SHAPE)
    assert len(np.unique(made.contributors)) >= 3
    empty, _ = layers(x, y, 0.0, turned=0.0, shifts=shifts)
    noise = proper_coadd(empty, psfs, SHAPE)
    for count in (3, 4, 5):
        there = (noise.flags == 0) & (noise.contributors == count)
        assert there.sum() > 5000
        pulls = noise.data[there] / np.sqrt(noise.variance[there])
        assert np.std(pulls) == pytest.approx(1, abs=0.03)
    assert made.coverage.max() == pytest.approx(1)
    # light in an aperture stays what it is, whoever lies there
    for at_x, at_y in zip(x, y, strict=True):
        column, row = round(at_x), round(at_y)
        stamp = (made.data - noise.data)[row - 12 : row + 13, column - 12 : column + 13]
        assert np.sum(stamp) == pytest.approx(3000, rel=0.2)


def test_a_single_frame_that_lies_on_its_pixels_stays_what_it_is():
    x, y = stars()
    given, psfs = layers(x, y, 3000.0, turned=0.0, frames=(0,))
    made = proper_coadd(given, psfs, SHAPE, options=MeanOptions(method="mean"))
    rows = given[0].read(0, SIDE)
    np.testing.assert_allclose(made.data, rows.data, atol=0.02)
    np.testing.assert_allclose(made.variance, rows.variance, rtol=0.02)


def test_covariance_of_interpolated_noise():
    shape, rng = (512, 512), np.random.default_rng(4)
    from larun.algorithms.resample import resample

    angle = np.deg2rad(5)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for matrix, offset in ((np.eye(2), (0.5, 0.25)), (turned, (20.0, -20.0))):
        mapping = affine(matrix, offset, shape)
        noise = rng.normal(0, 1, shape).astype(np.float32)
        made = resample(noise, None, np.zeros(shape, np.uint32), mapping)
        good = made.flags == 0
        found = tap_covariance(mapping, "lanczos3", Section(0, 512, 0, 512))
        values = np.where(good, made.data, 0)
        scale = np.mean(values[good].astype(float) ** 2)
        assert scale == pytest.approx(found[5, 5], rel=0.02)
        for dy, dx in ((0, 1), (1, 0), (1, 2), (0, 3)):
            assert neighbours(values, good, dy, dx) * scale == pytest.approx(found[5 + dy, 5 + dx], abs=0.012)
        assert found.sum() == pytest.approx(1, abs=0.01)


def test_what_cannot_be_is_refused():
    x, y = stars()
    given, psfs = layers(x, y, 1.0, frames=(0, 1))
    with pytest.raises(OptionError, match="as many"):
        proper_coadd(given, psfs[:1], SHAPE)
    scaled = given[0]._replace(mapping=affine(np.eye(2) * 1.1, (0, 0), SHAPE))
    with pytest.raises(OptionError, match="other scales"):
        proper_coadd([scaled, given[1]], psfs, SHAPE)
