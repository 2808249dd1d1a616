"""Pairs of two lists: mutual, one to one, the same for the same lists; on the sky also where angles are awkward."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.wcs.utils import pixel_to_skycoord

import larun
from larun.errors import CatalogError, OptionError
from larun.model.measure.matching import nearest_pairs


def catalog_of(ra=10.0, dec=20.0, seed=1, count=40, size=200):
    """A catalogue of stars at random places, with a WCS of 1 arcsec per pixel around (ra, dec)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    image = rng.normal(0, 1, (size, size))
    for _ in range(count):
        px, py = rng.uniform(8, size - 9, 2)
        image += rng.uniform(100, 300) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 3)
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec, "CRPIX1": 100.0, "CRPIX2": 100.0}
    header |= {"CDELT1": -1 / 3600, "CDELT2": 1 / 3600}
    frame = larun.Frame.from_arrays(image, variance=np.ones(image.shape), unit="electron", header=header)
    return frame.detect(fwhm=2.9)


@pytest.fixture(scope="module")
def catalog():
    return catalog_of()


def brute(here, there, radius):
    distance = np.sqrt(((here[:, None] - there[None]) ** 2).sum(axis=2))
    return [
        (i, j)
        for i in range(len(here))
        for j in [int(distance[i].argmin())]
        if distance[i, j] <= radius and int(distance[:, j].argmin()) == i
    ]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_pairs_are_those_of_a_search_through_all(dimensions, rng):
    here, there = rng.uniform(0, 10, (200, dimensions)), rng.uniform(0, 10, (150, dimensions))
    found = nearest_pairs(here, there, 0.7)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == brute(here, there, 0.7)
    assert len(set(found.second.tolist())) == len(found.second)
    np.testing.assert_allclose(found.distance, np.linalg.norm(here[found.first] - there[found.second], axis=1))
    back = nearest_pairs(there, here, 0.7)
    assert sorted(zip(back.second.tolist(), back.first.tolist(), strict=True)) == brute(here, there, 0.7)


def test_ties_go_to_the_first_in_the_list():
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), axis=-1).reshape(-1, 2)
    middles = grid[:40] + 0.5  # four neighbours at exactly one distance
    found = nearest_pairs(middles, grid, 2.0)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == brute(middles, grid, 2.0)
    twice = np.zeros((3, 2))
    assert nearest_pairs(twice, twice, 1.0)[:2] == (np.array([0]), np.array([0]))
    for seed in range(5):
        many = np.random.default_rng(seed).integers(0, 6, (60, 2)).astype(float)
        assert [p.tolist() for p in nearest_pairs(many, grid, 1.5)] == [
            p.tolist() for p in nearest_pairs(many, grid, 1.5)
        ]
        pairs = nearest_pairs(many, grid, 1.5)
        assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == brute(many, grid, 1.5)


def test_the_radius_is_a_limit_that_counts():
    assert len(nearest_pairs(np.array([[0.0, 0.0]]), np.array([[0.0, 1.0]]), 1.0).first) == 1
    assert len(nearest_pairs(np.array([[0.0, 0.0]]), np.array([[0.0, 1.0]]), 0.999).first) == 0
    assert len(nearest_pairs(np.array([[0.0, np.nan]]), np.array([[0.0, 1.0]]), 9.0).first) == 0
    assert len(nearest_pairs(np.empty((0, 2)), np.array([[0.0, 1.0]]), 9.0).first) == 0


