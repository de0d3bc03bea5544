"""Records what every public call gives on fixed seeds, so that a change of structure can be shown to change no bit.

    python tests/support/recorded_results.py record before.npz      with one version of diffeo installed
    python tests/support/recorded_results.py record after.npz       with another
    python tests/support/recorded_results.py compare before.npz after.npz

It uses public names alone, and no helper of the tests, so that it runs with any version. `compare` lists what differs and
by how much, and exits with 1 if anything does. Bits depend on the instruction-set level (DIFFEO_INSTRUCTION_SET) and on
the versions of NumPy, SciPy and torch: record both with the same. `--only PREFIX` records some of the cases.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from recorded_cases import CASES, Results, texts


def record(path: Path, only: str) -> None:
    found: Results = {}
    for name, function in CASES.items():
        if not name.startswith(only):
            continue
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = function()
        found |= {f"{name}.{key}": np.asarray(value) for key, value in results.items()}
        found[f"{name}.warnings"] = texts(f"{each.category.__name__}: {each.message}" for each in caught)
        print(f"{name}: {len(results)} arrays, {time.perf_counter() - started:.1f} s", flush=True)
    np.savez(path, **found)


# Facts of the machine in texts: a platform, a time.
PASSING = re.compile(r'"(platform|python|numpy|scipy|torch)": "[^"]*"')


def same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind == b.dtype.kind == "U":
        return [PASSING.sub("", str(t)) for t in a.ravel()] == [PASSING.sub("", str(t)) for t in b.ravel()]
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def difference(a: np.ndarray, b: np.ndarray) -> str:
    if a.dtype.kind == b.dtype.kind == "U":
        return (
            f"\n    before {' | '.join(map(str, a.ravel()))[:600]}\n    after  {' | '.join(map(str, b.ravel()))[:600]}"
        )
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} {a.shape} became {b.dtype} {b.shape}"
    if a.dtype.kind not in "fc":
        return f"{np.count_nonzero(a != b)} of {a.size} entries differ"
    gap = np.abs(a - b)
    scale = np.max(np.abs(a), initial=0.0) or 1.0
    worst = np.nanmax(gap, initial=0.0) / scale
    return f"{np.count_nonzero(gap > 0)} of {a.size} entries differ, by at most {worst:.1e} of the largest"


def compare(before: Path, after: Path) -> int:
    count = 0
    with np.load(before) as first, np.load(after) as second:
        for name in sorted({*first.files} | {*second.files}):
            if name not in first or name not in second:
                print(f"{name}: only {'before' if name in first else 'after'}")
            elif not same(first[name], second[name]):
                print(f"{name}: {difference(first[name], second[name])}")
            else:
                count += 1
        total = len({*first.files} | {*second.files})
    print(f"{count} of {total} results have the same bits")
    return 0 if count == total else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if arguments.action == "compare":
        return compare(*arguments.files)
    record(arguments.files[0], arguments.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
