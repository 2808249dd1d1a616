import numpy as np
import pytest

from larun.algorithms import sphere
from larun.errors import OptionError


def everywhere(rng, n):
    """Positions all over the sky, with the places where formulas break."""
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    special = np.array(
        [(0, 0), (360 - 1e-12, 1), (-1e-14, 5), (123, 90), (45, -90), (0, 90 - 1e-9), (200, -90 + 1e-9), (90, 41.81)]
    )
    return np.concatenate([ra, special[:, 0]]), np.concatenate([dec, special[:, 1]])


def test_vectors_go_there_and_back(rng):
    ra, dec = everywhere(rng, 1000)
    place = sphere.coordinates(sphere.directions(ra, dec))
    assert sphere.separation(ra, dec, place.ra, place.dec).max() < 1e-13
    assert place.ra.min() >= 0
    assert place.ra.max() < 360


def test_separations_are_those_of_astropy(rng):
    from astropy.coordinates import angular_separation

    ra, dec = everywhere(rng, 2000)
    there, up = everywhere(rng, 2000)
    expected = np.degrees(angular_separation(*np.radians([ra, dec, there, up])))
    assert np.abs(sphere.separation(ra, dec, there, up) - expected).max() < 1e-12
    tiny = 1e-9
    assert sphere.separation(10, 60, 10 + tiny, 60) == pytest.approx(tiny / 2, rel=1e-4)
    assert sphere.separation(10, 60, 190, -60) == pytest.approx(180, abs=1e-12)


def test_a_circle_around_the_pole_and_around_zero():
    around = sphere.enclosing_circle([0, 90, 180, 270, np.nan], [89, 89, 89, 89, 0])
    assert around.dec == pytest.approx(90)
    assert around.radius == pytest.approx(1)
    across = sphere.enclosing_circle([359.5, 0.5], [0, 0])
    assert sphere.separation(across.ra, 0, 0, 0) < 1e-9
    assert across.radius == pytest.approx(0.5)
    with pytest.raises(OptionError, match="no position"):
        sphere.enclosing_circle([np.nan], [0])


def test_motion_is_that_of_erfa(rng):
    """pmsafe wants radial velocities, which are 0; a parallax of 0.1 arcsec, so that no star is faster than light."""
    import erfa

    n = 500
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    dec[:4] = 90 - 1e-5, -90 + 1e-5, 89.999, -89.9999
    pmra, pmdec = rng.normal(0, 3000, (2, n))
    years = rng.uniform(-60, 60, n)
    found = sphere.moved(ra, dec, pmra, pmdec, years)
    mas = np.radians(1 / 3.6e6)
    expected = erfa.starpm(
        *np.radians([ra, dec]), mas * pmra / np.cos(np.radians(dec)), mas * pmdec, np.full(n, 0.1), np.zeros(n),
        2451545.0, 0.0, 2451545.0, years * 365.25,
    )  # fmt: skip
    away = sphere.separation(found.ra, found.dec, *np.degrees(expected[:2])) * 3.6e6
    assert np.median(away) < 0.05  # mas; starpm counts the changing light time too
    assert np.percentile(away, 95) < 2
    far = np.abs(dec) < 85
    assert found.pmra[far] == pytest.approx((expected[2] * np.cos(expected[1]) / mas)[far], abs=0.5)


def test_stars_pass_over_the_pole_and_there_and_back_is_the_start(rng):
    over = sphere.moved(np.array([30.0]), np.array([90 - 2 / 3600]), np.zeros(1), np.array([500.0]), 10.0)
    assert over.ra[0] == pytest.approx(210, abs=1e-6)
    assert over.dec[0] == pytest.approx(90 - 3 / 3600, abs=1e-10)
    assert over.pmdec[0] == pytest.approx(-500, rel=1e-6)
    ra, dec = everywhere(rng, 300)
    dec = np.clip(dec, -90 + 1e-7, 90 - 1e-7)
    pm = rng.normal(0, 500, (2, len(ra)))
    there = sphere.moved(ra, dec, *pm, 20.0)
    back = sphere.moved(*there, -20.0)
    assert sphere.separation(ra, dec, back.ra, back.dec).max() * 3.6e6 < 0.01


def test_a_star_that_stands_still_keeps_its_bits():
    ra, dec = np.array([-9.67317, 10.1]), np.array([0.278593, -3.3])
    found = sphere.moved(ra, dec, np.array([0.0, np.nan]), np.array([0.0, np.nan]), 16.0)
    assert np.array_equal(found.ra, ra % 360)
    assert np.array_equal(found.dec, dec)


