"""Headers from the YAML texts among the real data."""

from typing import Any

import pytest
from astropy.io import fits

from tests.conftest import real_data


def header_of(name: str) -> fits.Header:
    """A header of ``headers/``: pairs of keyword and value, or lists of keyword, type, value and comment."""
    yaml = pytest.importorskip("yaml")

    class Loader(yaml.SafeLoader):
        pass

    def plain(loader: Any, *rest: Any) -> Any:
        node = rest[-1]
        sequence = isinstance(node, yaml.SequenceNode)
        return loader.construct_sequence(node, deep=True) if sequence else loader.construct_mapping(node, deep=True)

    Loader.add_constructor("lsst.daf.base.PropertyList", plain)
    Loader.add_multi_constructor("lsst", plain)
    found = yaml.load(real_data("headers", name).read_text(encoding="utf-8"), Loader)
    rows = [(k, v, "") for k, v in found.items()] if isinstance(found, dict) else [(r[0], r[2], r[3]) for r in found]
    cards = [
        (keyword, value, comment if len(str(value)) + len(comment) < 60 else "")
        for keyword, value, comment in rows
        if len(keyword) <= 8 and keyword.isupper() and isinstance(value, str | int | float)
    ]
    return fits.Header(cards)
