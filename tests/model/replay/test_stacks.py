"""A stack made again from the raw files by its record."""

import warnings

import larun
from larun.errors import LarunWarning
from larun.model.replay.recompute import Replayer


def test_a_stack_of_frames_is_the_same_bit_for_bit(sample, tmp_path):
    paths = [item.path for item in sample.truth.select("object", "V")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        frames = [larun.Frame.read(path).calibrate(sample.masters).clean() for path in paths]
        stack = larun.Stack.combine(frames, options=larun.StackOptions(scale="none"))
        assert len(stack.provenance.step.fitted["frames"]) == len(paths) > 1
        product = stack.write(tmp_path / "stack.fits")
        made = Replayer(sample.folder).replay(product)
    assert made.equal, str(made)
    assert made.notes == ()
