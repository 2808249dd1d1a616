"""What surrounds the benchmarks: growth, the limits of the machine, and the page that is made of them."""

import importlib
import json
from pathlib import Path

import pytest

from tests.benchmarks import ceilings, scaling
from tests.benchmarks.cases import Size, find_case

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def performance(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("make_performance")


def test_a_point_of_a_series_is_measured_and_its_inputs_removed(tmp_path):
    series = scaling.Series("pixels", (("background", "mesh-64", "sep"),), full=(128,), quick=(128,))
    (row,) = scaling.measure(series, 128, tmp_path)
    assert row.keys() == {"series", "value", "topic", "case", "larun_s", "larun_peak_mb"}
    assert row["larun_s"] > 0
    assert not any(tmp_path.iterdir())


def test_every_series_names_cases_that_are_there():
    for series in scaling.SERIES:
        for names in series.cases:
            case = find_case(*names)
            small, large = (case.units(series.size(value)) for value in series.full[:: len(series.full) - 1])
            assert small < large or series.name == "stars"
    assert scaling.SERIES[2].size(2000) == Size(4096, stars=2000)


def test_the_limits_follow_from_what_was_measured():
    found = ceilings.measure(pixels=2**16)
    assert all(value >= 0 for value in found.values())
    bounds = ceilings.limits({"copy_threads_gb_s": 10.0, "page_ns": 0.0, "sha256_gb_s": 1.0}, pixels=10**6)
    assert bounds["read"] == pytest.approx(6e6 / 10e9)
    assert bounds.keys() == ceilings.TRAFFIC.keys()


def test_the_page_is_what_its_figures_give(performance):
    """``docs/make_performance.py`` writes it."""
    figures = json.loads(performance.KEPT.read_text(encoding="utf-8"))
    assert performance.page(figures) == performance.PAGE.read_text(encoding="utf-8"), "run docs/make_performance.py"


def test_a_new_file_replaces_the_topics_it_holds(performance, tmp_path):
    kept = json.loads(performance.KEPT.read_text(encoding="utf-8"))
    topic = kept["benchmarks"][0]["topic"]
    fresh = kept["benchmarks"][0] | {"case": "another", "ratio": 12.0}
    (tmp_path / "new.json").write_text(json.dumps([fresh]), encoding="utf-8")
    made = performance.load(kept, [tmp_path / "new.json"])
    assert [row["case"] for row in made["benchmarks"] if row["topic"] == topic] == ["another"]
    others = [row for row in kept["benchmarks"] if row["topic"] != topic]
    assert [row for row in made["benchmarks"] if row["topic"] != topic] == others
    assert f"| {topic} another |" in performance.page(made)
