"""Render the measurements of bench/results/ as one table and one plot; or make them first.

``python -m bench.compare``                         render what was measured
``python -m bench.compare --run``                   measure everything, then render
``python -m bench.compare --only kernel,scaling``   measure these stages, keep the other rows, then render
``python -m bench.compare --run --long``            with the opponents that take many minutes each
``python -m bench.compare --quick``                 everything at small sizes, into a folder that is thrown away

Each stage runs in a process of its own, and each row is kept as soon as it is measured, so that a run that is ended
loses nothing. datafold takes part when DIFFEO_DATAFOLD_PYTHON names its interpreter (see datafold_opponent.py). The
exit code is 1 if a stage failed; a missed target is shown, not hidden in a code.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import plots, tables
from bench.floor import measure_rates
from bench.measurements import Row, read

HERE = Path(__file__).parent
STAGES = ("covariance", "kernel", "eigenpairs", "diffusion_map", "isometry", "million", "scaling")


def measure(stages: list[str], options: list[str], path: Path) -> list[str]:
    """Run the stages one after another, if any: those that failed."""
    if not stages:
        return []
    chosen = "--run" if stages == list(STAGES) else f"--only {','.join(stages)}"
    typed = " ".join(["python -m bench.compare", chosen, *options])
    rates = measure_rates(quick="--quick" in options)
    options = [*options, f"--rates={rates.bandwidth:.4g},{rates.dgemm:.4g}"]
    options += ["--measurements", str(path), "--command", typed, "-p", "no:cacheprovider"]
    # Loading everything takes longer than a stage at small sizes: those share a process.
    groups = [stages] if "--quick" in options else [[stage] for stage in stages]
    failed = []
    for group in groups:
        files = [str(HERE / f"bench_{stage}.py") for stage in group]
        if subprocess.run([sys.executable, "-m", "pytest", *files, *options], cwd=HERE.parent).returncode != 0:
            failed += group
    return failed


def render(path: Path, folder: Path) -> str:
    """Write table.txt, table.md and scaling.png into the folder: the text."""
    runs, numbered = read(path)
    stages = {stage.replace("_", " "): place for place, stage in enumerate(STAGES)}
    rows = sorted((row for row, _ in numbered), key=lambda row: stages.get(row.stage, len(stages)))
    main = [row for row in rows if row.stage != "scaling"]
    scaling = [row for row in rows if row.stage == "scaling" or row.task == tables.GROWTH_TASK]
    notes = [
        "Seconds are the shortest of the rounds on both sides; ratio = seconds of the baseline / seconds of diffeo.",
        "Peak memory is what one call of diffeo took beyond its inputs (high-water mark of the resident size).",
        "Floor: the share of the time that unavoidable bytes and operations take at the measured rates (bench/floor.py).",
        *(f"Floor of {stage}: {how}." for stage, how in _floors(main)),
    ]
    made = [tables.run_text(k + 1, run) for k, run in enumerate(runs)]
    growth = tables.growth(main)
    heads, lines = tables.scaling_table(scaling)
    text = [tables.text_table(main), growth, tables.plain(heads, lines), "\n".join(notes), "\n".join(made)]
    marked = [
        "# diffeo beside its peers",
        "Rendered by `python -m bench.compare`; see the end for the runs.",
        "## What was promised",
        tables.promises_table(main),
        growth,
        "## Everything",
        tables.markdown_table(main),
        "## Cost against n",
        "![Cost against n](scaling.png)",
        tables.markdown(heads, lines),
        "## How it was measured",
        "\n".join(f"- {note}" for note in [*notes, *made]),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.txt").write_text("\n\n".join(part for part in text if part) + "\n")
    (folder / "table.md").write_text("\n\n".join(part for part in marked if part) + "\n")
    if scaling:
        plots.plot_scaling(scaling, folder / "scaling.png")
    return (folder / "table.txt").read_text()


def _floors(rows: list[Row]) -> list[tuple[str, str]]:
    """How the floor of each stage is counted, each way once."""
    found = {}
    for row in rows:
        if row.floor_counted:
            found["dense kernel" if "dense" in row.task else row.stage, row.floor_counted] = None
    return list(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="measure all stages")
    parser.add_argument("--only", default="", metavar="STAGE,...", help=f"measure some of: {', '.join(STAGES)}")
    parser.add_argument("--long", action="store_true", help="opponents that take many minutes, too")
    parser.add_argument("--largest", type=int, metavar="N", help="at most N samples in any row")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round, results thrown away")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="default: bench/results")
    given = parser.parse_args()
    stages = [name.strip() for name in given.only.split(",") if name.strip()]
    if unknown := sorted(set(stages) - set(STAGES)):
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    if not stages and (given.run or given.quick):
        stages = list(STAGES)
    options = ["--long"] * given.long + ["--quick"] * given.quick
    options += ["--largest", str(given.largest)] * (given.largest is not None)
    with tempfile.TemporaryDirectory() as thrown_away:
        folder = Path(thrown_away) if given.quick else given.out
        path = folder / "measurements.json"
        failed = measure(stages, options, path)
        if not path.exists():
            parser.error(f"nothing was measured yet; start with {parser.prog} --run")
        print(render(path, folder))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
