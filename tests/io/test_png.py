"""PNG bytes against a reader that larun did not write."""

import io

import numpy as np
import pytest
from PIL import Image

from larun import errors
from larun.io import png


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 30)])
def test_another_reader_sees_the_same_picture(rng, shape):
    palette = rng.integers(0, 256, (17, 3)).astype(np.uint8)
    levels = rng.integers(0, 17, shape).astype(np.uint8)
    with Image.open(io.BytesIO(png.encode(levels, palette))) as picture:
        picture.verify()
    with Image.open(io.BytesIO(png.encode(levels, palette))) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette[levels])


def test_what_is_no_picture_is_refused():
    grey = np.repeat(np.arange(4, dtype=np.uint8), 3).reshape(4, 3)
    for levels, palette in (
        (np.zeros(3, np.uint8), grey),
        (np.zeros((0, 3), np.uint8), grey),
        (np.full((2, 2), 4, np.uint8), grey),
        (np.zeros((2, 2), np.uint8), grey[:, :2]),
    ):
        with pytest.raises(errors.OptionError):
            png.encode(levels, palette)
