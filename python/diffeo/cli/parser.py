"""The command ``diffeo``: observe and compare saved networks, demos, and facts about the installation."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import os
import platform
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diffeo import __version__, errors
from diffeo.cli.completion import SHELLS
from diffeo.cli.pages import COMPARE, COMPLETION, FAMILY, OBSERVE, OVERVIEW, PAIRS, SCREEN, WORKFLOW
from diffeo.cli.terminal import Parser, show_error, show_result, show_warning

DEMOS = ("scalar", "field", "horse", "family")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2: an error; `compare`: 0 only if equivalent)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    logging.basicConfig(level=logging.INFO if getattr(options, "verbose", False) else logging.WARNING)
    try:
        return _run(options, given)
    except (errors.DiffeoError, OSError) as error:
        show_error(_words(error))
    except Exception:
        # A traceback alone would end with 1, which means "not equivalent".
        traceback.print_exc()
    return 2


def _words(error: Exception) -> str:
    """What an error says; of the system's the file first."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _run(options: argparse.Namespace, given: list[str]) -> int:
    if options.command == "completion":
        from diffeo.cli.completion import script

        print(script(_parser(), options.shell))
        return 0
    if options.json != "-":
        return _done(options, given)
    # To stdout, and nothing else there.
    with tempfile.TemporaryDirectory() as folder:
        options.json, options.quiet = os.path.join(folder, "found.json"), True
        code = _done(options, given)
        print(Path(options.json).read_text(encoding="utf-8"), end="")
    return code


def _demo(options: argparse.Namespace) -> None:
    from diffeo.cli.reading import check_folder, write_json

    check_folder(options.json)
    os.environ.setdefault("MPLBACKEND", "agg")  # pictures go to files: no window, and no screen needed
    demo = importlib.import_module(f"diffeo.demos.{options.name}.experiment")
    folder, start = Path(options.out), time.time()
    with contextlib.redirect_stdout(io.StringIO()) if options.quiet else contextlib.nullcontext():
        demo.run(folder, quick=options.quick)
    if options.json is not None:
        files = sorted(str(path) for path in folder.rglob("*") if path.is_file() and path.stat().st_mtime >= start - 2)
        write_json({"demo": options.name, "seconds": time.time() - start, "files": files}, options.json)


def _done(options: argparse.Namespace, given: list[str]) -> int:
    """Do what a command says, show what it found, and return the exit code."""
    if options.command == "demo":
        _demo(options)
        return 0
    from diffeo.cli import commands, family_commands, pair_commands
    from diffeo.cli.reading import check_folder, write_json

    with _warnings_shown() as warned:
        if options.command == "observe":
            text, code = commands.observe(options), 0
        elif options.command == "pairs":
            text, code = pair_commands.pairs(options), 0
        elif options.command == "family":
            text, code = family_commands.family(options, given, warned), 0
        elif options.command == "doctor":
            from diffeo.cli.doctor import examine

            check_folder(options.json)
            found, text, code = examine()
            if options.json is not None:
                write_json(found, options.json)
                text += f"\nwrote {options.json}"
        elif options.command == "info":
            from diffeo.cli.doctor import facts

            check_folder(options.json)
            text, code = _info(), 0
            if options.json is not None:
                write_json(facts(), options.json)
                text += f"\nwrote {options.json}"
        elif options.command == "screen":
            text, code = commands.screen(options)
        else:
            text, code = commands.compare(options, given, warned)
    if not options.quiet:
        show_result(text, code)
    return code


@contextlib.contextmanager
def _warnings_shown() -> Iterator[list[str]]:
    """Print diffeo's warnings as they come, each once, as sentences without their lines of code; and collect them."""
    said: list[str] = []
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, errors.DiffeoWarning):
                usual(message, category, *rest, **more)
            elif str(message) not in said:
                said.append(str(message))
                show_warning(str(message))

        warnings.showwarning = show
        warnings.simplefilter("always", errors.DiffeoWarning)
        yield said


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="diffeo", usage="diffeo COMMAND ...", description=OVERVIEW, epilog=WORKFLOW)
    parser.add_argument("--version", action="version", version=f"diffeo {__version__}")
    commands: argparse._SubParsersAction[Any] = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands", prog="diffeo", parser_class=Parser
    )
    demo = commands.add_parser(
        "demo",
        help="train small networks, match them, make a page of it",
        epilog="example: diffeo demo scalar --quick --out pictures",
    )
    about = (
        "scalar: networks that learned a function of one or two inputs; field: two networks that learned a vector field, each "
        "in coordinates of its own; horse: two autoencoders, two cameras on a turning horse; family: ten networks, all pairs: "
        "two classes at the outputs, one in a hidden layer"
    )
    demo.add_argument("name", choices=DEMOS, help=about)
    demo.add_argument("--out", default="diffeo-demo", metavar="DIR", help="where to write (default: ./diffeo-demo)")
    demo.add_argument("--quick", action="store_true", help="small samples: half a minute, less accurate")
    demo.add_argument("--json", metavar="F", help="write which files were made")
    demo.add_argument("--verbose", action="store_true", help="log what the library says")
    _add_quiet(demo)
    _add_observe(commands)
    _add_pairs(commands)
    _add_compare(commands)
    _add_screen(commands)
    _add_family(commands)
    doctor = commands.add_parser(
        "doctor",
        help="whether all is well here, by a short check",
        epilog="exit code: 0 all is well, 1 something is not, 2 an error",
    )
    doctor.add_argument("--json", metavar="F", help="write what was found")
    _add_quiet(doctor)
    info = commands.add_parser("info", help="version, instruction set, threads, packages")
    info.add_argument("--json", metavar="F", help="write it, as plain texts and numbers")
    _add_quiet(info)
    completion = commands.add_parser(
        "completion",
        help="print a script for completion in your shell",
        description="Print a script by which the shell completes commands, options and files (by shtab).",
        epilog=COMPLETION,
    )
    completion.add_argument("shell", choices=SHELLS, help="for which shell")
    return parser


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


