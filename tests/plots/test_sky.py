"""North, east, scale bars and graticules, against the sphere."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

import larun
from larun import errors, plots
from larun.plots.sky import local_sky, round_angle
from tests.conftest import real_data
from tests.plots.conftest import ROTATION, SCALE, wcs_cards


@pytest.mark.parametrize("dec", [0.0, -60.0, 89.99])
def test_compass_and_scale_of_a_rotated_field(dec):
    here = local_sky(WCS(fits.Header(wcs_cards(200, 100, dec=dec))), 99.0, 49.0)
    assert here.scale == pytest.approx(SCALE, rel=1e-6)
    np.testing.assert_allclose(here.north, (-np.sin(ROTATION), np.cos(ROTATION)), atol=1e-4)
    np.testing.assert_allclose(here.east, (-np.cos(ROTATION), -np.sin(ROTATION)), atol=1e-4)


def test_compass_and_scale_agree_with_astropy_on_a_distorted_image():
    wcs = larun.Frame.read(real_data("hst", "pluto1.fits.gz")).wcs
    here = local_sky(wcs, 100.0, 400.0)
    start = SkyCoord(*wcs.all_pix2world(100.0, 400.0, 0), unit="deg")
    for (dx, dy), angle in ((here.north, 0.0), (here.east, 90.0)):
        end = SkyCoord(*wcs.all_pix2world(100.0 + dx, 400.0 + dy, 0), unit="deg")
        turned = start.position_angle(end).deg - angle
        assert (turned + 180) % 360 - 180 == pytest.approx(0, abs=0.05)
    assert here.scale == pytest.approx(wcs.proj_plane_pixel_scales()[0].to_value("arcsec"), rel=0.05)


@pytest.mark.parametrize("most", [0.0031, 0.7, 1, 1.9, 59.9, 60, 400, 3599, 3600, 1e5])
def test_round_angles_are_as_long_as_they_can_be(most):
    angle, text = round_angle(most)
    assert most / 2.51 < angle <= most * (1 + 1e-9) or most > 108000
    sign = {"″": 1, "′": 60, "°": 3600}[text[-1]]
    assert float(text[:-1]) * sign == pytest.approx(angle)


def test_world_axes_have_names_a_compass_and_a_scale_bar(field, figure):
    ax = plots.show(field, figure)
    figure.draw_without_rendering()
    assert ax.coords[0].get_axislabel() == "right ascension (ICRS)"
    assert ax.coords[1].get_axislabel() == "declination (ICRS)"
    texts = {text.get_text() for text in ax.texts}
    assert {"N", "E"} <= texts
    (bar,) = [line for line in ax.lines if line.get_gid() == "scale"]
    length = np.ptp(bar.get_xdata()) * SCALE
    assert f"{length:.0f}″" in texts
    assert 0.1 * 360 * SCALE < length <= 0.25 * 360 * SCALE
    letter = next(text for text in ax.texts if text.get_text() == "N")
    arrow = next(item for item in ax.texts if getattr(item, "arrow_patch", None) is not None)
    towards = np.subtract(letter.get_position(), arrow.xyann)
    np.testing.assert_allclose(towards / np.hypot(*towards), (-np.sin(ROTATION), np.cos(ROTATION)), atol=1e-3)


def test_galactic_coordinates_are_not_called_north_and_east(figure, rng):
    cards = wcs_cards(50, 50) | {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRVAL2": 0.0}
    ax = plots.show(larun.Frame.from_arrays(rng.normal(size=(50, 50)), header=cards), figure)
    assert ax.coords[0].get_axislabel() == "galactic longitude"
    assert "N" not in {text.get_text() for text in ax.texts}


def test_coordinates_are_chosen_or_refused(field, frame, figure):
    assert hasattr(plots.show(field, figure.add_subfigure(figure.add_gridspec(1, 1)[0])), "coords")
    assert plots.show(field, figure.add_subplot()).get_xlabel() == "x (pixel)"
    assert plots.show(field, figure, coordinates="pixel").get_xlabel() == "x (pixel)"
    sky = figure.add_subplot(projection=field.wcs)
    assert plots.show(field, sky, coordinates="world") is sky
    with pytest.raises(errors.OptionError, match="no celestial WCS"):
        plots.show(frame, figure, coordinates="world")
    with pytest.raises(errors.OptionError, match="these axes are in pixels"):
        plots.show(field, figure.add_subplot(), coordinates="world")
    with pytest.raises(errors.OptionError, match="auto, world, pixel"):
        plots.show(field, figure, coordinates="sky")


def test_the_sky_of_a_real_image_lies_on_its_stars(figure):
    from astropy.table import Table

    path = sorted(real_data("sdss").glob("fpC*.fit.gz"))[0]
    frame = larun.Frame.read(path).crop((700, 1300), (700, 1300))
    found = frame.detect(threshold=20)
    listed = Table.read(real_data("sdss", "reference-catalog.fits.gz"))
    ax = plots.show(frame, figure, catalog=found)
    figure.draw_without_rendering()
    to_pixels = ax.get_transform("world") - ax.transData
    places = to_pixels.transform(np.column_stack([np.asarray(listed["ra"]) % 360, listed["dec"]]))
    drawn = np.vstack([np.asarray(marks.get_offsets()) for marks in ax.collections])
    inside = places[((places > 10) & (places < 590)).all(axis=1)]
    away = np.hypot(*(inside[:, None] - drawn[None]).transpose(2, 0, 1)).min(axis=1)
    assert len(away) > 8
    assert np.median(away) < 0.5
