"""Waves in noise."""

import numpy as np
import pytest

from larun.algorithms.interference import strongest_wave
from larun.errors import OptionError


def frames_with(amplitude, seed, count=5, shape=(128, 150), row=1.94):
    rng = np.random.default_rng(seed)
    order = np.arange(shape[0] * shape[1]).reshape(shape)
    phase = 2 * np.pi * order / (row * shape[1])
    return [rng.normal(0, 4, shape) + amplitude * np.sin(phase + 2 * np.pi * rng.random()) for _ in range(count)]


def test_noise_alone_has_no_wave_by_chance():
    chances = [strongest_wave(frames_with(0.0, seed)).chance for seed in range(30)]
    assert min(chances) > 1e-3
    assert 0.2 < np.mean(chances) < 0.9


@pytest.mark.parametrize("amplitude", [1.0, 3.0])
def test_a_wave_in_the_order_of_reading_is_found(amplitude):
    found = [strongest_wave(frames_with(amplitude, seed)) for seed in range(20)]
    assert all(one.chance < 1e-6 for one in found)
    assert np.mean([one.amplitude for one in found]) == pytest.approx(amplitude, rel=0.12)
    assert abs(found[0].along_column) == pytest.approx(1 - 1 / 1.94, abs=0.01)


def test_the_error_is_the_scatter_for_a_wave_that_lies_on_a_frequency():
    pulls = []
    y, x = np.mgrid[:128, :128]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        frames = [
            rng.normal(0, 5, (128, 128)) + 1.5 * np.sin(2 * np.pi * (14 * x + 41 * y) / 128 + 6.283 * rng.random())
            for _ in range(8)
        ]
        found = strongest_wave(frames)
        pulls.append((found.amplitude - 1.5) / found.error)
    assert 0.6 < np.std(pulls) < 1.4
    assert abs(np.median(pulls)) < 0.8


def test_rows_and_columns_that_differ_as_a_whole_are_no_wave():
    rng = np.random.default_rng(3)
    frames = [
        rng.normal(0, 4, (128, 128)) + rng.normal(0, 1.5, (128, 1)) + rng.normal(0, 1.5, (1, 128)) for _ in range(6)
    ]
    assert strongest_wave(frames).chance > 1e-4


def test_one_frame_is_too_few():
    with pytest.raises(OptionError, match="two or more"):
        strongest_wave([np.zeros((64, 64))])
    with pytest.raises(OptionError, match="all alike"):
        strongest_wave([np.zeros((64, 64))] * 3)
