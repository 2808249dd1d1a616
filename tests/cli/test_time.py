"""The time of an exposure where a user meets it: info, ls, the summary of a night, catalogues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time, TimeDelta

import larun as package
from larun.simulate import NightTruth
from tests.cli.conftest import Ended, Larun


def middle(path: Path) -> str:
    """By another way: astropy on DATE-OBS and EXPTIME."""
    header = fits.getheader(path)
    begin = Time(header["DATE-OBS"], scale="utc")
    return str((begin + TimeDelta(header["EXPTIME"] / 2, format="sec")).isot)


def test_ls_json_has_the_middle(larun: Larun, night: NightTruth) -> None:
    rows = json.loads(larun("ls", night.folder, "--json").out)
    assert len(rows) > 10
    assert {row["path"]: row["mid_time"] for row in rows} == {row["path"]: middle(Path(row["path"])) for row in rows}


def test_info_says_when_where_and_what_is_doubtful(larun: Larun, tmp_path: Path) -> None:
    cards = {"DATE-OBS": "2013-09-01", "UT": "06:02:55.75", "MJD-OBS": 56536.0, "EXPTIME": 200.0, "AIRMASS": 1.57}
    cards |= {"RA": "02:51:16.686", "DEC": "-00:00:04.698", "OBS-LONG": -70.81489, "OBS-LAT": -30.16606}
    fits.PrimaryHDU([[1, 2], [3, 4]], fits.Header(cards)).writeto(tmp_path / "a.fits")
    shown = larun("info", tmp_path / "a.fits").out
    assert "2013-09-01T06:04:35.750 UTC" in shown
    assert "42.8195" in shown
    assert "1.570" in shown
    assert "MJD-OBS = 56536.0 has no time of day" in " ".join(shown.split())
    time = json.loads(larun("info", tmp_path / "a.fits", "--json").out)["time"]
    frame = package.Frame.read(tmp_path / "a.fits")
    assert time["bjd_tdb"] == frame.time.bjd_tdb()
    assert f"{time['bjd_tdb']:.6f}" in shown
    assert time["site"] == pytest.approx([-70.81489, -30.16606, 0.0])
    assert time["sources"]["start"] == "DATE-OBS = '2013-09-01', UT = '06:02:55.75'"
    fits.setval(tmp_path / "a.fits", "DATE-OBS", value="tomorrow")
    shown = larun("info", tmp_path / "a.fits").out
    assert "JD UTC" not in shown


def test_a_reduced_night_tells_the_middle_of_every_frame(reduced: tuple[Path, Ended], night: NightTruth) -> None:
    out, ended = reduced
    summary = Table.read(out / "summary.ecsv")
    rows = {row["name"]: row for row in summary if row["kind"] == "science"}
    assert len(rows) > 1
    assert "mid UTC" in ended.out
    for name, row in rows.items():
        expected = middle(night.folder / f"{name}.fits")
        assert row["mid_time"] == expected
        assert expected[11:19] in ended.out
        meta = package.SourceCatalog.read(out / "catalogs" / f"{name}.ecsv").meta
        assert meta["mid_time"] == expected
        assert meta["jd_utc"] == pytest.approx(Time(expected).jd, abs=1e-7)
        assert meta["exposure"] == fits.getheader(night.folder / f"{name}.fits")["EXPTIME"]
