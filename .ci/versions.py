#!/usr/bin/env python3
"""Runs the test suite in a fresh environment of the lowest versions that pyproject.toml states, or of the newest there are.

Examples: ``python .ci/versions.py lowest``, ``python .ci/versions.py newest --level x86-64-v3 -- -m "not slow"``.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

import environments as env


def lowest(requirement: str) -> str:
    """The requirement of the lowest version: == for >=, of CMake the releases of that version (3.20 has no 3.20.0)."""
    if env.name_of(requirement) == "cmake":
        return re.sub(r">=\s*(\d+\.\d+)$", r"~=\1.0", requirement)
    return re.sub(r">=", "==", requirement)


def parsed() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["lowest", "newest"])
    parser.add_argument("--python", help="interpreter (lowest: the oldest version supported; newest: the running one)")
    parser.add_argument("--into", type=Path, help="folder of the environment, kept (a temporary one)")
    parser.add_argument("--level", help="build this instruction-set level only, e.g. x86-64-v3 (all)")
    parser.add_argument(
        "--torch",
        metavar="VERSION",
        help="version of torch, or none; only builds for processors alone are installed (lowest: none; newest: that of "
        "constraints.txt)",
    )
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    return parser.parse_args()


def main() -> int:
    """Make the environment, install, test; 0 if all tests passed."""
    asked = parsed()
    oldest = env.project()["project"]["requires-python"].removeprefix(">=")
    python = asked.python or (env.find_python(oldest) if asked.which == "lowest" else sys.executable)
    if python is None:
        env.say(f"no Python {oldest} was found: name one with --python")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        tree = env.copied_tree(Path(scratch) / "tree")
        inside = env.fresh(python, asked.into or Path(scratch) / "venv")
        needed = [*env.build_requirements(), *env.requirements(["demo", "test"])]
        needed = [lowest(one) if asked.which == "lowest" else one for one in needed]
        env.run(inside, "-m", "pip", "install", "--quiet", "--upgrade", *needed)
        torch = asked.torch or ("none" if asked.which == "lowest" else env.pinned("torch").removeprefix("torch=="))
        if torch != "none":
            env.install_torch(inside, f"torch=={torch}")
        level = ["-C", f"cmake.define.DIFFEO_LEVELS={asked.level}"] if asked.level else []
        env.run(inside, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", *level, tree)
        env.run(inside, "-m", "pip", "check")
        return 0 if env.test(inside, tree, asked.pytest) else 1


if __name__ == "__main__":
    sys.exit(main())
