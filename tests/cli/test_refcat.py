"""``larun refcat`` and ``larun zeropoint``: what they make and print, their JSON, their errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import larun as package
from tests.cli.conftest import Ended, Larun


@pytest.fixture
def catalog(reduced: tuple[Path, Ended]) -> Path:
    return sorted((reduced[0] / "catalogs").glob("*.ecsv"))[0]


@pytest.fixture
def reference(catalog: Path, tmp_path: Path) -> Path:
    """The stars of the catalogue with magnitudes of a zero point of 24 for one electron a second."""
    table = package.SourceCatalog.read(catalog).table
    known = Table({"RAJ2000": table["ra"].value - 360, "DEJ2000": table["dec"].value})
    known["Vmag"] = table["mag_total"].value + 2.5 * np.log10(table.meta["exposure"]) + 24
    known["e_Vmag"] = 0.01
    known["alpha"] = known["RAJ2000"]
    path = tmp_path / "known.csv"
    known[np.isfinite(known["Vmag"])].write(path)
    return path


def test_a_store_is_built_and_told(larun: Larun, reference: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ended = larun("refcat", "build", reference, store, "--name", "mine", "--system", "Vega")
    assert ended.code == 0
    assert "V (Vega)" in ended.out
    about = json.loads(larun("refcat", "info", store, "--json").out)
    stars = len(Table.read(reference))
    assert (about["name"], about["rows"], about["systems"], about["level"]) == ("mine", stars, {"V": "Vega"}, 2)
    assert about["columns"] == ["ra", "dec", "mag_V", "mag_V_error"]
    plain = json.loads(larun("refcat", "info", reference, "--json").out)
    assert (plain["rows"], plain["systems"]) == (stars, {"V": "Vega"})
    assert "within" in larun("refcat", "info", reference).out
    again = larun("refcat", "build", reference, store)
    assert again.code == 3
    assert "exists" in again.err
    assert larun("refcat", "build", reference, store, "--overwrite", "--level", 4).code == 0
    wrong = larun("refcat", "build", reference, tmp_path / "other", "--column", "ra")
    assert (wrong.code, "NAME=VALUE" in wrong.err) == (2, True)
    twice = larun("refcat", "build", reference, tmp_path / "other", "--column", "ra=a", "--column", "ra=b")
    assert (twice.code, "given twice" in twice.err) == (2, True)


def test_the_zero_point_of_a_catalogue(larun: Larun, catalog: Path, reference: Path, tmp_path: Path) -> None:
    out, stars, plot = tmp_path / "out.ecsv", tmp_path / "stars.ecsv", tmp_path / "residuals.png"
    words = ("zeropoint", catalog, "--reference", reference, "--band", "V")
    ended = larun(*words, "--out", out, "--stars", stars, "--plot", plot)
    assert ended.code == 0, ended.err
    assert "for 1 electron / s" in ended.out
    assert "nan" not in ended.out
    assert f"wrote {out}" in " ".join(ended.out.split()) or str(out)[:20] in ended.out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "mag_V" in package.SourceCatalog.read(out).columns
    about = json.loads(larun(*words, "--system", "V=Vega", "--json").out)
    assert about["value"] == pytest.approx(24.0, abs=0.01)
    assert (about["band"], about["system"], about["reference"]) == ("V", "Vega", "known.csv")
    assert about["stars"] + sum(about["refused"].values()) >= 5
    assert about["written"] == []
    columns = ("--column", "ra=alpha", "--column", "dec=DEJ2000", "--column", "mag_V=Vmag")
    assert json.loads(larun(*words, *columns, "--json").out)["value"] == pytest.approx(24.0, abs=0.01)


def test_a_frame_and_a_store_do_as_well(larun: Larun, catalog: Path, reference: Path, tmp_path: Path) -> None:
    larun("refcat", "build", reference, tmp_path / "store")
    frame = catalog.parents[1] / "frames" / f"{catalog.stem}.fits"
    words = ("--reference", tmp_path / "store", "--band", "V", "--json")
    of_frame, of_catalog = (json.loads(larun("zeropoint", file, *words).out) for file in (frame, catalog))
    assert of_frame["value"] == pytest.approx(of_catalog["value"], abs=1e-9)


def test_the_aperture_of_all_the_light_can_be_fixed(larun: Larun, catalog: Path, reference: Path) -> None:
    radius = package.SourceCatalog.read(catalog).meta["aperture_correction_radius"]
    words = ("zeropoint", catalog, "--reference", reference, "--band", "V", "--json")
    assert larun(*words, "--total-radius", f"{radius:.4f}").code == 0
    other = larun(*words, "--total-radius", 99)
    assert other.code == 4
    assert "unit='pixel'" in " ".join(other.err.split())
    assert larun(*words, "--total-radius", 9, "--magnitude", "mag_2").code == 2


def test_what_makes_no_sense_is_told(larun: Larun, catalog: Path, reference: Path, tmp_path: Path) -> None:
    words = ("zeropoint", catalog, "--reference", reference)
    wrong = larun(*words, "--band", "g")
    assert (wrong.code, "its bands are V" in wrong.err) == (2, True)
    missing = larun("zeropoint", catalog, "--reference", tmp_path / "none.csv", "--band", "V")
    assert (missing.code, "does not exist" in missing.err) == (3, True)
    master = sorted((catalog.parents[1] / "masters").glob("*.fits"))[0]
    assert larun("zeropoint", master, "--reference", reference, "--band", "V").code == 2
