"""The command ``diffeo``: observe and compare saved networks, demos, and facts about the installation."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diffeo import __version__, errors
from diffeo._support.wording import printable

DEMOS = ("scalar", "field", "horse", "family")
SCREEN = """\
No pairs are needed: spectra, intrinsic dimensions, densities and coverage of both samples are compared. This can speak
against equivalence, and never prove it (diffeo compare does). Files as for diffeo compare.

example:
    diffeo screen A.npz B.npz --json screening.json

exit code: 0 nothing speaks against equivalence, 1 something does, or nothing could be said, 2 an error
"""
EXIT_CODES = "exit code: 0 equivalent, 1 anything less, 2 an error"
OBSERVE = """\
NETWORK is MODULE:FACTORY. MODULE is imported from the current directory, as python -m would; FACTORY is a function
or class without arguments that gives the torch.nn.Module. Nothing else is executed: weights are read from safetensors
(written by safetensors.torch.save_model(net, "a.safetensors")), inputs from npy (np.save("x_a.npy", x)).

examples:
  the output of a network, as networks.py makes it
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy -o A.npz
  five neurons of a hidden layer, in double precision
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --layer net.3 --neurons 5 \\
        --dtype float64 -o A.npz
  a transformer, its tokens averaged
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --layer encoder --reduce mean -o A.npz
  a network with rectifiers: averaged over inputs around each, or by bursts of 64 inputs
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --smooth 0.02 -o A.npz
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --covariances bursts --bursts 64 \\
        --scale 0.01 -o A.npz
  a network with cliffs: 1,500 more inputs where it is sampled too thinly
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --refine 1500 --added more.npy -o A.npz
  sixty checkpoints, to a folder, with what each measures at common inputs (diffeo family)
    diffeo observe networks:make --weights run/*.safetensors --inputs x.npy -o seen
  images on a surface of two dimensions: orthonormal tangents (n, ..., 2) of the inputs
    diffeo observe networks:make_a --weights a.safetensors --inputs x_a.npy --tangents t_a.npy -o A.npz
"""
FAMILY = """\
Files are compared in the order of their names, numbers within them by value. The file of common points holds NAME.points
(L, m) for each NAME.npz, and NAME.jacobians (L, m, p) where derivatives are known; half of them judge.

example: from the checkpoints of a training run to a page
    diffeo observe networks:make --weights run/*.safetensors --inputs x.npy -o seen
    diffeo family seen/*.npz --common seen/common.npz --html family.html --checkpoint work

exit code: 0 all pairs are told of, 2 an error
"""
PAIRS = """\
Networks, weights and inputs as for diffeo observe. Inputs of more than 64 coordinates (pictures) need tangents.

example:
    diffeo pairs networks:make_a networks:make_b --weights-a a.safetensors --weights-b b.safetensors --inputs x.npy \\
        -o pairs.npz
    diffeo compare --pairs pairs.npz --html report.html
"""
COMPARE = f"""\
A and B are written by diffeo observe, by Observation.save, or by yourself: an npz file of points (n, m), and of
jacobians (n, m, p), or bursts (n, K, m) and scale, or covariances (n, m, m), or reference (n, p); optionally dim.
Points alone are accepted for one intrinsic dimension only (dim=1).
Pairs are csv files of two columns, row in A and row in B, counted from 0, with a header line or without; or npz files
of points_a and points_b. Landmarks align the two sides, held-out pairs judge the result: no pair may be both.

examples:
  common inputs of both networks, with derivatives (diffeo pairs): the most accurate by far; a fifth is held out
    diffeo compare --pairs pairs.npz --html report.html
    diffeo compare A.npz B.npz --landmarks landmarks.csv --held-out held-out.csv --html report.html
  one file of pairs: half of them are held out
    diffeo compare A.npz B.npz --landmarks pairs.csv --html report.html --json report.json
  as a test in a script
    diffeo compare A.npz B.npz --landmarks pairs.csv --margin 0.01 > report.txt && echo the same

{EXIT_CODES}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2: an error; `compare`: 0 only if equivalent)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    logging.basicConfig(level=logging.INFO if getattr(options, "verbose", False) else logging.WARNING)
    try:
        return _run(options, given)
    except (errors.DiffeoError, OSError) as error:
        # One paragraph, whatever a path or a file put into it.
        print(f"diffeo: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
    except Exception:
        # A traceback alone would end with 1, which means "not equivalent".
        traceback.print_exc()
    return 2


def _run(options: argparse.Namespace, given: list[str]) -> int:
    if options.command == "demo":
        os.environ.setdefault("MPLBACKEND", "agg")  # pictures go to files: no window, and no screen needed
        demo = importlib.import_module(f"diffeo.demos.{options.name}.experiment")
        demo.run(Path(options.out), quick=options.quick)
        return 0
    if options.command == "info":
        print(_info())
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
        elif options.command == "screen":
            text, code = commands.screen(options)
        else:
            text, code = commands.compare(options, given, warned)
    if not options.quiet:
        print(text)
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
                print(f"diffeo: warning: {message}", file=sys.stderr)

        warnings.showwarning = show
        warnings.simplefilter("always", errors.DiffeoWarning)
        yield said


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
    about = (
        "scalar: networks that learned a function of one or two inputs; field: two networks that learned a vector field, each "
        "in coordinates of its own; horse: two autoencoders, two cameras on a turning horse; family: ten networks, all pairs: "
        "two classes at the outputs, one in a hidden layer"
    )
    demo.add_argument("name", choices=DEMOS, help=about)
    demo.add_argument("--out", default="diffeo-demo", metavar="DIR", help="where to write (default: ./diffeo-demo)")
    demo.add_argument("--quick", action="store_true", help="small samples: half a minute, less accurate")
    demo.add_argument("--verbose", action="store_true", help="log what the library says")
    _add_observe(commands)
    _add_pairs(commands)
    _add_compare(commands)
    _add_screen(commands)
    _add_family(commands)
    doctor = commands.add_parser(
        "doctor",
        help="whether all is well here: level, threads, packages, and a short check of speed and bits",
        epilog="exit code: 0 all is well, 1 something is not, 2 an error",
    )
    doctor.add_argument("--json", metavar="F", help="write what was found")
    _add_quiet(doctor)
    commands.add_parser("info", help="version, instruction set in use, threads, and optional parts found")
    return parser


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


def _add_observe(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    observe = commands.add_parser(
        "observe",
        help="measure a saved network on inputs: activations and their local covariances",
        description="Measure a saved network on inputs: activations, and how they respond to each input.",
        epilog=OBSERVE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    add("--covariances", choices=("jacobians", "bursts"), default="jacobians", help="derivatives, or bursts of inputs")
    add("--bursts", type=int, default=32, metavar="K", help="inputs in a burst (default: 32)")
    add("--scale", type=float, help="their standard deviation, in input units (default: 0.02 of the spread)")
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
        help="measure two saved networks at common inputs, with derivatives, for diffeo compare --pairs",
        description="Measure two saved networks at common inputs, with derivatives by the same coordinates of these.",
        epilog=PAIRS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        help="match two observations and judge the match: equivalent, one way only, or not",
        description="Match two observations of one domain, and judge the match by held-out pairs.",
        epilog=COMPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        help="compare two observations without any pairs: what speaks against equivalence",
        description="Look for what speaks against the equivalence of two observations, without any pairs.",
        epilog=SCREEN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        help="compare every pair of many observations: classes, and which determines which",
        description="Match and judge every pair of many observations of one domain.",
        epilog=FAMILY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
