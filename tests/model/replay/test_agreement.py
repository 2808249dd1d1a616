"""The story of flagged pixels is what was simulated: a sample of what ``agreement`` counts in full."""

import numpy as np
import pytest

from tests.model.replay.agreement import judged, opened, products, spoilt_night

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")

MOST = 6  # of the pixels with the same flags


@pytest.fixture(scope="module", params=[3, 4], ids=["masked", "unmasked"])
def night(request, tmp_path_factory):
    return spoilt_night(tmp_path_factory.mktemp("spoilt"), request.param, masked=bool(request.param % 2))


def test_every_reason_is_true_and_none_is_missing(night):
    windows, rng, told = opened(night), np.random.default_rng(1), set()
    assert any(mask.any() for mask in night.bled.values())
    for product in products(night):
        image, frame = product.image, product.frame
        if frame is not None and frame.path.name not in ("science-V-001.fits", "science-R-002.fits"):
            continue
        places = []
        for value in np.unique(image.flags[image.flags != 0]):
            places += rng.permutation(np.argwhere(image.flags == value))[:MOST].tolist()
        wrong, causes = judged(night, product, windows, places)
        assert wrong == [], "\n".join(f"false {a}, missing {b}: {c}" for a, b, c in wrong)
        told |= set(causes)
    expected = {
        ("BAD", "master_bias", "offset"),
        ("BAD", "master_bias", "raw counts"),
        ("BAD", "master_bias", "no value"),
        ("BAD", "master_dark", "excess"),
        ("BAD", "master_dark", "no value"),
        ("COSMIC", "clean", "cosmic ray"),
        ("FLAT_INVALID", "master_flat", "bad in a master"),
        ("FLAT_INVALID", "master_flat", "no value"),
        ("FLAT_INVALID", "master_flat", "sensitivity"),
        ("INTERPOLATED", "clean", "replaced"),
        ("NONLINEAR", "calibrate", "raw counts"),
        ("NO_DATA", "raw", "no value"),
        ("SATURATED", "calibrate", "raw counts"),
    }
    if night.given["frames"].any():
        expected |= {("BAD", "calibrate", "given mask"), ("BAD", "master_bias", "given mask")}
    assert told >= expected
