"""The command ``diffeo``: demos and facts about the installation."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from diffeo import __version__, errors

DEMOS = ("scalar", "field")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0: done, 2: an error that diffeo explains)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if getattr(options, "verbose", False) else logging.WARNING)
    try:
        if options.command == "demo":
            demo = importlib.import_module(f"diffeo.demos.{options.name}")
            demo.run(Path(options.out), quick=options.quick)
        else:
            print(_info())
    except (errors.DiffeoError, OSError) as error:
        print(f"diffeo: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="diffeo",
        description="Do two neural networks see the same thing up to a smooth change of coordinates?",
        epilog="example: diffeo demo scalar --out pictures",
    )
    parser.add_argument("--version", action="version", version=f"diffeo {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="train small networks, match them, write pictures and a page",
        epilog="example: diffeo demo scalar --quick --out pictures",
    )
    demo.add_argument(
        "name",
        choices=DEMOS,
        help="scalar: networks that learned a function of one or two inputs; field: a vector field, each in own coordinates",
    )
    demo.add_argument("--out", default="diffeo-demo", metavar="DIR", help="where to write (default: ./diffeo-demo)")
    demo.add_argument("--quick", action="store_true", help="small samples: half a minute, less accurate")
    demo.add_argument("--verbose", action="store_true", help="log what the library says")
    commands.add_parser("info", help="version, instruction set in use, threads, and optional parts found")
    return parser


def _info() -> str:
    from diffeo import _core, _instruction_set

    levels = ", ".join(_instruction_set.available())
    lines = [
        f"diffeo       {__version__}",
        f"python       {platform.python_version()} on {platform.machine()}",
        f"instructions {_core.INSTRUCTION_SET} (available: {levels})",
        f"threads      {_core.n_threads(0)}",
    ]
    for package in ("numpy", "scipy", "scikit-learn", "safetensors", "torch", "matplotlib", "scikit-image"):
        try:
            lines.append(f"{package:<13}{importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{package:<13}not installed")
    return "\n".join(lines)
