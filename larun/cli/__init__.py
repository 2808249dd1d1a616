"""The command line: ``larun demo | ls | info | masters | reduce | check | provenance | plot | warmup``."""

import gc

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of ``larun``."""
    from larun.cli.app import app

    try:
        app(prog_name="larun")
    finally:
        gc.freeze()  # what libraries hold goes with the process: taking it apart, object by object, lasts half a second
