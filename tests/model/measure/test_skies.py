"""The sky of an image is measured once, and told to each who asks."""

import gc
import weakref

import numpy as np

import larun
from larun.algorithms.background import BackgroundOptions
from larun.model.measure import skies


def image():
    return larun.SkyImage.from_arrays(np.random.default_rng(3).normal(100, 10, (256, 256)).astype(np.float32))


def test_it_is_measured_once(monkeypatch):
    calls = []
    found = skies.background
    monkeypatch.setattr(skies, "background", lambda *given, **more: calls.append(more) or found(*given, **more))
    one = image()
    first, second = one.background(), one.background()
    assert len(calls) == 1
    assert np.array_equal(first.level, second.level)
    assert np.array_equal(first.variance, second.variance)
    other = one.background(mesh=32)
    assert len(calls) == 2
    assert other.mesh_level.shape == (8, 8)
    assert np.array_equal(one.background().level, first.level)


def test_what_is_kept_is_small_and_goes_with_the_image():
    one = image()
    known = skies.background_of(one, BackgroundOptions())
    assert known.level.shape == (256, 256)
    _, kept = skies._KNOWN[one]
    assert "plane" not in vars(kept._level)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
