"""Images are solved against references: simulated ones with known truth, and real ones."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import larun
from larun.errors import NotSolved, OptionError
from larun.model.astrometry.hints import pointing_from
from tests.algorithms.sky_fields import sky_field
from tests.algorithms.star_fields import draw
from tests.conftest import real_data


def reference_of(field, **more):
    rows = np.arange(len(field.ra))
    return QTable(
        {"ra": field.ra, "dec": field.dec, "mag_V": 10 + 8 * rows / len(rows), **more}, meta={"name": "sky of tests"}
    )


@pytest.fixture(scope="module")
def scene():
    """An image of a field near the pole, with its true projection, and the reference."""
    field = sky_field(11, dec=88.0, size=600, stars=70, missing=0.2, spurious=0.25, noise=0.0, radius=0.6)
    rng = np.random.default_rng(12)
    flux = 60_000 * np.exp(-3.5 * np.arange(len(field.xy)) / len(field.xy))
    light = draw(field.shape, *field.xy.T, flux, 3.0, reach=15) + 100
    data = rng.poisson(light) + rng.normal(0, 5, field.shape)
    header = {"RA": field.patch[0], "DEC": field.patch[1], "PIXSCALE": 1.05, "FILTER": "V"}
    frame = larun.Frame.from_arrays(
        data, variance=np.maximum(light, 0) + 25, unit="electron", header=header, saturation=1e6
    )
    return field, frame, reference_of(field)


@pytest.fixture(scope="module")
def solved(scene):
    _, frame, reference = scene
    return frame.solve(reference)


def apart(field, wcs):
    """Arcseconds between a WCS and the truth over the image."""
    side = np.linspace(0, field.shape[0] - 1, 9)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    return np.hypot(*(field.pixels(*wcs.all_pix2world(grid, 0).T) - grid).T) * field.scale


def test_an_image_gets_the_wcs_of_the_sky_and_keeps_its_class(scene, solved):
    field, frame, _ = scene
    assert type(solved) is type(frame)
    assert frame.wcs is None
    assert apart(field, solved.wcs).max() < 0.1
    assert solved.header["RADESYS"] == "ICRS"
    assert solved.header["RA"] == field.patch[0]
    assert np.array_equal(solved.data, frame.data)


def test_the_solution_tells_what_it_rests_on(scene, solved):
    field, frame, _ = scene
    found = solved.solution
    assert frame.solution is None
    assert found.matches == pytest.approx(field.common, abs=0.15 * field.common)
    assert max(found.rms) < 0.15
    assert found.log_odds > 100
    assert found.scale == pytest.approx(1.0, rel=1e-3)
    assert found.parity == (1 if np.linalg.det(field.turn) < 0 else -1)
    assert found.order == 1
    assert found.reference == "sky of tests"
    stars = found.stars
    assert np.count_nonzero(stars["used"]) == found.matches
    there = np.stack(solved.wcs.all_world2pix(stars["ra"].value, stars["dec"].value, 0), axis=1)
    assert np.allclose(stars["x"].value - there[:, 0], stars["dx"].value, atol=1e-6)
    assert np.allclose(stars["y"].value - there[:, 1], stars["dy"].value, atol=1e-6)
    assert "sky of tests" in str(found)
    assert f"{found.matches} stars" in repr(found)
    assert found.to_dict()["matches"] == found.matches


def test_sources_of_a_solved_image_have_sky_coordinates(scene, solved):
    field, _, _ = scene
    table = solved.detect(20.0).table
    ra, dec = field.sky(np.stack([table["x"].value, table["y"].value], axis=1))
    assert np.abs(table["dec"].value - dec).max() * 3600 < 0.1
    assert np.abs((table["ra"].value - ra + 180) % 360 - 180).max() * np.cos(np.radians(88)) * 3600 < 0.1


def test_a_file_has_the_solution_and_its_step_is_made_again_without_the_reference(tmp_path, solved):
    solved.write(tmp_path / "solved.fits")
    again = larun.Frame.read(tmp_path / "solved.fits")
    assert again.identical(solved)
    assert again.solution.to_dict() == solved.solution.to_dict()
    step = again.provenance.step
    from larun.model.replay.calls import Functions, Input, carry_out

    base = again.provenance.parents[0].provenance
    bare = again._replace(wcs_header=fits.Header(), provenance=base)
    made = carry_out(step, [Input("self", base.id, bare)], Functions())
    assert made.provenance.id == solved.provenance.id
    assert made.identical(solved)


def test_the_order_of_the_reference_and_threads_change_no_bit(scene, solved):
    _, frame, reference = scene
    shuffled = reference[np.random.default_rng(1).permutation(len(reference))]
    larun.set_threads(1)
    try:
        again = frame.solve(shuffled)
    finally:
        larun.set_threads(None)
    assert again.header.tostring() == solved.header.tostring()


def test_a_header_that_lies_gives_no_wrong_answer(scene):
    field, frame, reference = scene
    scale_off = frame._replace(header=fits.Header({**dict(frame.header), "PIXSCALE": 2.3}))
    assert apart(field, scale_off.solve(reference).wcs).max() < 0.1
    far = (field.patch[0], field.patch[1] - 1.0)
    with pytest.raises(NotSolved, match=r"stars of sky of tests within 0\.\d+° of"):
        frame.solve(reference, pointing=far, radius=0.5)
    assert apart(field, frame.solve(reference, pointing=far, radius=1.8).wcs).max() < 0.1


def test_a_reference_is_searched_whole_where_nothing_is_known(scene):
    field, frame, reference = scene
    bare = frame._replace(header=fits.Header())
    assert bare.time.pointing is None
    assert apart(field, bare.solve(reference).wcs).max() < 0.1


def test_stars_are_moved_to_the_time_of_the_exposure(scene):
    field, frame, _ = scene
    ra, dec = np.radians(field.ra), np.radians(field.dec)
    still = reference_of(field)
    moving = reference_of(
        field, pmra=np.full(len(ra), 0.0), pmdec=np.full(len(ra), 100.0), epoch=np.full(len(ra), 2000.0)
    )
    dated = frame._replace(
        header=fits.Header({**dict(frame.header), "DATE-OBS": "2020-01-01T00:00:00", "EXPTIME": 1.0})
    )
    one, two = (dated.solve(stars).solution.center for stars in (still, moving))
    assert (two[1] - one[1]) * 3600 == pytest.approx(2.0, abs=0.02)
    assert np.isfinite(dec).all()


def test_a_reference_of_another_field_is_refused_with_what_was_tried(scene):
    _, frame, _ = scene
    other = reference_of(sky_field(99, dec=88.0, size=600, stars=70, radius=0.6))
    with pytest.raises(NotSolved) as caught:
        frame._replace(header=fits.Header()).solve(other)
    said = str(caught.value)
    assert "sources in the image" in said
    assert "guesses" in said
    assert "log-odds" in said


def test_an_order_that_is_asked_for_is_kept_if_the_stars_bear_it(scene):
    field, frame, reference = scene
    bent = frame.solve(reference, order=2)
    assert bent.solution.order == 2
    assert bent.header["A_ORDER"] == 2
    assert apart(field, bent.wcs).max() < 0.2


def test_impossible_options_raise(scene):
    _, frame, reference = scene
    for given in (
        {"order": 0},
        {"engine": "magic"},
        {"radius": -1.0},
        {"scale": 0.0},
        {"scale": (2.0, 1.0)},
        {"scale": "wide"},
        {"pointing": (1.0, 99.0)},
        {"pointing": "here"},
        {"options": {"stars": 3}},
        {"options": {"speed": 9}},
    ):
        with pytest.raises(OptionError, match=next(iter(given.get("options", given)))):
            frame.solve(reference, **given)
    with pytest.raises(OptionError, match="band='K'"):
        frame.solve(reference, options={"band": "K"})


def test_pointings_are_understood_in_every_usual_form():
    from astropy.coordinates import SkyCoord

    for given in (
        "13:25:20, -08:49:00",
        ("13:25:20", "-08:49:00"),
        "201.33333333,-8.81666667",
        SkyCoord("13h25m20s", "-8d49m", frame="icrs"),
    ):
        assert pointing_from(given) == pytest.approx((201.33333333, -8.81666667))
    assert pointing_from(None) is None


# -- real frames -------------------------------------------------------------------------------------------------------

SDSS = ("fpC-004192-g4-0300", "fpC-004192-r4-0300", "fpC-006377-g4-0399", "fpC-006377-r4-0399")


@pytest.mark.parametrize("name", SDSS)
def test_sdss_frames_without_their_wcs_are_solved(name):
    reference = larun.ReferenceCatalog.open(real_data("sdss", "reference-catalog.fits.gz"))
    frame = larun.Frame.read(real_data("sdss", f"{name}.fit.gz")).calibrate()
    ny, nx = frame.shape
    true = frame.wcs
    ra, dec = (float(value) for value in true.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
    bare = frame._replace(wcs_header=fits.Header())
    solved = bare.solve(reference, pointing=(ra + 0.14, dec - 0.14))
    assert max(solved.solution.rms) <= 0.12
    assert solved.solution.matches > 80
    corners = np.array([(0, 0), (nx - 1, 0), (0, ny - 1), (nx - 1, ny - 1)])
    one, two = true.all_pix2world(corners, 0), solved.wcs.all_pix2world(corners, 0)
    assert np.hypot(*(one - two).T).max() * 3600 < 0.3
    band = name[11]
    stars = reference.select("extended == 0")
    found = (
        solved.detect()
        .photometer()
        .zero_point(stars, band=band, color="g-r", options={"brightest": 15, "faintest": 19})
    )
    residual = found.stars["residual"][found.stars["used"]].value
    assert 1.4826 * np.median(np.abs(residual - np.median(residual))) <= 0.03


def test_a_pointing_that_is_a_degree_off_is_refused_or_right():
    reference = larun.ReferenceCatalog.open(real_data("sdss", "reference-catalog.fits.gz"))
    frame = larun.Frame.read(real_data("sdss", f"{SDSS[1]}.fit.gz")).calibrate()
    bare = frame._replace(wcs_header=fits.Header())
    with pytest.raises(NotSolved):
        bare.solve(reference, pointing=(352.65, 0.1), scale=0.396)
    solved = bare.solve(reference, pointing=(352.65, 0.1), radius=1.5, scale=0.396)
    ny, nx = frame.shape
    one, two = (wcs.all_pix2world([[nx / 2, ny / 2]], 0) for wcs in (frame.wcs, solved.wcs))
    assert np.abs(one - two).max() * 3600 < 0.3


def test_frames_of_another_field_are_refused():
    reference = larun.ReferenceCatalog.open(real_data("sdss", "reference-catalog.fits.gz"))
    frame = larun.Frame.read(real_data("nickel", "d1059.fits.fz"))
    with pytest.raises(NotSolved, match="0 stars of"):
        frame.solve(reference)
    with pytest.raises(NotSolved, match=r"log-odds -?\d"):
        frame.solve(reference, pointing=(351.6, 0.1), radius=0.6, scale=(0.3, 0.45))
