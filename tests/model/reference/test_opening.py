import bz2
import gzip

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table

import larun
from larun.errors import CatalogError, FileError, OptionError
from larun.model.reference.opening import reference_stars
from tests.conftest import real_data

OPEN = larun.ReferenceCatalog.open


def gaia(n=200, seed=3):
    """As the Gaia archive gives it."""
    rng = np.random.default_rng(seed)
    made = Table()
    made["source_id"] = rng.integers(1, 2**62, n)
    made["ref_epoch"] = 2016.0
    made["ra"] = (rng.uniform(-1, 1, n)) % 360
    made["dec"] = rng.uniform(-1, 1, n)
    made["pmra"], made["pmdec"] = rng.normal(0, 20, (2, n))
    made["parallax"] = rng.exponential(1, n)
    made["phot_g_mean_mag"] = rng.uniform(10, 20, n)
    made["phot_g_mean_flux_over_error"] = rng.uniform(100, 1000, n)
    made["phot_bp_mean_mag"] = rng.uniform(10, 20, n)
    made["phot_variable_flag"] = np.where(np.arange(n) % 10, "NOT_AVAILABLE", "VARIABLE")
    for name, unit in (("ra", "deg"), ("dec", "deg"), ("pmra", "mas/yr"), ("pmdec", "mas/yr"), ("parallax", "mas")):
        made[name].unit = unit
    return made


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".csv", ".parquet", ".vot", ".tsv", ".dat"])
def test_files_of_every_format_hold_the_same_stars(suffix, tmp_path):
    table = gaia()
    path = tmp_path / f"gaia{suffix}"
    formats = {".vot": "votable", ".tsv": "ascii.tab", ".dat": "ascii.commented_header", ".csv": "ascii.csv"}
    if suffix == ".dat":
        table.write(path, format="ascii.basic")
    else:
        table.write(path, format=formats.get(suffix))
    found, expected = OPEN(path), OPEN(table, name="gaia" + suffix)
    assert found.columns == expected.columns
    for name in found.columns:
        assert np.array_equal(found[name], expected[name]), name
    assert found.digest == expected.digest
    assert found.name == f"gaia{suffix}"
    assert found.systems == {"G": "Vega", "BP": "Vega"}
    assert found["mag_G_error"].value == pytest.approx(1.0857362 / table["phot_g_mean_flux_over_error"])
    assert np.flatnonzero(found["variable"]).tolist() == list(range(0, 200, 10))
    assert OPEN(str(path)).digest == found.digest


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("suffix", [".fits", ".csv"])
def test_compressed_files_are_read(pack, suffix, tmp_path):
    gaia().write(tmp_path / f"plain{suffix}")
    packed = tmp_path / f"packed{suffix}.z"
    packed.write_bytes(pack((tmp_path / f"plain{suffix}").read_bytes()))
    assert OPEN(packed).digest == OPEN(gaia()).digest


def test_data_frames_and_sky_coordinates():
    pandas = pytest.importorskip("pandas")
    table = gaia()
    assert OPEN(pandas.DataFrame({name: np.array(table[name]) for name in table.colnames})).digest == OPEN(table).digest
    place = SkyCoord(table["ra"], table["dec"], frame="icrs").galactic
    made = OPEN(QTable({"coord": place, "mag_V": table["phot_g_mean_mag"]}))
    assert made["ra"].to_value("deg") == pytest.approx(np.array(table["ra"]), abs=1e-9)
    assert made.bands == ("V",)


def test_null_of_the_gaia_archive_is_no_value(tmp_path):
    path = tmp_path / "gaia.csv"
    path.write_text("source_id,ra,dec,pmra,pmdec,phot_g_mean_mag\n1,10.5,-3,null,null,12.5\n2,10.6,-3,1.5,2.5,null\n")
    found = OPEN(path, epoch=2016)
    assert np.isnan(found["pmra"].value).tolist() == [True, False]
    assert np.isnan(found["mag_G"].value).tolist() == [False, True]


