import numpy as np
import pytest
from astropy import units
from astropy.table import Table

import larun
from larun import flags as fl
from larun.errors import CatalogError, OptionError
from larun.model.photometry.known import known_stars
from tests.conftest import real_data
from tests.model.photometry.conftest import EXPOSURE, TERM, ZERO, catalog_of, make_field


def test_zero_point_and_color_term_of_one_second(field):
    table, known = field
    found = catalog_of(table).zero_point(known, band="g", color="g-r", options={"pivot": 0.7})
    assert found.value == pytest.approx(ZERO, abs=3.5 * found.error)
    assert 0.0005 < found.error < 0.0012
    assert found.color_term == pytest.approx(TERM, abs=3.5 * found.color_term_error)
    assert (found.unit, found.system, found.exposure) == ("electron / s", "AB", EXPOSURE)
    assert found.at(0.9)[0] == pytest.approx(found.value + 0.2 * found.color_term)
    assert found.at(0.7) == pytest.approx((found.value, found.error))
    residual = found.stars["residual"].value / found.stars["sigma"].value
    assert np.nanstd(residual) == pytest.approx(1, abs=0.13)


def test_acceptance_30_saturated_variable_and_wrong_stars_are_rejected_with_the_reason(field):
    table, known = field
    table["peak"][:5] = 2 * table["peak"].max()
    table["flags"][:5] = fl.SATURATED
    table["mag_total"][:5] += 0.3 * units.mag
    table["flags"][5] = fl.EDGE
    table["flags"][6] = fl.COSMIC
    known["variable"][10:14] = True
    known["mag_g"][10:14] += 0.3 * units.mag
    known["mag_g"][20:25] += 0.6 * units.mag
    known["mag_g"][30] = np.nan * units.mag
    table["x"][41], table["y"][41] = table["x"][40] + 2 * units.pix, table["y"][40]
    table["mag_total_error"][50] = 0.2 * units.mag
    found = catalog_of(table).zero_point(known, band="g", color="g-r", options={"pivot": 0.7})
    reason = dict(zip(found.stars["id"] - 1, found.stars["reason"], strict=True))
    for rows, name in (
        (range(5), "saturated"),
        ([5], "edge"),
        ([6], "bad pixels"),
        (range(10, 14), "variable"),
        (range(20, 25), "outlier"),
        ([30], "no magnitude"),
        ([40, 41], "blended"),
        ([50], "too faint"),
    ):
        assert {reason[row] for row in rows} == {name}
    assert found.value == pytest.approx(ZERO, abs=3.5 * found.error)
    assert "saturated 5" in str(found)
    assert np.count_nonzero(~found.stars["used"]) < 26


def test_stars_nearly_as_bright_as_the_saturated_are_left_out(field):
    table, known = field
    bright = int(np.argmax(table["peak"]))
    table["flags"][bright] = fl.SATURATED
    table["peak"][7] = 0.95 * table["peak"][bright]
    found = catalog_of(table).zero_point(known, band="g")
    assert found.stars["reason"][7] == "near saturation"


def test_acceptance_30_common_errors_stay_apart_from_each_stars_own(field):
    table, known = field
    found = catalog_of(table).zero_point(known, band="g")
    assert np.array_equal(found.catalog["mag_g_error"].value, table["mag_total_error"].value)
    about = found.catalog.meta["zero_points"]["g"]
    assert about["error"] == found.error > 0
    assert about["aperture_correction_error"] == 0.004
    assert about["aperture_radius"] == 12.0
    assert found.catalog.table["mag_g"].info.meta["photometric_system"] == "AB"


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".parquet", ".vot"])
def test_a_calibrated_catalogue_is_written_and_read_identical(field, tmp_path, suffix):
    table, known = field
    made = catalog_of(table).zero_point(known, band="g", color="g-r").catalog
    again = larun.SourceCatalog.read(made.write(tmp_path / f"stars{suffix}"))
    assert again.identical(made)
    assert again.table["mag_g"].info.meta["photometric_system"] == "AB"


def test_another_catalogue_and_colors(field):
    table, known = field
    found = catalog_of(table).zero_point(known, band="g", color="g-r", options={"pivot": 0.7})
    colors = np.array((known["mag_g"] - known["mag_r"]).value)
    colors[3] = np.nan
    made = found.apply(catalog_of(table), colors=colors)
    step = made["mag_g"].value - found.catalog["mag_g"].value
    assert np.nanmax(np.abs(step - found.color_term * (colors - 0.7))) < 1e-12
    assert np.isnan(made["mag_g"][3])
    assert made.provenance.step.operation == "apply_zero_point"
    with pytest.raises(OptionError, match="one for each of 300 sources"):
        found.apply(catalog_of(table), colors=[0.5])


