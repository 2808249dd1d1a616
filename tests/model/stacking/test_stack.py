"""Stacks: light, errors, coverage and record of frames put on one another; real series too."""

import math
import warnings

import attrs
import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.algorithms.fwhm import FwhmEstimate
from larun.algorithms.quickstars import QuickStars
from larun.errors import AlreadyApplied, LarunWarning, NotAligned, OptionError
from larun.model.planes import Shared
from larun.model.stacking import members
from tests.conftest import real_data
from tests.model.aligning.test_align import SHAPE, exposure, field, turn

SHIFTS = [(0.0, 0.0), (3.4, -2.1), (-5.7, 4.2), (8.3, 6.6), (-2.5, -7.9), (11.1, 0.3)]
INSIDE = larun.StackOptions(footprint="reference")
FWHM = (3.0, 2.6, 3.4, 3.1, 2.8, 3.6)


@pytest.fixture(scope="module")
def stars():
    return field()


@pytest.fixture(scope="module")
def frames(stars):
    return [
        exposure(stars, matrix=turn(0.3 * k), offset=shift, fwhm=fwhm, seed=20 + k)
        for k, (shift, fwhm) in enumerate(zip(SHIFTS, FWHM, strict=True))
    ]


@pytest.fixture(scope="module")
def made(frames):
    return larun.Stack.combine(frames, reference=frames[0])


def lonely(stars, margin=16):
    x, y, _ = stars
    near = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(near, 99)
    inside = (x > margin) & (x < SHAPE[1] - margin) & (y > margin) & (y < SHAPE[0] - margin)
    return inside & (near.min(axis=1) > 13)


def test_stars_have_their_light_and_lie_where_they_were(stars, frames, made):
    grid = made.provenance.step.fitted
    assert len(grid["frames"]) == len(frames)
    assert made.shape[0] > SHAPE[0]
    assert made.shape[1] > SHAPE[1]
    # where the first pixel of the reference lies on the stack
    inside = larun.Stack.combine(frames, reference=frames[0], options=INSIDE)
    assert inside.shape == SHAPE
    seen = made.contributors > 0
    assert all(seen.any(axis=axis)[edge] for axis in (0, 1) for edge in (1, -2))  # no wider than it must be
    use = lonely(stars) & (stars[2] > 3000)
    positions = np.column_stack([stars[0][use], stars[1][use]])
    got = inside.photometer(positions, radii=(6.0,), unit="pixel").table
    pull = (np.asarray(got["aperture_flux_1"]) - stars[2][use] * 0.9985) / np.asarray(got["aperture_flux_error_1"])
    assert use.sum() >= 8
    assert np.max(np.abs(pull)) < 4
    found = inside.detect().table
    away = np.hypot(np.asarray(found["x"])[:, None] - stars[0][use], np.asarray(found["y"])[:, None] - stars[1][use])
    assert np.max(away.min(axis=0)) < 0.1


def test_it_is_deeper_and_says_so(frames, made):
    inside = larun.Stack.combine(frames, reference=frames[0], options=INSIDE, method="mean")
    sky = np.median(frames[0].data)
    corner = inside.data[2:40, 2:40] - sky
    good = np.abs(corner) < 5 * math.sqrt(np.median(inside.variance))
    assert np.std(corner[good]) == pytest.approx(math.sqrt(np.median(inside.variance[2:40, 2:40])), rel=0.08)
    assert np.median(inside.variance) < np.median(frames[0].variance) / 5
    one, all_of_them = (np.sort(np.asarray(item.detect().table["snr"])) for item in (frames[0], inside))
    assert np.median(all_of_them[:20] / one[:20]) > 2


