"""A small simulated night, its masters and one frame taken through the chain, made once for all tests of the model."""

import warnings

import attrs
import numpy as np
import pytest

import larun
from larun.simulate import Camera, NightOptions, simulate_night

NIGHT = NightOptions(
    camera=Camera(shape=(160, 176), dead_columns=(40,), overscan=24),
    biases=5,
    darks=4,
    flats=4,
    frames=2,
    dark_exposures=(60.0,),
    star_density=1800.0,
    dither=3.0,
)


@attrs.frozen
class Sample:
    """A simulated night and what larun makes of it."""

    truth: object
    masters: larun.Masters
    raw: larun.Frame
    frame: larun.Frame
    clean: larun.Frame
    catalog: larun.SourceCatalog

    @property
    def folder(self):
        return self.truth.folder

    def paths(self, kind, band=None):
        return [item.path for item in self.truth.select(kind, band)]


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    truth = simulate_night(tmp_path_factory.mktemp("night") / "raw", seed=3, options=NIGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)  # the flats' dark is scaled down; told, and wanted
        masters = larun.Night(truth.folder).masters()
    raw = larun.Frame.read(truth.select("object", "V")[0].path)
    frame = raw.calibrate(masters)
    clean = frame.clean()
    return Sample(truth, masters, raw, frame, clean, clean.detect().photometer())


@pytest.fixture(scope="session")
def bias(sample):
    return sample.masters.of("bias")[0]


def memory_frames(cls, count, shape, *, level=1000.0, noise=4.0, seed=5, header=None, **values):
    """Raw frames of Gaussian noise, straight from arrays; gain 1.5 and the read noise that fits, unless given."""
    rng = np.random.default_rng(seed)
    values = {"gain": 1.5, "read_noise": 1.5 * noise} | values
    return [cls.from_arrays(level + noise * rng.standard_normal(shape), header=header, **values) for _ in range(count)]
