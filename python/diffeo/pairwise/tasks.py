"""What workers do: embed one network with its halves, compare two, and send samples around a triangle of three."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.engine import Lost, run
from diffeo._support.threads import working
from diffeo._support.wording import SIDES, Names
from diffeo.charts.chart import Chart, CoordinateChoice
from diffeo.family.cells import Cell, cell_of, refused
from diffeo.matching.by_pairs.matched import LEAST_PAIRS, learned, observed_sides
from diffeo.matching.match_observations import match_problem, solved
from diffeo.matching.paired.kernel_choice import QUICK, Effort
from diffeo.matching.pairs import Pairs
from diffeo.matching.parts.halves_and_groups import has_halves
from diffeo.matching.problem import MatchProblem
from diffeo.matching.self_check import GOOD, expected_of
from diffeo.matching.transformation import Transformation
from diffeo.pairwise.packed import Network, Packed, pack, unpack
from diffeo.verdict.assess_transformation import Judging, compared
from diffeo.verdict.error_bounds import FAILS, UNDETERMINED
from diffeo.verdict.layer_comparison import NOT_MATCHED
from diffeo.verdict.shown_loss import BothWays

# Networks that a worker keeps: those of the pair that it works on.
KEPT = 2
# Maps from landmarks with derivatives are judged, before any other is made, where they are expected to be wrong by less than
# this share of the margin; others are made where that does not decide.
ENOUGH = 0.5
# Where a loss is shown, a first fit that misses by so many margins is not improved: no map can be had.
HOPELESS = 5.0
# By which maps: by those from landmarks with derivatives alone, by these first and others if they are not enough, or by all.
Means = Literal["derivatives", "first", "all"]
# A chart with what its network measures at landmarks and held-out inputs.
Member = tuple[Chart, FloatArray, FloatArray]
_known = threading.local()


@dataclass(frozen=True)
class Settings:
    """How pairs are matched and judged, alike for all of a family."""

    margin: float = 0.05
    significance: float = 0.05
    coordinates: CoordinateChoice = "auto"
    check: bool = True
    random_state: int = 0


def embed_network(packed: Packed, settings: Settings) -> Packed | str:
    """The network with its coordinates and those of its halves; why it has none."""
    network = unpack(packed)
    try:
        with errors.unsaid(errors.DiffeoWarning), working(1):
            halves = settings.check and has_halves(network.chart)
            try:
                return pack(network, halves=halves)
            except errors.DiffeoError:
                # A half may be too small where the whole is not.
                return pack(network, halves=False)
    except Exception as error:  # a network that has no coordinates is a row of cells with a reason
        return refused(error).reason


def compare_by_derivatives(a: str, packed_a: Packed, b: str, packed_b: Packed, settings: Settings) -> Cell | None:
    """As `compare_networks`, where maps learned from landmarks with derivatives decide; None where they do not.

    No coordinates are needed for these. Where they are expected to be good one way, and the other way is shown not to exist, a
    verdict that the held-out inputs leave open is left to more of these: by coordinates the map is hardly ever better.
    """
    try:
        with errors.unsaid(errors.DiffeoWarning), working(1):
            found = compared_cell(network_of(a, packed_a), network_of(b, packed_b), settings, "derivatives")
            ways = found.forward, found.backward
            lost = any(way is not None and way.status == FAILS for way in ways)
            return found if lost or found.verdict != UNDETERMINED else None
    except Exception:  # what is wrong is said when the pair is compared by all means
        return None


def compare_networks(a: str, packed_a: Packed, b: str, packed_b: Packed, settings: Settings) -> Cell:
    """Match two networks and judge the match, both ways; networks are known again by their identities."""
    try:
        with errors.unsaid(errors.DiffeoWarning), working(1):
            return compared_cell(network_of(a, packed_a), network_of(b, packed_b), settings)
    except Exception as error:  # a pair that cannot be matched is a cell with a reason, never the end of the others
        return refused(error)


def compared_cell(a: Network, b: Network, settings: Settings, means: Means = "all") -> Cell:
    """As `compare_networks`, of networks that are at hand; errors as in `diffeo.match` and `diffeo.assess`."""
    judging = Judging(settings.margin, settings.significance, baselines=False, n_jobs=1, spectra=False)
    sides = _Sides(a, b, settings) if a.chart.dim >= b.chart.dim else _Sides(b, a, settings, SIDES[::-1])
    solve = partial(_solved, sides=sides, means=means)
    return cell_of(compared(posed(a, b, settings), Pairs(a.held_out, b.held_out), judging, solve, sides.evidence))


def posed(a: Network, b: Network, settings: Settings) -> MatchProblem:
    """The problem of matching two networks."""
    problem = match_problem(a.chart, b.chart, settings.coordinates, settings.random_state, 1)
    derivatives = (a.jacobians, b.jacobians) if with_derivatives(a, b) else ()
    problem = problem.given(Pairs(a.landmarks, b.landmarks, *derivatives))
    return replace(problem, check=settings.check)


def with_derivatives(a: Network, b: Network) -> bool:
    """Whether landmarks have derivatives on both sides."""
    return a.jacobians is not None and b.jacobians is not None


class UndecidedError(Exception):
    """Maps from landmarks with derivatives do not decide."""


@dataclass(frozen=True, eq=False)
class _Sides:
    """Two networks in the order in which they are matched."""

    a: Network
    b: Network
    settings: Settings
    names: Names = SIDES

    @cached_property
    def evidence(self) -> BothWays:
        """What the common inputs show of a loss, by the samples of both."""
        return BothWays(self.a.seen, self.b.seen, self.names, self.settings.margin)

    @property
    def efforts(self) -> tuple[Effort, Effort]:
        """What maps learned from landmarks with derivatives may cost, either way."""
        lost = replace(QUICK, hopeless=HOPELESS * self.settings.margin)
        there, back = (lost if one.shown else QUICK for one in self.evidence.found)
        return there, back

    def decided_by(self, t: Transformation) -> bool:
        """Whether each way is expected to be well within the margin, or shown not to exist."""
        enough = ENOUGH * self.settings.margin
        ways = t.diagnostics.expected_error, t.diagnostics.expected_error_back
        return all(
            (way is not None and way <= enough) or shown.shown
            for way, shown in zip(ways, self.evidence.found, strict=True)
        )


def _solved(problem: MatchProblem, sides: _Sides, means: Means = "all") -> Transformation:
    """The map that is expected to be least wrong, of those that `diffeo.match` makes and that of landmarks with derivatives.

    The latter needs no coordinates, and is all where `means` says so. Samples are registered only where nothing else is good,
    and no loss is shown whatever the map: that is long work, and would be in vain.
    """
    settings, refusals, found = sides.settings, list[errors.DiffeoError](), list[Transformation]()
    pairs = problem.landmarks
    if pairs is not None and pairs.with_derivatives and len(pairs) >= LEAST_PAIRS and settings.coordinates == "auto":
        known = sides.a.components, sides.b.components
        _try(
            lambda: learned(observed_sides(pairs), None, settings.random_state, 1, known, sides.efforts),
            found,
            refusals,
        )
        if means != "all" and found and sides.decided_by(found[0]):
            return found[0]
    if means == "derivatives":
        raise UndecidedError
    good, count = min(map(expected_of, found), default=np.inf) <= GOOD, len(found)
    if not settings.check:
        _try(lambda: solved(problem), found, refusals)
    else:
        _try(lambda: solved(replace(problem, register=False)), found, refusals)
        # Where nothing competed, the isometric coordinates were good enough.
        good = good or (len(found) > count and not found[-1].diagnostics.competed)
    if settings.check and found and not good and not any(one.shown for one in sides.evidence.found):
        _try(lambda: solved(problem), found, refusals)
    if not found:
        raise refusals[-1]
    return min(found, key=expected_of)


def _try(make: Callable[[], Transformation], found: list[Transformation], refusals: list[errors.DiffeoError]) -> None:
    """Add a map to those found, or to the refusals why there is none."""
    try:
        found.append(make())
    except errors.DiffeoError as error:
        refusals.append(error)


def _mapped(a: Network, b: Network, settings: Settings) -> Transformation:
    return _solved(posed(a, b, settings), _Sides(a, b, settings), "first")


def around(
    a: str, packed_a: Packed, b: str, packed_b: Packed, c: str, packed_c: Packed, settings: Settings
) -> tuple[float, ...] | str:
    """Relative errors of held-out points of each corner, sent around the triangle and back to it; why there are none."""
    try:
        with errors.unsaid(errors.DiffeoWarning), working(1):
            networks = [network_of(name, one) for name, one in ((a, packed_a), (b, packed_b), (c, packed_c))]
            maps = [_mapped(networks[k], networks[k - 2], settings) for k in range(3)]
            found = []
            for start in range(3):
                points = networks[start].held_out
                sent = points
                for step in range(3):
                    sent = maps[(start + step) % 3].sent(sent).values
                found.append(float(np.linalg.norm(sent - points) / np.linalg.norm(points - points.mean(axis=0))))
            return tuple(found)
    except Exception as error:  # as for cells
        return refused(error).reason


def compared_once(
    a: Mapping[str, Member], b: Mapping[str, Member], settings: Settings, n_jobs: int | None
) -> dict[tuple[str, str], Cell]:
    """Every network of one kind against every one of another, each embedded once; without a checkpoint."""
    sides = [
        {name: pack(Network(*member), whole=False, halves=False) for name, member in side.items()} for side in (a, b)
    ]
    where = [(k, name) for k, side in enumerate(sides) for name in side]

    def embedded(number: int, found: Packed | str | Lost) -> None:
        # One that has no coordinates may have maps that need none.
        if not isinstance(found, (str, Lost)):
            k, name = where[number]
            sides[k][name] = found

    run(embed_network, [(sides[k][name], settings) for k, name in where], embedded, n_jobs=n_jobs, name="embedding")
    pairs = [(name_a, name_b) for name_a in sides[0] for name_b in sides[1]]
    cells = dict[tuple[str, str], Cell]()

    def compared_pair(number: int, found: Cell | Lost) -> None:
        if isinstance(found, Lost):
            found = Cell(NOT_MATCHED, f"the worker that compared them was lost: {found.reason}")
        cells[pairs[number]] = found

    marks = [{name: hashlib.sha256(one.tobytes()).hexdigest() for name, one in side.items()} for side in sides]
    tasks = [(marks[0][x], sides[0][x], marks[1][y], sides[1][y], settings) for x, y in pairs]
    try:
        run(compare_networks, tasks, compared_pair, n_jobs=n_jobs, name="layers")
    finally:
        forget()
    return cells


def network_of(name: str, packed: Packed) -> Network:
    """The network of this identity, made from its bytes unless this thread has just had it."""
    known: dict[str, Network] = _known.__dict__.setdefault("networks", {})
    found = known.pop(name, None)
    if found is None:
        while len(known) >= KEPT:
            del known[next(iter(known))]
        found = unpack(packed)
    known[name] = found
    return found


def forget() -> None:
    """Let go of the networks that this thread has kept."""
    _known.__dict__.clear()
