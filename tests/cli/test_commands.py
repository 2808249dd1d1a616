"""Every command on a tiny simulated night: output, JSON, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

import larun as package
from larun.simulate import NightTruth
from tests.cli.conftest import Ended, Larun

COMMAND = [sys.executable, "-c", "from larun.cli import main; main()"]


# -- the program itself ------------------------------------------------------------------------------------------------


def test_version_and_help(larun: Larun) -> None:
    assert larun("--version") == Ended(0, f"larun {package.__version__}\n", "")
    text = larun("--help").out
    for word in (
        "demo",
        "ls",
        "info",
        "masters",
        "reduce",
        "provenance",
        "plot",
        "warmup",
        "Exit codes",
        "reduce raw/",
    ):
        assert word in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_loads_nothing_heavy_and_is_quick() -> None:
    script = (
        "import sys, time; start = time.process_time()\n"
        "sys.argv = ['larun', '--help']\n"
        "from larun.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'numpy', 'scipy', 'astropy', 'numba', 'attrs', 'matplotlib', 'photutils'} & set(sys.modules)\n"
        "print(sorted(heavy), time.process_time() - start, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy, _, seconds = ended.stderr.strip().rpartition(" ")
    assert heavy in ("[]", "['attrs']")
    assert float(seconds) < 0.5


def test_wrong_usage_ends_with_2(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    for words in (
        ["reduce", night.folder],
        ["nonsense"],
        ["ls", night.folder, "--keyword", "GAIN"],
        ["ls", night.folder, "--keyword", "nonsense=1"],
        ["reduce", night.folder, tmp_path / "o", "--without", "science"],
        ["reduce", night.folder, tmp_path / "o", "--threshold", "0"],
        ["reduce", night.folder, tmp_path / "o", "--jobs", "0"],
        ["reduce", night.folder, tmp_path / "o", "--overscan", "guess"],
        ["reduce", night.folder, tmp_path / "o", "--no-clean", "--flag-only"],
        ["masters", night.folder, tmp_path / "o", "--max-memory", "much"],
        ["masters", night.folder, tmp_path / "o", "--without", "bias,dark,flat"],
        ["demo", night.folder],
    ):
        ended = larun(*words)
        assert (ended.code, ended.out) == (2, ""), words
        assert "Traceback" not in ended.err
    assert not (tmp_path / "o").exists()


def test_input_that_cannot_be_read_ends_with_3_and_one_line(larun: Larun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.fits").write_text("no FITS at all")
    for words in (
        ["ls", tmp_path / "absent"],
        ["ls", tmp_path / "empty"],
        ["info", tmp_path / "absent.fits"],
        ["info", tmp_path / "text.fits"],
        ["info", tmp_path],
        ["provenance", tmp_path / "absent.ecsv"],
        ["reduce", tmp_path / "absent", tmp_path / "out"],
    ):
        ended = larun(*words)
        assert (ended.code, ended.out) == (3, ""), words
        assert ended.err.startswith("error: ")
        assert ended.err.count("\n") == 1
        assert str(tmp_path) in ended.err


def test_other_errors_end_with_4_and_debug_shows_where(
    larun: Larun, night: NightTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    from larun.cli import night as commands

    def fail(*_: object) -> int:
        raise package.errors.NoiseModelError("the noise\nmodel is off")

    monkeypatch.setattr(commands, "list_files", fail)
    assert larun("ls", night.folder) == Ended(4, "", "error: the noise model is off\n")
    monkeypatch.setenv("LARUN_DEBUG", "1")
    ended = larun("ls", night.folder)
    assert ended.code == 4
    assert "Traceback" in ended.err

    def crash(*_: object) -> int:
        raise ZeroDivisionError("by zero")

    monkeypatch.delenv("LARUN_DEBUG")
    monkeypatch.setattr(commands, "list_files", crash)
    ended = larun("ls", night.folder)
    assert ended.code == 4
    assert ended.err == "error: unexpected ZeroDivisionError: by zero (LARUN_DEBUG=1 shows where)\n"


def test_a_reader_that_goes_away_is_no_traceback(night: NightTruth) -> None:
    for words in (["ls", str(night.folder)], ["ls", str(night.folder), "--json"]):
        reader, writer = os.pipe()
        os.close(reader)
        ended = subprocess.run([*COMMAND, *words], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writer)
        assert (ended.returncode, ended.stderr) == (141, "")


# -- ls ----------------------------------------------------------------------------------------------------------------


def test_ls_json_is_a_list_of_exposures_and_nothing_else(larun: Larun, night: NightTruth) -> None:
    ended = larun("ls", night.folder, "--json")
    rows = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert len(rows) == len(night.frames)
    kinds = [row["kind"] for row in rows]
    assert [kinds.count(kind) for kind in ("bias", "dark", "flat", "science")] == [4, 6, 6, 4]
    by_name = {Path(row["path"]).name: row for row in rows}
    row = by_name["science-V-001.fits"]
    assert (row["filter"], row["exposure"], row["instrument"]) == ("V", 60.0, "larun simulated camera")


def test_ls_counts_and_evidence_fit_100_columns(larun: Larun, night: NightTruth) -> None:
    ended = larun("ls", night.folder)
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "4 bias, 3 dark (3 s), 3 dark (60 s), 3 flat (R), 3 flat (V), 4 science" in lines[-1]
    row = next(line for line in lines if line.startswith("science-R-002.fits"))
    assert row.split() == ["science-R-002.fits", "science", "R", "60", "simulated", "field", "IMAGETYP='object'"]


def test_keywords_replace_what_headers_say(larun: Larun, night: NightTruth) -> None:
    rows = json.loads(larun("ls", night.folder, "--json", "-k", "filter=Halpha", "-k", "EXPTIME=12.5").out)
    assert {row["filter"] for row in rows} == {"Halpha"}
    assert {row["exposure"] for row in rows} == {12.5}


def test_hostile_text_stays_text(larun: Larun, tmp_path: Path) -> None:
    header = fits.Header({"IMAGETYP": "object", "OBJECT": "[bold red]x[/] [/nope]", "EXPTIME": 1.0})
    fits.PrimaryHDU(np.ones((8, 8), np.int16), header).writeto(tmp_path / "a\x1b[31mb.fits")
    for words in (["ls", tmp_path], ["info", tmp_path / "a\x1b[31mb.fits"]):
        ended = larun(*words)
        assert ended.code == 0
        assert "[bold red]x[/] [/nope]" in ended.out
        assert "\x1b" not in ended.out
        assert "a�[31mb.fits" in ended.out
    missing = larun("info", tmp_path / "no\x1b[31m.fits")
    assert missing.code == 3
    assert "\x1b" not in missing.err


def test_ls_shows_files_that_cannot_be_read_and_ends_with_1(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    whole = night.frames[0].path.read_bytes()
    (tmp_path / "whole.fits").write_bytes(whole)
    (tmp_path / "cut.fits").write_bytes(whole[: len(whole) // 2])
    ended = larun("ls", tmp_path)
    assert ended.code == 1
    assert "1 bias, 1 unreadable" in ended.out
    rows = json.loads(larun("ls", tmp_path, "--json").out)
    assert [row["kind"] for row in rows] == ["unreadable", "bias"]
    assert "cut.fits" in rows[0]["evidence"]


# -- info and provenance -----------------------------------------------------------------------------------------------


def test_info_of_a_raw_frame(larun: Larun, night: NightTruth) -> None:
    path = night.select("object", "V")[0].path
    about = json.loads(larun("info", path, "--json").out)
    assert about["class"] == "larun.instruments.generic:Generic"
    assert (about["size"], about["unit"], about["wcs"]) == ([224, 192], "adu", True)
    assert (about["kind"], about["filter"], about["exposure"]) == ("science", "V", 60.0)
    amplifier = about["detector"]["amplifiers"][0]
    assert (amplifier["gain"], amplifier["read_noise"], amplifier["saturation"]) == (1.6, 6.0, 60000.0)
    assert about["detector"]["sources"]["gain"] == "GAIN = 1.6"
    assert about["provenance"]["steps"] == []
    text = larun("info", path).out
    assert "GAIN = 1.6" in text
    assert "science (IMAGETYP='object')" in text
    assert max(map(len, text.splitlines())) <= 100


def test_info_of_products(larun: Larun, reduced: tuple[Path, Ended], night: NightTruth) -> None:
    out, _ = reduced
    about = json.loads(larun("info", out / "frames" / "science-V-001.fits", "--json").out)
    frame = package.Frame.read(out / "frames" / "science-V-001.fits")
    assert about["provenance"]["id"] == frame.provenance.id
    assert about["provenance"]["steps"] == ["calibrate", "clean"]
    assert about["unit"] == "electron"
    assert about["flags"]["BAD"] == int(np.count_nonzero(frame.flags & package.flags.BAD))
    sky = night.select("object", "V")[0].sky * 60
    assert about["pixels"]["median"] == pytest.approx(sky, rel=0.05)
    assert about["pixels"]["uncertainty"] == pytest.approx(np.sqrt(sky + 36), rel=0.05)
    assert [hdu["name"] for hdu in about["hdus"]][:4] == ["PRIMARY", "SCI", "VAR", "DQ"]
    flat = json.loads(larun("info", out / "masters" / "flat-V-192x192.fits", "--json").out)
    assert (flat["class"], flat["kind"], flat["frames"]) == ("larun.model.masters:MasterFlat", "flat", 3)
    assert flat["pixels"]["median"] == pytest.approx(1.0, abs=0.01)


def test_info_of_a_catalogue_in_every_format(larun: Larun, reduced: tuple[Path, Ended], tmp_path: Path) -> None:
    path = reduced[0] / "catalogs" / "science-V-001.ecsv"
    catalog = package.SourceCatalog.read(path)
    others = [catalog.write(tmp_path / f"c{suffix}") for suffix in (".fits", ".parquet", ".vot", ".xml")]
    for name in (path, *others):
        about = json.loads(larun("info", name, "--json").out)
        assert about["sources"] == len(catalog)
        column = next(row for row in about["columns"] if row["name"] == "aperture_flux_1")
        assert column["unit"] == "electron"
        assert "flux above the local sky" in column["description"]
        assert about["provenance"]["steps"] == ["calibrate", "clean", "detect", "photometer"]
        assert about["meta"]["fwhm"] == catalog.meta["fwhm"]
        assert "aperture_flux_1" in larun("info", name).out
        assert larun("provenance", name).out == f"{catalog.provenance}\n"
    content = bytearray(others[1].read_bytes())
    content[200] ^= 1
    others[1].write_bytes(bytes(content))
    ended = larun("info", others[1])
    assert (ended.code, ended.out) == (3, "")
    assert "c.parquet does not agree with its own digest" in ended.err


def test_info_of_a_table_without_a_record(larun: Larun, reduced: tuple[Path, Ended], tmp_path: Path) -> None:
    path = reduced[0] / "summary.ecsv"
    about = json.loads(larun("info", path, "--json").out)
    assert (about["class"], about["meta"]["made_by"]) == ("table", "larun")
    assert about["rows"] == len(about["first_rows"]) > 5
    assert {"science-V-001"} <= {row["name"] for row in about["first_rows"]}
    shown = larun("info", path)
    assert shown.code == 0
    for word in ("summary.ecsv", "science-V-001", "done", "fwhm"):
        assert word in shown.out
    ended = larun("provenance", path)
    assert ended.code == 3
    assert "without a record of larun: larun info" in ended.err
    for suffix, kind in ((".ecsv", "ascii.ecsv"), (".parquet", "parquet"), (".vot", "votable")):
        name = tmp_path / f"own{suffix}"
        QTable({"flux": np.arange(80.0) * u.Jy, "name": ["[red]x"] * 80}).write(name, format=kind)
        about = json.loads(larun("info", name, "--json").out)
        assert (about["rows"], len(about["first_rows"]), about["columns"][0]["unit"]) == (80, 50, "Jy")
        shown = larun("info", name).out
        assert "[red]x" in shown
        assert "30 more rows" in shown
    (tmp_path / "bad.vot").write_text("<?xml version='1.0'?><VOTABLE")
    ended = larun("info", tmp_path / "bad.vot")
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert "bad.vot" in ended.err


def test_info_of_several_images_wants_to_know_which(larun: Larun, tmp_path: Path) -> None:
    images = [fits.ImageHDU(np.full((4, 5 + n), n, np.int16), name=f"CCD{n}") for n in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "two.fits")
    ended = larun("info", tmp_path / "two.fits")
    assert ended.code == 3
    assert "CCD1" in ended.err
    for ext in ("2", "ccd2"):
        about = json.loads(larun("info", tmp_path / "two.fits", "--ext", ext, "--json").out)
        assert about["size"] == [7, 4]


def test_provenance_as_a_tree_and_as_json(larun: Larun, reduced: tuple[Path, Ended]) -> None:
    out, _ = reduced
    path = out / "frames" / "science-V-001.fits"
    frame = package.Frame.read(path)
    assert larun("provenance", path).out == f"{frame.provenance}\n"
    record = json.loads(larun("provenance", path, "--json").out)
    assert package.Provenance.from_dict(record).id == frame.provenance.id


def test_a_product_that_was_changed_ends_with_3(larun: Larun, reduced: tuple[Path, Ended], tmp_path: Path) -> None:
    changed = bytearray((reduced[0] / "frames" / "science-V-001.fits").read_bytes())
    changed[len(changed) // 3] ^= 1
    (tmp_path / "changed.fits").write_bytes(changed)
    for command in ("info", "provenance"):
        ended = larun(command, tmp_path / "changed.fits")
        assert ended.code == 3
        assert "changed.fits" in ended.err


# -- masters and reduce ------------------------------------------------------------------------------------------------


def test_masters_builds_and_then_finds_them(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    ended = larun("masters", night.folder, tmp_path / "m", "--json", "--max-memory", "500MB")
    rows = json.loads(ended.out)
    assert ended.code == 0
    assert {row["name"] for row in rows} == {path.stem for path in (tmp_path / "m").glob("*.fits")}
    assert [row["kind"] for row in rows] == ["bias", "dark", "dark", "flat", "flat"]
    again = larun("masters", night.folder, tmp_path / "m")
    assert again.code == 0
    assert "nothing to do: 5 products are up to date" in again.out


def test_masters_without_a_kind_neither_builds_nor_uses_it(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    rows = json.loads(larun("masters", night.folder, tmp_path / "m", "--json", "--without", "dark").out)
    assert [row["kind"] for row in rows] == ["bias", "flat", "flat"]
    flat = package.MasterFlat.read(tmp_path / "m" / "flat-V-192x192.fits")
    assert not any(root.name.startswith("dark") for root in flat.provenance.roots())


def test_reduce_writes_everything_and_says_what_it_measured(reduced: tuple[Path, Ended], night: NightTruth) -> None:
    out, ended = reduced
    assert (ended.code, ended.err) == (0, "")
    names = {frame.path.stem for frame in night.select("object")}
    assert {path.stem for path in (out / "frames").iterdir()} == names
    assert {path.stem for path in (out / "catalogs").iterdir()} == names
    assert len(list((out / "masters").iterdir())) == 5
    assert (out / "summary.ecsv").is_file()
    assert "13 products written" in ended.out
    assert max(map(len, ended.out.splitlines()[:-1])) <= 100
    catalog = package.SourceCatalog.read(out / "catalogs" / "science-V-001.ecsv")
    row = next(line for line in ended.out.splitlines() if line.startswith("science-V-001"))
    words = row.split()
    assert words[-1] == "done"
    assert words[-4] == str(len(catalog))
    assert words[-6] == f"{catalog.meta['fwhm']:.2f}"


def test_a_second_reduce_has_nothing_to_do(larun: Larun, reduced: tuple[Path, Ended], night: NightTruth) -> None:
    out, _ = reduced
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    ended = larun("reduce", night.folder, out)
    assert ended.code == 0
    assert "nothing to do: 13 products are up to date" in ended.out
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == stamps
    rows = json.loads(larun("reduce", night.folder, out, "--json").out)
    assert {row["status"] for row in rows} == {"skipped"}


def test_dry_run_names_the_products_and_writes_nothing(
    larun: Larun, night: NightTruth, reduced: tuple[Path, Ended], tmp_path: Path
) -> None:
    rows = json.loads(larun("reduce", night.folder, tmp_path / "out", "--dry-run", "--json").out)
    assert not (tmp_path / "out").exists()
    written = {path.relative_to(reduced[0]) for path in reduced[0].glob("*/*")}
    assert {Path(row["product"]).relative_to(tmp_path / "out") for row in rows} == written
    assert "13 products; nothing was written" in larun("reduce", night.folder, tmp_path / "out", "--dry-run").out


def test_options_of_reduce_reach_the_record(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for frame in (*night.select("bias"), *night.select("flat", "V"), night.select("object", "V")[0]):
        (raw / frame.path.name).symlink_to(frame.path)
    mask = np.zeros(night.camera.shape, np.uint8)
    mask[10, 20] = 1
    fits.PrimaryHDU(mask).writeto(tmp_path / "mask.fits")
    ended = larun(
        *("reduce", raw, tmp_path / "out", "--json", "--without", "dark", "--keyword", "GAIN=1.7"),
        *("--clean-engine", "median", "--flag-only", "--threshold", "8", "--radii", "3,5", "--radius-unit", "pixel"),
        *("--overscan", "polynomial", "--bad-pixels", tmp_path / "mask.fits"),
    )
    assert ended.code == 0, ended.err
    catalog = package.SourceCatalog.read(tmp_path / "out" / "catalogs" / "science-V-001.ecsv")
    steps = {node.step.operation: node.step.parameters for node in catalog.provenance.line() if node.step}
    assert steps["photometer"]["radii"] == [3, 5]
    assert steps["photometer"]["unit"] == "pixel"
    assert steps["detect"]["threshold"] == 8
    assert steps["clean"]["engine"] == "median"
    assert steps["clean"]["replace"] is False
    assert steps["calibrate"]["without"] == ["dark"]
    assert steps["calibrate"]["overscan"]["method"] == "polynomial"
    frame = package.Frame.read(tmp_path / "out" / "frames" / "science-V-001.fits")
    assert frame.raw_detector.amplifiers[0].gain == 1.7
    assert frame.flags[10, 20] & package.flags.BAD
    assert not (frame.flags & package.flags.INTERPOLATED).any()


def test_masters_of_another_night_serve(
    larun: Larun, night: NightTruth, reduced: tuple[Path, Ended], tmp_path: Path
) -> None:
    frame = night.select("object", "R")[0].path
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / frame.name).symlink_to(frame)
    alone = larun("reduce", tmp_path / "raw", tmp_path / "alone")
    assert alone.code == 1
    assert "no bias master fits" in alone.err
    served = larun("reduce", tmp_path / "raw", tmp_path / "out", "--masters", reduced[0] / "masters")
    assert (served.code, served.err) == (0, "")
    made, other = (package.Frame.read(folder / "frames" / frame.name) for folder in (tmp_path / "out", reduced[0]))
    assert made.provenance.id == other.provenance.id  # the folder of the raw file does not count
    assert np.array_equal(made.data, other.data)
