"""Light curves by point-spread functions: simulated series whose truth is known, blends, and a real night."""

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.algorithms.rednoise import point_to_point
from larun.errors import CatalogError, LarunWarning, NotAligned, OptionError
from larun.model.replay.compare import differences
from tests.conftest import DATA, real_data
from tests.model.curves import nights
from tests.model.curves.test_lightcurve import pulls

QUICK = larun.LightCurveOptions(clean="none")
APART = 1.2  # FWHM between the target of a blend and its neighbour


@pytest.fixture(scope="module")
def night():
    return nights.night(1, frames=16)


@pytest.fixture(scope="module")
def curve(night):
    return larun.LightCurve.extract(night.frames, night.targets, method="psf", options=QUICK)


def blended(seed, frames=14):
    """A night whose target has a brighter neighbour, while the seeing changes by a half; without clouds and slopes."""
    rng = np.random.default_rng(seed)
    x, y = nights.grid(rng)
    flux = rng.uniform(6e4, 3e5, len(x))
    middle = int(np.argmin(np.hypot(x - nights.SHAPE[1] / 2, y - nights.SHAPE[0] / 2)))
    x, y, flux = (np.concatenate([part[[middle]], np.delete(part, middle)]) for part in (x, y, flux))
    flux[0] = 1.5e5
    x, y = np.append(x, x[0] + 0.8 * APART * 3.0), np.append(y, y[0] + 0.6 * APART * 3.0)
    flux = np.append(flux, 1.8e5)
    phase = np.linspace(0, 1, frames)
    relative = nights.box(phase, 0.03)[:, None]
    width = 3.0 * (1 + 0.25 * np.sin(9 * phase))
    made = []
    for k in range(frames):
        light = flux.copy()
        light[0] *= relative[k, 0]
        shift = rng.normal(0, 0.6, 2)
        image = nights.picture(x + shift[0], y + shift[1], light, width[k])
        made.append((nights.frame(image, rng, nights.START + 0.12 * phase[k]), shift))
    places = x + made[0][1][0], y + made[0][1][1]
    return nights.Night([one for one, _ in made], *places, flux, relative, np.array([shift for _, shift in made]))


def test_fluxes_and_errors_are_those_of_the_truth(night, curve):
    away = pulls(curve, night)
    assert len(away) == 6 * 16
    assert 0.9 < np.std(away) < 1.15
    assert np.max(np.abs(away)) < 4.5
    assert np.isnan(np.asarray(curve.curve()["radius"].value)).all()
    assert curve.meta["psf"]["models"] == ["empirical"]
    assert "aperture" not in curve.meta


def test_faint_stars_have_errors_no_larger_than_in_apertures(night, curve):
    apertures = larun.LightCurve.extract(night.frames, night.targets, options=QUICK)
    both = [np.median(np.asarray(one.curve()["flux_error"])) for one in (curve, apertures)]
    assert both[0] < both[1]


def test_a_neighbour_is_fitted_with_the_target_and_an_aperture_sees_it_come_and_go():
    truth = blended(3)
    made = {
        method: larun.LightCurve.extract(truth.frames, truth.targets, method=method, options=options)
        for method, options in (("psf", QUICK), ("aperture", larun.LightCurveOptions(clean="none", radius=3.0)))
    }
    assert made["psf"].meta["psf"]["neighbours"] >= 1
    assert all(made[name].good().all() for name in made)
    away = pulls(made["psf"], truth)
    assert np.std(away) < 1.5
    off = {}
    for name, one in made.items():
        ratio = np.asarray(one.curve()["flux"]) / truth.relative[:, 0]
        off[name] = np.std(ratio / np.mean(ratio))
        depth = [np.mean(np.asarray(one.curve()["flux"])[truth.relative[:, 0] == level]) for level in (1.0, 0.97)]
        if name == "psf":
            assert 1 - depth[1] / depth[0] == pytest.approx(0.03, abs=0.004)
    assert off["aperture"] > 4 * off["psf"]
    # the light itself, not only its changes
    source = np.median(np.asarray(made["psf"].curve()["source_flux"].value) / truth.relative[:, 0])
    assert source == pytest.approx(truth.flux[0], rel=0.01)
