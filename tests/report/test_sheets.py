"""Sheets of candidates: what is drawn and written of each, and that headers are told as text only."""

import json
import sys

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import CatalogError, FileError, MissingExtra, OptionError
from larun.report.sheets import REASONS, write_index
from tests.algorithms.pair_fields import pair
from tests.plots.conftest import wcs_cards

SHAPE = (230, 240)
PLACES = ((150.2, 140.6, 9000.0), (60.4, 80.3, -7000.0))
HOSTILE = "</td><script>alert('x')</script> ../../$E=mc^2$"


@pytest.fixture(scope="module")
def difference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    field = pair(SHAPE, seed=4, stars=200, change=0.0, brightest=4e5)
    rng = np.random.default_rng(1)
    (new, gone) = (rng.poisson(field.psf.draw(SHAPE, [x], [y], [abs(f)])) for x, y, f in PLACES)
    frames = []
    for name, data in (("now", field.science + new), ("then", field.reference + gone)):
        header = fits.Header({"GAIN": 1.0, "RDNOISE": 6.0, "EXPTIME": 60.0, "OBJECT": HOSTILE, **wcs_cards(240, 230)})
        header["DATE-OBS"] = "2024-03-01T01:00:00"
        fits.PrimaryHDU(np.rint(data).clip(0, 65535).astype(np.uint16), header).writeto(folder / f"{name}.fits")
        frames.append(larun.Frame.read(folder / f"{name}.fits").calibrate(without=("bias", "dark", "flat")))
    return frames[0].subtract(frames[1], options=larun.SubtractOptions(order=0))


