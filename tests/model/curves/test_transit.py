"""Transits fitted to light curves: injected ones are found again, errors hold, and TrES-1 is where it must be."""

import numpy as np
import pytest

import larun
from larun.errors import CatalogError, OptionError
from larun.model.curves.transit import _Model
from tests.conftest import real_data
from tests.model.curves.nights import curve_of as made

PLANET = larun.TransitOptions(
    period=3.0300722, semi_major_axis=10.45, impact=0.18, radius_ratio=0.13, limb_darkening=(0.44, 0.25)
)
WINN = {"period": 3.0300722, "semi_major_axis": 10.45, "impact": 0.18, "radius_ratio": 0.137}


def night(seed, *, ratio=0.1358, late=0.004, red=0.0, trend=0.006, count=140):
    rng = np.random.default_rng(seed)
    time = 2460000.5 + np.linspace(-0.11, 0.11, count)
    truth = {"t_mid": 2460000.5 + late, "radius_ratio": ratio, "semi_major_axis": 10.45, "impact": 0.18}
    model = _Model(time, 60.0, PLANET)
    slow = np.repeat(rng.normal(0, red, count // 14 + 1), 14)[:count]
    flux = model(truth) * (1 + trend * (time - 2460000.5) / 0.11) + rng.normal(0, 0.002, count) + slow
    return made(flux, 0.002, time), truth, model


def test_an_injected_transit_is_found_again_and_its_errors_hold():
    away = []
    for seed in range(40):
        curve, truth, model = night(seed)
        fit = curve.fit_transit(PLANET)
        gone = 1 - float(model(truth, np.array([truth["t_mid"]]))[0])
        away.append(
            [
                (fit.t_mid - truth["t_mid"]) / fit.t_mid_error,
                (fit.values["radius_ratio"] - truth["radius_ratio"]) / fit.errors["radius_ratio"],
                (fit.depth - gone) / fit.depth_error,
            ]
        )
        assert fit.trend["time"] == pytest.approx(0.006, abs=0.0015)
        assert set(fit.trend) == {"constant", "time"}
    assert np.abs(np.mean(away, axis=0)).max() < 3 / np.sqrt(40)
    assert np.std(away, axis=0) == pytest.approx([0.93, 0.93, 0.93], abs=0.25)  # beta is never below 1


def test_red_noise_makes_errors_larger():
    white, red = (night(3, red=size)[0].fit_transit(PLANET) for size in (0.0, 0.0015))
    assert red.beta > 1.3 > white.beta
    assert red.t_mid_error > 1.3 * white.t_mid_error
    pulls = []
    for seed in range(30):
        curve, truth, _ = night(200 + seed, red=0.0015)
        fit = curve.fit_transit(PLANET)
        pulls.append((fit.t_mid - truth["t_mid"]) / fit.t_mid_error)
    assert np.std(pulls) < 1.45


def test_the_duration_can_be_free_and_a_flagged_point_does_not_count():
    curve, truth, _ = night(5)
    free = curve.fit_transit(larun.TransitOptions(**WINN, free=("t_mid", "radius_ratio", "semi_major_axis")))
    assert free.values["semi_major_axis"] == pytest.approx(10.45, abs=4 * free.errors["semi_major_axis"])
    assert free.duration * 24 == pytest.approx(2.5, abs=0.15)
    flags = np.zeros(140)
    flags[70], flux = 8, np.asarray(curve.curve()["flux"]).copy()
    flux[70] = 5.0
    struck = made(flux, 0.002, curve.time(), flags=flags)
    fit = struck.fit_transit(PLANET)
    assert fit.used == 139
    assert abs(fit.t_mid - truth["t_mid"]) < 4 * fit.t_mid_error
    assert fit.against(truth["t_mid"] - 10 * 3.0300722, 3.0300722) == (10, pytest.approx(0, abs=4))


def test_what_cannot_be_fitted_is_refused():
    curve, _, _ = night(6)
    with pytest.raises(OptionError, match="airmass"):
        curve.fit_transit(larun.TransitOptions(**WINN, trend=("airmass",)))
    with pytest.raises(OptionError, match="trend=moon"):
        larun.TransitOptions(**WINN, trend=("moon",))
    with pytest.raises(OptionError, match="always fitted"):
        larun.TransitOptions(**WINN, free=("t_mid",))
    with pytest.raises(OptionError, match="impact"):
        larun.TransitOptions(period=3, semi_major_axis=10, impact=2.0)
    with pytest.raises(CatalogError, match="points for"):
        made(np.ones(5), 0.01, 2460000.5 + np.arange(5) / 100).fit_transit(PLANET)


@pytest.fixture(scope="module")
def tres1(tmp_path_factory):
    """The light curve of TrES-1: 42 frames, darks of the night, no flats."""
    folder = real_data("tres1")
    darks = larun.MasterDark.combine(sorted(folder.glob("*d.fit.fz")))
    frames = []
    for path in sorted(folder.glob("tres1-???.fit.fz")):
        made = larun.Frame.read(path).calibrate(darks, without=("bias", "flat"))
        frames.append(made.write(tmp_path_factory.getbasetemp() / f"{path.name[:9]}.fits"))
    reference = next(path for path in frames if path.name.startswith("tres1-120"))
    return larun.LightCurve.extract(frames, [[634, 250]], reference=reference, coordinates=(286.04104, 36.63264))


@pytest.mark.slow
def test_tres_1_is_where_its_ephemeris_says_and_as_deep_as_published(tres1):
    assert len(tres1.curve()) == 42
    assert tres1.barycentric
    fit = tres1.fit_transit(larun.TransitOptions(**WINN, limb_darkening=(0.44, 0.25), trend="time"))
    # Mizrachi et al. 2022 (arXiv 2207.01559): BJD_TDB 2455489.66026 + 3.0300689 E
    epoch, minutes = fit.against(2455489.66026, 3.0300689)
    assert epoch == 200
    assert abs(minutes) < 5
    assert fit.t_mid_error * 1440 < 6
    assert fit.depth + 2 * fit.depth_error > 0.022
    assert fit.depth - 2 * fit.depth_error < 0.023
    assert fit.point_to_point < 1.5 * fit.predicted
    stars = tres1.stars
    assert stars["used"].sum() > 25
    bright = stars["used"] & (stars["magnitude"] < -12)
    assert np.median(stars["point_to_point"][bright] / stars["predicted"][bright]) == pytest.approx(0.95, abs=0.25)
