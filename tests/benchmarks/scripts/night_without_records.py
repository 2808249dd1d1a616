"""``larun reduce`` without records: what is left is the work itself, the same pixels and tables on disk.

    python -m tests.benchmarks.scripts.night_without_records RAW OUT

Switched off, by replacing functions in this process: digests of raw pixels and headers, parameters in canonical form,
ids, the graph of steps as plain values and as JSON, and the digests that products carry of themselves. An object has a
number in place of its id, since masters are told apart by it.
"""

from __future__ import annotations

import itertools
import sys
import types
from typing import Any

__all__ = ["switch_off"]


class _NoDigest:
    """A hash that looks at nothing."""

    def __init__(self, *content: Any) -> None:
        del content

    def update(self, content: Any) -> None:
        """Nothing."""

    def digest(self) -> bytes:
        """Zeros."""
        return bytes(32)

    def hexdigest(self) -> str:
        """Zeros."""
        return "0" * 64


def switch_off() -> None:
    """Replace everything that records."""
    import larun.provenance.operation as operations
    from larun.io import container, ecsv, headers, pixeldigest, sealed
    from larun.model import registry, store
    from larun.provenance import canonical, record
    from larun.provenance.record import Provenance, Root

    nothing: Any = types.SimpleNamespace(sha256=_NoDigest)
    for module in (canonical, container, ecsv, headers, pixeldigest, record, registry, sealed):
        # for mypy a module does not hand on what it imports for itself
        module.hashlib = nothing  # type: ignore[attr-defined]
    numbers = itertools.count()

    def identity(self: Provenance) -> str:
        if self._id is None:
            object.__setattr__(self, "_id", f"{next(numbers):064x}")
        return str(self._id)

    def nothing_known(cls: type[Provenance], values: Any, where: str = "") -> Provenance:
        made = cls(root=Root(kind="memory", pixels="0"))
        object.__setattr__(made, "_id", values["id"])
        return made

    replaced: list[tuple[Any, str, Any]] = [
        (pixeldigest, "chunk_digest", lambda rows, flags=None: bytes(32)),
        (pixeldigest, "stored_digest", lambda stored, flags=None: bytes(32)),
        (pixeldigest, "pixel_digest", lambda *planes: "0" * 64),
        (headers, "header_digest", lambda header: "0" * 64),
        (store, "pixel_digest", lambda *planes: "0" * 64),
        (canonical, "canonical", lambda value: value),
        (canonical, "text_of", lambda value: "{}"),
        (canonical, "digest_of", lambda value: "0" * 64),
        (operations, "canonical", lambda value: value),
        (operations, "_gather", lambda *arguments: None),
        (Provenance, "id", property(identity)),
        (Provenance, "to_dict", lambda self: {"id": self.id}),
        (Provenance, "from_dict", classmethod(nothing_known)),
        (Provenance, "has", lambda self, name: False),
    ]
    for owner, name, value in replaced:
        setattr(owner, name, value)


if __name__ == "__main__":
    from larun.cli import main

    switch_off()
    sys.argv = ["larun", "reduce", *sys.argv[1:]]
    main()