def _burst_size(text: str) -> int | str:
    """How many inputs a burst has, or "auto"."""
    return text if text == "auto" else int(text)


def _add_observe(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    observe = commands.add_parser(
        "observe",
        help="measure a saved network on inputs",
        description="Measure a saved network on inputs: activations, and how they respond to each input.",
        epilog=OBSERVE,
    )
    add = observe.add_argument
    add("network", metavar="NETWORK", help="MODULE:FACTORY, what makes the network")
    add("--weights", required=True, nargs="+", metavar="W.safetensors", help="its weights; many of them: a family")
    add("--inputs", required=True, metavar="X.npy", help="inputs (n, ...), points of the common domain")
    add("--common", metavar="C.npy", help="common inputs of a family (default: a fifth of the inputs, at most 400)")
    add("--layer", metavar="NAME", help="dotted name of the module to measure (default: the output)")
    add("--neurons", type=int, metavar="N", help="how many neurons, drawn by the seed (default: all)")
    add(
        "--suggest-neurons", type=int, nargs="?", const=0, metavar="N",
        help="measure the whole layer, and keep N of its neurons that embed the input (default: as many as it takes)",
    )  # fmt: skip
    add("--reduce", choices=("mean", "first", "last"), help="reduce tokens, steps or pixels first (default: none)")
    add("--smooth", type=float, metavar="S", help="average over inputs this far around each, for rectifiers")
    add(
        "--covariances", choices=("auto", "jacobians", "slopes", "bursts"), default="auto",
        help="derivatives, slopes over bursts of inputs, or these; auto takes slopes where rectifiers or pooling need them",
    )  # fmt: skip
    add("--bursts", type=_burst_size, default="auto", metavar="K", help="inputs in a burst, or auto (default)")
    add("--scale", type=float, help="their standard deviation (default: by the spacing; of bursts 0.02 of the spread)")
    add("--tangents", metavar="T.npy", help="orthonormal tangents (n, ..., d) of inputs that fill d dimensions only")
    add("--dim", type=int, metavar="D", help="intrinsic dimension (default: found)")
    add("--refine", type=int, metavar="N", help="add up to N inputs where the sample is too thin for the curvature")
    add("--added", metavar="X.npy", help="where to write the inputs that were added, in their order")
    add("--dtype", choices=("float32", "float64"), help="precision of the network (default: that of the weights)")
    add("--seed", type=int, default=0, help="for neurons and bursts (default: 0)")
    add(
        "-o",
        "--output",
        required=True,
        metavar="A.npz",
        help="file (.npz arrays, or .safetensors), or folder of a family",
    )
    add("--json", metavar="F", help="write what was observed, in numbers")
    add("--verbose", action="store_true", help="progress, and what the library says")
    _add_quiet(observe)


def _add_pairs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pairs = commands.add_parser(
        "pairs",
        help="measure two saved networks on common inputs",
        description="Measure two saved networks at common inputs, with derivatives by the same coordinates of these.",
        epilog=PAIRS,
    )
    add = pairs.add_argument
    for side in "ab":
        add(side, metavar=f"NETWORK_{side.upper()}", help=f"MODULE:FACTORY, what makes network {side.upper()}")
    for side in "ab":
        add(f"--weights-{side}", required=True, metavar="W.safetensors", help=f"weights of {side.upper()}")
    add("--inputs", required=True, metavar="X.npy", help="common inputs (n, ...)")
    for side in "ab":
        add(
            f"--layer-{side}", metavar="NAME", help=f"dotted name of the module of {side.upper()} (default: the output)"
        )
    add("--neurons", type=int, metavar="N", help="how many neurons of each, drawn by the seed (default: all)")
    add("--reduce", choices=("mean", "first", "last"), help="reduce tokens, steps or pixels first (default: none)")
    add("--tangents", metavar="T.npy", help="orthonormal tangents (n, ..., d) of inputs that fill d dimensions only")
    add("--no-jacobians", action="store_true", help="values alone: many more pairs are needed")
    add("--dtype", choices=("float32", "float64"), help="precision of the networks (default: that of the weights)")
    add("--seed", type=int, default=0, help="for neurons (default: 0)")
    add("-o", "--output", required=True, metavar="P.npz", help="where to write (.npz arrays, or .safetensors)")
    add("--json", metavar="F", help="write how many pairs of what were measured")
    add("--verbose", action="store_true", help="progress, and what the library says")
    _add_quiet(pairs)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="match two observations, judge the match: the verdict",
        description="Match two observations of one domain, and judge the match by held-out pairs.",
        epilog=COMPARE,
    )
    add = compare.add_argument
    add("a", nargs="?", metavar="A.npz", help="observation of the first network")
    add("b", nargs="?", metavar="B.npz", help="observation of the second network")
    add("--pairs", metavar="P.npz", help="instead of both and landmarks: common inputs, as diffeo pairs measures them")
    add("--landmarks", metavar="L.csv", help="pairs that align the two")
    add("--held-out", metavar="H.csv", help="pairs that judge (default: half of the landmarks, at least 20)")
    add("--html", metavar="F", help="write the report as one self-contained page")
    add("--json", metavar="F", help="write its numbers")
    add("--save", metavar="F", help="write it as safetensors, for diffeo.load")
    add("--margin", type=float, default=0.05, help="relative error that still counts as equivalent (default: 0.05)")
    add("--significance", type=float, default=0.05, help="one-sided level of the bounds (default: 0.05)")
    add("--coordinates", choices=("auto", "isometric", "diffusion"), default="auto", help="as in diffeo.match")
    add(
        "--no-check", dest="check", action="store_false",
        help="do not make the map again from halves: half the time, no expected error",
    )  # fmt: skip
    add("--seed", type=int, default=0, help="for pairs held out, and the match (default: 0)")
    add("--jobs", type=int, metavar="K", help="threads (default: all)")
    add("--verbose", action="store_true", help="progress, and what the library says")
    _add_quiet(compare)


