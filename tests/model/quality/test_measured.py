"""The quality of a frame against what it was made of."""

import warnings

import numpy as np
import pytest

import larun
from larun import simulate
from larun.errors import LarunWarning, OptionError
from tests.conftest import real_data
from tests.model.quality.scenes import READ_NOISE, SHAPE, frame


@pytest.fixture(scope="module")
def good():
    return frame().quality()


def test_a_frame_tells_what_it_was_made_of(good):
    assert good.stars > 60
    assert good.fwhm == pytest.approx(3.0, rel=0.02)
    assert abs(good.fwhm - 3.0) < 4 * good.fwhm_error
    assert good.beta == pytest.approx(3.0, rel=0.15)
    assert good.ellipticity < 0.02
    assert good.sky == pytest.approx(200, rel=0.01)
    assert good.noise == pytest.approx(np.sqrt(200 + READ_NOISE**2), rel=0.02)
    assert good.fwhm_gaussian > good.fwhm
    assert good.fwhm_moments == pytest.approx(3.0, rel=0.03)
    assert good.scale is None
    assert np.isnan(good.to_dict()["fwhm_arcsec"])
    assert good.exposure == 60.0
    assert "FWHM" in str(good)
    assert good.half_light == pytest.approx(2.0, rel=0.1)


def test_half_of_the_stars_at_the_limit_are_found(good):
    """The 5 sigma limit is where half of the stars that are put in are found, within 0.1 mag."""
    rng = np.random.default_rng(8)
    magnitudes, found = [], []
    for seed in range(12):
        step = 24
        x, y = (
            at.ravel().astype(float) for at in np.meshgrid(*(np.arange(20, size - 20, step) for size in SHAPE[::-1]))
        )
        x, y = x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, x.size)
        brighter = rng.uniform(-0.6, 0.6, x.size)
        flux = good.limit * 10 ** (-0.4 * brighter)
        light = simulate.render(SHAPE, x, y, flux, fwhm=3.0, beta=3.0) + 200
        data = simulate.noisy(light, read_noise=READ_NOISE, rng=np.random.default_rng(100 + seed)).astype(np.float32)
        made = larun.Frame.from_arrays(data, variance=np.full(SHAPE, 200 + READ_NOISE**2), unit="electron")
        table = made.detect(fwhm=good.fwhm_moments).table
        near = np.hypot(np.asarray(table["x"])[:, None] - x, np.asarray(table["y"])[:, None] - y).min(axis=0) < 2
        magnitudes.append(brighter)
        found.append(near)
    magnitudes, found = np.concatenate(magnitudes), np.concatenate(found)
    edges = np.arange(-0.6, 0.61, 0.1)
    share = np.array([found[(magnitudes >= a) & (magnitudes < a + 0.1)].mean() for a in edges[:-1]])
    half = np.interp(-0.5, -share, edges[:-1] + 0.05)
    assert half == pytest.approx(0.0, abs=0.1)


def test_a_trailed_frame_says_along_what():
    g1, g2 = simulate.shear(0.7, 40.0)
    made = frame(profile=simulate.Stretched(simulate.Moffat(3.0, 3.0), g1=g1, g2=g2)).quality()
    assert made.ellipticity == pytest.approx(0.3, abs=0.03)
    assert made.position_angle == pytest.approx(40, abs=4)
    assert len(made.table) == made.stars


def test_cells_of_the_field_have_their_own_stars(good):
    cells = good.map(2)
    assert len(cells) == 4
    assert cells["stars"].sum() == good.stars
    assert np.nanmedian(cells["fwhm"]) == pytest.approx(good.fwhm, rel=0.02)
    assert cells["x"].tolist() == [114.5, 344.5, 114.5, 344.5]
    assert np.isnan(good.map(40)["fwhm"]).any()
    with pytest.raises(OptionError, match="cells=0"):
        good.map(0)


def test_what_is_given_out_is_a_copy(good):
    good.table["fwhm"][:] = 0
    assert good.fwhm == pytest.approx(np.nanmedian(good.table["fwhm"]))
    with pytest.raises(AttributeError):
        good.fwhm = 1


def test_a_frame_without_stars_has_a_sky_and_a_warning():
    rng = np.random.default_rng(1)
    data = simulate.noisy(np.full((200, 200), 100.0), read_noise=5.0, rng=rng)
    empty = larun.Frame.from_arrays(data, variance=np.full((200, 200), 125.0), unit="electron")
    with pytest.warns(LarunWarning, match="too few stars"):
        found = empty.quality()
    assert found.stars == 0
    assert np.isnan([found.fwhm, found.ellipticity, found.limit, found.limiting_magnitude]).all()
    assert found.sky == pytest.approx(100, rel=0.01)
    assert len(found.map(2)) == 4


def test_repeating_gives_the_same(good):
    again = frame().quality()
    assert str(again.to_dict()) == str(good.to_dict())


def test_real_stars_are_as_wide_as_photutils_finds_them():
    """Gaussians fitted to the same stars of an r frame of SDSS, by another program and other weights."""
    from photutils.psf import fit_fwhm

    image = larun.Frame.read(real_data("sdss") / "fpC-006377-r4-0399.fit.gz")
    found = image.quality()
    stars = found.table[:80]
    level = image.data - image.background().level
    side = 2 * int(np.ceil(1.5 * found.fwhm_moments)) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = fit_fwhm(level, xypos=np.column_stack([stars["x"], stars["y"]]), fit_shape=side, fwhm=4.0)
    assert np.median(stars["fwhm_gaussian"]) == pytest.approx(np.median(peer), rel=0.03)
    assert found.fwhm == pytest.approx(found.fwhm_moments, rel=0.03)
    assert found.field is not None
