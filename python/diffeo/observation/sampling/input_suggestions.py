"""suggest_inputs: inputs to add where an observation is sampled too thinly for its curvature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, check_units, dense, integer
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers, working
from diffeo._support.wording import rows_text
from diffeo.observation.observation import Observation
from diffeo.observation.sampling.gaps import APART, thinned
from diffeo.observation.sampling.judged_steps import TURN, InputSteps, input_steps

# Refinement stops once this share of the steps between neighbours is resolved.
ENOUGH = 0.99
# A step is no worse than this beside longer ones: coarse steps are halved before fine ones.
WORST = 4.0
# Steps below this share of the usual one are halved no more: across a kink, or a wall without width, it never ends.
FINEST = 1.0 / 32.0
# Unresolved steps that are as fine as they get, beyond which a problem says so.
MANY_FINE = 0.01

Between = Callable[[Any, Any], Any]


@dataclass(frozen=True, eq=False)
class SuggestedInputs:
    """Inputs to add to those of an observation.

    Attributes
    ----------
    inputs : ndarray of shape (k, ...), or None
        New inputs, k <= n, the most wanted first; None where it is not known what lies between two inputs (see `between`).
    rows : ndarray of shape (k, 2), int64
        The samples between which each lies.
    resolved : float
        Share of the steps between neighbouring inputs that the sample resolves.
    problems : list of str
        Why more inputs will not do, where, and what will; empty when nothing is known.
    resolved_with_weak : float
        The share of steps that are resolved also in weak directions, of which a problem tells; else as `resolved`.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.sort(np.random.default_rng(0).random((60, 1)), axis=0)
    >>> y = np.tanh(40 * (x - 0.5))
    >>> obs = diffeo.Observation.from_jacobians(np.hstack([x, y]), np.stack([np.ones_like(x), 40 * (1 - y**2)], axis=1))
    >>> found = diffeo.suggest_inputs(obs, x, 20)
    >>> found.inputs.shape[1]
    1
    """

    inputs: NDArray[Any] | None
    rows: IntArray
    resolved: float
    problems: list[str] = field(default_factory=list)
    resolved_with_weak: float = 1.0

    def __repr__(self) -> str:
        return f"SuggestedInputs({len(self.rows)} inputs, resolved={self.resolved:.3g}, {len(self.problems)} problems)"

    @property
    def settled(self) -> bool:
        """Whether the sample resolves at least 99 % of the steps between neighbours, so that no more inputs are needed."""
        return self.resolved >= ENOUGH


def suggest_inputs(
    observation: Observation,
    inputs: Any,
    n: int,
    *,
    between: Between | None = None,
    n_neighbors: int = 12,
    n_jobs: int | None = None,
) -> SuggestedInputs:
    """Suggest inputs to add where this observation is sampled too thinly for its curvature.

    Uniform inputs miss cliffs: ridges of an activation where it changes many times faster than elsewhere. Neighbour graphs
    tear there. A step between neighbouring inputs is resolved if

    - its Mahalanobis length is the distance of its inputs to a quarter (in the logarithm; a wall thinner than the spacing
      shows in nothing else: the step across it is many times too long, with small stretches at both ends),
    - the tangents at its ends are turned by less than 20 degrees against each other, and stretches along them are the same
      up to a factor of 1.4,
    - less than 3 % of it leaves both tangents, as the gates of the neighbour graph demand,
    - and the change of the measurements along it, over their spread, times the error of its length (the logarithm of the
      first condition) is at most 0.5 %: where a cliff is steepest, tangents hardly turn, and maps miss most.

    Steps lead from each input to its nearest others, and across gaps: places without samples inside of a dense rim, whose
    nearest neighbours are all along it. Larger ones than chance leaves are holes of the domain, which stay.

    The new inputs are the middles of the steps that are not resolved, long ones before short ones, at most one where several
    steps cross. Observe them, join them (`diffeo.concatenate`) and ask again; ``diffeo.observe(..., refine=n)`` does it in
    rounds.
    The stop is stated: 99 % of the steps are resolved (`SuggestedInputs.settled`).

    Directions to which the measurements respond 20 times less than to the strongest (s_1 / s_d) come last: what bends along
    strong directions leaks into them, and it takes a finer sample the larger that ratio is. Steps are judged by the other
    directions, and a problem says so; inputs that these do not need are suggested where the weak ones want them, up to a ratio
    of 100. Fainter ones are not chased.

    Parameters
    ----------
    observation : Observation
        With a known unit of length.
    inputs : array_like or torch.Tensor of shape (n, ...)
        At which it was observed, in its order.
    n : int
        How many inputs to suggest at most.
    between : callable, optional
        ``between(first, second)``: from inputs (k, ...) and (k, ...) to inputs (k, ...) half way between them. Default: their
        mean, where the inputs fill all their directions. Of inputs on a set of their own (pictures of a turning object, which
        were observed along tangents) the mean is not in the set: without `between` only `rows` are suggested.
    n_neighbors : int
        Steps from each input, as edges in a neighbour graph.
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.

    Returns
    -------
    SuggestedInputs

    Raises
    ------
    DataTypeError, ShapeError, ParameterError
        Inputs that are not those of the observation, or that cannot be compared with lengths.

    Examples
    --------
    A cliff of width 0.02 in the middle of a square:

    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((500, 2))
    >>> u = (x[:, 0] - 0.5) / 0.02
    >>> slopes = np.zeros((500, 3, 2))
    >>> slopes[:, 0, 0] = slopes[:, 1, 1] = 1
    >>> slopes[:, 2, 0] = 25 / np.cosh(u) ** 2
    >>> obs = diffeo.Observation.from_jacobians(np.column_stack([x, 0.5 * np.tanh(u)]), slopes)
    >>> found = diffeo.suggest_inputs(obs, x, 50)
    >>> found.inputs.shape, found.settled, bool(np.mean(abs(found.inputs[:, 0] - 0.5) < 0.1) > 0.8)
    ((50, 2), False, True)
    """
    if not isinstance(observation, Observation):
        raise errors.DataTypeError(f"observation must be a diffeo.Observation, not {type(observation).__name__}")
    n, n_neighbors = integer(n, "n", 1), integer(n_neighbors, "n_neighbors", 1)
    given = checked_inputs(observation, inputs)
    flat = np.ascontiguousarray(given.reshape(len(given), -1), dtype=np.float64)
    n_directions = observation.dim if observation.options.tangents else flat.shape[1]
    with working(n_jobs):
        steps = input_steps(observation, flat, n_neighbors, n_directions)
        chosen, fine = _chosen(steps, flat, n)
    rows = np.column_stack([steps.i[chosen], steps.j[chosen]])
    problems = weak_problems(observation, steps) + fine_problems(steps, fine)
    new = None
    if between is not None or not observation.options.tangents:
        new = _between(given, rows, between)
    return SuggestedInputs(new, rows, steps.share, problems, steps.share_of_all)


def checked_inputs(observation: Observation, inputs: Any) -> NDArray[Any]:
    """The inputs of an observation as an array, after all that must hold of them."""
    found = dense(inputs, "inputs")
    if found.dtype.kind != "f":
        raise errors.DataTypeError(f"inputs have dtype {found.dtype}: only floating values have others between them")
    if found.ndim < 2 or len(found) != len(observation):
        raise errors.ShapeError(
            f"inputs have shape {found.shape}; of {len(observation)} samples they must be ({len(observation)}, ...): those at "
            "which the observation was made, in its order"
        )
    bad = np.flatnonzero(~np.isfinite(found.reshape(len(found), -1)).all(axis=1))
    if len(bad):
        raise errors.NonFiniteError(f"inputs hold NaN or infinity in {rows_text(bad)}")
    check_units(found.reshape(len(found), -1).astype(np.float64), "inputs")
    if not observation.known_unit:
        raise errors.ParameterError(
            "lengths of this observation are known up to a factor only (neighbours without a reference), so that they cannot "
            "be compared with distances of inputs"
        )
    return found


def _between(given: NDArray[Any], rows: IntArray, between: Between | None) -> NDArray[Any]:
    first, second = given[rows[:, 0]], given[rows[:, 1]]
    if between is None:
        middle: NDArray[Any] = (0.5 * (first + second)).astype(given.dtype)
        return middle
    made = between(first, second)
    found = np.asarray(made.detach().cpu().numpy() if hasattr(made, "detach") else made)
    if found.shape != first.shape:
        raise errors.ShapeError(
            f"between gave inputs of shape {found.shape} for {len(rows)} pairs: it must be {first.shape}"
        )
    return found.astype(given.dtype, copy=False)


def _chosen(steps: InputSteps, inputs: FloatArray, n: int) -> tuple[IntArray, NDArray[np.bool_]]:
    """Steps to halve, the most wanted first, and which unresolved ones are too fine for that.

    Those that weak directions alone want come after all others.
    """
    usual = float(np.median(steps.distance)) if len(steps.distance) else 0.0
    short = steps.distance < FINEST * usual
    fine = ~steps.resolved & short
    ordered = []
    for unresolved, severity in (
        (~steps.resolved, steps.severity),
        (steps.resolved & (steps.severity_of_all > 1.0), steps.severity_of_all),
    ):
        rows = np.flatnonzero(unresolved & ~short)
        order = np.argsort(-np.minimum(severity[rows], WORST) * steps.distance[rows], kind="stable")
        ordered.append(rows[order])
    wanted = np.concatenate(ordered)
    if len(wanted) == 0:
        return wanted, fine
    middle = 0.5 * (inputs[steps.i[wanted]] + inputs[steps.j[wanted]])
    radius = APART * steps.distance[wanted]
    # New inputs keep some distance from old ones, and from new ones that were taken before them.
    nearest = PointTree(inputs).query(middle, workers=workers())[0]
    free = np.flatnonzero(nearest > radius)
    taken = thinned(middle[free], radius[free], n)
    return wanted[free[taken]], fine


def weak_problems(observation: Observation, steps: InputSteps) -> list[str]:
    """Directions to which the measurements hardly respond."""
    weak = observation.dim - steps.n_strong
    if weak == 0:
        return []
    what = "their weakest direction" if weak == 1 else f"{weak} directions"
    judged = "and more inputs will not do; steps were judged without it"
    if steps.n_all > steps.n_strong:
        judged = (
            "and takes a finer sample; steps were judged without it, and inputs that these do not need are spent on it (with "
            f"it {100.0 * steps.share_of_all:.0f} % of the steps are resolved)"
        )
    return [
        f"the measurements respond to {what} {steps.ratio:.0f} times less than to the strongest (s_1/s_{observation.dim}, the "
        "median over the domain): what bends along strong directions leaks into it, "
        f"{judged}. Take neurons or a layer that respond to it, or take it for noise (dim={steps.n_strong})"
    ]


def fine_problems(steps: InputSteps, fine: NDArray[np.bool_]) -> list[str]:
    """Steps that stay unresolved however fine they are."""
    if fine.sum() <= MANY_FINE * max(1, len(steps.i)):
        return []
    worst = np.unique(np.concatenate([steps.i[fine], steps.j[fine]]))
    return [
        f"tangents turn by more than {np.rad2deg(TURN):.0f} degrees, or lengths jump, over steps as short as 1/32 of the usual "
        f"({rows_text(worst)}): kinks (rectifiers, pooling) or walls without width, where more inputs will not do; observe "
        'with smooth= or covariances="slopes"'
    ]