def test_extinction_and_a_frame_without_exposure_time(field):
    table, known = field
    plain = catalog_of(table).zero_point(known, band="g")
    outside = catalog_of(table).zero_point(known, band="g", options={"extinction": 0.2})
    assert outside.value - plain.value == pytest.approx(0.2 * 1.3)
    assert outside.catalog["mag_g"].value == pytest.approx(plain.catalog["mag_g"].value)
    del table.meta["exposure"]
    bare = catalog_of(table).zero_point(known, band="g")
    assert bare.unit == "electron"
    assert bare.value - plain.value == pytest.approx(2.5 * np.log10(EXPOSURE))
    assert bare.catalog["mag_g"].value == pytest.approx(plain.catalog["mag_g"].value)


def test_a_response_that_changes_over_the_frame(field):
    table, known = field
    table["mag_total"] += 0.1 * (table["x"].value - 1000) / 1000 * units.mag
    flat = catalog_of(table).zero_point(known, band="g")
    tilted = catalog_of(table).zero_point(known, band="g", options={"degree": 1})
    assert flat.scatter > 0.04
    assert tilted.scatter < 0.02
    off = tilted.catalog["mag_g"].value - known["mag_g"].value
    assert abs(np.polyfit(table["x"].value / 1000, off, 1)[0]) < 0.01


def test_limit_is_where_the_noise_is_a_fifth(field):
    table, known = field
    found = catalog_of(table).zero_point(known, band="g")
    flux = 0.5 * (25 + np.sqrt(625 + 100 * 400.0))  # of a star with 5 sigma above a noise of 20 electrons
    expected = -2.5 * np.log10(flux / EXPOSURE) - 0.2 + found.value
    assert found.limiting_magnitude() == pytest.approx(expected, abs=1e-6)
    assert found.limiting_magnitude(10.0) < found.limiting_magnitude() - 0.7
    with pytest.raises(OptionError, match="snr"):
        found.limiting_magnitude(0)


def test_what_the_record_keeps_is_enough(field):
    table, known = field
    far = known[:1].copy()
    far["ra"] += 3 * units.deg
    from astropy.table import vstack

    catalog = catalog_of(table)
    found = catalog.zero_point(vstack([known, far]), band="g", color="g-r")
    kept = found.provenance.step.parameters
    from larun.model.replay.calls import Functions, Input, carry_out

    parent = found.provenance.parents[0].provenance
    again = carry_out(found.provenance.step, [Input("self", parent.id, catalog)], Functions())
    assert again.catalog.identical(found.catalog)
    assert again.provenance.id == found.provenance.id
    assert kept["radius"] == pytest.approx(found.basis["radius"])
    assert kept["reference"]["ra"]["shape"] == [300]


def test_what_makes_no_sense_is_told(field):
    table, known = field
    catalog = catalog_of(table)
    with pytest.raises(OptionError, match="no magnitudes in z; its bands are g, r"):
        catalog.zero_point(known, band="z")
    with pytest.raises(OptionError, match="two bands"):
        catalog.zero_point(known, band="g", color="gr")
    with pytest.raises(OptionError, match="degree"):
        catalog.zero_point(known, band="g", options={"degree": 9})
    with pytest.raises(OptionError, match="no reference catalogue"):
        catalog.zero_point(3, band="g")
    with pytest.raises(OptionError, match="radius"):
        catalog.zero_point(known, band="g", radius=-1)
    shifted = known.copy()
    shifted["ra"] += 40 * units.arcsec
    shifted["dec"] += 17 * units.arcsec
    with pytest.raises(CatalogError, match="WCS is right"):
        catalog.zero_point(shifted, band="g", radius=0.1)
    del table["mag_total"]
    with pytest.raises(CatalogError, match="photometer"):
        catalog_of(table).zero_point(known, band="g")
    known["variable"] = True
    with pytest.raises(CatalogError, match="variable 300"):
        catalog.zero_point(known, band="g")


