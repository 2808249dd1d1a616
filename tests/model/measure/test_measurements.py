"""A series of catalogues as a measurement table of AstroImageJ."""

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import CatalogError, FileError, OptionError
from tests.model.measure.test_positions import CARDS

PLACES = np.array([[20.25, 15.5], [40.0, 40.75], [12.5, 44.0]])
FLUXES = np.array([2e4, 5e4, 3e4])
COUNT = 4

# Three stars are too few for their size: that is told, and not the matter here.
pytestmark = pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Four frames; the target fades by 0, 1, 2, 3 per cent."""
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(6)
    y, x = np.indices((60, 64))
    catalogs = []
    for number in range(COUNT):
        light = np.full((60, 64), 50.0)
        for (x0, y0), flux in zip(PLACES, FLUXES * [1 - 0.01 * number, 1, 1], strict=True):
            light += flux / (2 * np.pi * 2.25) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 4.5)
        cards = {
            **CARDS,
            "DATE-OBS": f"2024-05-13T05:0{number}:00",
            "EXPTIME": 30.0,
            "AIRMASS": 1.1 + 0.01 * number,
            "GAIN": 1.0,
            "RDNOISE": 5.0,
        }
        path = folder / f"star {number}.fits"
        fits.PrimaryHDU(rng.poisson(light).astype(np.float32), fits.Header(cards)).writeto(path)
        frame = larun.Frame.read(path).calibrate(without=("bias", "dark", "flat"))
        catalogs.append(frame.photometer(PLACES, (5.0, 7.0), unit="pixel", annulus=(9.0, 14.0)))
    return tuple(catalogs)


def test_the_columns_of_astroimagej(series, tmp_path):
    path = larun.write_measurements(tmp_path / "a.tbl", series)
    table = larun.read_measurements(path)
    assert len(table) == COUNT
    assert table["Label"].tolist() == [f"star {n}.fits" for n in range(COUNT)]
    assert table["slice"].tolist() == [1, 2, 3, 4]
    wanted = {
        "JD_UTC",
        "BJD_TDB",
        "J.D.-2400000",
        "AIRMASS",
        "EXPTIME",
        "Source_Radius",
        "Sky_Rad(min)",
        "Sky_Rad(max)",
    }
    wanted |= {"tot_C_cnts", "tot_C_err", "Saturated", "larun_flagged"}
    for star in ("T1", "C2", "C3"):
        wanted |= {f"{name}_{star}" for name in ("X(FITS)", "Y(FITS)", "X(IJ)", "Y(IJ)", "RA", "DEC", "Source-Sky")}
        wanted |= {f"{name}_{star}" for name in ("Source_Error", "Source_SNR", "Sky/Pixel", "N_Src_Pixels", "rel_flux")}
    assert not wanted - set(table.colnames)
    for index, star in enumerate(("T1", "C2", "C3")):
        column = [catalog["aperture_flux_1"].value[index] for catalog in series]
        assert table[f"Source-Sky_{star}"].tolist() == column
        errors = [catalog["aperture_flux_error_1"].value[index] for catalog in series]
        assert table[f"Source_Error_{star}"].tolist() == errors
        x, y = PLACES[index]
        np.testing.assert_array_equal(table[f"X(FITS)_{star}"].value, x + 1)
        np.testing.assert_array_equal(table[f"Y(FITS)_{star}"].value, y + 1)
        # Aperture_.java: X(FITS) = X(IJ) + 0.5 and Y(FITS) = height - Y(IJ) + 0.5
        np.testing.assert_array_equal(table[f"X(FITS)_{star}"].value, table[f"X(IJ)_{star}"].value + 0.5)
        np.testing.assert_array_equal(table[f"Y(FITS)_{star}"].value, 60 - table[f"Y(IJ)_{star}"].value + 0.5)
        ra = [catalog["ra"].to_value("hourangle")[index] for catalog in series]
        np.testing.assert_allclose(table[f"RA_{star}"].value, ra, rtol=1e-14)
    np.testing.assert_allclose(table["N_Src_Pixels_T1"], np.pi * 25)
    assert set(table["Source_Radius"].value) == {5.0}
    assert (table["Sky_Rad(min)"].value[0], table["Sky_Rad(max)"].value[0]) == (9.0, 14.0)


def test_times_are_mid_exposure_and_barycentric_for_the_target(series, tmp_path):
    table = larun.read_measurements(larun.write_measurements(tmp_path / "a.tbl", series))
    for number, catalog in enumerate(series):
        time = catalog.image.time
        assert table["JD_UTC"].value[number] == pytest.approx(time.jd_utc, abs=1e-9)
        target = catalog["ra"].to_value("deg")[0], catalog["dec"].to_value("deg")[0]
        assert table["BJD_TDB"].value[number] == pytest.approx(time.bjd_tdb(target), abs=1e-9)
        assert table["AIRMASS"][number] == pytest.approx(1.1 + 0.01 * number)
    assert table["EXPTIME"].value.tolist() == [30.0] * COUNT
    np.testing.assert_allclose(table["J.D.-2400000"].value + 2400000, table["JD_UTC"].value)


def test_relative_fluxes(series, tmp_path):
    table = larun.read_measurements(larun.write_measurements(tmp_path / "a.tbl", series))
    t1, c2, c3 = (np.asarray(table[f"Source-Sky_{star}"]) for star in ("T1", "C2", "C3"))
    e1, e2, e3 = (np.asarray(table[f"Source_Error_{star}"]) for star in ("T1", "C2", "C3"))
    np.testing.assert_allclose(table["rel_flux_T1"], t1 / (c2 + c3), rtol=1e-14)
    np.testing.assert_allclose(table["rel_flux_C2"], c2 / c3, rtol=1e-14)
    np.testing.assert_allclose(table["tot_C_cnts"], c2 + c3, rtol=1e-14)
    error = t1 / (c2 + c3) * np.sqrt((e1 / t1) ** 2 + (e2**2 + e3**2) / (c2 + c3) ** 2)
    np.testing.assert_allclose(table["rel_flux_err_T1"], error, rtol=1e-12)
    fading = np.asarray(table["rel_flux_T1"]) / (FLUXES[0] / FLUXES[1:].sum())
    np.testing.assert_allclose(
        fading, 1 - 0.01 * np.arange(COUNT), atol=5 * float((error / table["rel_flux_T1"]).max())
    )
    two = larun.read_measurements(larun.write_measurements(tmp_path / "b.tbl", series, targets=2, aperture=2))
    assert {"Source-Sky_T1", "Source-Sky_T2", "Source-Sky_C3"} <= set(two.colnames)
    np.testing.assert_allclose(two["rel_flux_T2"], np.asarray(two["Source-Sky_T2"]) / np.asarray(two["Source-Sky_C3"]))
    assert two["Source-Sky_T1"][0] == series[0]["aperture_flux_2"].value[0]
    assert set(two["Source_Radius"].value) == {7.0}
    alone = larun.read_measurements(larun.write_measurements(tmp_path / "c.tbl", series, targets=3))
    assert not [name for name in alone.colnames if name.startswith(("rel_flux", "tot_C"))]


def test_catalogues_that_were_read_have_times_but_no_image(series, tmp_path):
    read = [larun.SourceCatalog.read(one.write(tmp_path / f"{n}.parquet")) for n, one in enumerate(series)]
    table = larun.read_measurements(larun.write_measurements(tmp_path / "a.tbl", read))
    assert not [name for name in table.colnames if "(IJ)" in name]
    assert table["Label"].tolist() == [f"star {n}.fits" for n in range(COUNT)]
    pointed = [catalog.meta["bjd_tdb"] for catalog in series]
    np.testing.assert_allclose(table["BJD_TDB"].value, pointed, rtol=0, atol=1e-9)


def test_columns_and_labels_of_the_user(series, tmp_path):
    path = larun.write_measurements(
        tmp_path / "a.tbl",
        series,
        labels=list("abcd"),
        columns={"BJD_TDB": [1.0, 2.0, 3.0, 4.0], "Meridian_Flip": [0] * 4},
    )
    table = larun.read_measurements(path)
    assert table["Label"].tolist() == list("abcd")
    assert table["BJD_TDB"].value.tolist() == [1, 2, 3, 4]
    assert table["Meridian_Flip"].tolist() == [0] * 4
    for options in ({"labels": ["a"]}, {"columns": {"AIRMASS": [1.0]}}):
        with pytest.raises(OptionError, match="must have 4 values"):
            larun.write_measurements(tmp_path / "b.tbl", series, **options)


def test_stars_at_the_edge_and_flags_are_counted(series, tmp_path):
    frame = series[0].image
    flags = frame.flags.copy()
    flags[15, 20] |= larun.flags.SATURATED
    marked = frame.with_planes(flags=flags).photometer(PLACES, (5.0,), unit="pixel")
    outside = frame.photometer(np.array([[20.25, 15.5], [500.0, 40.0], [np.nan, 3.0]]), (5.0,), unit="pixel")
    table = larun.read_measurements(larun.write_measurements(tmp_path / "a.tbl", [marked, outside]))
    assert table["Saturated"].tolist() == [1, 0]
    assert table["larun_flagged"].tolist() == [1, 2]
    assert np.isnan(table["Source-Sky_C2"][1])
    assert np.isnan(table["rel_flux_T1"][1])
    assert np.isfinite(table["Source-Sky_T1"]).all()


def test_what_makes_no_series(series, tmp_path):
    path = tmp_path / "a.tbl"
    for catalogs, options, error, message in (
        ([], {}, OptionError, "no catalogues"),
        (
            [series[0], series[1].select(np.array([True, True, False]))],
            {},
            OptionError,
            "catalogue 2 .star 1.fits. has other",
        ),
        (series, {"aperture": 3}, CatalogError, "has 2 apertures"),
        (series, {"targets": 0}, OptionError, "targets=0: must be 1 … 3"),
        (series, {"targets": 4}, OptionError, "targets=4"),
        ([series[0].table], {}, OptionError, "is a QTable"),
        ([one.select(np.zeros(3, bool)) for one in series], {}, OptionError, "no sources"),
        ([series[0].image.detect()], {}, CatalogError, "has 0 apertures"),
    ):
        with pytest.raises(error, match=message):
            larun.write_measurements(path, catalogs, **options)
    assert not path.exists()
    larun.write_measurements(path, series)
    with pytest.raises(FileError, match="exists"):
        larun.write_measurements(path, series)
    larun.write_measurements(path, series[:2], overwrite=True)
    assert len(larun.read_measurements(path)) == 2
