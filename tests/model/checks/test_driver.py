"""From a folder to the material of the tests, whatever cannot be reduced."""

import attrs
import pytest

import larun
from larun.model.checks import driver
from larun.model.checks.verdict import Report
from larun.simulate import Camera
from tests.model.checks.night import OPTIONS, make

_SMALL = attrs.evolve(OPTIONS, camera=Camera(shape=(96, 96)), biases=3, darks=1, flats=2, frames=1)


@pytest.fixture
def materials(monkeypatch):
    seen = []

    def run(material, subject, tests=None):
        if tests is None:  # not those that every reduction runs
            seen.append(material)
        return Report(subject)

    monkeypatch.setattr(driver.suite, "run", run)
    return seen


def test_a_master_of_files_that_are_gone_does_not_count(tmp_path, materials):
    raw = make(tmp_path / "raw", seed=1, options=_SMALL)
    larun.Night(raw.folder).check(out=tmp_path / "out")
    raw.remove("dark-*")
    larun.Night(raw.folder).check(out=tmp_path / "out")
    assert [len(material.masters.of("dark")) for material in materials] == [2, 0]
    assert [len(material.masters.of("flat")) for material in materials] == [2, 2]
    assert [len(material.facts) for material in materials] == [2, 2]  # without darks they are tested all the same


def test_a_master_that_cannot_be_made_is_a_verdict_and_the_rest_is_tested(tmp_path, materials):
    raw = make(tmp_path / "raw", seed=1, options=_SMALL)
    raw.remove("science-*")
    raw.cards("*", GAIN=4.0)
    report = larun.Night(raw.folder).check()
    assert {verdict.test for verdict in report} == {"reduction"}
    assert "noise that gain and read noise imply" in report.faults[0].meaning
    assert len(materials[0].masters.of("dark")) == 2
