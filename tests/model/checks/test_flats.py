"""Flats with too little light, too much, or another gradient."""

import numpy as np
import pytest
from astropy.io import fits

from larun.model.checks.flats import flat_gradient, flat_level
from tests.conftest import real_data
from tests.model.checks.rawnights import material_of, night


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return night(tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("test", [flat_level, flat_gradient])
def test_a_clean_night_is_good(clean, test):
    (found,) = test(material_of(clean))
    assert found.status == "good", found


def test_flats_with_little_light(tmp_path):
    (found,) = flat_level(material_of(night(tmp_path / "n", flat_levels=(1500.0, 1200.0))))
    assert found.status == "bad"
    assert found.value == pytest.approx(1 / np.sqrt(4 * 1350 * 1.6), rel=0.03)


def test_a_saturated_and_a_dark_flat_are_named(tmp_path):
    folder = night(tmp_path / "n")
    bright, dark = folder / "flat-V-001.fits", folder / "flat-V-002.fits"
    with fits.open(bright, mode="update") as file:
        file[0].data[:, :128] = 60000
    with fits.open(dark, mode="update") as file:
        file[0].data[:, :128] = 1000 + (file[0].data[:, :128].astype(float) - 1000) * 0.005
    found = {verdict.where: verdict for verdict in flat_level(material_of(folder))}
    assert found["V, flat-V-001.fits"].status == "bad"
    assert found["V, flat-V-001.fits"].fix == "leave out flat-V-001.fits"
    assert found["V, flat-V-002.fits"].status == "bad"
    assert "hardly any light" in found["V, flat-V-002.fits"].meaning


def tilted(folder, tilt):
    with fits.open(folder / "flat-V-003.fits", mode="update") as file:
        data = file[0].data[:, :128].astype(float) - 1000
        file[0].data[:, :128] = 1000 + data * (1 + tilt * np.linspace(-0.5, 0.5, 128))
    return material_of(folder)


@pytest.mark.parametrize(("tilt", "status"), [(0.012, "doubtful"), (0.05, "bad")])
def test_a_gradient_of_its_own(tmp_path, tilt, status):
    (found,) = flat_gradient(tilted(night(tmp_path / "n"), tilt))
    assert found.status == status
    assert "flat-V-003.fits" in found.meaning
    assert found.value == pytest.approx(tilt, rel=0.1)


def test_the_pull_of_a_gradient(tmp_path):
    folder = night(tmp_path / "n", biases=2, flats=12)
    from larun.model.checks import flats as module

    pulls = []
    material = material_of(folder)
    kit = module.kits(material)[0]
    maps = [module.cell_means(module._image(material, kit, item), 8) for item in kit.flats]
    typical = np.mean([one / one.mean() for one in maps], axis=0)
    for one in maps:
        ratio = one / one.mean() / typical - 1
        rise, error, left = module._plane(ratio, 1e-5)
        pulls.append(rise / error)
        assert np.isfinite(left).all()
    # the length of a vector of two normal numbers: mean 1.25
    assert 0.8 < np.mean(pulls) < 1.8


def test_one_flat_has_nothing_to_be_compared_with(tmp_path):
    (found,) = flat_gradient(material_of(night(tmp_path / "n", flats=1)))
    assert found.status == "untested"
    (none,) = flat_level(material_of(night(tmp_path / "none", flats=0)))
    assert none.status == "untested"


def test_the_nickel_flats():
    material = material_of(real_data("nickel"))
    (level,), (gradient,) = flat_level(material), flat_gradient(material)
    assert level.status == "good"
    assert gradient.value < 0.05
