"""`larun plot`: which picture a file becomes, where it goes, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from larun.cli.options import parse_region
from larun.errors import OptionError
from larun.simulate import NightTruth
from tests.cli.conftest import Ended, Larun

PNG = b"\x89PNG"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What the library was asked to draw, call by call."""
    from larun.cli import plot

    calls: list[dict[str, object]] = []

    def watched(name: str):  # type: ignore[no-untyped-def]
        function = getattr(plot, name)

        def wrapper(*args: object, **kwargs: object) -> object:
            calls.append({"name": name, "args": args, **kwargs})
            return function(*args, **kwargs)

        return wrapper

    for name in ("show", "show_master", "show_catalog", "show_growth", "draw_catalog"):
        monkeypatch.setattr(plot, name, watched(name))
    return calls


def test_a_raw_frame_becomes_a_picture_in_the_present_folder(larun: Larun, night: NightTruth, here: Path) -> None:
    raw = night.folder / "science-V-001.fits"
    assert larun("plot", raw) == Ended(0, "science-V-001.png\n", "")
    assert (here / "science-V-001.png").read_bytes().startswith(PNG)
    assert sorted(path.name for path in here.iterdir()) == ["science-V-001.png"]
    before = (here / "science-V-001.png").read_bytes()
    assert larun("plot", raw).code == 0  # one of ours is drawn again
    assert (here / "science-V-001.png").read_bytes() == before


