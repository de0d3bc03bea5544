"""The table of all rows, as text for a terminal and as markdown, and the growth of cost with n."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.measurements import Row

HEADS = (
    "task",
    "n",
    "m",
    "entries",
    "seconds",
    "peak MiB",
    "floor",
    "error",
    "baseline",
    "its seconds",
    "ratio",
    "of the baseline",
    "target",
)
# Tasks of bench_scaling.py, in the order of the pipeline.
SCALING_TASKS = ("kernel", "eigenpairs", "fit")
# Columns of numbers, set to the right.
NUMBERS = frozenset({"n", "m", "entries", "seconds", "peak MiB", "floor", "its seconds", "ratio"})
# The task whose growth is bounded: from the first size to the second, at most this many times the seconds.
GROWTH_TASK, GROWTH_SIZES, GROWTH = "10 eigenpairs to 1e-8, 40 entries", (100_000, 1_000_000), 13.0


def number(value: float | None, digits: int = 3) -> str:
    """Three digits, no exponent."""
    if value is None:
        return ""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.6g}"


def count(n: int) -> str:
    return f"{n:,}"


def cells(row: Row, first: bool) -> list[str]:
    """One row; diffeo's own figures stand once where several baselines follow one another."""
    own = [
        row.task,
        count(row.n),
        "" if row.m is None else str(row.m),
        "" if row.entries is None else f"{row.entries:.0f}",
        number(row.seconds),
        number(row.peak_mib),
        "" if row.floor_fraction is None else f"{100 * row.floor_fraction:.2g} %",
        f"{row.error:.1e} {row.error_of}",
    ]
    target = row.target and f"{row.target}: {'reached' if row.reached else 'NOT REACHED'}"
    theirs = [
        row.baseline,
        row.baseline_note.split(":")[0] if row.baseline_seconds is None else number(row.baseline_seconds),
        number(row.ratio),
        row.baseline_note.removeprefix("not run: "),
        target,
    ]
    return (own if first else [""] * len(own)) + theirs


def _body(rows: Iterable[Row]) -> list[list[str]]:
    body, last = [], None
    for row in rows:
        same = (row.stage, row.task, row.n, row.seconds)
        body.append(cells(row, same != last))
        last = same
    return body


def text_table(rows: Sequence[Row]) -> str:
    """Aligned columns, one block a stage."""
    blocks = {stage: _body(row for row in rows if row.stage == stage) for stage in dict.fromkeys(r.stage for r in rows)}
    lines = [list(HEADS), *(line for block in blocks.values() for line in block)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADS))]

    def aligned(line: list[str]) -> str:
        parts = (
            cell.rjust(w) if head in NUMBERS else cell.ljust(w)
            for head, cell, w in zip(HEADS, line, widths, strict=True)
        )
        return "  ".join(parts).rstrip()

    text = [aligned(list(HEADS))]
    for stage, block in blocks.items():
        text += [f"-- {stage}", *map(aligned, block)]
    return "\n".join(text)


def markdown_table(rows: Sequence[Row]) -> str:
    """The same with the stage in front."""
    heads = ["stage", *HEADS]
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|" + "|".join(" ---: " if head in NUMBERS else " --- " for head in heads) + "|")
    last = None
    for row, line in zip(rows, _body(rows), strict=True):
        lines.append("| " + " | ".join([row.stage if row.stage != last else "", *line]) + " |")
        last = row.stage
    return "\n".join(lines)


def promises_table(rows: Sequence[Row]) -> str:
    """The rows that have a target, in the short form that README.md shows."""
    lines = []
    for row in rows:
        if not row.target:
            continue
        what = f"{row.task}, n = {row.n:,}" + ("" if row.m is None or "m =" in row.task else f", m = {row.m}")
        beside = f"{number(row.baseline_seconds)} s" if row.baseline_seconds is not None else "not run"
        if "floor" in row.target:
            reached = f"{number(100 * (row.floor_fraction or 0.0), 2)} % of the floor"
        else:
            reached = "" if row.ratio is None else f"{number(row.ratio)} times"
        verdict = f"{row.target}{'' if row.reached else ': NOT REACHED'}"
        own = f"{number(row.seconds)} s"
        if row.peak_mib is not None and row.peak_mib > 1024:
            own += f", {number(row.peak_mib / 1024, 2)} GiB"
        lines.append([what, own, f"{row.baseline}: {beside}", reached, verdict])
    return markdown(["", "diffeo", "beside it", "", "target, at least"], lines, numbers_from=9)


def growth(rows: Sequence[Row]) -> str:
    """Time at the second size over that at the first; empty if either is missing."""
    seconds = {row.n: row.seconds for row in rows if row.task == GROWTH_TASK}
    if not set(GROWTH_SIZES) <= set(seconds):
        return ""
    small, large = (seconds[n] for n in GROWTH_SIZES)
    return (
        f"{GROWTH_TASK} a row: n = {GROWTH_SIZES[1]:,} takes {large / small:.1f} times as long as n = {GROWTH_SIZES[0]:,} "
        f"(target: at most {GROWTH:.0f}, {'reached' if large <= GROWTH * small else 'NOT REACHED'})."
    )


def scaling_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Seconds against n of every solver: heads and lines."""
    sizes = sorted({row.n for row in rows})
    lines = []
    for task, curves in scaling_curves(rows).items():
        for solver, points in curves.items():
            lines.append([task, solver, *(number(points[n]) if n in points else "" for n in sizes)])
    return ["seconds of", "solver", *map(count, sizes)], lines


def scaling_curves(rows: Iterable[Row]) -> dict[str, dict[str, dict[int, float]]]:
    """Seconds by task, solver and n; diffeo first."""
    curves: dict[str, dict[str, dict[int, float]]] = {task: {} for task in SCALING_TASKS}
    for row in sorted(rows, key=lambda r: r.n):
        # The benchmark of the eigenpairs solves the same problem, with opponents that need many minutes.
        task = curves["eigenpairs" if row.task == GROWTH_TASK else row.task]
        task.setdefault("diffeo", {})[row.n] = row.seconds
        if row.baseline_seconds is not None:
            task.setdefault(row.baseline, {})[row.n] = row.baseline_seconds
    return curves


def plain(heads: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[k]) for line in [heads, *lines]) for k in range(len(heads))]
    return "\n".join(
        "  ".join(c.ljust(w) if k < 2 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in [heads, *lines]
    )


def markdown(heads: list[str], lines: list[list[str]], numbers_from: int = 2) -> str:
    rule = "|" + "|".join(" --- " if k < numbers_from else " ---: " for k in range(len(heads))) + "|"
    return "\n".join(["| " + " | ".join(heads) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)])


def run_text(number: int, run: dict[str, Any]) -> str:
    """How a run was made."""
    m = run["machine"]
    packages = ", ".join(f"{name} {found}" for name, found in run["versions"].items() if found != "absent")
    return (
        f"run {number}, {run['date']}: `{run['command']}`; {m['cores']} cores, {m['memory_gib']} GiB, {m['instructions']}, "
        f"{run['threads']}; copying {m['bandwidth_gb_s']} GB/s, dgemm {m['dgemm_gflop_s']} GFLOP/s; {packages}"
    )