def _add_screen(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    screen = commands.add_parser(
        "screen",
        help="look without any pairs for what speaks against it",
        description="Look for what speaks against the equivalence of two observations, without any pairs.",
        epilog=SCREEN,
    )
    add = screen.add_argument
    add("a", metavar="A.npz", help="observation of the first network")
    add("b", metavar="B.npz", help="observation of the second network")
    add("--json", metavar="F", help="write its numbers")
    add("--significance", type=float, default=0.01, help="level of the comparison of spectra (default: 0.01)")
    add("--seed", type=int, default=0, help="for the halves of each sample (default: 0)")
    add("--jobs", type=int, metavar="K", help="threads (default: all)")
    add("--verbose", action="store_true", help="progress, and what the library says")
    _add_quiet(screen)


def _add_family(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    family = commands.add_parser(
        "family",
        help="compare every pair of many observations: classes",
        description="Match and judge every pair of many observations of one domain.",
        epilog=FAMILY,
    )
    add = family.add_argument
    add("files", nargs="+", metavar="A.npz", help="observations, as diffeo observe writes them; their names name them")
    add("--common", required=True, metavar="C.npz", help="what each of them measures at common inputs")
    add("--html", metavar="F", help="write matrix, tree, graph and the report of every pair as one self-contained page")
    add("--json", metavar="F", help="write classes, verdicts, errors and reasons")
    add("--save", metavar="F", help="write it as safetensors, for diffeo.load")
    add("--checkpoint", metavar="DIR", help="keep results as they come; started again, compute what is missing")
    add(
        "--pairs", choices=("all", "spanning"), default="all", help="spanning: leave out what cannot change the classes"
    )
    add("--margin", type=float, default=0.05, help="relative error that still counts as equivalent (default: 0.05)")
    add("--significance", type=float, default=0.05, help="one-sided level of the bounds (default: 0.05)")
    add("--coordinates", choices=("auto", "isometric", "diffusion"), default="auto", help="as in diffeo.match")
    add(
        "--no-check", dest="check", action="store_false",
        help="do not make maps again from halves: half the time, no expected errors",
    )  # fmt: skip
    add("--seed", type=int, default=0, help="for which common inputs judge, and the matches (default: 0)")
    add("--jobs", type=int, metavar="K", help="pairs at a time (default: as many as threads)")
    add("--verbose", action="store_true", help="progress, and what the library says")
    _add_quiet(family)


def _info() -> str:
    from diffeo._support import core, instruction_set

    levels = ", ".join(instruction_set.available())
    lines = [
        f"diffeo       {__version__}",
        f"python       {platform.python_version()} on {platform.machine()}",
        f"instructions {core.INSTRUCTION_SET} (available: {levels})",
        f"threads      {core.n_threads(0)}",
    ]
    for package in ("numpy", "scipy", "scikit-learn", "joblib", "safetensors", "torch", "matplotlib", "scikit-image"):
        try:
            lines.append(f"{package:<13}{importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{package:<13}not installed")
    return "\n".join(lines)