@pytest.mark.parametrize(
    ("names", "bands", "errors"),
    [
        ("RAJ2000 DEJ2000 _2MASS Jmag e_Jmag Hmag e_Hmag Kmag e_Kmag Qflg", {"J", "H", "K"}, {"J", "H", "K"}),
        ("ra dec designation j_m j_msigcom h_m h_msigcom k_m k_msigcom", {"J", "H", "K"}, {"J", "H", "K"}),
        ("objID raMean decMean gMeanPSFMag gMeanPSFMagErr yMeanPSFMag yMeanPSFMagErr", {"g", "y"}, {"g", "y"}),
        ("RAJ2000 DEJ2000 objID gmag e_gmag gKmag rmag e_rmag rKmag", {"g", "r"}, {"g", "r"}),
        ("objid RA Dec Gaia dGaia BP dBP g dg gchi r1 r10 r dr J dJ dupvar", {"G", "BP", "g", "r", "J"}, set("GgrJ")),
        ("RA_ICRS DE_ICRS Source Gmag e_Gmag BPmag e_BPmag gmag e_gmag", {"G", "BP", "g"}, {"G", "BP", "g"}),
        ("ra dec psfMag_u psfMagErr_u psfMag_r psfMagErr_r type", {"u", "r"}, {"u", "r"}),
        ("ra dec u u_err g g_err starnotgal", {"u", "g"}, {"u", "g"}),
        ("ra dec mag_V mag_V_error mag_Ha", {"V", "Ha"}, {"V"}),
        ("id x y y_error ra dec r r_err", {"r"}, {"r"}),
        ("ra dec z z_err y y_err", {"z", "y"}, {"z", "y"}),
        ("recno RAJ2000 DEJ2000 Vmag e_Vmag Bmag e_Bmag g'mag e_g'mag", {"V", "B", "g"}, {"V", "B", "g"}),
    ],
)
def test_names_of_surveys_are_known(names, bands, errors):
    found = OPEN(Table({name: [3 if name == "type" else 5.0] for name in names.split()}))
    assert set(found.bands) == bands
    assert {name[4:-6] for name in found.columns if name.endswith("_error")} >= errors
    assert (found["ra"].value, found["dec"].value) == (5.0, 5.0)


def test_numbers_that_say_none_and_masks_are_nan():
    table = Table({"ra": [1.0, 2.0, 3.0, np.nan], "dec": [0.0, 0, 0, 0], "g": [-999.0, 12, 99.99, 1]})
    table["g_err"] = MaskedColumn([0.1, 0.1, -999.0, 0.1], mask=[False, True, False, False])
    found = OPEN(table)
    assert len(found) == 3
    assert np.isnan(found["mag_g"].value).tolist() == [True, False, True]
    assert np.isnan(found["mag_g_error"].value).tolist() == [False, True, True]


def test_columns_systems_and_epoch_are_given():
    table = Table({"col1": [10.0], "col2": [5.0], "x": [14.2], "s": [0.01], "pmRA": [100.0], "pmDE": [0.0]})
    given = {"ra": "col1", "dec": "col2", "mag_r": "x", "mag_r_error": "s"}
    found = OPEN(table, columns=given, systems="AB", epoch=2000.0, name="mine")
    assert (found.name, found.systems, found["epoch"].value) == ("mine", {"r": "AB"}, 2000.0)
    assert repr(found) == "<ReferenceStars mine: 1 stars, bands r>"
    assert OPEN(table, columns=given, systems={"r": "Vega"}, epoch=2000.0).systems == {"r": "Vega"}


def test_colors_make_bands():
    table = Table({"RA": ["13:25:49.6", "15 13 10.0"], "Dec": ["-08:50:24", "+05 32 00"], "Vmag": [12.0, 13.0]})
    table["B-V"], table["V-R"], table["R-I"], table["e_Vmag"], table["e_B-V"] = 0.5, 0.3, 0.2, 0.003, 0.004
    found = OPEN(table)
    assert found["ra"].value == pytest.approx([201.45667, 228.29167], abs=1e-5)
    assert found["dec"].value == pytest.approx([-8.84, 5.53333], abs=1e-5)
    for band, value in (("B", 12.5), ("R", 11.7), ("I", 11.5)):
        assert found[f"mag_{band}"][0].value == pytest.approx(value)
    assert found["mag_B_error"][0].value == pytest.approx(0.005)
    assert found.systems["B"] == "Vega"


