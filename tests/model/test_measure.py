"""Measurements through the public classes: errors that are errors, neighbours that do not spoil the sky."""

import numpy as np
import pytest

import larun
from larun.simulate import Scene, raw_science


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
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


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
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


def test_the_whole_chain_gives_positions_and_fluxes_of_simulated_stars(sample, tmp_path):
    """Twelve stars apart from each other on the simulated chip, from the raw file to the catalogue."""
    from astropy.io import fits

    camera, chip = sample.truth.camera, sample.truth.chip()
    rng = np.random.default_rng(7)
    x, y = (axis.ravel() for axis in np.meshgrid([22.3, 66.7, 110.4, 153.1], [25.2, 80.8, 134.5]))
    rate = np.linspace(120, 900, 12)
    scene = Scene(band="V", exposure=60.0, x=x, y=y, rate=rate, fwhm=3.0, beta=None, sky=4.0, cosmics=8)
    raw = raw_science(camera, chip, scene, rng=rng)
    fits.PrimaryHDU(raw.data, raw.header).writeto(tmp_path / "light.fits")
    frame = larun.Frame.read(tmp_path / "light.fits").calibrate(sample.masters).clean()
    catalog = frame.detect().photometer()
    assert catalog.meta["fwhm"] == pytest.approx(3.0, rel=0.05)
    cx, cy = catalog["x"].value, catalog["y"].value
    ra, dec = catalog["ra"].value, catalog["dec"].value
    truth = frame.wcs.all_pix2world(x, y, 0)
    untouched = 0
    for index in range(12):
        distance = np.hypot(cx - x[index], cy - y[index])
        found = int(distance.argmin())
        assert distance[found] < 0.1
        assert ra[found] == pytest.approx(truth[0][index], abs=0.1 * camera.pixel_scale / 3600 * 2)
        assert dec[found] == pytest.approx(truth[1][index], abs=0.1 * camera.pixel_scale / 3600)
        flux, error = (catalog[f"aperture_{name}_3"].value[found] for name in ("flux", "flux_error"))
        if catalog["aperture_flags_3"][found] & larun.flags.UNUSABLE:
            continue  # a hot pixel in the aperture is told, not guessed
        untouched += 1
        # the flat has mean 1, the master's median is 1: half a per cent; nearly all light of a Gaussian is in 2.5 FWHM
        assert flux == pytest.approx(rate[index] * 60, abs=4 * error + 0.01 * rate[index] * 60)
    assert untouched >= 8
    assert len(catalog) < 25
