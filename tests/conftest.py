"""Fixtures shared by all tests: where the real data are, and a quiet, deterministic setting."""

import os
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("LARUN_DATA", Path(__file__).parents[2] / "shared" / "data"))


def real_data(*parts: str) -> Path:
    """A file or folder of the real data; the test is skipped, visibly, where it is absent."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data not found: {path} (set LARUN_DATA)")
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240513)