def test_the_file_of_sdss_with_negative_degrees():
    path = real_data("sdss", "reference-catalog.fits.gz")
    found = OPEN(path, systems="AB")
    assert len(found) == 28196
    assert found.bands == ("u", "g", "r", "i", "z")
    assert 350 <= found["ra"].value.min() < found["ra"].value.max() < 354.1
    listed = Table.read(path)
    assert np.array_equal(found["extended"], np.asarray(listed["starnotgal"]) == 0)
    near = found.cone(351.5, 0.2, 0.1)
    inside = SkyCoord(listed["ra"] % 360, listed["dec"], unit="deg").separation(SkyCoord(351.5, 0.2, unit="deg")).deg
    assert len(near) == np.count_nonzero(inside <= 0.1) > 50


def test_a_cone_at_zero_and_at_the_poles(rng):
    ra, dec = rng.uniform(0, 360, 50000), np.degrees(np.arcsin(rng.uniform(-1, 1, 50000)))
    stars = OPEN(Table({"ra": ra - 360 * (rng.random(50000) > 0.5), "dec": dec, "V": np.arange(50000) / 5000}))
    for lon, lat, radius in ((0, 0, 3), (359.9, 88, 4), (12, -90, 2), (-5, 30, 2.5), (77, 0, 180)):
        expected = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(lon, lat, unit="deg")).deg <= radius
        assert np.array_equal(stars.cone(lon, lat, radius)["mag_V"].value, np.arange(50000)[expected] / 5000)


def test_motion_to_the_exposure_and_back_again():
    """Barnard's star, against astropy's own (which counts the radial velocity only if it is given)."""
    from astropy.time import Time

    table = Table({"ra": [269.4485], "dec": [4.73942], "pmra": [-801.551], "pmdec": [10362.394], "V": [9.5]})
    stars = OPEN(table, epoch=2016.0)
    there = stars.at(2050.0)
    start = Time(2016.0, format="jyear", scale="tdb")
    place = SkyCoord(
        269.4485 * units.deg, 4.73942 * units.deg, distance=1000 * units.pc,
        pm_ra_cosdec=-801.551 * units.mas / units.yr, pm_dec=10362.394 * units.mas / units.yr, obstime=start,
    )  # fmt: skip
    with pytest.warns(match="dubious|distance"):
        expected = place.apply_space_motion(Time(2050.0, format="jyear", scale="tdb"))
    assert SkyCoord(there["ra"], there["dec"]).separation(expected).to_value("mas")[0] < 30  # of 353 arcsec
    back = there.at(2016.0)
    assert SkyCoord(back["ra"], back["dec"]).separation(SkyCoord(stars["ra"], stars["dec"])).to_value("mas")[0] < 1.2
    assert there["epoch"].value == 2050.0


def test_parallax_moves_a_star_over_the_year():
    table = Table({"ra": [270.0], "dec": [66.56], "parallax": [100.0], "V": [9.5]})
    stars = OPEN(table)
    places = [SkyCoord(found["ra"], found["dec"])[0] for found in (stars.at(2020 + f) for f in (0.0, 0.25, 0.5, 0.75))]
    for one, two in ((0, 2), (1, 3)):  # at the pole of the ecliptic it goes round in a circle
        assert places[one].separation(places[two]).to_value("mas") == pytest.approx(200, rel=0.02)
    assert "parallax" not in stars.at(2020.0).columns
    assert stars.at(2020.0, parallax=False) is stars


def test_motion_without_an_epoch_is_refused():
    table = Table({"ra": [1.0], "dec": [2.0], "pmra": [5.0], "pmdec": [5.0], "V": [9.5]})
    with pytest.raises(CatalogError, match=r"epoch=… \(a Julian year: 2016.0 for Gaia DR3"):
        OPEN(table).at(2020)
    table["ra"].description = "Right ascension (ICRS) at Ep=2015.5"
    assert OPEN(table)["epoch"].value == 2015.5
    table["epochMean"] = 1.0
    table.rename_column("epochMean", "epoch")
    table["epoch"] = 56000.0
    assert OPEN(table)["epoch"].value == pytest.approx(2012.2, abs=0.02)


