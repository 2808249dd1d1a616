"""Places to measure at, in every form a user has them; regions of a catalogue on the image and on the sky."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

import larun
from larun.errors import CatalogError, FileError, OptionError
from larun.io.regions import read_regions
from larun.model.measure.positions import positions_of, sky_positions, to_pixels

regions = pytest.importorskip("regions")

CARDS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRPIX1": 32.0,
    "CRPIX2": 30.0,
    "CRVAL1": 202.5,
    "CRVAL2": 47.2,
    "CD1_1": -1.1e-4,
    "CD1_2": 2e-5,
    "CD2_1": 2e-5,
    "CD2_2": 1.1e-4,
    "RADESYS": "FK5",
    "EQUINOX": 2000.0,
}
X, Y = np.array([10.25, 40.5, 33.0]), np.array([12.125, 50.75, 8.0])


@pytest.fixture(scope="module")
def frame():
    return larun.Frame.from_arrays(np.ones((60, 64)), header=CARDS)


@pytest.fixture(scope="module")
def bare():
    return larun.Frame.from_arrays(np.ones((60, 64)))


@pytest.fixture(scope="module")
def sky(frame):
    lon, lat = frame.wcs.all_pix2world(X, Y, 0)
    return SkyCoord(lon, lat, unit="deg", frame="fk5")


def near(found, limit=1e-7):
    x, y = found
    assert x.shape == y.shape == X.shape
    assert max(np.abs(x - X).max(), np.abs(y - Y).max()) < limit


def test_pixels_as_arrays_and_tables(bare):
    pairs = np.column_stack([X, Y])
    for positions in (
        pairs,
        pairs.tolist(),
        pairs * u.pix,
        QTable({"x": X * u.pix, "y": Y * u.pix}),
        Table({"x": X, "y": Y}),
        Table({"xcentroid": X, "ycentroid": Y, "ra": X, "dec": Y}),
        Table({"X_IMAGE": X + 1, "Y_IMAGE": Y + 1}),
        QTable({"X": X * u.dimensionless_unscaled, "Y": Y * u.pix}),
        Table({"X(FITS)_T1": X + 1, "Y(FITS)_T1": Y + 1}),
    ):
        near(positions_of(bare, positions), 1e-12)
    one = positions_of(bare, (10.25, 12.125))
    assert (one[0].tolist(), one[1].tolist()) == ([10.25], [12.125])


def test_a_pandas_frame_serves(bare):
    pandas = pytest.importorskip("pandas")
    near(positions_of(bare, pandas.DataFrame({"x": X, "y": Y})), 1e-12)


def test_sky_coordinates_of_any_frame(frame, sky):
    for positions in (sky, sky.icrs, sky.galactic):
        near(positions_of(frame, positions))
    near(positions_of(frame, sky.fk4), 1e-4)  # astropy's FK4 comes back to 25 microarcseconds
    one = positions_of(frame, sky[0])
    assert one[0][0] == pytest.approx(X[0], abs=1e-7)
    assert len(positions_of(frame, sky[:0])[0]) == 0


def test_tables_of_sky_coordinates_honour_their_units(frame, sky):
    ra, dec = sky.icrs.ra, sky.icrs.dec
    for positions in (
        QTable({"ra": ra.deg * u.deg, "dec": dec.deg * u.deg}),
        QTable({"ra": ra.hourangle * u.hourangle, "dec": dec.arcmin * u.arcmin}),
        QTable({"RAJ2000": ra.rad * u.rad, "DEJ2000": dec.deg * u.deg}),
        Table({"RA_ICRS": MaskedColumn(ra.deg, unit="deg"), "DE_ICRS": MaskedColumn(dec.deg, unit="deg")}),
    ):
        near(positions_of(frame, positions))


def test_a_right_ascension_without_unit_is_refused(frame):
    with pytest.raises(OptionError, match=r"'ra' has no unit.*hourangle"):
        positions_of(frame, Table({"ra": [13.5], "dec": [47.2]}))
    with pytest.raises(OptionError, match=r"'ra' holds <U\d+.*SkyCoord"):
        positions_of(frame, Table({"ra": ["13:30:00"], "dec": ["+47:12:00"]}, units={"ra": "deg", "dec": "deg"}))
    with pytest.raises(OptionError, match="'x' is in deg"):
        positions_of(frame, QTable({"x": [1.0] * u.deg, "y": [1.0] * u.deg}))
    with pytest.raises(OptionError, match="'ra' is in s"):
        positions_of(frame, QTable({"ra": [1.0] * u.s, "dec": [1.0] * u.deg}))


def test_masked_places_are_nan(bare):
    table = QTable({"x": Masked([1.0, 2.0] * u.pix, mask=[False, True]), "y": MaskedColumn([1, 2], mask=[True, False])})
    x, y = positions_of(bare, table)
    np.testing.assert_array_equal(x, [1, np.nan])
    np.testing.assert_array_equal(y, [np.nan, 2])


def test_regions_of_the_regions_package(frame, sky):
    pixels = [regions.CirclePixelRegion(regions.PixCoord(x, y), 3) for x, y in zip(X, Y, strict=True)]
    places = [regions.PointSkyRegion(place) for place in sky]
    mixed = [pixels[0], places[1], regions.EllipsePixelRegion(pixels[2].center, 3, 2)]
    for positions in (pixels, places, mixed, regions.Regions(pixels), regions.Regions(places), tuple(mixed)):
        near(positions_of(frame, positions))
    assert positions_of(frame, pixels[0])[0].tolist() == [X[0]]
    corners = regions.PolygonPixelRegion(regions.PixCoord([1, 2, 3], [1, 2, 1]))
    with pytest.raises(OptionError, match="PolygonPixelRegion, is no place"):
        positions_of(frame, [pixels[0], corners])


def test_what_is_no_position(frame, bare, sky, tmp_path):
    for positions in ("stars.txt", tmp_path / "stars.csv"):
        with pytest.raises(OptionError, match=r"\.reg"):
            positions_of(frame, positions)
    for positions in (np.ones((3, 3)), np.ones(3), {"x": [1]}, None, object(), ["a", "b"], Table({"a": [1]})):
        with pytest.raises(OptionError, match="positions"):
            positions_of(frame, positions)
    with pytest.raises(OptionError, match="positions in arcsec"):
        positions_of(frame, np.ones((3, 2)) * u.arcsec)
    for positions in (sky, QTable({"ra": [1.0] * u.deg, "dec": [1.0] * u.deg}), regions.PointSkyRegion(sky[0])):
        with pytest.raises(CatalogError, match="no WCS"):
            positions_of(bare, positions)
    (tmp_path / "none.reg").write_text("image\n")
    with pytest.raises(OptionError, match=r"none\.reg: holds no regions"):
        positions_of(frame, tmp_path / "none.reg")
    (tmp_path / "sky.reg").write_text("fk5\npoint(10,10)\n")
    with pytest.raises(CatalogError, match="no WCS"):
        positions_of(bare, tmp_path / "sky.reg")
    with pytest.raises(FileError, match="does not exist"):
        positions_of(frame, tmp_path / "absent.reg")


# -- regions of a catalogue --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog(frame):
    y, x = np.indices((60, 64))
    turned = (x - 30) * np.cos(0.6) + (y - 28) * np.sin(0.6), (y - 28) * np.cos(0.6) - (x - 30) * np.sin(0.6)
    image = np.random.default_rng(3).normal(0, 1, (60, 64))
    image += 400 * np.exp(-(turned[0] ** 2) / (2 * 3.2**2) - turned[1] ** 2 / (2 * 1.6**2))
    image += 300 * np.exp(-((x - 10) ** 2 + (y - 45) ** 2) / (2 * 1.6**2))
    made = larun.Frame.from_arrays(image, variance=np.ones_like(image), unit="electron", header=CARDS)
    return made.detect(fwhm=3.5).select(np.array([True, True] + [False] * (len(made.detect(fwhm=3.5)) - 2)))


def test_circles_ellipses_and_labels(catalog, tmp_path):
    catalog.write_regions(tmp_path / "a.reg", radius=7.5, label="id")
    found = read_regions(tmp_path / "a.reg")
    assert [region.label for region in found] == [str(number) for number in catalog["id"]]
    assert {region.radius for region in found} == {7.5}
    catalog.write_regions(tmp_path / "b.reg", radius="fwhm", shape="ellipse")
    drawn = read_regions(tmp_path / "b.reg")
    np.testing.assert_allclose([region.radius for region in drawn], catalog["fwhm"].value)
    np.testing.assert_allclose(
        [region.minor for region in drawn], catalog["fwhm"].value * (1 - np.asarray(catalog["ellipticity"]))
    )
    long = int(np.argmax(catalog["ellipticity"]))
    assert drawn[long].angle == pytest.approx(np.degrees(0.6), abs=3)
    with pytest.raises(FileError, match="exists"):
        catalog.write_regions(tmp_path / "a.reg")
    catalog.write_regions(tmp_path / "a.reg", overwrite=True)


def test_ellipses_on_the_sky_are_those_of_the_image(catalog, tmp_path):
    """As the regions package sees them: through the WCS back to the same pixels, sizes and angle."""
    catalog.write_regions(tmp_path / "a.reg", shape="ellipse", radius="fwhm", coordinates="icrs")
    theta = catalog["theta"].value
    for number, region in enumerate(regions.Regions.read(tmp_path / "a.reg", format="ds9")):
        there = region.to_pixel(catalog.image.wcs)
        assert there.center.x == pytest.approx(catalog["x"].value[number], abs=1e-6)
        assert there.center.y == pytest.approx(catalog["y"].value[number], abs=1e-6)
        assert there.width / 2 == pytest.approx(catalog["fwhm"].value[number], rel=2e-3)
        turn = (there.angle.to_value("deg") - theta[number] + 90) % 180 - 90
        assert turn == pytest.approx(0, abs=0.2)


def test_a_source_without_shape_is_a_circle_and_without_size_a_point(catalog, tmp_path):
    table = catalog.table
    table["fwhm"][0], table["ellipticity"][1] = np.nan * u.pix, np.nan
    catalog._replace(table=table).write_regions(tmp_path / "a.reg", radius="fwhm", shape="ellipse")
    lines = (tmp_path / "a.reg").read_text().splitlines()[3:]
    assert [line.partition("(")[0] for line in lines] == ["point", "circle"]


def test_marks_that_make_no_sense(catalog, tmp_path):
    for options, message in (
        ({"shape": "star"}, "'circle', 'ellipse'"),
        ({"coordinates": "physical"}, "'image', 'icrs'"),
        ({"radius": -1.0}, "positive"),
        ({"radius": np.nan}, "positive"),
    ):
        with pytest.raises(OptionError, match=message):
            catalog.write_regions(tmp_path / "a.reg", **options)
    with pytest.raises(CatalogError, match="no column 'size'"):
        catalog.write_regions(tmp_path / "a.reg", radius="size")
    with pytest.raises(CatalogError, match="no column 'name'"):
        catalog.write_regions(tmp_path / "a.reg", label="name")
    read = larun.SourceCatalog.read(catalog.write(tmp_path / "a.ecsv"))
    with pytest.raises(CatalogError, match=r"attach\(frame\)"):
        read.write_regions(tmp_path / "a.reg", coordinates="fk5")
    assert not (tmp_path / "a.reg").exists()


@pytest.mark.parametrize("wcs", [{"RADESYS": "FK4", "EQUINOX": 1950.0}, {"RADESYS": "FK5", "EQUINOX": 2013.5}])
@pytest.mark.parametrize("frame", ["icrs", "fk5", "fk4", "galactic"])
def test_the_sky_of_a_wcs_with_another_equinox(wcs, frame):
    """DS9's fk5 is that of J2000, whatever the equinox of the image."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 60.0, "CRPIX1": 32.0, "CRPIX2": 32.0}
    image = larun.Frame.from_arrays(np.ones((64, 64)), header=cards | {"CDELT1": -3e-4, "CDELT2": 3e-4} | wcs)
    lon, lat = sky_positions(image, np.array([5.0]), np.array([9.0]), frame)
    x, y = to_pixels(image, SkyCoord(lon, lat, unit="deg", frame=frame))
    assert (x[0], y[0]) == pytest.approx((5.0, 9.0), abs=1e-4)
