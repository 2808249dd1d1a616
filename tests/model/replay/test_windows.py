"""Windows computed from the raw files alone: bit for bit those of the whole product."""

import numpy as np
import pytest

from larun.detector import Section
from larun.model.planes import same_plane
from larun.model.replay.windows import Windows

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")


@pytest.fixture(scope="module")
def products(sample):
    """All masters, the frame as it was read, calibrated and cleaned, and what comes of arithmetic and geometry."""
    made = {f"{master.kind}-{number}": master for number, master in enumerate(sample.masters)}
    made |= {"raw": sample.raw, "frame": sample.frame, "clean": sample.clean}
    made["flagged"] = sample.frame.clean(replace=False, iterations=2)
    made["crop"] = sample.clean.crop((5, 150), (11, 140))
    made["bin"] = sample.clean.bin(3)
    made["sum"] = sample.clean + sample.frame
    made["scaled"] = (sample.frame * 2.5 - 3) / sample.clean
    return made


def differing(product, made, section):
    """Which planes differ from the crop of the product."""
    at = section.slices
    found = [
        name
        for name in ("data", "flags")
        if not same_plane(getattr(product, name)[at].copy(), getattr(made, name).copy())
    ]
    if product.variance is None or made.variance is None:
        found += [] if product.variance is made.variance is None else ["variance"]
    elif not same_plane(product.variance[at].copy(), made.variance.copy()):
        found.append("variance")
    pairs = [(item.master, item.variance[at].tobytes()) for item in product.shared]
    found += [] if pairs == [(item.master, item.variance.tobytes()) for item in made.shared] else ["shared"]
    return found


def random_sections(shape, rng, count):
    for _ in range(count):
        y = np.sort(rng.choice(shape[0] + 1, 2, replace=False))
        x = np.sort(rng.choice(shape[1] + 1, 2, replace=False))
        size = rng.integers(1, 60, 2)
        yield Section(int(y[0]), int(min(y[1], y[0] + size[0])), int(x[0]), int(min(x[1], x[0] + size[1])))


def all_differing(products, windows, count, seed=1):
    rng, wrong = np.random.default_rng(seed), []
    for name, product in products.items():
        for section in random_sections(product.shape, rng, count):
            planes = differing(product, windows.pixels(product.provenance, section), section)
            wrong += [(name, section, planes)] if planes else []
    return wrong


def test_a_thousand_windows_are_those_of_the_products(sample, products):
    windows = Windows(sample.folder)
    assert all_differing(products, windows, 1000 // len(products) + 1) == []
    assert windows.whole == {}  # no product had to be made as a whole
