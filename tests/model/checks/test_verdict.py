"""Verdicts and reports: what they say, in what order, and as plain values."""

import json

import numpy as np
import pytest

from larun.errors import OptionError
from larun.model.checks.suite import NightTest, run
from larun.model.checks.verdict import Evidence, Report, Series, Verdict, grade, judge, untested


def test_a_status_that_does_not_exist_is_refused():
    with pytest.raises(OptionError, match=r"status = 'awful'.*good, untested, doubtful, bad"):
        Verdict(test="gain", status="awful", meaning="")


@pytest.mark.parametrize(
    ("value", "error", "status"),
    [
        (1.0, 0.001, "good"),
        (1.04, 0.001, "doubtful"),
        (1.2, 0.001, "bad"),
        (1.2, 0.1, "good"),
        (np.nan, 0.1, "untested"),
    ],
)
def test_what_is_neither_significant_nor_important_is_good(value, error, status):
    assert judge(value, error, 1.0, tolerance=0.05) == status


@pytest.mark.parametrize(
    ("gap", "error", "status"),
    [
        (0.1, 0.001, "good"),
        (-0.3, 0.001, "doubtful"),
        (-0.3, 0.07, "good"),
        (0.6, 0.01, "bad"),
        (0.6, np.inf, "untested"),
    ],
)
def test_a_departure_has_two_limits(gap, error, status):
    assert grade(gap, error, doubtful=0.2, bad=0.5) == status


def test_a_report_tells_the_worst_first_and_becomes_json():
    evidence = Evidence(x_label="level", y_label="variance", series=[Series("pairs", [1, 2], [3, 4], [0.1, 0.1])])
    report = Report(
        "night",
        (
            Verdict(test="sky", status="doubtful", meaning="bright", where="V"),
            untested("linearity", "there is no ramp"),
            Verdict(test="gain", status="bad", meaning="wrong", value=1.79, error=0.011, evidence=evidence),
        ),
    )
    assert [verdict.test for verdict in report.faults] == ["gain", "sky"]
    assert report.worst == "bad"
    assert report.of("sky", "V")[0].meaning == "bright"
    assert report.of("sky", "R") == ()
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["verdicts"][2]["evidence"]["series"][0]["error"] == [0.1, 0.1]
    assert "gain: wrong" in str(report)
    assert report.of("gain")[0].number == "1.790 ± 0.011"


def test_a_test_that_cannot_be_run_or_says_nothing_is_a_verdict():
    def fails(material):
        raise OptionError("no pair of flats")

    report = run(None, "night", [NightTest("gain", fails), NightTest("read noise", lambda material: ())])
    assert [(v.test, v.status, v.meaning) for v in report] == [
        ("gain", "untested", "no pair of flats"),
        ("read noise", "untested", "there are no raw frames to tell it by"),
    ]
