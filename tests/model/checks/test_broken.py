"""Nights broken in many ways, one at a time, are named; nights with nothing wrong are left in peace."""

import hashlib
import shutil

import pytest

from larun.model.checks import suite
from tests.model.checks import clean_nights
from tests.model.checks.broken import FAULTS, clean_night, named, outcome, report_of

_NAMED = 0.93  # of the faults


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return clean_night(tmp_path_factory.mktemp("clean"))


def test_every_fault_has_a_name_of_its_own_and_a_test_that_exists():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 32
    there = {test.name for test in suite.TESTS}
    wanted = {name for fault in FAULTS for name in fault.tests}
    assert not wanted - there


def test_the_clean_night_is_left_in_peace(clean):
    assert not clean.report.faults, clean.report


@pytest.mark.slow
def test_broken_nights_are_named(clean, tmp_path, capsys):
    untouched = _digests(clean.raw)
    lines, found = [], 0
    for number, fault in enumerate(FAULTS):
        folder = tmp_path / f"{number:02d}"
        report = report_of(fault, clean, folder)
        shutil.rmtree(folder)
        lines.append(outcome(fault, report))
        found += named(fault, report)
    table = "\n".join(lines)
    with capsys.disabled():
        print(f"\n{table}\n{found} of {len(FAULTS)} found")
    assert _digests(clean.raw) == untouched
    assert found >= _NAMED * len(FAULTS), table


def test_a_night_under_other_conditions_is_left_in_peace():
    report = clean_nights.checked(2)
    assert not report.faults, report


def _digests(raw):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in raw.files("*")}
