"""Light curves in the formats of others: read back, the numbers are those of the light curve."""

import numpy as np
import pytest

import larun
from larun.errors import FileError, OptionError
from larun.model.curves.formats import write_as
from tests.model.curves.test_transit import night


@pytest.fixture
def curve():
    made = night(1)[0]
    rows = made.table
    rows["x"], rows["y"] = 10.0 * rows["x"].unit, 20.0 * rows["y"].unit
    rows["flags"][3] = 8
    return larun.LightCurve(table=rows, provenance=made.provenance)


def test_aavso_lines_are_magnitudes_about_the_ensemble(curve, tmp_path):
    path = curve.write_aavso(tmp_path / "a.txt", name="TrES-1, b\n#x", observer="ABC", band="V")
    lines = path.read_text().splitlines()
    assert lines[0] == "#TYPE=EXTENDED"
    assert "#DATE=JD" in lines
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    assert len(rows) == 139  # the flagged point is not there
    assert {len(row) for row in rows} == {15}
    assert rows[0][0] == "TrES-1  b  x"
    assert rows[0][4:8] == ["V", "NO", "DIF", "ENSEMBLE"]
    flux = np.asarray(curve.curve()["flux"])
    assert float(rows[0][2]) == pytest.approx(-2.5 * np.log10(flux[0]), abs=1e-4)
    assert float(rows[0][1]) == pytest.approx(curve.time()[0], abs=1e-6)
    with pytest.raises(FileError, match="exists"):
        curve.write_aavso(path, name="a", observer="b", band="c")
    curve.write_aavso(path, name="a", observer="b", band="c", magnitude=11.8, overwrite=True)
    first = next(line for line in path.read_text().splitlines() if not line.startswith("#")).split(",")
    assert first[6] == "STD"
    assert float(first[2]) == pytest.approx(11.8 - 2.5 * np.log10(flux[0]), abs=1e-4)
    with pytest.raises(OptionError, match="observer"):
        curve.write_aavso(tmp_path / "b.txt", name="a", observer="\n", band="c")


def test_exoclock_has_three_columns_and_says_what_the_time_is(curve, tmp_path):
    path = curve.write_exoclock(tmp_path / "a.txt")
    assert "BJD_TDB" in path.read_text()
    values = np.loadtxt(path)
    assert values.shape == (139, 3)
    good = curve.good()
    assert values[:, 0] == pytest.approx(curve.time()[good], abs=1e-8)
    assert values[:, 1] == pytest.approx(np.asarray(curve.curve()["flux"])[good], abs=1e-6)


def test_astroimagej_reads_it(curve, tmp_path):
    path = curve.write_measurements(tmp_path / "a.tbl")
    table = larun.read_measurements(path)
    assert len(table) == 140
    assert np.asarray(table["rel_flux_T1"]) == pytest.approx(np.asarray(curve.curve()["flux"]))
    assert np.asarray(table["BJD_TDB"].value) == pytest.approx(curve.time(), abs=1e-9)
    assert float(table["X(FITS)_T1"][0].value) == 11
    with pytest.raises(OptionError, match="must be one of"):
        write_as(curve, "magic", tmp_path / "x", {}, overwrite=False)
