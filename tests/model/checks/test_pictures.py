"""Pictures of verdicts."""

from larun.model.checks.verdict import Evidence, Report, Series, Verdict
from larun.report.check import draw


def test_two_verdicts_on_the_same_thing_have_a_picture_each(tmp_path):
    evidence = Evidence(x_label="frame", y_label="sky", series=[Series("frames", [1, 2], [3, 4])])
    told = ("bright", "steep", "")
    verdicts = [Verdict(test="sky", status="doubtful", where="d1", meaning=m, evidence=evidence) for m in told]
    verdicts.append(Verdict(test="sky", status="good", meaning="even", evidence=evidence))
    verdicts.append(Verdict(test="gain", status="untested", meaning="no flats"))
    made = draw(Report("night", tuple(verdicts)), tmp_path / "pictures")
    assert list(made) == ["sky d1", "sky d1 #2", "sky d1 #3", "sky"]
    assert sorted(made.values()) == sorted((tmp_path / "pictures").iterdir())
