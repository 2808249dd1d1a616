"""A small night whose frames are struck by many cosmic rays, and what larun makes of it."""

import warnings

import attrs
import pytest

import larun
from larun.errors import LarunWarning
from larun.simulate import simulate_night
from tests.model.conftest import NIGHT, Sample


@pytest.fixture(scope="session")
def struck(tmp_path_factory):
    options = attrs.evolve(NIGHT, cosmic_rate=60.0, frames=1)
    truth = simulate_night(tmp_path_factory.mktemp("struck") / "raw", seed=3, options=options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        masters = larun.Night(truth.folder).masters()
    raw = larun.Frame.read(truth.select("object", "V")[0].path)
    frame = raw.calibrate(masters)
    return Sample(truth, masters, raw, frame, frame.clean(), None)
