"""Nights broken in many ways, one at a time, are named; nights with nothing wrong are left in peace."""

import hashlib

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
    assert not wanted - there or not there


def test_the_clean_night_is_left_in_peace(clean):
    assert not clean.report.faults, clean.report


def test_broken_nights_are_named(clean, tmp_path, capsys):
    untouched = _digests(clean.raw)
    lines, found, asked = [], 0, 0
    for number, fault in enumerate(FAULTS):
        if not _asked(fault):
            continue
        folder = tmp_path / f"{number:02d}"
        report = report_of(fault, clean, folder)
        lines.append(outcome(fault, report))
        found += named(fault, report)
        asked += 1
    table = "\n".join(lines)
    with capsys.disabled():
        print(f"\n{table}\n{found} of {asked} found")
    assert _digests(clean.raw) == untouched
    assert found >= _NAMED * asked, table


def test_nights_under_all_conditions_are_left_in_peace():
    reports = [clean_nights.checked(number) for number in range(2)]
    assert not clean_nights.false_alarms(reports), "\n".join(str(report) for report in reports)


def _asked(fault):
    """Whether there is a test that could find it."""
    return any(test.name in fault.tests for test in suite.TESTS)


def _digests(raw):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in raw.files("*")}
