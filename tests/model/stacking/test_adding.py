"""A running mean: the same as of all frames at once, whatever the order."""

import numpy as np
import pytest

import larun
from larun.errors import AlreadyApplied, NotAligned, OptionError
from larun.model.planes import Shared
from tests.model.aligning.test_align import SHAPE, exposure, field, turn
from tests.model.stacking.test_heading import dated

INSIDE = larun.StackOptions(footprint="reference")


@pytest.fixture(scope="module")
def frames():
    stars = field()
    plane = np.full(SHAPE, 4.0, np.float32)
    shots = [
        exposure(stars, matrix=turn(0.2 * k), offset=(0.3 * k, -0.2 * k), fwhm=2.7 + 0.2 * k, seed=160 + k)
        for k in range(4)
    ]
    return [dated(frame, 3 * k)._replace(shared=(Shared("m", plane),)) for k, frame in enumerate(shots)]


def running(frames, options=INSIDE, **how):
    made = larun.Stack.combine(frames[:1], reference=frames[0], options=INSIDE)
    for frame in frames[1:]:
        made = made.add(frame, options=options, **how)
    return made


def test_a_running_mean_is_that_of_all_frames_in_any_order(frames):
    nothing = larun.StackOptions(footprint="reference", sigma=1e6)  # left out
    together = larun.Stack.combine(frames, reference=frames[0], method="mean", options=INSIDE)
    one = running(frames, nothing, reference=frames[0])
    two = running([frames[0], *frames[:0:-1]], nothing, reference=frames[0])
    for made in (one, two):
        np.testing.assert_allclose(made.data, together.data, rtol=2e-5)
        np.testing.assert_allclose(made.uncertainty, together.uncertainty, rtol=2e-5)
        np.testing.assert_allclose(made.coverage, together.coverage, rtol=2e-6)
        assert np.array_equal(made.flags, together.flags)
        assert np.array_equal(made.contributors, together.contributors)
        known = {item.master: item.variance for item in made.shared}
        assert together.shared  # noise that two of them have at the same places; others' counts as their own
        for item in together.shared:
            np.testing.assert_allclose(known[item.master], item.variance, rtol=1e-4)
        np.testing.assert_allclose(made.noise_acf, together.noise_acf, atol=1e-5)
        assert made.header["NCOMBINE"] == 4
        for name in ("TEXPTIME", "GAIN", "AIRMASS"):
            assert made.header[name] == pytest.approx(together.header[name], rel=1e-5)
        assert abs((made.time.mid - together.time.mid).sec) < 5e-3
        assert made.time.start == together.time.start
        assert made.time.end == together.time.end
    assert one.provenance.id != two.provenance.id


def test_aligned_with_the_stack_itself_it_is_the_same_within_the_noise(frames):
    together = larun.Stack.combine(frames, reference=frames[0], method="mean", options=INSIDE)
    made = running(frames)
    good = (made.flags == 0) & (together.flags == 0)
    away = (made.data - together.data)[good] / np.sqrt(together.variance[good])
    assert np.median(np.abs(away)) < 0.1


def test_what_only_the_new_frame_saw_is_left_out(frames):
    data = frames[3].data.copy()
    data[100:103, 120:123] += 4000
    struck = frames[3]._replace(data=data)
    made = running([*frames[:3], struck])
    clean = running(frames)
    assert made.rejected.sum() >= 9
    assert np.abs(made.data - clean.data)[90:115, 110:135].max() < 60
    loud = running([*frames[:3], struck], larun.StackOptions(footprint="reference", sigma=1e6))
    assert np.abs(loud.data - clean.data).max() > 500


def test_it_is_a_recorded_step(frames, tmp_path):
    made = running(frames[:3])
    again = larun.Stack.read(made.write(tmp_path / "live.fits"))
    assert again.identical(made)
    on, off = again.add(frames[3]), made.add(frames[3])
    assert on.data.tobytes() == off.data.tobytes()
    assert on.provenance.id == off.provenance.id
    assert {parent.role for parent in on.provenance.parents} == {"self", "frame"}
    with pytest.raises(AlreadyApplied, match="is in"):
        on.add(frames[1])
    with pytest.raises(OptionError, match="as it was made"):
        made.crop((0, 100), (0, 100)).add(frames[3])
    with pytest.raises(OptionError, match="is not the reference"):
        made.add(frames[3], reference=frames[1])
    with pytest.raises(NotAligned):
        made.add(exposure(field(77), seed=40))
