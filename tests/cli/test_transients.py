"""``larun transients``: from a folder to sheets, moving objects and one page; frames that do not fit are told."""

import json

import numpy as np
import pytest
from astropy.io import fits

import larun as package
from tests.algorithms.pair_fields import pair

SHAPE = (200, 210)
START, RATE = np.array([60.3, 140.6]), np.array([80.0, -120.0])
NEW = (150.4, 60.2)
MINUTES = (0, 14, 31, 45)
HOSTILE = "<script>x</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four frames with a mover and, on the last two, a new source; one without stars; and the reference."""
    base = tmp_path_factory.mktemp("night")
    (base / "frames").mkdir()
    field = pair(SHAPE, seed=4, stars=160, change=0.0, brightest=3e5)
    rng = np.random.default_rng(3)

    def write(name, data, minutes):
        header = fits.Header({"GAIN": 1.0, "RDNOISE": 6.0, "EXPTIME": 60.0, "OBJECT": HOSTILE})
        header["DATE-OBS"] = f"2024-03-01T01:{minutes:02d}:00"
        raw = base / f"{name}.fits"
        fits.PrimaryHDU(np.rint(data).clip(0, 65535).astype(np.uint16), header).writeto(raw)
        return package.Frame.read(raw).calibrate(without=("bias", "dark", "flat"))

    for number, minutes in enumerate(MINUTES, 1):
        x, y = START + RATE * minutes / 60
        light = [6000.0, 9000.0 if number > 2 else 0.0]
        new = rng.poisson(field.psf.draw(SHAPE, [x, NEW[0]], [y, NEW[1]], light))
        write(f"now-{number}", field.science + rng.normal(0, 3, SHAPE) + new, minutes).write(
            base / "frames" / f"now-{number}.fits"
        )
    write("blank", rng.normal(500, 20, SHAPE), 50).write(base / "frames" / "zblank.fits")
    write("then", field.reference, 55).write(base / "reference.fits")
    return base


@pytest.fixture(scope="module")
def ended(folder, tmp_path_factory, larun):
    out = tmp_path_factory.mktemp("out") / "found"
    made = larun(
        "transients", folder, "-r", folder / "reference.fits", "-o", out, "--order", "0", "--max-rate", "300", "--json"
    )
    return made, out


def test_one_command_finds_what_is_new_and_what_moves(ended):
    made, out = ended
    assert made.code == 1  # the frame without stars
    known = json.loads(made.out)
    assert [row["done"] for row in known["frames"]] == [True] * 4 + [False]
    assert "zblank" in known["frames"][4]["reason"] or "blank.fits" in known["frames"][4]["reason"]
    best = known["sheets"][0]
    assert [best["x"], best["y"]] == pytest.approx(NEW, abs=0.5)
    assert sorted(one["frame"] for one in best["detections"]) == ["now-3.fits", "now-4.fits"]
    assert len(best["light_curve"]) == 4
    assert [point["flux"] > 5 * point["flux_error"] for point in best["light_curve"]] == [False, False, True, True]
    [moving] = known["tracklets"]
    assert moving["detections"] >= 3  # on one frame it passes a star, and is doubted
    assert moving["rate"] == pytest.approx(np.hypot(*RATE), rel=0.02)
    assert sum(sheet["tracklet"] == 1 for sheet in known["sheets"]) == moving["detections"]
    assert json.loads((out / "transients.json").read_text()) == {k: v for k, v in known.items() if k != "code"}


def test_all_that_is_told_is_on_disk(ended):
    made, out = ended
    known = json.loads(made.out)
    page = (out / "index.html").read_text()
    assert "<script>" not in page
    assert "What moves" in page
    for sheet in known["sheets"]:
        stem = f"candidate-{sheet['place']:04d}"
        assert f'src="sheets/{stem}.png"' in page
        assert (out / "sheets" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads((out / "sheets" / f"{stem}.json").read_text()) == sheet
    assert len(package.Tracklets.read(out / "tracklets.ecsv")) == 1
    assert package.DifferenceCurve.read(out / "lightcurves.ecsv").stars == len(known["sheets"])
    assert len(list((out / "differences").glob("*.fits"))) == 4


def test_nothing_is_replaced_unasked_and_options_are_checked(ended, folder, larun, tmp_path):
    _, out = ended
    again = larun("transients", folder, "-r", folder / "reference.fits", "-o", out)
    assert again.code == 3
    assert "--overwrite" in again.err
    for wrong in (("--probability", "2"), ("--order", "9"), ("--threshold", "-1"), ("--max-rate", "-3")):
        assert larun("transients", folder, "-o", tmp_path / "none", *wrong).code == 2
    missing = larun("transients", folder, "-r", tmp_path / "no.fits", "-o", tmp_path / "none")
    assert missing.code == 3
    assert "no.fits" in missing.err
    assert not (tmp_path / "none").exists()
    assert larun("transients", tmp_path / "nowhere", "-o", tmp_path / "none").code == 3


def test_without_a_reference_the_sharpest_frames_make_one(folder):
    from larun.model.subtracting.series import sharpest, stacked_reference

    paths = sorted((folder / "frames").glob("now*.fits"))
    assert sharpest(paths) == paths
    made = stacked_reference(paths)
    assert isinstance(made, package.Stack)
    assert made.shape == SHAPE
    assert not isinstance(stacked_reference(paths[:2]), package.Stack)
    with (
        pytest.warns(package.errors.LarunWarning, match="too few stars"),
        pytest.raises(package.errors.OptionError, match="none of 1 frames shows stars"),
    ):
        sharpest([folder / "frames" / "zblank.fits"])
