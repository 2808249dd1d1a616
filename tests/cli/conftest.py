"""A tiny night, reduced once through the command line, that the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from larun.algorithms import kernel_cache
from larun.cli.app import app
from larun.simulate import NightOptions, NightTruth, simulate_night

TINY = NightOptions(dark_exposures=(3.0, 60.0), biases=4, darks=3, flats=3, frames=2, star_density=1500.0)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Larun = Callable[..., Ended]


def run_larun(*arguments: Any) -> Ended:
    """``larun`` with these words, in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="larun")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def larun() -> Larun:
    kernel_cache.first_time()  # as if it had been said that kernels are compiled: tests look at what else is
    return run_larun


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    folder = tmp_path_factory.mktemp("night") / "raw"
    return simulate_night(folder, seed=3, shape=(192, 192), options=TINY)


@pytest.fixture(scope="session")
def reduced(night: NightTruth, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The folder of an uninterrupted reduction, and how it ended."""
    out = tmp_path_factory.mktemp("reduced") / "out"
    return out, run_larun("reduce", night.folder, out)
