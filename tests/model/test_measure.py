"""Measurements through the public classes: errors that are errors, neighbours that do not spoil the sky."""

import numpy as np
import pytest

import larun


@pytest.mark.parametrize("sky", ["annulus", "none"])
def test_acceptance_23_aperture_errors_by_forced_photometry(sky):
    """2025 empty places on one noisy image; own error of the ratio 1.6 %."""
    rng = np.random.default_rng(23)
    level = 0.0 if sky == "none" else 120.0
    image = rng.normal(level, 11.0, (900, 900))
    frame = larun.Frame.from_arrays(image, variance=np.full(image.shape, 121.0), unit="electron")
    y, x = (axis.ravel() for axis in np.mgrid[10:890:45j, 10:890:45j])
    places = np.column_stack([x, y]) + rng.uniform(-0.5, 0.5, (len(x), 2))
    frame = frame.crop((0, 900), (0, 900))
    radii = (1.5, 3.0, 6.0)
    found = frame.photometer(places, radii, unit="pixel", sky=sky, annulus=(7.0, 10.0))
    for index in range(3):
        flux = found[f"aperture_flux_{index + 1}"].value
        errors = found[f"aperture_flux_error_{index + 1}"].value
        assert np.isfinite(errors).all()
        assert float(np.std(flux / errors)) == pytest.approx(1, abs=0.05)
        assert abs(float(np.mean(flux / errors))) < 0.1


def test_acceptance_24_a_bright_neighbour_in_the_annulus_does_not_bias_the_sky():
    rng = np.random.default_rng(24)
    y, x = np.indices((160, 160))

    def star(x0, y0, flux, sigma=1.3):
        return flux / (2 * np.pi * sigma**2) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))

    fluxes = []
    for neighbour in (0.0, 1e5):
        light = 200 + star(80, 80, 1e4) + star(98, 86, neighbour)
        image = np.mean([rng.poisson(light) for _ in range(20)], axis=0)
        frame = larun.Frame.from_arrays(image, variance=light / 20, unit="electron")
        found = frame.photometer([[80.0, 80.0]], (4.0,), unit="pixel", annulus=(14.0, 22.0))
        fluxes.append(float(found["sky"].value[0]))
    assert fluxes[0] == pytest.approx(200, abs=0.5)
    assert fluxes[1] == pytest.approx(fluxes[0], abs=1.0)


def test_the_whole_chain_finds_the_simulated_stars(sample):
    """Positions and magnitudes against the truth of the simulation."""
    truth = sample.truth
    shot = truth.select("object", "V")[0]
    x, y = truth.positions(shot)
    rate = np.asarray(truth.stars["rate_V"].value) * shot.transparency * shot.exposure
    catalog = sample.catalog
    cx, cy = catalog["x"].value, catalog["y"].value
    bright = (rate > 2000) & ~np.asarray(truth.stars["saturated_V"])
    inside = (x > 12) & (x < 164) & (y > 12) & (y < 148) & (np.abs(x - 40) > 12)
    distances = np.hypot(x - x[:, None], y - y[:, None])
    near, far = distances < 16, (distances < 60) & (distances > 0)
    alone = ((near * rate).sum(axis=1) - rate < 0.02 * rate) & ((far * rate).max(axis=1) < rate)
    chosen = np.flatnonzero(bright & inside & alone)
    assert len(chosen) >= 3
    for index in chosen:
        distance = np.hypot(cx - x[index], cy - y[index])
        found = int(distance.argmin())
        assert distance[found] < 0.15
        flux = catalog["aperture_flux_4"].value[found]
        error = catalog["aperture_flux_error_4"].value[found]
        assert flux == pytest.approx(rate[index], abs=5 * error + 0.04 * rate[index])  # 4 FWHM hold 97 % of a Moffat
