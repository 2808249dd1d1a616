"""``larun reduce --template``: what is subtracted, what is left out, and that nothing is done twice."""

import json
import shutil

import pytest

import larun as package


@pytest.fixture
def again(reduced, tmp_path):
    """A reduction of one's own."""
    out = tmp_path / "out"
    shutil.copytree(reduced[0], out)
    return out


def test_a_template_is_subtracted_from_frames_of_its_field(larun, night, again):
    template = again / "frames" / "science-V-001.fits"
    ended = larun("reduce", night.folder, again, "--template", template, "--json")
    assert ended.code == 0, ended.err
    made = json.loads(ended.out)
    assert len(made["rows"]) > 4
    by_name = {row["name"]: row for row in made["differences"]}
    assert by_name["science-V-001"]["message"] == "is the template"
    assert "the template has V" in by_name["science-R-001"]["message"]
    assert by_name["science-V-002"]["status"] == "done"
    assert sorted(path.name for path in (again / "differences").iterdir()) == [
        "science-V-002.ecsv",
        "science-V-002.fits",
    ]
    difference = package.DifferenceImage.read(again / "differences" / "science-V-002.fits")
    parents = {node.id for node in difference.provenance.walk()}
    assert package.Frame.read(template).provenance.id in parents
    before = (again / "differences" / "science-V-002.fits").read_bytes()
    told = larun("reduce", night.folder, again, "--template", template)
    assert told.code == 0
    assert "science-V-002: there already" in told.out
    assert "1 of 4 frames less the template" in told.out
    assert (again / "differences" / "science-V-002.fits").read_bytes() == before


def test_what_is_no_template_is_refused_before_anything_is_reduced(larun, night, tmp_path):
    out = tmp_path / "out"
    missing = larun("reduce", night.folder, out, "--template", tmp_path / "none.fits")
    assert missing.code == 3
    assert "none.fits" in missing.err
    raw = larun("reduce", night.folder, out, "--template", night.folder / "science-V-001.fits")
    assert raw.code == 2
    assert "is a raw file" in raw.err
    assert larun("reduce", night.folder, out, "--dry-run", "--template", night.folder / "science-V-001.fits").code == 2
    assert not out.exists()