def test_parallax_is_that_of_erfa():
    import erfa

    earth = np.array([0.6, -0.7, -0.3])
    ra, dec, parallax = np.array([10.0, 250.0, 77.0]), np.array([5.0, -70.0, 89.99]), np.array([768.0, 10.0, 100.0])
    found = sphere.moved(ra, dec, np.zeros(3), np.zeros(3), 0.0, parallax=parallax, observer=earth)
    expected = erfa.pmpx(*np.radians([ra, dec]), 0, 0, parallax / 1000, 0, 0, earth)
    place = sphere.coordinates(np.asarray(expected))
    assert sphere.separation(found.ra, found.dec, place.ra, place.dec).max() * 3.6e6 < 1e-3
    negative = sphere.moved(ra, dec, np.zeros(3), np.zeros(3), 0.0, parallax=-parallax, observer=earth)
    assert sphere.separation(negative.ra, negative.dec, ra, dec).max() < 1e-12


@pytest.mark.parametrize("level", [0, 1, 5, 12, 24])
def test_cells_are_those_of_healpix(level, rng):
    healpix = pytest.importorskip("astropy_healpix")
    ra, dec = everywhere(rng, 20000)
    near = rng.uniform(0, 1e-3, 500)
    ra = np.concatenate([ra, rng.uniform(0, 360, 1000)])
    dec = np.concatenate([dec, 90 - near, near - 90])
    expected = healpix.lonlat_to_healpix(*np.radians([ra % 360, dec]) * _rad(), 1 << level, order="nested")
    ours = sphere.cells(level, ra, dec)
    differs = ours != expected
    # on a border, rounding decides
    centres = sphere.cell_centres(level, ours[differs])
    reach = sphere.separation(centres.ra, centres.dec, ra[differs], dec[differs])
    assert (reach <= sphere.cell_radius(level) * (1 + 1e-6) + 1e-10).all()
    assert np.count_nonzero(differs) <= (4 if level < 20 else 40)
    some = np.unique(rng.integers(0, 12 * 4**level, 3000))
    lon, lat = healpix.healpix_to_lonlat(some, 1 << level, order="nested")
    place = sphere.cell_centres(level, some)
    assert sphere.separation(place.ra, place.dec, lon.deg, lat.deg).max() < 1e-11
    assert np.array_equal(sphere.cells(level, place.ra, place.dec), some)


def _rad():
    from astropy import units

    return units.rad


@pytest.mark.parametrize("level", [0, 2, 5, 7])
@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [(0, 0, 0.5), (359.99, 41.8, 2), (200, 89.9, 1), (17, -90, 3), (120, -41.81, 0), (1, 2, 70)],
)
def test_a_circle_finds_all_its_cells_and_few_others(level, ra, dec, radius, rng):
    healpix = pytest.importorskip("astropy_healpix")
    from astropy import units

    found = sphere.cells_in_circle(level, ra, dec, radius)
    assert np.array_equal(found, np.unique(found))
    angle = rng.uniform(0, 2 * np.pi, 20000)
    away = np.degrees(2 * np.arcsin(np.sqrt(rng.random(20000)) * np.sin(np.radians(radius) / 2)))
    centre = sphere.directions(ra, dec)
    side = np.cross(centre, [0.3, 0.5, 0.7])
    side /= np.linalg.norm(side)
    up = np.cross(side, centre)
    turn = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * up
    points = np.cos(np.radians(away))[:, None] * centre + np.sin(np.radians(away))[:, None] * turn
    inside = np.unique(sphere.cells(level, *sphere.coordinates(points)))
    assert np.isin(inside, found).all()
    grid = healpix.HEALPix(1 << level, order="nested")
    known = grid.cone_search_lonlat(*(value * units.deg for value in (ra, dec, radius)))
    assert np.isin(known, found).all()
    assert len(found) <= 2.2 * len(known) + 12


def test_what_makes_no_sense_is_told():
    for call in (
        lambda: sphere.cells(25, [0], [0]),
        lambda: sphere.cells(3, [0], [91]),
        lambda: sphere.cells(3, [np.nan], [0]),
        lambda: sphere.cell_centres(0, [12]),
        lambda: sphere.cells_in_circle(3, 0, 0, -1),
        lambda: sphere.cells_in_circle(True, 0, 0, 1),
    ):
        with pytest.raises(OptionError):
            call()
