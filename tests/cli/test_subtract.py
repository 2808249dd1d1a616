"""``larun subtract``: what is told and written, and frames that do not fit."""

import json

import numpy as np
import pytest
from astropy.io import fits

import larun as package
from tests.algorithms.pair_fields import pair


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    field = pair((300, 310), seed=4, stars=330, change=0.0, brightest=4e5)
    new = np.random.default_rng(1).poisson(field.psf.draw((300, 310), [150.2], [140.6], [9000.0]))
    paths = []
    for name, data in (("now", field.science + new), ("then", field.reference)):
        header = fits.Header({"GAIN": 1.0, "RDNOISE": 6.0, "EXPTIME": 60.0})
        raw = folder / f"raw-{name}.fits"
        fits.PrimaryHDU(np.rint(data).clip(0, 65535).astype(np.uint16), header).writeto(raw)
        paths.append(folder / f"{name}.fits")
        package.Frame.read(raw).calibrate(without=("bias", "dark", "flat")).write(paths[-1])
    return paths


def test_differences_and_candidates_are_written(larun, frames, tmp_path):
    now, then = frames
    out = tmp_path / "differences"
    ended = larun("subtract", now, "-r", then, "-o", out, "--order", "1", "--json")
    assert ended.code == 0, ended.out
    row = json.loads(ended.out)["frames"][0]
    assert (row["convolved"], row["aligned"]) == ("reference", None)
    made = package.DifferenceImage.read(out / "now.fits")
    assert made.provenance.step.operation == "subtract"
    table = package.SourceCatalog.read(out / "now.ecsv").table
    assert np.hypot(table["x"][0].value - 150.2, table["y"][0].value - 140.6) < 0.5
    assert row["found"] == len(table)
    assert "exists" in larun("subtract", now, "-r", then, "-o", out).out
    again = larun("subtract", now, "-r", then, "-o", out, "--order", "1", "--overwrite")
    assert "without doubt" in again.out
    assert "1 of 1 frames" in again.out
    again = larun("subtract", now, "-r", then, "-o", out, "--method", "zogy", "--overwrite")
    assert "both filtered" in again.out
    table = package.SourceCatalog.read(out / "now.ecsv").table
    assert np.hypot(table["x"][0].value - 150.2, table["y"][0].value - 140.6) < 0.5
    assert "must be one of" in larun("subtract", now, "-r", then, "-o", tmp_path / "other", "--method", "sfft").out


def test_what_does_not_fit_is_told(larun, frames, tmp_path):
    now, then = frames
    assert larun("subtract", now, "-r", then, "-o", tmp_path, "--basis", "bessel").code == 2
    ended = larun("subtract", tmp_path / "none.fits", "-r", then, "-o", tmp_path / "out")
    assert ended.code == 1
    assert "not subtracted" in ended.out
