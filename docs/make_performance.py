"""Writes ``docs/performance.md`` and its pictures from measured figures; none is ever typed by hand.

    python -m tests.benchmarks --size full --json full.json
    python -m tests.benchmarks.scaling scaling.json
    python -m tests.benchmarks.ceilings --json ceilings.json
    python docs/make_performance.py full.json scaling.json ceilings.json

The figures are kept in ``docs/performance.json``: a file with some topics replaces those and leaves the others. Without
files the page and the pictures are made anew from what is kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
KEPT = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "images" / "performance-{}.png"
ORDER = (
    *(
        "combine",
        "calibrate",
        "clean",
        "background",
        "detect",
        "photometer",
        "psf",
        "quality",
        "solve",
        "resample",
        "align",
    ),
    *("stack", "subtract", "read", "cold", "night", "provenance"),
)
AXES = {"frames": "frames of 2048²", "pixels": "pixels along one side", "stars": "stars on 4096²"}
SHADES = ("#1b6ca8", "#d1603d", "#3a7d44", "#7d4e9e")

HEAD = """# Performance

How long larun takes beside the packages and programs that do the same work, and how much memory. Both sides get the
same inputs and two threads, run in turn in processes of their own, and **their results are compared first**: a case
whose results differ is an error and has no row. Warm-up, imports and compiling are not counted, except where whole
processes are compared (`cold`, `night`, `provenance`). In `provenance` the peer is larun itself with everything that
records switched off. What records cost is most of all SHA-256 over raw files and products, by threads that work beside
the others: so its processor time tells more than the time on the clock, which other programs disturb. That holds for
`resample` (one run) as well, which was measured while the machine was busy with other work. Memory is the
highest resident memory of the process, inputs included.

{machine}

## Beside the peers

A ratio of 3 means that larun takes a third of the peer's time; it is the median of the ratios of runs in turn.

| work | size | peer | larun | peer takes | ratio | larun's memory | peer's |
|---|---|---|---|---|---|---|---|
{rows}

## What was compared

{checks}
"""

SCALING = """
## How it grows

{pictures}

{tables}
"""

LIMITS = """
## What the machine can do

Copies run at {copy:.0f} GB/s on one thread and {both:.0f} GB/s on two; into new memory, whose pages the system hands
out, at {fresh:.0f} GB/s. SHA-256 takes in {digest:.1f} GB/s on each thread. So at 4096² reading what is needed, writing
new outputs and digesting the raw pixels alone takes about:

| work | ms |
|---|---|
{rows}
"""

FOOT = """
## Run it yourself

```sh
python -m tests.benchmarks                      # every topic, small: a few minutes
python -m tests.benchmarks combine --size full  # one topic as in the table
```

