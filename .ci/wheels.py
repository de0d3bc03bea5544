#!/usr/bin/env python3
"""Builds the sdist and wheels for Linux, audits and repairs them, and tests each in a fresh environment, torch beside.

Examples: ``python .ci/wheels.py``, ``python .ci/wheels.py --out dist --python /opt/python3.13 -- -m "not slow"``. The
interpreters are those that ``[tool.cibuildwheel]`` of pyproject.toml names, as far as they are found here. The wheels are built
on this system, without containers, so that its C library decides how old a system they run on: auditwheel gives each the tag
of the oldest. Those that are handed out come from .github/workflows/wheels.yml, which builds on an older system.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import environments as env

HERE = Path(__file__).resolve().parent


def versions() -> list[str]:
    """Versions X.Y of Python that cibuildwheel is told to build for."""
    return [re.sub(r"cp(\d)(\d+)-\*", r"\1.\2", one) for one in env.project()["tool"]["cibuildwheel"]["build"]]


def only_file(folder: Path, pattern: str) -> Path:
    """The one file of this pattern."""
    (found,) = folder.glob(pattern)
    return found


def built(python: str, sdist: Path, scratch: Path, level: str | None) -> Path:
    """A wheel from the sdist, with nothing but the build requirements at hand."""
    builder = env.fresh(python, scratch / "build")
    constraints = ("-c", env.TREE / "constraints.txt")
    env.run(builder, "-m", "pip", "install", "--quiet", *constraints, *env.build_requirements())
    options = ["-C", f"cmake.define.DIFFEO_LEVELS={level}"] if level else []
    offline = ("--no-index", "--no-build-isolation", "--no-deps")
    env.run(builder, "-m", "pip", "wheel", "--quiet", *offline, *options, "-w", scratch / "raw", sdist)
    return only_file(scratch / "raw", "*.whl")


def repaired(tools: Path, wheel: Path, scratch: Path, out: Path) -> Path:
    """The wheel with the libraries that it needs inside, and the tag of the oldest systems it runs on."""
    env.run(tools, "-m", "auditwheel", "show", wheel)
    env.run(tools, "-m", "auditwheel", "repair", "-w", scratch / "repaired", wheel, path=tools.parent)
    found = only_file(scratch / "repaired", "*.whl")
    out.mkdir(parents=True, exist_ok=True)
    return found.replace(out / found.name)


def beside_torch(python: Path, scratch: Path) -> str:
    """What comes of diffeo and torch in one process: the same bits, or why this was not tested."""

    def found(order: str) -> str:
        line = env.output(python, HERE / "beside_torch.py", order, cwd=scratch)
        env.say(f"diffeo and torch, {order}: {line}")
        return line.split()[0]

    digests = {found("alone")}
    if not env.install_torch(python, env.pinned("torch")):
        return "untested"
    digests |= {found("before"), found("after")}
    return "same bits" if len(digests) == 1 else "DIFFERENT BITS"


def tested(python: str, wheel: Path, scratch: Path, arguments: list[str]) -> tuple[str, str]:
    """How the suite, and torch in one process, went with the wheel in a fresh environment."""
    inside = env.fresh(python, scratch / "test")
    constraints = ("-c", env.TREE / "constraints.txt")
    env.run(inside, "-m", "pip", "install", "--quiet", *constraints, wheel, *env.requirements(["demo", "test"]))
    env.run(inside, "-m", "pip", "check")
    beside = beside_torch(inside, scratch)
    passed = env.test(inside, env.copied_tree(scratch / "tree"), arguments)
    return "passed" if passed else "FAILED", beside


def parsed() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("dist"), help="folder of the sdist and the wheels (%(default)s)"
    )
    parser.add_argument("--python", action="append", default=[], help="an interpreter; may be repeated (those found)")
    parser.add_argument("--only", action="append", help="version X.Y of Python; may be repeated (all)")
    parser.add_argument("--level", help="build this instruction-set level only, for a trial, e.g. x86-64-v3 (all)")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    return parser.parse_args()


def main() -> int:
    """Build, audit, test; 0 if every interpreter that was found passed."""
    asked = parsed()
    told = []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        tools = env.fresh(sys.executable, scratch / "tools")
        needed = [*env.build_requirements(), *env.project()["project"]["optional-dependencies"]["wheel"]]
        env.run(tools, "-m", "pip", "install", "--quiet", "-c", env.TREE / "constraints.txt", *needed)
        tree = env.copied_tree(scratch / "tree")
        env.run(tools, "-m", "build", "--sdist", "--no-isolation", "--outdir", scratch / "sdist", tree)
        sdist = only_file(scratch / "sdist", "*.tar.gz")
        for version in asked.only or versions():
            python = env.find_python(version, asked.python)
            if python is None:
                told.append(f"Python {version}: untested, no interpreter found")
                continue
            room = scratch / version
            room.mkdir()
            try:
                wheel = repaired(tools, built(python, sdist, room, asked.level), room, asked.out)
                suite, beside = tested(python, wheel, room, asked.pytest)
            except subprocess.CalledProcessError as error:
                told.append(f"Python {version}: FAILED, {error}")
                continue
            size = wheel.stat().st_size / 1e6
            told.append(f"Python {version}: {wheel.name}, {size:.2f} MB, suite {suite}, beside torch {beside}")
        asked.out.mkdir(parents=True, exist_ok=True)
        told.insert(0, f"{sdist.name}, {sdist.stat().st_size / 1e6:.2f} MB")
        sdist.replace(asked.out / sdist.name)
    env.say("\n".join(["", *told]))
    return 1 if any(word in line for line in told for word in ("FAILED", "DIFFERENT")) else 0


if __name__ == "__main__":
    sys.exit(main())