def test_a_record_is_enough():
    stars = OPEN(gaia())
    again = larun.ReferenceStars.from_record(stars.to_record())
    assert all(np.array_equal(again[name], stars[name], equal_nan=name != "id") for name in stars.columns)
    assert (again.name, again.digest, again.systems) == (stars.name, stars.digest, stars.systems)
    assert again.at(2024.0).cone(0, 0, 0.5).digest == stars.digest


def test_stars_are_selected_and_never_changed():
    stars = OPEN(gaia())
    bright = stars.select("mag_G < 15 and not variable")
    assert 0 < len(bright) < 200
    assert bright["mag_G"].value.max() < 15
    stars.table["ra"][:] = 0 * units.deg
    stars["ra"][:] = 0 * units.deg
    assert stars["ra"].value.any()
    with pytest.raises(OptionError, match="booleans"):
        stars.select(np.arange(3))
    with pytest.raises(CatalogError, match="no column 'mag_V'"):
        stars["mag_V"]


def test_stars_of_a_field_do_not_depend_on_the_order_of_rows():
    table = gaia()
    one = reference_stars(table, 0.0, 0.0, 0.5, 2024.5)
    two = reference_stars(table[::-1], 0.0, 0.0, 0.5, 2024.5)
    assert len(one) > 20
    assert np.array_equal(one["id"], two["id"])
    assert np.array_equal(one["ra"], two["ra"])
    # a star outside at its epoch, inside at the exposure
    fast = Table({"ra": [0.5005], "dec": [0.0], "pmra": [-1000.0], "pmdec": [0.0], "V": [9.5], "epoch": [2000.0]})
    assert len(reference_stars(fast, 0.0, 0.0, 0.5, 2020.0)) == 1
    assert len(reference_stars(fast, 0.0, 0.0, 0.5, None)) == 0


def test_what_is_wrong_is_told_with_file_and_column(tmp_path):
    path = tmp_path / "stars.csv"
    path.write_text("alpha,delta,V\n1,2,3\n")
    with pytest.raises(OptionError, match=r"stars.csv: no column for ra and dec among alpha, delta, V: .*columns="):
        OPEN(path)
    with pytest.raises(OptionError, match=r"stars.csv: no column 'RAJ2000' for ra; there are alpha"):
        OPEN(path, columns={"ra": "RAJ2000"})
    with pytest.raises(OptionError, match="'glon' is nothing that is kept"):
        OPEN(path, columns={"glon": "alpha"})
    path.write_text("ra,dec,V\n1,95,3\n")
    with pytest.raises(OptionError, match=r"stars.csv: column 'dec' has 95, which is no declination"):
        OPEN(path)
    path.write_text("ra,dec,V\n9999,5,3\n")
    with pytest.raises(OptionError, match=r"column 'ra' has 9999"):
        OPEN(path)
    path.write_text("ra,dec,V\nnorth,5,3\n")
    with pytest.raises(OptionError, match=r"column 'ra' is no angle"):
        OPEN(path)
    path.write_text("ra,dec,V\n1,5,3\n")
    with pytest.raises(OptionError, match="systems Johnson"):
        OPEN(path, systems="Johnson")
    with pytest.raises(OptionError, match="systems for g: bands are V"):
        OPEN(path, systems={"g": "AB"})
    with pytest.raises(OptionError, match="epoch"):
        OPEN(path, epoch=51544.5)
    with pytest.raises(OptionError, match="no option cash"):
        OPEN(path, cash="x")
    with pytest.raises(FileError, match="does not exist"):
        OPEN(tmp_path / "none.fits")
    with pytest.raises(OptionError, match="a int is no reference catalogue"):
        OPEN(3)
    with pytest.raises(OptionError, match="is open already"):
        OPEN(OPEN(path), epoch=2000.0)
    table = QTable({"ra": [1.0] * units.m, "dec": [1.0] * units.deg})
    with pytest.raises(OptionError, match="table: column 'ra' is in m"):
        OPEN(table)