`docs/make_performance.py` writes this page from the files that `--json` writes.
"""


def load(kept: dict[str, Any], paths: list[Path]) -> dict[str, Any]:
    """The figures that are kept, with those of the files in place of older ones."""
    rows = {(row["topic"], row["case"], row["peer"]): row for row in kept.get("benchmarks", [])}
    made = dict(kept)
    for path in paths:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, list):
            topics = {row["topic"] for row in found}
            rows = {key: row for key, row in rows.items() if key[0] not in topics}
            rows |= {(row["topic"], row["case"], row["peer"]): row for row in found}
        elif "limits_s" in found:
            made["ceilings"] = found
        else:
            made["scaling"] = found
    made["benchmarks"] = sorted(rows.values(), key=lambda row: ORDER.index(row["topic"]))
    return made


def page(figures: dict[str, Any]) -> str:
    """The text of the page."""
    rows = figures["benchmarks"]
    text = HEAD.format(
        machine=_machines(rows),
        rows="\n".join(_row(row) for row in rows),
        checks="\n".join(
            f"- **{row['topic']} {row['case']}, {row['peer']}**: {row['check']}{_processor(row)}." for row in rows
        ),
    )
    if "scaling" in figures:
        measured = figures["scaling"]["rows"]
        names = [name for name in AXES if any(row["series"] == name for row in measured)]
        text += SCALING.format(
            pictures="\n".join(f"![Time and memory against {AXES[n]}](images/performance-{n}.png)" for n in names),
            tables="\n\n".join(_table(name, [row for row in measured if row["series"] == name]) for name in names),
        )
    if "ceilings" in figures:
        found = figures["ceilings"]
        text += LIMITS.format(
            copy=found["measured"]["copy_gb_s"],
            both=found["measured"]["copy_threads_gb_s"],
            fresh=found["measured"]["fresh_gb_s"],
            digest=found["measured"]["sha256_gb_s"],
            rows="\n".join(f"| {work} | {1e3 * seconds:.1f} |" for work, seconds in found["limits_s"].items()),
        )
    return text + FOOT


def draw(measured: list[dict[str, Any]]) -> None:
    """One picture a series: time and memory, on logarithmic axes where time grows by decades."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    for name, label in AXES.items():
        points = [row for row in measured if row["series"] == name]
        if not points:
            continue
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        time, memory = figure.subplots(1, 2)
        for number, work in enumerate(_works(points)):
            chosen = [row for row in points if _work(row) == work]
            x = [row["value"] for row in chosen]
            style = {"marker": "o", "markersize": 4, "color": SHADES[number % len(SHADES)], "label": work}
            time.loglog(x, [row["larun_s"] for row in chosen], **style)
            memory.semilogx(x, [row["larun_peak_mb"] for row in chosen], **style)
        power = 2 if name == "pixels" else 1
        values = sorted({row["value"] for row in points})
        top = max(row["larun_s"] for row in points)
        guide = [top * (value / values[-1]) ** power for value in values]
        time.loglog(values, guide, color="0.6", linestyle=":", label="linear in " + name)
        for axes, text in ((time, "seconds"), (memory, "peak memory, MB")):
            axes.set_xlabel(label)
            axes.set_ylabel(text)
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        memory.set_ylim(0, 1.1 * max(row["larun_peak_mb"] for row in points))
        time.legend(fontsize=8, frameon=False)
        figure.savefig(str(PICTURE).format(name), dpi=110, metadata={"Software": None})


def _machines(rows: list[dict[str, Any]]) -> str:
    """Where the first row was measured, and which topics were measured elsewhere."""
    first = _machine(rows[0]["machine"])
    others: dict[str, list[str]] = {}
    for row in rows:
        if (where := _machine(row["machine"])) != first:
            others.setdefault(where, []).append(f"`{row['topic']}`")
    return " ".join(
        [first, *(f"{', '.join(dict.fromkeys(topics))}: {where}" for where, topics in others.items())]
    ).replace(": Measured", ": measured")


def _machine(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return f"Measured on {about['cpu']}, {about['cores']} cores, {about['ram_gb']:g} GiB, with {versions}."


def _row(row: dict[str, Any]) -> str:
    cells = [
        f"{row['topic']} {row['case']}",
        row["size"],
        row["peer"],
        _seconds(row["larun_s"]),
        _seconds(row["peer_s"]),
        f"**{row['ratio']:.{2 if row['ratio'] >= 2 else 3}g}**" if row["ratio"] < 10 else f"**{row['ratio']:.0f}**",
        f"{row['larun_peak_mb']:.0f} MB",
        f"{row['peer_peak_mb']:.0f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def _processor(row: dict[str, Any]) -> str:
    """Processor time of both, where it was measured: other processes disturb it less than the time on the clock."""
    if "processor_ratio" not in row:
        return ""
    ours, theirs = (_seconds(row[f"{side}_processor_s"]) for side in ("larun", "peer"))
    return f"; processor time {ours} and {theirs}, a ratio of {row['processor_ratio']:.3g}"


def _seconds(value: float) -> str:
    return f"{1e3 * value:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def _work(row: dict[str, Any]) -> str:
    return f"{row['topic']} {row['case']}".strip()


def _works(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(_work(row) for row in rows))


def _table(name: str, rows: list[dict[str, Any]]) -> str:
    works = _works(rows)
    lines = [f"| {AXES[name]} | {' | '.join(works)} |", "|---" * (len(works) + 1) + "|"]
    for value in sorted({row["value"] for row in rows}):
        found = {_work(row): row for row in rows if row["value"] == value}
        cells = [f"{_seconds(found[w]['larun_s'])}, {found[w]['larun_peak_mb']:.0f} MB" for w in works]
        lines.append(f"| {value} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Take in the files that are given, and write the page and its pictures."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    figures = load(kept, [Path(name) for name in sys.argv[1:]])
    KEPT.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(figures), encoding="utf-8")
    if "scaling" in figures:
        draw(figures["scaling"]["rows"])


if __name__ == "__main__":
    main()
