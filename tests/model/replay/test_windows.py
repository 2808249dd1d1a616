"""Windows computed from the raw files alone: bit for bit those of the whole product."""

import attrs
import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import flags as fl
from larun.detector import Section
from larun.errors import OptionError, RawNotFound
from larun.model.planes import same_plane
from larun.model.replay import compare, window_rules
from larun.model.replay.windows import Windows
from larun.provenance import Provenance
from tests.conftest import real_data
from tests.model.cameras import TwoAmplifiers

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")


@pytest.fixture(scope="module")
def products(struck):
    """All masters, the frame as it was read, calibrated and cleaned, and what comes of arithmetic and geometry."""
    made = {f"{master.kind}-{number}": master for number, master in enumerate(struck.masters)}
    made |= {"raw": struck.raw, "frame": struck.frame, "clean": struck.clean}
    made["flagged"] = struck.frame.clean(replace=False, iterations=2)
    made["crop"] = struck.clean.crop((5, 150), (11, 140))
    made["bin"] = struck.clean.bin(3)
    made["sum"] = struck.clean + struck.frame
    made["scaled"] = (struck.frame * 2.5 - 3) / struck.clean
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


def test_a_thousand_windows_are_those_of_the_products(struck, products):
    windows = Windows(struck.folder)
    assert all_differing(products, windows, 1000 // len(products) + 1) == []
    assert windows.whole == {}  # no product had to be made as a whole


def test_surroundings_that_are_too_narrow_are_found_out(products, struck, monkeypatch):
    iterations = products["clean"].provenance.step.parameters["iterations"]
    monkeypatch.setattr(window_rules, "_SIGHT", -window_rules._FILL // iterations)
    windows = Windows(struck.folder)
    assert all_differing({"clean": products["clean"]}, windows, 60)
    assert windows.whole == {}


def test_the_frame_has_what_makes_windows_hard(struck):
    counts = fl.counts_of(struck.clean.flags)
    assert counts["COSMIC"] > 300
    assert counts["SATURATED"] > 10
    assert counts["FLAT_INVALID"] > 160
    assert len(struck.clean.shared) == 3


def test_darks_that_hold_their_bias_and_masks_that_were_given(struck, tmp_path):
    mask = np.zeros(struck.frame.shape, np.uint8)
    mask[30:40, 50:52] = 1
    fits.writeto(tmp_path / "mask.fits", mask)
    plain = larun.OverscanOptions(method="none")
    options = larun.BuildOptions(bad_pixels=tmp_path / "mask.fits", overscan=plain)
    dark = larun.MasterDark.combine(struck.paths("dark"), options=options)
    assert dark.bias_level[0] > 500
    light = larun.Frame.read(struck.paths("dark")[0])
    frame = light.calibrate(dark, without=("bias", "flat"), overscan=plain, bad_pixels=tmp_path / "mask.fits")
    bias = larun.MasterBias.combine(struck.paths("bias"), method="median", options=options)
    windows = Windows([struck.folder, tmp_path])
    assert all_differing({"dark": dark, "frame": frame, "bias": bias}, windows, 25) == []
    assert windows.whole == {}


def two_amplifiers(folder, rng, kind, number, level=0.0, shape=(90, 168)):
    """A raw file of the camera with two amplifiers, whose level drifts along the columns."""
    ny, nx = shape
    left = np.arange(nx) < nx // 2
    electrons = np.zeros(shape)
    electrons[:, 20 : nx - 20] = rng.poisson(level, (ny, nx - 40))
    electrons += np.where(left, 5.0, 6.0) * rng.standard_normal(shape)
    drift = 5 * np.sin(np.arange(ny) / 9)[:, None]
    counts = np.where(left, 1000.0, 1300.0) + drift + electrons / np.where(left, *TwoAmplifiers.gains)
    header = fits.Header({"INSTRUME": "two amplifiers", "FILTER": "V", "IMAGETYP": kind})
    header["EXPTIME"] = 10.0 if level else 0.0
    path = folder / f"{kind}-{number}.fits"
    fits.writeto(path, np.clip(counts.round(), 0, 65535).astype(np.uint16), header)
    return path


@pytest.mark.parametrize("method", ["median", "spline"])
def test_two_amplifiers_with_an_overscan_that_changes_from_row_to_row(tmp_path, method):
    rng = np.random.default_rng(7)
    kinds = {"bias": 0.0, "flat": 20000.0, "object": 500.0}
    paths = {kind: [two_amplifiers(tmp_path, rng, kind, n, level) for n in range(4)] for kind, level in kinds.items()}
    options = larun.BuildOptions(overscan=larun.OverscanOptions(method=method))
    bias = larun.MasterBias.combine(paths["bias"], options=options)
    flat = larun.MasterFlat.combine(paths["flat"], bias=bias, options=options)
    frame = larun.Frame.read(paths["object"][0]).calibrate([bias, flat], overscan=options.overscan)
    windows = Windows(tmp_path)
    made = {"bias": bias, "flat": flat, "frame": frame, "clean": frame.clean(fwhm=2.5)}
    assert all_differing(made, windows, 15) == []
    assert windows.whole == {}


def test_windows_of_a_real_night():
    folder = real_data("nickel")
    biases = sorted(folder.glob("d100*.fits.fz"))[:4]
    bias = larun.MasterBias.combine(biases)
    frame = larun.Frame.read(folder / "d1059.fits.fz").calibrate(bias, without=("dark", "flat"))
    windows = Windows([*biases, folder / "d1059.fits.fz"])
    assert all_differing({"bias": bias, "frame": frame}, windows, 2) == []
    assert windows.whole == {}


def test_the_public_door(struck, tmp_path):
    made = larun.window(struck.clean, (20, 61), (100, 131), raw=struck.folder)
    cut = struck.clean.crop((20, 61), (100, 131))
    assert type(made) is type(cut)
    assert compare.differences(cut, made) == ()
    path = struck.masters.of("bias")[0].write(tmp_path / "bias.fits")
    assert larun.window(path, (0, 5), (0, 5), raw=struck.folder).shape == (5, 5)
    with pytest.raises(OptionError, match="must lie within"):
        larun.window(struck.clean, (170, 190), (0, 5), raw=struck.folder)
    with pytest.raises(OptionError, match="has no pixels"):
        larun.window(struck.clean.detect(), (0, 5), (0, 5), raw=struck.folder)
    with pytest.raises(RawNotFound):
        larun.window(path, (0, 5), (0, 5), raw=tmp_path)


def without(record, **fitted):
    """A record whose step learnt something else."""
    old = Provenance(step=attrs.evolve(record.step, fitted=fitted), parents=record.parents)
    assert old.id == record.id  # what was learnt is no part of an id
    return old


def test_what_has_no_rule_or_lacks_what_is_needed_is_made_as_a_whole(struck):
    section = Section(20, 50, 30, 70)
    median = struck.frame.clean(engine="median", fwhm=2.5)
    windows = Windows(struck.folder)
    assert differing(median, windows.pixels(median.provenance, section), section) == []
    assert list(windows.whole) == ["clean"]
    bias = struck.masters.of("bias")[0]
    for gone in ("scatter", "frames"):
        kept = {name: value for name, value in bias.provenance.step.fitted.items() if name != gone}
        windows = Windows(struck.folder)
        assert differing(bias, windows.pixels(without(bias.provenance, **kept), section), section) == []
        assert f"does not hold {gone}" in windows.whole["master_bias"]


@pytest.mark.parametrize("frames", [3, [{}] * 5, [{"overscan": [{"level": "x", "noise": 0}]}] * 5])
def test_a_record_that_makes_no_sense_is_no_error_from_deep_inside(struck, frames):
    bias, section = struck.masters.of("bias")[0], Section(20, 50, 30, 70)
    windows = Windows(struck.folder)
    windows.pixels(without(bias.provenance, frames=frames), section)
    assert "master_bias" in windows.whole