def test_options_reach_the_picture(larun: Larun, reduced: tuple[Path, Ended], here: Path, drawn: list) -> None:
    frame, catalog = (
        reduced[0] / f"{kind}/science-V-001.{end}" for kind, end in (("frames", "fits"), ("catalogs", "ecsv"))
    )
    words = ["--flags", "--region", "20:120,:90", "--stretch", "log", "--pixel", "--catalog", catalog, "--apertures"]
    ended = larun("plot", frame, *words, "--labels", "id", "-o", "a.pdf", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {"path": "a.pdf", "kind": "image"}
    assert (here / "a.pdf").read_bytes().startswith(b"%PDF")
    picture, marks = drawn
    assert picture["name"] == "show"
    assert {name: picture[name] for name in ("flags", "stretch", "window", "coordinates")} == {
        "flags": True,
        "stretch": "log",
        "window": ((20, 120), (0, 90)),
        "coordinates": "pixel",
    }
    assert (marks["name"], marks["labels"], marks["apertures"]) == ("draw_catalog", "id", True)


def test_a_catalogue_finds_its_image_beside_it_or_is_shown_alone(
    larun: Larun, reduced: tuple[Path, Ended], here: Path, drawn: list
) -> None:
    catalog = reduced[0] / "catalogs" / "science-V-001.ecsv"
    assert larun("plot", catalog) == Ended(0, "science-V-001.png\n", "")
    assert [call["name"] for call in drawn] == ["show", "draw_catalog"]
    drawn.clear()
    alone = Path(shutil.copy(catalog, here / "alone.ecsv"))
    assert larun("plot", alone) == Ended(0, "alone-sources.png\n", "")
    assert [call["name"] for call in drawn] == ["show_catalog"]
    drawn.clear()
    assert larun("plot", alone, "--image", reduced[0] / "frames" / "science-V-001.fits", "--wcs").code == 0
    assert [call["name"] for call in drawn] == ["show", "draw_catalog"]
    assert drawn[0]["coordinates"] == "world"
    drawn.clear()
    assert larun("plot", catalog, "--kind", "growth") == Ended(0, "science-V-001-growth.png\n", "")
    assert larun("plot", catalog, "--kind", "sources").out == "science-V-001-sources.png\n"
    assert [call["name"] for call in drawn] == ["show_growth", "show_catalog"]


def test_an_image_that_is_not_the_catalogues_is_told(
    larun: Larun, reduced: tuple[Path, Ended], here: Path, drawn: list
) -> None:
    (here / "catalogs").mkdir()
    (here / "frames").mkdir()
    one, other = (reduced[0] / "frames" / f"science-V-00{n}.fits" for n in (1, 2))
    catalog = shutil.copy(reduced[0] / "catalogs" / "science-V-001.ecsv", here / "catalogs" / "a.ecsv")
    shutil.copy(other, here / "frames" / "a.fits")
    ended = larun("plot", catalog)
    assert (ended.code, ended.out) == (0, "a-sources.png\n")
    assert "is not the image this catalogue was measured on" in ended.err
    ended = larun("plot", catalog, "--image", here / "frames" / "a.fits")  # asked for by name: drawn
    assert (ended.code, drawn[-1]["name"]) == (0, "draw_catalog")
    assert "is not the image" in ended.err
    assert larun("plot", catalog, "--image", one) == Ended(0, "a.png\n", "")


def test_a_master_has_its_page_and_its_image(
    larun: Larun, reduced: tuple[Path, Ended], here: Path, drawn: list
) -> None:
    master = next((reduced[0] / "masters").glob("bias*.fits"))
    assert larun("plot", master, "--stretch", "linear").code == 0
    assert larun("plot", master, "--kind", "image").code == 0
    assert larun("plot", master, "--region", "0:50,0:50").code == 0
    assert [call["name"] for call in drawn] == ["show_master", "show", "show"]
    assert drawn[0]["stretch"] == "linear"


def test_calibration_frames_are_not_of_the_sky(larun: Larun, night: NightTruth, here: Path, drawn: list) -> None:
    for name in ("bias-001.fits", "science-V-001.fits"):
        assert larun("plot", night.folder / name).code == 0
    assert [call["coordinates"] for call in drawn] == ["pixel", "auto"]


def test_what_makes_no_sense_ends_with_2_and_leaves_nothing(
    larun: Larun, night: NightTruth, reduced: tuple[Path, Ended], here: Path
) -> None:
    raw = night.folder / "science-V-001.fits"
    catalog = reduced[0] / "catalogs" / "science-V-001.ecsv"
    master = next((reduced[0] / "masters").glob("bias*.fits"))
    alone = Path(shutil.copy(catalog, here / "alone.ecsv"))
    for words in (
        [raw, "-o", "a.jpg"],
        [raw, "--region", "5,5"],
        [raw, "--region", "9:3,0:5"],
        [raw, "--region", "0:5000,0:5"],
        [raw, "--stretch", "cubic"],
        [raw, "--kind", "growth"],
        [raw, "--kind", "master"],
        [raw, "--apertures"],
        [raw, "--image", raw],
        [catalog, "--catalog", catalog],
        [catalog, "--ext", "1"],
        [catalog, "--image", catalog],
        [catalog, "--kind", "growth", "--flags"],
        [catalog, "--kind", "sources", "--region", "0:5,0:5"],
        [master, "--kind", "master", "--region", "0:5,0:5"],
        [alone, "--flags"],
        [alone, "--kind", "image"],
    ):
        ended = larun("plot", *words)
        assert (ended.code, ended.out) == (2, ""), words
        assert "Traceback" not in ended.err
    assert [path.name for path in here.iterdir()] == ["alone.ecsv"]


def test_files_that_cannot_be_read_or_written_end_with_3(larun: Larun, night: NightTruth, here: Path) -> None:
    raw = night.folder / "science-V-001.fits"
    (here / "notes.svg").write_text("mine")
    (here / "broken.fits").write_text("no FITS")
    for words in (
        [here / "absent.fits"],
        [here / "broken.fits"],
        [here],
        [raw, "-o", here / "absent" / "a.png"],
        [raw, "-o", here / "notes.svg"],
    ):
        ended = larun("plot", *words)
        assert (ended.code, ended.out) == (3, ""), words
        assert len(ended.err.splitlines()) == 1
    assert (here / "notes.svg").read_text() == "mine"
    assert larun("plot", raw, "-o", here / "notes.svg", "--overwrite").code == 0
    assert (here / "notes.svg").read_text().startswith("<?xml")


def test_a_picture_never_replaces_what_it_shows(larun: Larun, night: NightTruth, here: Path) -> None:
    raw = Path(shutil.copy(night.folder / "science-V-001.fits", here / "raw.png"))
    before = raw.read_bytes()
    for out in ("raw.png", "./raw.png"):
        assert larun("plot", raw, "-o", out, "--overwrite").code == 3
    assert raw.read_bytes() == before


def test_hostile_headers_and_names_are_text(larun: Larun, here: Path) -> None:
    header = fits.Header({"OBJECT": "$\\frac{$ <b>", "FILTER": "x_{", "EXPTIME": 10.0})
    folder = here / "in"
    folder.mkdir()
    path = folder / "a $x_{ \x1b[31m.fits"
    fits.PrimaryHDU(np.arange(400.0).reshape(20, 20), header).writeto(path)
    ended = larun("plot", path)
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    (made,) = (item for item in here.iterdir() if item.is_file())
    assert made.name == ended.out.strip()
    assert "/" not in ended.out
    assert made.read_bytes().startswith(PNG)


def test_without_matplotlib_the_extra_is_named(night: NightTruth, here: Path) -> None:
    script = "import sys; sys.modules['matplotlib'] = None\nfrom larun.cli import main\nmain()"
    words = ["plot", str(night.folder / "science-V-001.fits")]
    ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 4
    assert "pip install 'larun[plots]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(here.iterdir())


def test_regions() -> None:
    assert parse_region("1:20,3:40") == ((1, 20), (3, 40))
    assert parse_region(" : , 5: ") == ((None, None), (5, None))
    for text in ("", "1:2", "1:2,3", "a:b,c:d", "-1:5,0:5", "5:5,0:3", "1:2,3:4,5:6", "1.5:2,0:1"):
        with pytest.raises(OptionError, match="--region"):
            parse_region(text)
