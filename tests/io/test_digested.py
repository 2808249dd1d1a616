"""Reading and digesting in one pass gives what the two give one after the other."""

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.algorithms import jit
from larun.io.digested import all_digested
from larun.io.pixeldigest import pixel_digest
from larun.io.raw import RowReader


def written(folder, data, **cards):
    path = folder / "raw.fits"
    fits.PrimaryHDU(data, fits.Header(cards)).writeto(path)
    return path


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("threads", [1, 3])
def test_values_and_digest_are_those_of_two_passes(tmp_path, rng, rows, threads):
    path = written(tmp_path, rng.integers(0, 65536, (rows, 70)).astype(np.uint16))
    before = jit.threads()
    try:
        larun.set_threads(threads)
        with RowReader(path) as reader:
            data, digest = all_digested(reader)
            plain, no_data = reader.all()
    finally:
        larun.set_threads(before)
    assert no_data is None
    assert np.array_equal(data, plain)
    assert digest == pixel_digest(plain)


def test_other_storage_is_left_to_others(tmp_path, rng):
    values = rng.integers(0, 30000, (70, 70))
    for number, data in enumerate((values.astype(np.int16), values.astype(np.float32), values.astype(np.int32))):
        (tmp_path / str(number)).mkdir()
        with RowReader(written(tmp_path / str(number), data)) as reader:
            assert all_digested(reader) is None
    with RowReader(written(tmp_path, values.astype(np.uint16), BLANK=-32768)) as reader:
        assert all_digested(reader) is None


def test_a_frame_has_the_same_digest_read_either_way(tmp_path, rng):
    path = written(tmp_path, rng.integers(0, 65536, (150, 70)).astype(np.uint16))
    one, two = larun.Frame.read(path), larun.Frame.read(path, verify=False)
    assert one.identical(two)
    assert one.provenance.id == two.provenance.id
    assert one.provenance.root.to_dict()["pixels"] == pixel_digest(one.data)