def test_files_that_are_no_tables_are_told(tmp_path):
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "image.fits")
    with pytest.raises(FileError, match=r"image.fits: there is no table"):
        OPEN(tmp_path / "image.fits")
    (tmp_path / "junk.csv").write_bytes(b"\x00\x01\x02" * 50)
    with pytest.raises(FileError, match="no table that is known"):
        OPEN(tmp_path / "junk.csv")
    gaia().write(tmp_path / "g.fits")
    whole = (tmp_path / "g.fits").read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[:9000])
    with pytest.raises(FileError, match=r"cut.fits"):
        OPEN(tmp_path / "cut.fits")


#: The example in the description of ATLAS-RefCat2, then one star that Gaia did not measure in BP and that varies.
RC2 = """\
28000001672,-1967818581,98,10,114,16,-1460,15,15884,1,16472,10,15137,1,4729,895,2,1234,50,50,999,16657,3,40,1f,15915,12,\
41,3f,15578,10,49,0f,15346,12,0,06,0,14105,36,13609,37,13425,42
28000100000,-1967900000,0,0,0,0,0,0,15000,1,0,0,15137,1,4729,895,1,1234,50,50,999,0,0,40,1f,15915,12,\
41,3f,15578,10,49,0f,15346,12,0,06,0,14105,36,13609,37,13425,42
"""
PSC = (
    "10.684737 41.269035 0.08 0.07 87 00424433+4116085 9.453 0.051 0.052 5385.6 8.668 0.050 0.051 5089.9 8.475 \\N "
    "\\N 3684.8 EEE 222 111 000 556655 15 3 9 2 0 1 n 1998 1 121.1 -21.5 1 2 1 1 1 9 0 9 0 9 0 1 1 nw 0 1 0 \\N \\N "
    "\\N \\N 0 \\N 1 2 3"
).replace(" ", "|")


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_whole_surveys_are_read_as_they_are_handed_out(packed, tmp_path):
    def write(name, text):
        path = tmp_path / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        return path

    files = [write("280-20.rc2", RC2), write("psc_aaa", f"{PSC}\n{PSC.replace('10.68', '11.68')}\n")]
    refcat, tmass = (
        [OPEN(path), larun.ReferenceStore.build(path, tmp_path / f"{path.name}-store").cone(*place, 2.0)]
        for path, place in zip(files, ((280.0, -19.67), (11.0, 41.27)), strict=True)
    )
    for stars in refcat:
        assert stars["ra"].value[0] == 280.00001672
        assert stars["dec"].value[0] == -19.67818581
        assert (stars["parallax"].value[0], stars["pmdec"].value[0]) == (0.98, -14.6)
        assert (stars["mag_G"].value[0], stars["mag_g_error"].value[0], stars["mag_K"].value[0]) == (
            15.884,
            0.003,
            13.425,
        )
        assert stars["variable"].tolist() == [False, True]
        assert np.isnan(stars["mag_BP"].value).tolist() == [False, True]
        assert set(stars.bands) == {"G", "BP", "RP", "g", "r", "i", "z", "J", "H", "K"}
        assert stars["epoch"].value.tolist() == [2015.5, 2015.5]
    for stars in tmass:
        assert stars["id"][0] == "00424433+4116085"
        assert stars["mag_J"].value.tolist() == [9.453, 9.453]
        assert np.isnan(stars["mag_K_error"].value).all()
        assert not stars["extended"].any()
        assert stars.systems == {"J": "Vega", "H": "Vega", "K": "Vega"}


def test_a_calibrated_catalogue_is_a_reference(tmp_path):
    from tests.model.photometry.conftest import catalog_of, make_field

    table, known = make_field(n=40)
    made = catalog_of(table).zero_point(known, band="g").catalog
    for what in (made, made.write(tmp_path / "made.ecsv"), made.write(tmp_path / "made.fits")):
        stars = OPEN(what)
        assert stars.bands == ("g",)
        assert len(stars) == 40
    assert OPEN(made).systems == {"g": "AB"}


def test_a_file_with_the_name_of_a_service_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gaia().write("gaia", format="ascii.csv")
    assert len(OPEN("gaia")) == 200