def test_every_kind_of_list_gives_the_same_pairs(catalog, rng):
    x, y = catalog["x"].value, catalog["y"].value
    order = rng.permutation(len(x))[:25]
    moved = np.column_stack([x[order], y[order]]) + rng.normal(0, 0.1, (25, 2))
    sky = catalog.image.wcs.all_pix2world(moved, 0)
    in_pixels = [
        moved,
        moved.tolist(),
        Table(moved, names=("x", "y")),
        QTable({"x": moved[:, 0] * u.pix, "y": moved[:, 1]}),
    ]
    on_sky = [
        sky,
        SkyCoord(*sky.T, unit="deg"),
        SkyCoord(*sky.T, unit="deg").galactic,
        Table(sky, names=("RA", "Dec")),
        QTable({"ra": (sky[:, 0] - 360) * u.deg, "dec": (sky[:, 1] * u.deg).to(u.rad)}),
    ]
    for other, radius in (
        [(o, 1.0) for o in in_pixels] + [(o, 1 * u.pix) for o in in_pixels[:1]] + [(o, 1 * u.arcsec) for o in on_sky]
    ):
        found = catalog.match(other, radius=radius)
        assert isinstance(found, larun.Match)
        assert sorted(found.other_index) == list(range(25))
        np.testing.assert_array_equal(found.index, order[found.other_index])
        assert (np.diff(found.index) > 0).all()
        assert len(found.other) == len(found.catalog) == len(found) == 25
        np.testing.assert_array_equal(found.catalog["id"], catalog["id"][found.index])
        expected = np.hypot(*(moved - np.column_stack([x[order], y[order]])).T)[found.other_index]
        np.testing.assert_allclose(found.separation.value, expected, rtol=1e-3, atol=1e-4)
        assert found.separation.unit == (u.pix if isinstance(radius, float) or radius.unit == u.pix else u.arcsec)
        with pytest.raises(ValueError, match="read-only"):
            found.index[0] = 1


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.999, -30.0), (123.0, 90.0), (10.0, 89.99), (200.0, -90.0)])
def test_angles_across_zero_and_at_the_poles(ra, dec):
    catalog = catalog_of(ra, dec)
    lon, lat = catalog["ra"].value, catalog["dec"].value
    if abs(dec) < 60:
        assert not (ra < 1 and np.ptp(lon) < 300)  # the field of ra = 0 does lie across it
    rng = np.random.default_rng(3)
    x, y = catalog["x"].value + rng.normal(0, 0.05, len(lon)), catalog["y"].value + rng.normal(0, 0.05, len(lon))
    near = catalog.image.wcs.all_pix2world(x, y, 0)
    for turned in (0, -360):  # some catalogues store negative right ascensions
        found = catalog.match(SkyCoord(*near, unit="deg"), radius=0.5 * u.arcsec)
        other = catalog.match(np.column_stack([near[0] + turned, near[1]]), radius=0.5 * u.arcsec)
        for one in (found, other):
            np.testing.assert_array_equal(one.index, one.other_index)
            assert len(one) == len(catalog)
            expected = np.hypot(x - catalog["x"].value, y - catalog["y"].value)
            np.testing.assert_allclose(one.separation.to_value("arcsec"), expected, rtol=1e-4, atol=1e-6)
    assert (lat <= 90).all()


def test_separations_are_those_of_astropy(catalog):
    here = SkyCoord(catalog["ra"], catalog["dec"])
    there = here.directional_offset_by(
        np.linspace(0, 6, len(here)) * u.rad, np.geomspace(1e-6, 1, len(here)) * u.arcsec
    )
    found = catalog.match(there, radius=1.5 * u.arcsec)
    wanted = here[found.index].separation(there[found.other_index])
    np.testing.assert_allclose(found.separation.to_value("arcsec"), wanted.to_value("arcsec"), atol=1e-9)


def test_a_match_is_recorded(catalog, tmp_path):
    other = catalog_of(seed=2)
    found = catalog.match(other, radius=3.0)
    step = found.provenance.step
    assert step.operation == "match"
    assert step.parameters == {"radius": 3}
    assert [parent.role for parent in found.provenance.parents] == ["self", "other"]
    assert found.catalog.image is catalog.image
    back = larun.SourceCatalog.read(found.catalog.write(tmp_path / "m.ecsv"))
    assert back.identical(found.catalog)
    named = catalog.match([[5.0, 6.0], [7.0, 8.0]], radius=400.0)
    assert named.provenance.step.parameters["other"]["shape"] == [2, 2]
    assert named.provenance.id != catalog.match([[5.0, 6.0], [7.0, 9.0]], radius=400.0).provenance.id
    assert catalog.match(other, radius=1 * u.arcsec).provenance.step.parameters == {
        "radius": {"value": 1, "unit": "arcsec"}
    }
    assert str(found) == repr(found) == f"<Match {len(found)} pairs>"