def test_order_names_and_memory_decide_nothing(frames, made, tmp_path):
    paths = [frame.write(tmp_path / f"{name}.fits") for name, frame in zip("fbdace", frames, strict=True)]
    one = larun.Stack.combine(frames[::-1], reference=frames[0])
    two = larun.Stack.combine(paths, reference=paths[0], options=larun.StackOptions(max_memory=1e5))
    for other in (one, two):
        assert other.provenance.id == made.provenance.id
        assert other.data.tobytes() == made.data.tobytes()
        assert other.variance.tobytes() == made.variance.tobytes()
        assert np.array_equal(other.flags, made.flags)


def test_a_stack_is_a_frame_with_planes_of_its_own(made, tmp_path):
    again = larun.Image.read(made.write(tmp_path / "stack.fits"))
    assert type(again) is larun.Stack
    assert again.identical(made)
    part = again.crop((10, 60), (20, 50))
    assert part.coverage.shape == part.contributors.shape == (30, 50)
    assert np.array_equal(part.rejected, made.rejected[20:50, 10:60])
    assert again.bin(2).contributors.shape == (made.shape[0] // 2, made.shape[1] // 2)
    assert int(made.contributors.max()) == 6
    assert made.coverage.max() == pytest.approx(1, abs=1e-6)
    for verb in (made.calibrate, made.clean):
        with pytest.raises(AlreadyApplied):
            verb()
    with pytest.raises(OptionError, match="resampled before"):
        larun.Stack.combine([made, made.crop((0, 100), (0, 100))])
    assert len(made.detect().photometer().table) > 20


def test_the_record_has_what_every_frame_is_worth(frames, made):
    step = made.provenance.step
    assert [parent.role for parent in made.provenance.parents] == ["frame"] * 6
    assert {item["frame"] for item in step.fitted["frames"]} == {frame.provenance.id for frame in frames}
    weights = {item["frame"]: item["weight"] for item in step.fitted["frames"]}
    sharp, soft = (weights[frames[k].provenance.id] for k in (1, 5))
    assert sharp / soft == pytest.approx((FWHM[5] / FWHM[1]) ** 2, rel=0.15)


def test_transparency_exposure_and_sky_are_brought_together(stars):
    reference = exposure(stars)
    thin = exposure(stars, offset=(4.2, -3.3), seed=31)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    # half of the light, and a sky with a slope
    faint = thin._replace(
        data=(thin.data * 0.5 + 30 + 0.1 * x - 0.05 * y).astype(np.float32),
        variance=(thin.variance * 0.25).astype(np.float32),
    )
    made = larun.Stack.combine([reference, faint], reference=reference, options=INSIDE, method="mean", weights="equal")
    note = next(item for item in made.provenance.step.fitted["frames"] if item["flux_scale"] != 1)
    assert note["flux_scale"] == pytest.approx(2.0, rel=0.01)
    both = made.contributors == 2
    rest = (made.data - reference.data)[both]
    assert abs(np.median(rest)) < 0.3
    assert np.median(made.data[both][:2000]) == pytest.approx(np.median(reference.data), abs=1.5)


def test_frames_that_do_not_fit_are_named_with_the_reason(stars, frames):
    stranger = exposure(field(77), seed=40)
    with pytest.warns(LarunWarning, match="no stars in common"):
        made = larun.Stack.combine([*frames[:3], stranger], reference=frames[0])
    rejected = made.provenance.step.fitted["rejected"]
    assert [item["frame"] for item in rejected] == [stranger.provenance.id]
    with pytest.warns(LarunWarning, match=r"fwhm = 3\.\d+ \(fwhm > 3.3\)"):
        made = larun.Stack.combine(frames, reject="fwhm > 3.3", reference=frames[0])
    assert len(made.provenance.step.fitted["frames"]) < 6
    with pytest.raises(OptionError, match="takes all"):
        larun.Stack.combine(frames, reject="stars > 0")
    with pytest.raises(OptionError, match="not allowed"):
        larun.Stack.combine(frames, reject="__import__('os').remove('x')")


def test_shared_noise_counts_once_for_frames_that_lie_alike(stars):
    plane = np.full(SHAPE, 9.0, np.float32)
    base = [exposure(stars, seed=50 + k)._replace(shared=(Shared("m", plane),)) for k in range(4)]
    made = larun.Stack.combine(base, reference=base[0], options=INSIDE, method="mean")
    (shared,) = made.shared
    assert shared.master == "m"
    inner = shared.variance[20:-20, 20:-20]
    assert np.median(inner) == pytest.approx(9.0, rel=0.25)  # interpolation takes some of it
    apart = [
        exposure(stars, offset=(5.0 * k, -3.0 * k), seed=50 + k)._replace(shared=(Shared("m", plane),))
        for k in range(4)
    ]
    dithered = larun.Stack.combine(apart, reference=apart[0], options=INSIDE, method="mean")
    assert not dithered.shared
    assert np.median(dithered.variance) > np.median(made.variance)


def test_senseless_options_are_refused(frames):
    for wrong in ({"align": "magic"}, {"weights": "mine"}, {"method": "best"}):
        name = {"align": "method"}.get(next(iter(wrong)), next(iter(wrong)))
        with pytest.raises(OptionError, match=f"{name}="):
            larun.Stack.combine(frames[:2], reference=frames[0], **wrong)
    for name in ("transform", "scale", "background", "footprint", "kernel"):
        with pytest.raises(OptionError, match=f"{name}='magic'"):
            larun.StackOptions(**{name: "magic"})
    with pytest.raises(OptionError, match="sigma"):
        larun.StackOptions(sigma=1)
    with pytest.raises(OptionError, match="no frames"):
        larun.Stack.combine([])
    raw = larun.Frame.from_arrays(np.ones((64, 64), np.uint16), gain=1.0, read_noise=5.0)
    with pytest.raises(OptionError, match="is raw"):
        larun.Stack.combine([raw])


def test_a_real_series_gets_deeper_as_its_weights_say():
    frames = []
    for number in ("075", "085", "095", "105", "115", "125", "135", "145", "155"):
        raw = larun.Frame.read(real_data("tres1", f"tres1-{number}.fit.fz"), read_noise=9.0)
        frames.append(raw.calibrate(without=("bias", "dark", "flat")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        made = larun.Stack.combine(frames, options=INSIDE)
    notes = made.provenance.step.fitted["frames"]
    assert len(notes) == 9
    assert max(item.get("rms_bright", 0) for item in notes) < 0.1
    assert all(0.8 < item["flux_scale"] < 1.25 for item in notes)
    # noise of the sky against that of one frame of the same weight
    ny, nx = made.shape
    middle = (slice(ny // 4, 3 * ny // 4), slice(nx // 4, 3 * nx // 4))
    good = (made.flags[middle] & fl.UNUSABLE) == 0
    level = made.background()
    rest = ((made.data - level.level) / np.sqrt(made.variance))[middle][good]
    scatter = 1.4826 * np.median(np.abs(rest - np.median(rest)))
    assert 0.7 < scatter < 1.3


def test_nickel_fields_do_not_stack():
    frames = [
        larun.Frame.read(real_data("nickel", f"{name}.fits.fz")).calibrate(without=("bias", "flat", "dark"))
        for name in ("d1059", "d1074")
    ]
    with pytest.warns(LarunWarning, match="in common"):
        made = larun.Stack.combine(frames)
    assert len(made.provenance.step.fitted["frames"]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        with pytest.raises(NotAligned, match="no frame is left"):
            larun.Stack.combine(frames[:1], reference=frames[1])


def _strangers(rng, count):
    return QuickStars(rng.uniform(0, 200, (count, 2)), FwhmEstimate(3.0, 0, 3.0))


def test_a_frame_whose_quick_stars_do_not_match_is_searched_in_full(frames, monkeypatch):
    known = [frame.detect().table for frame in frames[:2]]
    wanted = larun.Stack.combine(frames[:2], reference=frames[0], options=INSIDE).provenance.step.fitted["frames"]
    rng = np.random.default_rng(1)
    monkeypatch.setattr(members, "quick_sources", lambda *_: _strangers(rng, len(known[0])))
    made = larun.Stack.combine(
        frames[:2], reference=frames[0], options=larun.StackOptions(footprint="reference", scale="none")
    )
    found = made.provenance.step.fitted["frames"]
    assert [item["frame"] for item in found] == [item["frame"] for item in wanted]
    assert made.provenance.step.substeps == ()
    for one, two in zip(found, wanted, strict=True):
        assert one["offset"] == pytest.approx(two["offset"], abs=0.05)


@pytest.mark.parametrize("how", [{"align": "wcs"}, {"options": larun.StackOptions(transform="quadratic")}])
def test_the_union_of_bent_footprints_holds_all_frames(stars, how):
    cards = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRVAL1": 150.0, "CRVAL2": 2.0, "A_ORDER": 2}
    cards |= {"B_ORDER": 2, "A_2_0": 3e-5, "B_1_1": -2e-5, "A_0_2": 0.0, "B_2_0": 0.0, "CRPIX1": 100.0, "CRPIX2": 90.0}
    cards |= {"CD1_1": -2e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 2e-4}
    shots = []
    for k, (dx, dy) in enumerate(((0.0, 0.0), (21.3, -12.4), (-14.6, 25.2))):
        # frames see the same sky through the same optics, moved over it: places of the detector differ
        header = cards | {"CRVAL1": 150.0 - 2e-4 * dx / math.cos(math.radians(2.0)), "CRVAL2": 2.0 + 2e-4 * dy}
        shots.append(exposure(stars, header=header, seed=70 + k))
    one = shots[0].wcs
    placed = []
    for k, shot in enumerate(shots):  # stars drawn where the WCS of each frame puts them
        x, y = shot.wcs.all_world2pix(*one.all_pix2world(stars[0], stars[1], 0), 0)
        placed.append(exposure((x, y, stars[2]), header=dict(shot.header), seed=70 + k))
    made = larun.Stack.combine(placed, reference=placed[0], **how)
    assert len(made.provenance.step.fitted["frames"]) == 3
    x0, y0 = made.provenance.step.fitted["origin"]
    ny, nx = made.shape
    assert (x0, y0) != (0, 0)
    for shot in placed:  # the outermost pixels of every frame lie within
        rows, columns = shot.shape
        edge = np.array([[0, 0], [columns - 1, 0], [0, rows - 1], [columns - 1, rows - 1]], float)
        x, y = one.all_world2pix(*shot.wcs.all_pix2world(edge[:, 0], edge[:, 1], 0), 0)
        assert x0 - 0.6 <= x.min()
        assert x.max() <= x0 + nx - 0.4
        assert y0 - 0.6 <= y.min()
        assert y.max() <= y0 + ny - 0.4
    seen = made.contributors > 0
    assert all(seen.any(axis=axis)[edge] for axis in (0, 1) for edge in (1, -2))  # no wider than it must be
    inside = larun.Stack.combine(placed, reference=placed[0], **_at_home(how))
    both = slice(-y0, -y0 + SHAPE[0]), slice(-x0, -x0 + SHAPE[1])
    good = (inside.flags == 0) & (made.flags[both] == 0)
    assert good.mean() > 0.5
    np.testing.assert_allclose(made.data[both][good], inside.data[good], rtol=5e-3, atol=1.5)
    assert float(made.wcs.all_world2pix(150.0, 2.0, 0)[0]) == pytest.approx(99.0 - x0, abs=1e-6)


def _at_home(how):
    return how | {"options": attrs.evolve(how.get("options", larun.StackOptions()), footprint="reference")}


def test_polynomials_are_not_followed_far_beyond_their_stars(stars, frames):
    far = exposure(stars, offset=(60.0, 0.0), seed=80)
    with pytest.raises(OptionError, match="use footprint='reference'"):
        larun.Stack.combine([frames[0], far], reference=frames[0], options=larun.StackOptions(transform="cubic"))
