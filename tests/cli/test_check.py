"""``larun check`` on products: as many processes as are told, and options that cannot apply."""

import json

import pytest

from larun.model.checks.suite import TESTS


@pytest.fixture(scope="module")
def usual(larun, reduced):
    """The verdicts on the products of a night, found in this process."""
    return json.loads(larun("check", reduced[0], "--jobs", 1, "--json").out)["verdicts"]


def test_products_are_tested_by_several_processes_and_drawn(larun, reduced, usual, tmp_path):
    ended = larun("check", reduced[0], "--jobs", 2, "--json", "--plots", tmp_path / "pictures")
    report = json.loads(ended.out)
    assert ended.code == (1 if report["worst"] == "bad" else 0)
    assert report["verdicts"] == usual
    assert {v["status"] for v in usual if v["test"] in ("gain", "overscan drift", "hot pixels")} == {"untested"}
    assert len({v["test"] for v in usual}) == len(TESTS)
    assert sorted(report["pictures"].values()) == sorted(map(str, (tmp_path / "pictures").iterdir()))


def test_how_artificial_stars_are_searched_can_be_told(larun, reduced, usual):
    ended = larun("check", reduced[0], "--jobs", 1, "--json", "--set", "detect.threshold=20")
    both = (json.loads(ended.out)["verdicts"], usual)
    high, low = ([v["value"] for v in verdicts if v["test"] == "completeness"] for verdicts in both)
    assert len(high) == len(low) > 0
    assert all(b - a > 1.0 for a, b in zip(high, low, strict=True))  # magnitudes: 2.5 log 4 = 1.5


def test_what_changes_nothing_in_products_is_refused(larun, reduced, tmp_path):
    out, _ = reduced
    ended = larun("check", out, "--out", tmp_path / "other")
    assert ended.code == 2
    assert "holds products already" in " ".join(ended.err.split())
    ended = larun("check", out, "--keyword", "GAIN=2", "--set", "overscan.method=spline")
    assert ended.code == 2
    assert "keywords.GAIN, overscan.method: changes nothing" in " ".join(ended.err.split())
    assert larun("check", out, "--jobs", 0).code == 2