def test_without_partners_there_are_no_rows(catalog):
    for other in ([], np.empty((0, 2)), [[-50.0, -50.0]]):
        found = catalog.match(other, radius=1.0)
        assert len(found) == len(found.catalog) == len(found.other) == 0
        assert found.catalog.columns == catalog.columns
        assert found.other.colnames == ["x", "y"]


def test_what_makes_no_sense_is_told(catalog):
    bare = larun.Frame.from_arrays(np.eye(20) * 1000, variance=np.ones((20, 20))).detect(fwhm=2.0)
    for error, here, other, radius, says in (
        (OptionError, catalog, [[1, 2]], 0, "above 0"),
        (OptionError, catalog, [[1, 2]], -1 * u.arcsec, "above 0"),
        (OptionError, catalog, [[1, 2]], np.nan, "above 0"),
        (OptionError, catalog, [[1, 2]], 200 * u.deg, "180"),
        (OptionError, catalog, [[1, 2]], "1 arcsec", "an angle such as"),
        (OptionError, catalog, [[1, 2]], 1 * u.m, "an angle such as"),
        (OptionError, catalog, [[1, 2]], [1, 2] * u.deg, "one number"),
        (OptionError, catalog, [[1, 2, 3]], 1.0, r"shape \(1, 3\)"),
        (OptionError, catalog, "stars", 1.0, r"\(n, 2\) array"),
        (OptionError, catalog, SkyCoord(1, 2, unit="deg"), 1.0, "as an angle"),
        (CatalogError, catalog, Table({"x": [1], "z": [2]}), 1.0, "no column y among x, z"),
        (CatalogError, catalog, QTable({"ra": [1] * u.m, "dec": [2] * u.deg}), 1 * u.deg, "ra is in m"),
        (CatalogError, bare, [[1, 2]], 1 * u.deg, "match in pixels"),
    ):
        with pytest.raises(error, match=says):
            here.match(other, radius=radius)


def test_what_a_mask_hides_of_a_quantity_has_no_partner():
    from astropy.utils.masked import Masked

    catalog = larun.SourceCatalog.from_table(QTable({"x": [10.0, 20.0] * u.pix, "y": [10.0, 20.0] * u.pix}))
    x = Masked([10.0, 20.0] * u.pix, mask=[True, False])
    assert catalog.match(QTable({"x": x, "y": [10.0, 20.0] * u.pix}), radius=1.0).other_index.tolist() == [1]


@pytest.mark.parametrize(
    "wcs",
    [
        {"RADESYS": "FK4", "EQUINOX": 1950.0},
        {"RADESYS": "FK5", "EQUINOX": 2013.5},
        {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
        {"RADESYS": "FK5", "EQUINOX": 2000.0},
        {},
    ],
)
def test_ra_and_dec_of_a_catalogue_are_those_of_other_catalogues(wcs):
    """Whatever the frame of the image, a list of ICRS coordinates finds its stars in the catalogue."""
    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 0.001,
        "CRVAL2": 60.0,
        "CRPIX1": 32.0,
        "CRPIX2": 32.0,
    }
    image = larun.Frame.from_arrays(np.ones((64, 64)), header=cards | {"CDELT1": -3e-4, "CDELT2": 3e-4} | wcs)
    places = QTable({"x": [10.0, 30.0] * u.pix, "y": [40.0, 20.0] * u.pix})
    sky = pixel_to_skycoord([10.0, 30.0], [40.0, 20.0], image.wcs).icrs
    places.meta["fwhm"] = 2.0
    catalog = larun.SourceCatalog.from_table(places, image=image)
    for other in (sky, QTable({"ra": sky.ra, "dec": sky.dec})):
        found = catalog.match(other, radius=0.1 * u.arcsec)
        assert found.other_index.tolist() == [0, 1]