def test_negative_right_ascensions_and_errors_that_nobody_knows():
    table, known = make_field(n=30)
    known["ra"] -= 360 * units.deg
    known["mag_g_error"][0] = np.nan * units.mag
    stars = known_stars(known, ("g",), table["ra"].value, table["dec"].value, None)
    assert stars.ra.min() > 149
    first = np.argsort(known["ra"])[0]
    lost = np.flatnonzero(np.argsort(known["ra"]) == 0)
    assert np.flatnonzero(np.isnan(stars.magnitudes["g"])).tolist() == lost.tolist()
    assert stars.ra[0] == pytest.approx(known["ra"][first].value + 360)


@pytest.mark.parametrize("suffix", [".ecsv", ".csv", ".parquet", ".fits"])
def test_a_file_of_any_format_and_order_gives_the_same_record(field, tmp_path, suffix):
    table, known = field
    path = tmp_path / f"refcat{suffix}"
    name, systems = known.meta["name"], known.meta["systems"]
    shuffled = known[np.random.default_rng(5).permutation(len(known))]
    shuffled.meta = {}
    Table(shuffled).write(path)
    expected = catalog_of(table).zero_point(known, band="g", color="g-r")
    found = catalog_of(table).zero_point(
        larun.ReferenceCatalog.open(path, name=name, systems=systems), band="g", color="g-r"
    )
    assert found.provenance.id == expected.provenance.id
    assert found.catalog.identical(expected.catalog)
    by_name = catalog_of(table).zero_point(str(path), band="g", color="g-r")
    assert by_name.value == expected.value
    assert by_name.basis["reference"] == path.name


def test_stars_are_moved_to_the_exposure(field):
    """It is of 2023: after 23 years stars with 0.3 arcsec a year are 7 arcsec away."""
    table, known = field
    for name, speed in (("ra", 300.0), ("dec", -200.0)):
        known[f"pm{name}"] = np.full(len(known), speed)
        scale = np.cos(np.radians(known["dec"].value)) if name == "ra" else 1.0
        known[name] -= speed / 3.6e6 * 23.1526 / scale * units.deg
    known["epoch"] = 2000.0
    found = catalog_of(table).zero_point(known, band="g", radius=0.5)
    assert np.count_nonzero(found.stars["used"]) > 280
    assert np.median(found.stars["separation"].to_value("arcsec")) < 0.05


@pytest.fixture(scope="module")
def sdss_reference():
    return larun.ReferenceCatalog.open(real_data("sdss", "reference-catalog.fits.gz"), systems="AB")


@pytest.mark.parametrize("band", ["g", "r"])
def test_two_epochs_of_sdss_agree(sdss_reference, band):
    """The size of stars changes over the frames in r: an aperture of 2.5 FWHM and a polynomial take that out."""
    made = []
    for name in (f"fpC-004192-{band}4-0300.fit.gz", f"fpC-006377-{band}4-0399.fit.gz"):
        frame = larun.Frame.read(real_data("sdss", name))
        catalog = frame.calibrate([]).detect().photometer()
        found = catalog.zero_point(sdss_reference, band=band, color="g-r")
        stars = found.stars[found.stars["used"]]
        middle = (stars["reference"] > 15 * units.mag) & (stars["reference"] < 19 * units.mag)
        residual = stars["residual"][middle].value
        assert len(residual) >= 20
        assert 1.4826 * np.median(np.abs(residual - np.median(residual))) <= 0.03
        assert found.color_term_error < 0.012
        header = 20 + 2.5 * np.log10(frame.header["FLUX20"] * frame.detector.amplifiers[0].gain / EXPOSURE_SDSS)
        assert found.value == pytest.approx(header, abs=0.05)
        made.append(catalog.zero_point(sdss_reference, band=band, magnitude="mag_3", options={"degree": 2, "snr": 30}))
    one, two = made
    pairs = one.catalog.match(two.catalog, radius=1 * units.arcsec)
    used = [set(item.stars["id"][item.stars["used"]]) for item in made]
    both = [a in used[0] and b in used[1] for a, b in zip(pairs.catalog["id"], pairs.other["id"], strict=True)]
    away = (pairs.catalog[f"mag_{band}"] - pairs.other[f"mag_{band}"]).value[both]
    error = np.hypot(pairs.catalog[f"mag_{band}_error"].value, pairs.other[f"mag_{band}_error"].value)[both]
    assert len(away) >= 25
    assert 0.6 < 1.4826 * np.median(np.abs(away / error)) < 1.5
    assert abs(np.median(away)) < 3 * np.hypot(one.error, two.error)


EXPOSURE_SDSS = 53.907456
