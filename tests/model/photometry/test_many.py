import numpy as np
import pytest
from astropy import units

import larun
from larun.errors import OptionError
from larun.model.replay.calls import Functions, Input, carry_out
from tests.model.photometry.conftest import ZERO, catalog_of, make_field

K = 0.18


def night(frames=8, **options):
    made = []
    for number in range(frames):
        airmass = 1.05 + 0.1 * number
        table, known = make_field(seed=number + 1, n=120, zero=ZERO - K * airmass, **options)
        table.meta |= {"airmass": airmass, "jd_utc": 2460000.6 + 0.03 * number}
        made.append(catalog_of(table))
    return made, known


def test_a_night_has_one_color_term_and_its_extinction():
    catalogs, known = night()
    found = larun.zero_points(catalogs, known, band="g", color="g-r", options={"pivot": 0.7})
    assert len({frame.color_term for frame in found.frames}) == 1
    assert found.frames[0].color_term == pytest.approx(0.05, abs=3.5 * found.frames[0].color_term_error)
    (air,) = found.extinctions
    assert air.coefficient == pytest.approx(K, abs=3.5 * air.error)
    assert air.error < 0.004
    assert air.zero_point == pytest.approx(ZERO, abs=0.006)
    steps = np.diff(found.table["zero_point"].value)
    assert steps == pytest.approx(-0.1 * K, abs=0.006)
    assert found.nights == (0,) * 8


def test_more_frames_of_the_same_stars_do_not_make_the_level_surer():
    few, known = night(2, reference_error=0.03, noise=0.002)
    many, _ = night(8, reference_error=0.03, noise=0.002)
    one, eight = (larun.zero_points(group, known, band="g").frames[0].error for group in (few, many))
    assert eight == pytest.approx(one, rel=0.2)
    assert eight > 0.0025


def test_the_order_of_frames_changes_no_bit_and_a_record_makes_each_again():
    catalogs, known = night(3)
    there = larun.zero_points(catalogs, known, band="g", color="g-r")
    back = larun.zero_points(catalogs[::-1], known, band="g", color="g-r")
    for one, two in zip(there.frames, back.frames[::-1], strict=True):
        assert one.catalog.identical(two.catalog)
    record = there.frames[1].provenance
    objects = {catalog.provenance.id: catalog for catalog in catalogs}
    inputs = [Input(p.role, p.provenance.id, objects[p.provenance.id]) for p in record.parents]
    again = carry_out(record.step, inputs, Functions())
    assert again.catalog.identical(there.frames[1].catalog)


def test_nights_are_told_apart_and_instruments_too():
    catalogs, known = night(4)
    tables = [catalog.table for catalog in catalogs]
    for table in tables[2:]:
        table.meta["jd_utc"] += 1.0
        table["mag_total"] -= 0.1 * (known["mag_g"] - known["mag_r"]).value * units.mag
    found = larun.zero_points(
        list(map(catalog_of, tables)), known, band="g", color="g-r", instruments=["a", "a", "b", "b"]
    )
    assert found.nights == (0, 0, 1, 1)
    assert found.extinctions == ()
    terms = [frame.color_term for frame in found.frames]
    assert terms[0] == terms[1] == pytest.approx(0.05, abs=0.012)
    assert terms[2] == terms[3] == pytest.approx(0.15, abs=0.012)


def test_what_makes_no_sense_is_told():
    catalogs, known = night(1)
    with pytest.raises(OptionError, match="given twice"):
        larun.zero_points(catalogs * 2, known, band="g")
    with pytest.raises(OptionError, match="one for each"):
        larun.zero_points([], known, band="g")
