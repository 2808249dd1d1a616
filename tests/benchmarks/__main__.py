"""``python -m tests.benchmarks [TOPIC …] [--size quick|full] [--json FILE] [--folder DIR] [--pairs N]``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.harness import machine, run_all
from tests.benchmarks.topics import TOPICS

__all__ = ["main"]


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run benchmarks; 1 if a side failed or did other work than its peer."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"by default all: {', '.join(TOPICS)}")
    parser.add_argument("--size", choices=["quick", "full"], default="quick", help="quick: a few minutes (default)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--folder", type=Path, help="keep the inputs here for the next time")
    parser.add_argument("--pairs", type=int, help="runs of both sides in turn; 1 for a first look")
    given = parser.parse_args(arguments)
    if given.pairs is not None and given.pairs < 1:
        parser.error(f"--pairs {given.pairs}: must be at least 1")
    unknown = [topic for topic in given.topics if topic not in TOPICS and "." not in topic]
    if unknown:
        parser.error(f"no such topic: {', '.join(unknown)}; there are {', '.join(TOPICS)}")
    about = machine()
    _say(
        f"{about['cpu']}, {about['threads']} threads of {about['cores']} cores, {about['ram_gb']} GiB; "
        "ratio = peer / larun, median of pairs; peak = resident memory of the whole process"
    )
    with tempfile.TemporaryDirectory(prefix="larun-benchmarks-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcomes, failures = run_all(given.topics or list(TOPICS), given.size, folder, _say, pairs=given.pairs)
    if given.json:
        rows = [dataclasses.asdict(outcome) | {"machine": about} for outcome in outcomes]
        given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for failure in failures:
        print(f"ERROR {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
