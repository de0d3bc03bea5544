"""compare_family: every pair of many networks, matched and assessed both ways, on one machine or on a cluster."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffeo import __version__, errors
from diffeo._support.arrays import FloatArray, RandomState, boolean, float_array, seed
from diffeo._support.engine import Lost, run
from diffeo._support.memory import memory_limit
from diffeo._support.progress import showing
from diffeo._support.wording import rows_text
from diffeo.charts.chart import Chart, CoordinateChoice, as_chart, check_choice
from diffeo.family.cells import Cell
from diffeo.family.classes import Pair, distances, labels_of, tree_of, triangles
from diffeo.family.found import Family, RoundTrip
from diffeo.matching.pairs import as_pairs
from diffeo.observation.observation import Observation
from diffeo.pairwise.checkpoint import Checkpoint
from diffeo.pairwise.packed import Network, Packed, identity, pack, told
from diffeo.pairwise.plan import PairChoice, Spanning, all_pairs, rounds
from diffeo.pairwise.tasks import (
    Settings,
    around,
    compare_by_derivatives,
    compare_networks,
    embed_network,
    forget,
    with_derivatives,
)
from diffeo.verdict.assess_transformation import Judging
from diffeo.verdict.layer_comparison import NOT_MATCHED

# Share of the memory that is allowed which the networks of one round may take, as they are sent.
SENT = 0.25

Common = Mapping[str, Any]


def compare_family(
    networks: Mapping[str, Observation | Chart],
    *,
    landmarks: Common,
    held_out: Common,
    margin: float = 0.05,
    significance: float = 0.05,
    pairs: PairChoice = "all",
    coordinates: CoordinateChoice = "auto",
    check: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Family:
    """Compare every pair of many networks: which are equivalent, and which determine which.

    Each pair is matched by the common inputs and judged by others, both ways (`diffeo.match`, `diffeo.assess`). Each network
    is embedded once, with the halves of its samples, unless no pair needs its coordinates. Classes come by complete linkage:
    all members of a class are equivalent to each other. What cannot be matched, or told, is a cell with its reason, and never
    ends the rest.

    joblib runs it: inside of ``joblib.parallel_config(backend="dask")`` (or "ray", or "loky") its workers do the work,
    otherwise threads of this process. Networks are sent to each of them as the bytes that a file would hold; no worker keeps
    more than two. A worker that is lost costs its tasks, which others do again. Results are the same bits on any of these.

    Parameters
    ----------
    networks : mapping of str to Observation or Chart
        Two or more, by name. They need not share an input, but their inputs must fill one domain.
    landmarks : mapping of str to array_like of shape (L, m), or to a tuple of that and derivatives (L, m, p)
        For each name, what it measures at L common inputs, in the same order for all (`Observation.measure`). Where both
        networks of a pair have derivatives, by the same p coordinates of the input, maps learned from these pairs compete
        (`diffeo.match_pairs`; from 20 landmarks on): ``diffeo.measure_pairs(net, net, common, like=(obs, obs))`` has
        ``.points_a`` and ``.jacobians_a``. They come first, and are all where each way is expected to be wrong by less than
        half of the margin, or the common inputs show that there is none, and one way fails or both hold. Where a loss is
        shown, a first fit that misses by five margins is all: that way's error is the one of this fit.
    held_out : mapping as `landmarks`
        At H other common inputs, at least 20, drawn like the samples: they judge. Derivatives are not needed.
    margin, significance : float
        As in `diffeo.assess`. So many pairs are judged that some verdicts are wrong by chance: ``.expected_false`` says how
        many at most.
    pairs : {"all", "spanning"}
        "spanning" leaves out pairs that cannot change the classes: networks are compared with the first of each class, and
        within a class where errors by way of that one would not stay well below the margin. ``cell.inferred`` and the page say
        which followed from others.
    coordinates, check
        As in `diffeo.match`.
    checkpoint : path, optional
        A folder, made if needed, in which results are kept as they come. Started again, a run computes what is missing, also
        where networks were added or observed anew since.
    random_state : int, numpy generator or None
    n_jobs : int, optional
        Pairs at a time; None or -1: as many as OpenMP gives threads, or as the backend has workers.
    verbose : bool
        Show progress bars.

    Returns
    -------
    Family
        ``.verdicts``, ``.errors``, ``.classes``, ``.conflicts``, ``.summary()``, ``.plot()``, ``.to_html(path)``.

    Raises
    ------
    ParameterError, DataTypeError
        Fewer than two networks; something else than an observation or a chart.
    LandmarkError
        Names without common points, or different numbers of them; the same input twice.
    ShapeError, NonFiniteError
        Common points that do not fit their observation.
    StorageError
        The checkpoint cannot be written.
    WorkerError
        The backend could not run a single task.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> rng = np.random.default_rng(0)
    >>> common, obs, marks, held = rng.random((60, 2)), {}, {}, {}
    >>> for name, slope in (("one", 1.0), ("two", 2.0), ("three", -1.0)):
    ...     x = rng.random((300, 2))
    ...     obs[name] = diffeo.Observation.from_jacobians(slope * x, np.tile(slope * np.eye(2), (300, 1, 1)))
    ...     marks[name], held[name] = slope * common[:10], slope * common[10:]
    >>> diffeo.compare_family(obs, landmarks=marks, held_out=held).classes
    [['one', 'two', 'three']]
    """
    judging = Judging(margin, significance)
    check_choice(coordinates)
    if pairs not in ("all", "spanning"):
        raise errors.ParameterError(f'pairs must be "all" or "spanning", not {pairs!r}')
    settings = Settings(judging.margin, judging.significance, coordinates, boolean(check, "check"), seed(random_state))
    members = _members(networks, landmarks, held_out, settings)
    try:
        with showing(verbose):
            return _Run(members, Checkpoint(checkpoint, settings), settings, n_jobs).compared(pairs)
    finally:
        forget()


@dataclass(eq=False)
class _Run:
    """One run: networks by number, as they travel, and what was found so far."""

    members: dict[str, Network]
    kept: Checkpoint
    settings: Settings
    n_jobs: int | None
    names: list[str] = field(init=False)
    identities: list[str] = field(init=False)
    # Without coordinates, except for those that the caller made; and with them, of networks that needed them.
    raw: list[Packed] = field(init=False)
    embedded: dict[int, Packed] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    cells: dict[Pair, Cell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = [*self.members]
        self.identities = [identity(one) for one in self.members.values()]
        self.raw = [pack(one, whole=has_layout(one.chart), halves=False) for one in self.members.values()]

    def packed(self, k: int) -> Packed:
        """A network as it travels, with its coordinates if these were made."""
        return self.embedded.get(k, self.raw[k])

    def _embed(self, wanted: list[int]) -> None:
        """Give networks their coordinates and those of their halves, unless the checkpoint has them."""
        missing = [k for k in wanted if not self._known(k)]

        def finished(number: int, result: Packed | str | Lost) -> None:
            k = missing[number]
            if isinstance(result, Lost):
                self.reasons[k], self.embedded[k] = f"its worker was lost: {result.reason}", self.raw[k]
                return
            self._take(k, result)
            self.kept.keep_network(self.identities[k], result)

        tasks = [(self.raw[k], self.settings) for k in missing]
        run(embed_network, tasks, finished, n_jobs=self.n_jobs, name="embedding", before=len(wanted) - len(missing))

    def _known(self, k: int) -> bool:
        """Whether a network was embedded, or refused to be, now or in an earlier run."""
        if k not in self.embedded and (known := self.kept.network(self.identities[k])) is not None:
            self._take(k, known)
        return k in self.embedded

    def _take(self, k: int, result: Packed | str) -> None:
        """Take a network with its coordinates, or why it has none."""
        if isinstance(result, str):
            self.reasons[k], result = result, self.raw[k]
        self.embedded[k] = np.asarray(result)

    def _told(self, k: int) -> tuple[list[str], str]:
        """What is suspected of a network, and what was observed."""
        member = [*self.members.values()][k]
        self._known(k)
        kind, problems = told(self.packed(k))
        coordinates = f"{kind} coordinates"
        if k in self.reasons:
            problems, coordinates = [f"no coordinates: {self.reasons[k]}"], "no coordinates"
        elif kind == "none":
            coordinates = "no coordinates"
        elif not kind:
            coordinates = "compared without coordinates"
        observation = member.chart.observation
        n, m = observation.shape
        layer = f" of layer {observation.layer}" if observation.layer else ""
        return problems, f"{n:,} samples, {m} measurements{layer}, dim {member.chart.dim}, {coordinates}"

    def compared(self, pairs: PairChoice) -> Family:
        """All cells, those that were inferred included, and round trips within the classes."""
        n = len(self.names)
        if pairs == "all":
            self._compare(all_pairs(n))
        else:
            spanning = Spanning(n, self.settings.margin)
            while wanted := spanning.next_pairs(self.cells):
                self._compare(wanted)
            self.cells |= spanning.inferred(self.cells, self.names)
        self.cells = dict(sorted(self.cells.items()))
        labels = labels_of(tree_of(distances(self.cells, n, self.settings.margin)), self.settings.margin)
        trips = self._round_trips(triangles(labels))
        said = [self._told(k) for k in range(n)]
        return Family(
            self.names,
            self.cells,
            trips,
            {name: problems for name, (problems, _) in zip(self.names, said, strict=True)},
            {name: facts for name, (_, facts) in zip(self.names, said, strict=True)},
            self.settings.margin,
            self.settings.significance,
            {
                "diffeo": __version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
                "pairs": pairs,
                "coordinates": self.settings.coordinates,
                "check": self.settings.check,
                "random_state": self.settings.random_state,
            },
        )

    def _compare(self, wanted: list[Pair]) -> None:
        """Compare pairs, unless the checkpoint has them: by derivatives at landmarks where these decide, else by all means."""
        missing = []
        for i, j in wanted:
            known = self.kept.cell(self.identities[i], self.identities[j])
            if known is None:
                missing.append((i, j))
            else:
                self.cells[i, j] = known
        members = [*self.members.values()]
        quick = [(i, j) for i, j in missing if with_derivatives(members[i], members[j])]
        self._run_pairs(compare_by_derivatives, quick, "pairs by derivatives", len(wanted) - len(missing))
        missing = [pair for pair in missing if pair not in self.cells]
        needed = {k for pair in missing for k in pair} - self.embedded.keys()
        self._embed(sorted(needed))
        self._run_pairs(compare_networks, missing, "pairs", len(wanted) - len(missing))

    def _run_pairs(self, work: Callable[..., Cell | None], missing: list[Pair], name: str, before: int) -> None:
        """Have workers compare pairs; those that come back without a cell are left out."""
        sizes = [len(self.packed(k)) for k in range(len(self.names))]
        for some in rounds(missing, sizes, int(SENT * memory_limit())):

            def finished(number: int, result: Cell | Lost | None, some: list[Pair] = some) -> None:
                i, j = some[number]
                if result is None:
                    return
                if isinstance(result, Lost):
                    # Not kept: started again, the run tries it again.
                    self.cells[i, j] = Cell(NOT_MATCHED, f"the worker that compared them was lost: {result.reason}")
                    return
                self.cells[i, j] = result
                self.kept.keep_cell(self.identities[i], self.identities[j], result)

            tasks = [
                (self.identities[i], self.packed(i), self.identities[j], self.packed(j), self.settings) for i, j in some
            ]
            run(work, tasks, finished, n_jobs=self.n_jobs, name=name, before=before)
            before += len(some)

    def _round_trips(self, wanted: list[tuple[int, int, int]]) -> list[RoundTrip]:
        """Round trips around triangles, unless the checkpoint has them."""
        found: dict[tuple[int, int, int], tuple[float, ...] | str] = {}
        corners = {one: (self.identities[one[0]], self.identities[one[1]], self.identities[one[2]]) for one in wanted}
        missing = []
        for one in wanted:
            known = self.kept.triangle(*corners[one])
            if known is None:
                missing.append(one)
            else:
                found[one] = known

        def finished(number: int, result: tuple[float, ...] | str | Lost) -> None:
            one = missing[number]
            if isinstance(result, Lost):
                found[one] = f"its worker was lost: {result.reason}"
                return
            found[one] = result
            self.kept.keep_triangle(corners[one], result)

        tasks = [
            (*(part for k in one for part in (self.identities[k], self.packed(k))), self.settings) for one in missing
        ]
        if tasks:
            run(around, tasks, finished, n_jobs=self.n_jobs, name="round trips", before=len(wanted) - len(missing))
        trips = []
        for one in wanted:
            names = self.names[one[0]], self.names[one[1]], self.names[one[2]]
            result = found[one]
            trips.append(RoundTrip(names, (), result) if isinstance(result, str) else RoundTrip(names, result))
        return trips


def has_layout(chart: Chart) -> bool:
    """Whether a chart was made before, so that it is sent rather than made again."""
    return "isometric" in chart._made


def _members(networks: Any, landmarks: Any, held_out: Any, settings: Settings) -> dict[str, Network]:
    """The networks with their common points, checked."""
    if not isinstance(networks, Mapping):
        raise errors.DataTypeError(f"networks are a mapping of names to observations, not {type(networks).__name__}")
    if len(networks) < 2:
        raise errors.ParameterError(f"a family has two networks at least; there is {len(networks)}")
    for name in networks:
        if not isinstance(name, str):
            raise errors.DataTypeError(f"names are texts, not {type(name).__name__}: {name!r:.60}")
    marks, judges = _common(landmarks, networks, "landmarks"), _common(held_out, networks, "held_out")
    found = {}
    for name, given in networks.items():
        chart = as_chart(given, f"networks[{name!r}]", settings.coordinates, settings.random_state, 1)
        points, derivatives = marks[name]
        for what, at in (("landmarks", points), ("held_out", judges[name][0])):
            as_pairs((at, at), chart.observation, chart.observation, f"{what}[{name!r}]")
        # Coordinates that a user's chart was not restricted to are those of the run.
        chart = replace(chart, random_state=settings.random_state)
        found[name] = Network(chart, points, judges[name][0], derivatives)
    _check_once(list(found.values()))
    return found


def _common(given: Any, networks: Mapping[str, Any], what: str) -> dict[str, tuple[FloatArray, FloatArray | None]]:
    """Points, and derivatives where they are known, of every network at common inputs."""
    if not isinstance(given, Mapping):
        raise errors.DataTypeError(
            f"{what} are a mapping of names to points of common inputs, not {type(given).__name__}"
        )
    missing = [name for name in networks if name not in given]
    if missing:
        raise errors.LandmarkError(
            f"{what} lack {len(missing)} of {len(networks)} networks ({', '.join(missing[:5])}): measure every network at the "
            "common inputs"
        )
    found: dict[str, tuple[FloatArray, FloatArray | None]] = {}
    count, width, first = None, None, ""
    for name in networks:
        value, jacobians = given[name], None
        if isinstance(value, tuple) and len(value) == 2:
            value, jacobians = value
        points = float_array(value, f"{what}[{name!r}]", 2, axes="(L, m)")
        if count is None:
            count, first = len(points), name
        if len(points) != count:
            raise errors.LandmarkError(
                f"{what} of {first} are {count} points and those of {name} {len(points)}: they must be of the same inputs, in "
                "one order"
            )
        if jacobians is not None:
            jacobians = float_array(jacobians, f"{what}[{name!r}] (derivatives)", 3, shape=(*points.shape, width))
            width = jacobians.shape[2]
        found[name] = points, jacobians
    if not count:
        raise errors.LandmarkError(f"{what} are empty")
    return found


def _check_once(members: list[Network]) -> None:
    """Refuse common inputs that are there twice, or judge what was fitted to them: all networks measure the same there."""
    rows = np.hstack([np.vstack([one.landmarks, one.held_out]) for one in members])
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group.ravel()] != np.arange(len(rows)))
    if not len(again):
        return
    count = len(members[0].landmarks)
    marks, judges = again[again < count], again[again >= count] - count
    said = [f"{what} {rows_text(part)}" for what, part in (("landmarks", marks), ("held_out", judges)) if len(part)]
    raise errors.LandmarkError(
        f"{len(again)} common inputs are the same as earlier ones ({'; '.join(said)}): an input counts once, and cannot judge "
        "what was fitted to it; remove them"
    )
