"""Catalogues of other programs come in with their units, their record, and what they do not say."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table

import larun
from larun.errors import CatalogError, OptionError
from tests.model.measure.test_positions import CARDS, X, Y


@pytest.fixture(scope="module")
def frame():
    y, x = np.indices((60, 64))
    image = np.random.default_rng(3).normal(100, 2, (60, 64))
    crowd = np.meshgrid([22.3, 30.1, 51.7, 58.2], [20.4, 29.8, 38.5, 47.1])
    for a, b in zip([*X, *crowd[0].ravel()], [*Y, *crowd[1].ravel()], strict=True):
        image += 500 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 1.4**2))
    return larun.Frame.from_arrays(image, variance=np.full(image.shape, 4.0), unit="electron", header=CARDS)


@pytest.fixture(scope="module")
def sky(frame):
    lon, lat = frame.wcs.all_pix2world(X, Y, 0)
    return SkyCoord(lon, lat, unit="deg", frame="fk5").icrs


def test_names_and_first_pixels_of_other_programs():
    sextractor = Table(
        {
            "NUMBER": np.arange(3),
            "X_IMAGE": X + 1,
            "Y_IMAGE": Y + 1,
            "FLUX_AUTO": [1.0, 2.0, 3.0],
            "FLUXERR_AUTO": [0.1, 0.2, 0.3],
            "FWHM_IMAGE": [3.0, 3.1, 3.2],
            "THETA_IMAGE": [10.0, 20.0, 30.0] * u.deg,
            "FLAGS": np.array([0, 3, 16], np.int16),
            "CLASS_STAR": [0.9, 0.8, 0.1],
        }
    )
    made = larun.SourceCatalog.from_table(sextractor)
    assert made.columns == (
        *("id", "x", "y", "flux", "flux_error", "fwhm", "theta"),
        *("FLAGS", "CLASS_STAR"),  # flags of another program mean something else
    )
    np.testing.assert_allclose(made["x"].value, X)
    assert (made["x"].unit, made["fwhm"].unit, made["theta"].unit) == (u.pix, u.pix, u.deg)
    assert made["id"].tolist() == [0, 1, 2]
    assert made.table["x"].info.description.startswith("column of the centre")
    photutils = QTable({"label": [1, 2, 3], "xcentroid": X, "ycentroid": Y, "segment_flux": [1, 2, 3] * u.electron})
    made = larun.SourceCatalog.from_table(photutils)
    assert made.columns == ("id", "x", "y", "flux")
    assert made["flux"].unit == u.electron


def test_columns_that_the_user_names():
    table = Table({"col1": X, "col2": Y, "x": [9, 9, 9], "q": np.array([1, 2, 4], np.int64), "id": ["a", "b", "c"]})
    made = larun.SourceCatalog.from_table(table, columns={"x": "col1", "y": "col2", "flags": "q"})
    np.testing.assert_allclose(made["x"].value, X)
    assert made["flags"].dtype == np.uint32
    assert made["original_x"].tolist() == [9, 9, 9]
    assert made["original_id"].tolist() == ["a", "b", "c"]
    assert made["id"].tolist() == [1, 2, 3]
    for columns, message in (
        ({"nonsense": "col1"}, "none of larun's"),
        ({"x": "col9"}, "the table has no 'col9'"),
        ({"x": "col1", "y": "col1"}, "one column cannot become two"),
        ({"x": "id", "y": "col2"}, "'id' holds <U1"),
    ):
        with pytest.raises(OptionError, match=message):
            larun.SourceCatalog.from_table(table, columns=columns)


def test_larun_own_tables_stay_as_they_are(frame):
    measured = frame.detect().photometer()
    table = measured.table[measured["snr"] > 20]
    table["colour"] = np.arange(len(table))
    made = larun.SourceCatalog.from_table(table, image=frame)
    assert made.columns == (*measured.columns, "colour")
    assert made["flags"].dtype == np.uint32
    assert made.meta == measured.meta
    foreign = Table({"x": X, "y": Y, "mag_1": X, "kron_flux": Y, "sky_2d": X})
    assert larun.SourceCatalog.from_table(foreign).columns[3:] == ("original_mag_1", "original_kron_flux", "sky_2d")


def test_units_are_converted_and_asked_for(frame, sky):
    table = QTable({"ra": sky.ra.hourangle * u.hourangle, "dec": sky.dec.arcmin * u.arcmin})
    made = larun.SourceCatalog.from_table(table, image=frame)
    assert made.columns == ("id", "x", "y", "ra", "dec")
    np.testing.assert_allclose(made["ra"].to_value("deg"), sky.ra.deg)
    assert made["ra"].unit == made["dec"].unit == u.deg
    np.testing.assert_allclose(made["x"].value, X, atol=1e-6)
    with pytest.raises(OptionError, match="'ra' has no unit"):
        larun.SourceCatalog.from_table(Table({"ra": [1.0], "dec": [1.0]}), image=frame)
    with pytest.raises(OptionError, match="'theta' has no unit"):
        larun.SourceCatalog.from_table(Table({"x": [1.0], "y": [1.0], "theta": [1.0]}))
    flux = QTable({"x": [1.0], "y": [1.0], "flux": [2e3] * u.electron})
    assert larun.SourceCatalog.from_table(flux, image=frame)["flux"].value.tolist() == [2000.0]
    with pytest.raises(OptionError, match="'flux' is in Jy"):
        larun.SourceCatalog.from_table(QTable({"x": [1.0], "y": [1.0], "flux": [2.0] * u.Jy}), image=frame)


def test_sky_coordinates_in_one_column(frame, sky):
    made = larun.SourceCatalog.from_table(QTable({"sky_centroid": sky, "name": ["a", "b", "c"]}), image=frame)
    np.testing.assert_allclose(made["y"].value, Y, atol=1e-6)
    assert "sky_centroid" in made.columns
    with pytest.raises(CatalogError, match="give image=frame"):
        larun.SourceCatalog.from_table(QTable({"sky_centroid": sky}))
    with pytest.raises(CatalogError, match=r"no columns x and y.*columns=\{"):
        larun.SourceCatalog.from_table(QTable({"a": [1]}))


def test_the_image_gives_what_is_missing_and_can_be_measured(frame, tmp_path):
    made = larun.SourceCatalog.from_table(Table({"x": X, "y": Y}), image=frame)
    assert made.columns == ("id", "x", "y", "ra", "dec")
    assert made.meta["fwhm"] == pytest.approx(1.4 * 2.3548, rel=0.1)
    forced = frame.photometer(np.column_stack([X, Y]), (4.0,), unit="pixel", annulus=(8.0, 12.0))
    measured = made.photometer((4.0,), unit="pixel", annulus=(8.0, 12.0))
    np.testing.assert_allclose(measured["aperture_flux_1"].value, forced["aperture_flux_1"].value, rtol=0.01)
    for suffix in ("ecsv", "fits", "parquet", "vot"):
        again = larun.SourceCatalog.read(measured.write(tmp_path / f"a.{suffix}"))
        assert again.identical(measured)
        assert again.attach(frame).photometer((4.0,), unit="pixel").columns == measured.columns
    sized = larun.SourceCatalog.from_table(Table({"x": X, "y": Y, "fwhm": [3.0, 3.5, np.nan]}), image=frame)
    assert sized.meta["fwhm"] == 3.25
    with pytest.raises(CatalogError, match="not the image"):
        again.attach(frame * 2)


def test_the_record_begins_with_the_table(frame):
    table = Table({"x": X, "y": Y})
    one, two = (larun.SourceCatalog.from_table(table.copy()) for _ in range(2))
    assert one.provenance.id == two.provenance.id
    table["x"][0] = np.nextafter(table["x"][0], 0)
    assert larun.SourceCatalog.from_table(table).provenance.id != one.provenance.id
    assert one.provenance.step.operation == "from_table"
    (root,) = one.provenance.roots()
    assert (root.kind, len(root.pixels)) == ("memory", 64)
    with_image = larun.SourceCatalog.from_table(table, image=frame)
    assert {parent.role for parent in with_image.provenance.parents} == {"table", "image"}
    assert frame.provenance.id in {node.id for node in with_image.provenance.walk()}
    assert "from_table" in str(with_image.provenance)


def test_a_table_of_photutils_as_it_comes(frame):
    """Its default columns; without a WCS one of them holds nothing but None."""
    from photutils.segmentation import SourceCatalog as Theirs
    from photutils.segmentation import SourceFinder

    sky = frame.background()
    above = (frame.data - sky.level).astype(float)
    segments = SourceFinder(n_pixels=5)(above, 5 * sky.rms)
    table = Theirs(above, segments, error=frame.uncertainty.astype(float)).to_table()
    assert table["sky_centroid"].dtype == object
    made = larun.SourceCatalog.from_table(table, image=frame)
    assert "sky_centroid" not in made.columns
    np.testing.assert_array_equal(made["x"].value, np.asarray(table["x_centroid"]))
    np.testing.assert_array_equal(np.asarray(made["flux_error"]), np.asarray(table["segment_flux_err"]))
    table["cutout"] = np.array([object() for _ in table], dtype=object)
    with pytest.raises(OptionError, match=r"'cutout' holds object: .*remove it"):
        larun.SourceCatalog.from_table(table)


def test_counts_are_not_taken_for_electrons(frame):
    """SExtractor says count, whatever its image was in."""
    table = QTable({"X_IMAGE": X, "Y_IMAGE": Y, "FLUX_AUTO": [1.0, 2.0, 3.0] * u.ct, "FLUXERR_AUTO": [1.0] * 3 * u.ct})
    made = larun.SourceCatalog.from_table(table, image=frame)
    assert made["FLUX_AUTO"].unit == u.ct
    assert not {"flux", "flux_error"} & set(made.columns)
    assert np.isfinite(made.photometer((4.0,), unit="pixel", annulus=(8.0, 12.0))["aperture_flux_1"]).all()
    with pytest.raises(OptionError, match=r"'FLUX_AUTO' is in ct: .* converts to electron"):
        larun.SourceCatalog.from_table(table, image=frame, columns={"flux": "FLUX_AUTO"})
    table["FLUX_AUTO"] = table["FLUX_AUTO"].value * 2 * u.electron
    assert larun.SourceCatalog.from_table(table, image=frame)["flux"].value.tolist() == [2, 4, 6]


DAOPHOT = """\
#K IRAF       = NOAO/IRAFV2.16          version    %-23s
#N ID    XCENTER   YCENTER   MAG         MERR          MSKY           PERROR          \\
#U ##    pixels    pixels    magnitudes  magnitudes    counts         perrors         \\
#F %-9d  %-10.3f   %-10.3f   %-12.3f     %-14.3f       %-15.7g        %-13s
#
1        11.500    21.250    15.461      0.003         34.85955       NoError
2        31.000    8.000     22.329      0.206         30.12784       NoError
"""


def test_tables_of_daophot_count_from_1(frame):
    """Their units have names of their own, and text has one too; photutils has an xcenter that counts from 0."""
    table = Table.read(DAOPHOT, format="ascii.daophot")
    made = larun.SourceCatalog.from_table(table, image=frame)
    assert made["x"].value.tolist() == [10.5, 30.0]
    assert made["y"].value.tolist() == [20.25, 7.0]
    assert made["MAG"].unit == u.mag
    assert set(made["PERROR"]) == {"NoError"}
    assert str(table["XCENTER"].unit) == "pixels"  # the table is as it was
    measured = frame.photometer(table, (4.0,), unit="pixel", annulus=(8.0, 12.0))
    assert measured["x"].value.tolist() == [10.5, 30.0]
    small = larun.SourceCatalog.from_table(Table({"xcenter": [4.0], "ycenter": [5.0]}))
    assert (small["x"].value[0], small["y"].value[0]) == (4, 5)


def test_tables_as_hostile_as_they_come(tmp_path):
    table = QTable(
        {
            "X": X,
            "x": Y,  # names that differ in case only
            "y": MaskedColumn([1.0, 2.0, 3.0], mask=[False, True, False]),
            "n": MaskedColumn([1, 2, 3], mask=[True, False, False]),
            "big": np.array([0, 2**64 - 1, 2**63], np.uint64),
            "id": np.array([1, 2**40, 3]),
            "näme €": ["α", "β\n", "'\"<&"],
            "flags": [1, 2, 3],
            "nan": [np.nan, np.inf, -np.inf],
        }
    )
    table.meta = {"a": np.float64(3), "b": object, "c": (1, 2), "nan": np.nan, "when": None}
    made = larun.SourceCatalog.from_table(table)
    np.testing.assert_array_equal(made["x"].value, Y)
    np.testing.assert_array_equal(made["y"].value, [1, np.nan, 3])
    assert {"X", "original_flags", "original_id", "big"} <= set(made.columns)
    assert made["big"].tolist() == [0, 2**64 - 1, 2**63]
    assert made.meta["a"] == 3.0
    assert made.meta["c"] == [1, 2]
    for suffix in ("ecsv", "parquet", "vot"):
        assert larun.SourceCatalog.read(made.write(tmp_path / f"a.{suffix}")).identical(made)
    with pytest.raises(OptionError, match=r"a\.fits: FITS tables hold ASCII"):
        made.write(tmp_path / "a.fits")
    empty = larun.SourceCatalog.from_table(table[:0])
    assert len(empty) == 0
    for suffix in ("ecsv", "parquet", "vot"):
        assert larun.SourceCatalog.read(empty.write(tmp_path / f"e.{suffix}")).identical(empty)


def test_what_is_no_table(frame):
    pandas = pytest.importorskip("pandas")
    made = larun.SourceCatalog.from_table(pandas.DataFrame({"x": X, "y": Y, "name": ["a", "b", "c"]}))
    assert made.columns == ("id", "x", "y", "name")
    for wrong in (np.ones((3, 2)), {"x": [1]}, None, "stars.csv"):
        with pytest.raises(OptionError, match="is no table"):
            larun.SourceCatalog.from_table(wrong)
    with pytest.raises(OptionError, match="holds object"):
        larun.SourceCatalog.from_table(Table({"x": [1.0], "y": [1.0], "o": np.array([{}], object)}))
