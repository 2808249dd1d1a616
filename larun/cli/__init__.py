"""The command line: ``larun demo | ls | info | masters | reduce | provenance | warmup``."""

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of ``larun``."""
    from larun.cli.app import app

    app(prog_name="larun")