@pytest.fixture(scope="module")
def written(difference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets") / "new" / "folder"
    found = difference.detect(8.0)
    curve = larun.LightCurve.from_differences([difference], [PLACES[0][:2]])
    return folder, found, larun.write_sheets(difference, folder, candidates=found, curve=curve)


def test_each_candidate_has_its_files_and_there_are_no_others(written):
    folder, found, sheets = written
    numbers = [int(n) for n in found["id"]]
    wanted = {f"candidate-{n:04d}.{end}" for n in numbers for end in ("png", "json")} | {"index.html"}
    assert {path.name for path in folder.iterdir()} == wanted
    assert [sheet.facts["id"] for sheet in sheets] == numbers
    assert all(sheet.picture.read_bytes().startswith(b"\x89PNG") for sheet in sheets)


def test_the_json_says_what_the_table_says_with_ids_and_finite_numbers(difference, written):
    _, found, sheets = written
    table = found.table

    def refuse(text):
        raise AssertionError(text)

    for sheet, row in zip(sheets, table, strict=True):
        known = json.loads(sheet.data.read_text(), parse_constant=refuse)
        assert known["x"] == row["x"].value
        assert known["flux"] == row["flux"].value
        assert known["kind"] == ("new" if row["flux"].value > 0 else "gone")
        assert known["reasons"] == [name for name in REASONS if name in table.colnames and row[name]]
        assert known["doubt"] == bool(known["reasons"])
        assert known["difference"]["provenance"] == difference.provenance.id
        assert [known[name]["provenance"] for name in ("science", "reference")] == [
            parent.provenance.id for parent in difference.provenance.parents
        ]
        assert known["catalog"] == found.provenance.id
        assert known["science"]["object"] == HOSTILE
        there = difference.wcs.pixel_to_world_values(known["x"], known["y"])
        assert [known["ra"], known["dec"]] == pytest.approx([float(part) for part in there])
    of_new = min(sheets, key=lambda sheet: abs(sheet.facts["x"] - PLACES[0][0]))
    [point] = of_new.facts["light_curve"]
    assert point["flux"] * difference.scale == pytest.approx(PLACES[0][2], abs=5 * point["flux_error"])
    assert sum(sheet.facts["light_curve"] is not None for sheet in sheets) == 1


def test_every_reason_has_words(difference):
    names = [name for name in difference.detect().columns if difference.detect()[name].dtype == bool]
    assert set(names) - {"doubt"} <= set(REASONS)


def test_the_page_lists_all_and_headers_are_text(written):
    folder, found, _ = written
    page = (folder / "index.html").read_text()
    assert page.count("<img ") == len(found)
    assert "<script>" not in page
    again = write_index([], folder / "other.html", title=HOSTILE, notes=[("object", HOSTILE)]).read_text()
    assert "<script>" not in again
    assert "There are no candidates" in again


def test_pictures_have_one_stretch_and_mark_the_place(difference):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    x, y, _ = PLACES[0]
    larun.plots.show_candidate(difference, x, y, figure, says=[HOSTILE, "line\x1b[2J"])
    figure.draw_without_rendering()
    new, reference, changed, score = figure.axes[:4]
    assert [ax.get_title() for ax in (new, reference, changed)] == ["new", "reference", "difference"]
    limits = {ax.images[0].get_clim() for ax in (new, reference, changed)}
    assert len(limits) == 1
    assert {(ax.get_xlim(), ax.get_ylim()) for ax in (new, reference, changed, score)} == {
        (new.get_xlim(), new.get_ylim())
    }
    seen = [float(ax.images[0].get_array()[round(y - ax.get_ylim()[0] - 0.5), round(x - ax.get_xlim()[0] - 0.5)])
            for ax in (new, reference, changed)]  # fmt: skip
    assert seen[0] > 3 * abs(seen[1])
    assert seen[2] == pytest.approx(seen[0], rel=0.3)
    assert {text.get_text() for text in new.texts} == {"N", "E"}
    for ax in (new, reference, changed, score):
        assert next(float(line.get_ydata()[0]) for line in ax.lines) == y
    assert "\x1b" not in figure.axes[4].texts[0].get_text()
    with pytest.raises(OptionError, match="must lie on the image"):
        larun.plots.show_candidate(difference, 1000.0, 5.0, figure)


def test_at_the_edge_and_without_the_images(difference, tmp_path):
    from matplotlib.figure import Figure

    again = larun.DifferenceImage.read(difference.write(tmp_path / "d.fits"))
    figure = Figure(figsize=(11, 5))
    larun.plots.show_candidate(again, 1.0, 2.0, figure)
    assert figure.axes[0].texts[0].get_text() == "not at hand"
    assert np.ma.getmaskarray(figure.axes[2].images[0].get_array())[0].all()
    assert larun.write_sheets(again, tmp_path / "sheets", candidates=again.detect(8.0).select("snr > 1e9")) == []


def test_nothing_is_replaced_unasked_and_names_are_words(difference, written, tmp_path, monkeypatch):
    folder, found, _ = written
    with pytest.raises(FileError, match="exists"):
        larun.write_sheets(difference, folder, candidates=found)
    before = {path.name: path.read_bytes() for path in folder.glob("candidate*")}
    curve = larun.LightCurve.from_differences([difference], [PLACES[0][:2]])
    larun.write_sheets(difference, folder, candidates=found, curve=curve, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.glob("candidate*")} == before
    (tmp_path / "candidate-0001.png").write_text("mine")
    with pytest.raises(FileError, match="is not a picture of larun"):
        larun.write_sheets(difference, tmp_path, candidates=found, overwrite=True)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(FileError, match="never replaced"):
        write_index([], tmp_path / "index.html", overwrite=True)
    with pytest.raises(OptionError, match="letters, digits"):
        larun.write_sheets(difference, tmp_path, name="../up")
    with pytest.raises(CatalogError, match=r"has no .*probability"):
        larun.write_sheets(difference, tmp_path, candidates=difference.forced([[50.0, 50.0]]))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match="plots"):
        larun.write_sheets(difference, tmp_path / "none")


def test_a_curve_of_differences_is_drawn_with_limits_and_flags(difference, tmp_path):
    from matplotlib.figure import Figure

    from tests.cli.conftest import run_larun

    places = [PLACES[0][:2], (110.3, 30.2)]
    curve = larun.LightCurve.from_differences([difference], places)
    figure = Figure(figsize=(7, 4))
    seen, nothing = (larun.plots.show_difference_curve(curve, figure, star=star) for star in (1, 2))
    labels = [{line.get_label() for line in ax.lines} for ax in (seen, nothing)]
    assert "upper limit" not in labels[0]
    assert "upper limit" in labels[1]
    assert nothing.lines[-1].get_ydata()[0] == curve.curve(2)["flux_limit"].value[0]
    assert "electron" in seen.get_ylabel()
    path = curve.write(tmp_path / "curve.ecsv")
    assert run_larun("plot", path, "-o", tmp_path / "curve.png").code == 0
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert run_larun("plot", path, "--flags").code == 2
