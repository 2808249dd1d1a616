"""The harness of the benchmarks works: it measures, compares, and tells who did other work. Speed is not asserted."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.benchmarks import harness, wrong
from tests.benchmarks.__main__ import main
from tests.benchmarks.cases import Different, Size, cases_of
from tests.benchmarks.topics import TOPICS, combine, solve

FIELDS = {"topic", "case", "peer", "ratio", "larun_s", "peer_s", "larun_peak_mb", "peer_peak_mb", "check"}
FIELDS |= {"processor_ratio", "larun_processor_s", "peer_processor_s"}


def case_of(cases, name, **changes):
    return dataclasses.replace(next(case for case in cases if case.name == name), **changes)


def test_different_work_is_an_error_and_its_figures_are_not_told(tmp_path, capsys):
    code = main(["tests.benchmarks.wrong", "--json", str(tmp_path / "out.json"), "--folder", str(tmp_path / "work")])
    shown = capsys.readouterr()
    assert code == 1
    assert "other work vs peer: the results differ: off by 1" in shown.err
    assert "no_such_thing" in shown.err
    assert "absent vs peer: not here (no-such-program-anywhere)" in shown.out
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in rows] == ["same work", "slow peer", "process"]
    assert rows[2]["peer_peak_mb"] > 100  # that of the process the work is
    assert [step["size"] for step in rows[2]["growth"]] == ["128²"]
    for row in rows[:2]:
        assert row.keys() >= FIELDS
        assert row["check"].startswith("identical")
        assert row["ratio"] > 0
        assert 0 < row["larun_peak_mb"] < 1000
        assert [step["size"] for step in row["growth"]] == ["32²", "64²", "128²"]
        assert row["machine"]["versions"]["numpy"] == np.__version__


def test_a_topic_measures_larun_and_its_peer(tmp_path):
    case = case_of(combine.CASES, "median", quick=Size(64, frames=5))
    outcome = harness.run_case(case, "quick", tmp_path, pairs=1, grow=False)
    assert "equal to 1e-07 at all 4096 pixels" in outcome.check
    assert (outcome.topic, outcome.case, outcome.peer) == ("combine", "median", "ccdproc")
    assert outcome.larun_s > 0
    assert outcome.peer_s > 0


def test_a_wrong_median_and_a_wrong_clip_are_seen(tmp_path):
    size = Size(64, frames=20)
    combine.bias_frames(tmp_path, size)
    paths = combine._paths(tmp_path)
    stack = np.stack([harness_read(path) for path in paths])
    good = {"data": np.median(stack, axis=0).astype(np.float32)}
    assert "all" in combine._check_median(tmp_path, good, good)
    bad = {"data": good["data"].copy()}
    bad["data"][3, 4] += 0.5
    with pytest.raises(Different, match="medians differ"):
        combine._check_median(tmp_path, good, bad)
    ours, theirs = ({"data": clip(stack).astype(np.float32)} for clip in (combine._by_larun, combine._by_ccdproc))
    assert "pixels" in combine._check_clipped(tmp_path, ours, theirs)
    with pytest.raises(Different, match="ccdproc is not the clip it says"):
        combine._check_clipped(tmp_path, ours, good)


def test_wrong_transforms_and_fits_are_seen(tmp_path):
    case = case_of(solve.CASES, "two lists")
    case.make(tmp_path, case.quick)
    good = case.larun.digest(case.larun.work(case.larun.setup(tmp_path)))
    assert "larun 20 of 20" in case.check(tmp_path, good, good)
    bad = {"corners": good["corners"].copy()}
    bad["corners"][3] += 2.0
    assert "peer 19" in case.check(tmp_path, good, bad)
    with pytest.raises(Different, match="larun matched 19 of 20"):
        case.check(tmp_path, bad, good)
    fit = case_of(solve.CASES, "TAN-SIP fit")
    fit.make(tmp_path, fit.quick)
    made = [side.digest(side.work(side.setup(tmp_path))) for side in (fit.larun, fit.peer)]
    assert "pixels rms" in fit.check(tmp_path, *made)
    with pytest.raises(Different, match="the model is off"):
        fit.check(tmp_path, *made[::-1])


def harness_read(path):
    from astropy.io import fits

    return fits.getdata(path).astype(np.float64)


def test_every_topic_says_what_it_is(tmp_path):
    for topic in TOPICS:
        cases = cases_of(topic)
        assert cases
        for case in cases:
            assert case.topic == topic
            assert case.bar is None or case.bar > 0
            assert 0 < case.units(case.quick) < case.units(case.full)


def test_the_parent_stays_light():
    code = "import sys; from tests.benchmarks import harness; print({'numpy', 'larun', 'astropy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=harness.ROOT)
    assert done.stdout.strip() == "set()"


def test_the_peak_of_memory_counts_what_is_held():
    # in a process of its own: the peak of this one may lie far above what is held here
    code = (
        "import numpy as np; from tests.benchmarks.worker import peak_megabytes; before = peak_megabytes();"
        "held = np.ones(100_000_000); print(peak_megabytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=harness.ROOT)
    assert 750 < float(done.stdout) < 1000


def test_a_size_shrinks_with_its_sky():
    size = Size(4096, frames=20, stars=20000, tracks=3000).at(0.5)
    assert size == Size(2048, frames=20, stars=5000, tracks=750)
    assert size.pixels == 20 * 2048**2
    assert wrong.CASES[0].units(Size(8)) == 64
