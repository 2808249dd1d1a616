"""``larun provenance``: what differs, who used a file, drawings and exports."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import larun as package
from larun.simulate import NightTruth
from tests.cli.conftest import Ended, Larun


@pytest.fixture(scope="module")
def frame(reduced: tuple[Path, Ended]) -> Path:
    return reduced[0] / "frames" / "science-V-001.fits"


@pytest.fixture(scope="module")
def other(night: NightTruth, reduced: tuple[Path, Ended], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frame, cleaned otherwise and without a dark."""
    masters = package.Masters.read(reduced[0] / "masters")
    raw = package.Frame.read(night.folder / "science-V-001.fits")
    made = raw.calibrate(masters, without=("dark",)).clean(sigma=6.0)
    return made.write(tmp_path_factory.mktemp("other") / "frame.fits")


def test_differences_in_words_and_as_json(larun: Larun, frame: Path, other: Path) -> None:
    ended = larun("provenance", frame, other, "--diff")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.rstrip() for line in ended.out.splitlines()]
    assert lines[0].startswith(f"A  {frame}")
    assert "clean.sigma 4.5 → 6" in lines
    assert "calibrate.without [] → ['dark']" in lines
    assert any(line.startswith("dark › master_dark v") and line.endswith("only in A") for line in lines)
    plain = json.loads(larun("provenance", frame, other, "--diff", "--json").out)
    assert not plain["same"]
    assert {cause["kind"] for cause in plain["causes"]} == {"input", "parameter"}
    same = larun("provenance", frame, frame, "--diff")
    assert same.out.endswith("all that decides pixels is the same\n")


def test_products_that_used_a_raw_file(larun: Larun, night: NightTruth, reduced: tuple[Path, Ended]) -> None:
    out = reduced[0]
    ended = larun("provenance", out, "--uses", night.folder / "flat-R-001.fits")
    assert (ended.code, ended.err) == (0, "")
    assert "5 of 13 products" in ended.out
    assert "science-V-001" not in ended.out
    plain = json.loads(larun("provenance", out, "--uses", "flat-R-001.fits", "--json").out)
    assert plain["searched"] == 13
    found = {Path(row["path"]).name: row for row in plain["products"]}
    assert sorted(found) == [
        "flat-R-192x192.fits",
        "science-R-001.ecsv",
        "science-R-001.fits",
        "science-R-002.ecsv",
        "science-R-002.fits",
    ]
    (use,) = found["science-R-001.fits"]["uses"]
    assert use == {"role": "flat", "step": "calibrate", "through": [["master_flat", "frame"]]}
    none = larun("provenance", out, "--uses", "nothing.fits")
    assert (none.code, none.out.startswith("0 of 13 products")) == (0, True)


def test_drawing_and_export(larun: Larun, frame: Path, tmp_path: Path) -> None:
    drawing, export = tmp_path / "record.svg", tmp_path / "record.json"
    ended = larun("provenance", frame, "--svg", drawing, "--prov", export)
    assert ended == Ended(0, f"{drawing}\n{export}\n", "")
    record = package.Frame.read(frame).provenance
    assert drawing.read_text(encoding="utf-8") == record.to_svg()
    ElementTree.parse(drawing)
    model = pytest.importorskip("prov.model")
    from larun.provenance.prov_export import from_prov

    document = model.ProvDocument.deserialize(str(export), format="json")
    assert from_prov(document).id == record.id
    assert str(frame.parent) not in export.read_text() + drawing.read_text(encoding="utf-8")
    again = larun("provenance", frame, "--svg", drawing, "--json")  # its own files it replaces
    assert json.loads(again.out) == {"svg": str(drawing)}


def test_files_of_others_are_never_replaced(larun: Larun, frame: Path, tmp_path: Path) -> None:
    for option, name in (("--svg", "mine.svg"), ("--prov", "mine.json")):
        mine = tmp_path / name
        mine.write_text("mine")
        ended = larun("provenance", frame, option, mine)
        assert ended.code == 3
        assert "never replaced" in ended.err
        assert mine.read_text() == "mine"


def test_options_that_cannot_be_combined_are_refused_in_words(larun: Larun, frame: Path, tmp_path: Path) -> None:
    svg, folder = tmp_path / "a.svg", frame.parent
    for words, told in (
        ([frame, frame], "with --diff"),
        ([frame, "--diff"], "name another"),
        ([frame, frame, "--diff", "--uses", "x"], "ask for one of them"),
        ([frame, frame, "--diff", "--svg", svg], "leave --diff out"),
        ([folder, "--uses", "x", "--prov", tmp_path / "a.json"], "leave --uses out"),
        ([folder, frame, "--uses", "x"], "with --diff"),
        ([frame, "--svg", tmp_path / "a.png"], "end its name in .svg"),
        ([frame, "--prov", tmp_path / "a.xml"], "end its name in .json"),
        ([folder, "--uses", tmp_path / "absent.fits"], "no such file"),
    ):
        ended = larun("provenance", *words)
        assert (ended.code, ended.out) == (2, ""), words
        assert told in " ".join(ended.err.split()), words
    assert not list(tmp_path.iterdir())
    assert larun("provenance", frame, "--uses", "x").code == 3


def test_a_damaged_product_is_named_and_the_others_are_searched(
    larun: Larun, reduced: tuple[Path, Ended], tmp_path: Path
) -> None:
    shutil.copytree(reduced[0] / "masters", tmp_path / "masters")
    broken = tmp_path / "masters" / "flat-V-192x192.fits"
    broken.write_bytes(broken.read_bytes()[:-2880])
    ended = larun("provenance", tmp_path, "--uses", "bias-001.fits")
    assert ended.code == 0
    assert "flat-V-192x192.fits" in ended.err
    assert "4 of 4 products" in ended.out
