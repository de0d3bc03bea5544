"""suggest_neurons: which neurons of a layer to measure, a small set that conditions, bends little and separates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, dense, integer, seeded
from diffeo._support.threads import sound
from diffeo._support.wording import rows_text
from diffeo.networks.batches import sample_set
from diffeo.networks.choice.set_search import LIMIT_SEPARATION, best_set, does, enough, measures
from diffeo.networks.measurement import BurstSize, CovarianceKind
from diffeo.networks.observe_networks import observe
from diffeo.networks.reduction import Reduce
from diffeo.observation.curvature import LIMIT_TURNING, MAX_SAMPLES, Cost, Sample, look
from diffeo.observation.folds import many_near_folds, nearly_vanishing
from diffeo.observation.observation import Observation

# Numbers of random projections that are tried where single neurons will not do.
PROJECTIONS = (16, 32)
# Neighbours in the layer whose inputs are farther apart than this many spacings are no neighbours; a share of 1 % is a
# layer that gives different inputs one measurement.
FALSE_NEIGHBOR, FALSE_NEIGHBOR_SHARE = 4.0, 0.01


@dataclass(frozen=True, eq=False)
class NeuronSet:
    """A set of neurons, and how well its first 1, 2, ... members embed the input.

    Attributes
    ----------
    neurons : ndarray of shape (k,), int64
        Numbers of the neurons, in order of choice: for `Observation.select` where the whole layer was observed, or as
        ``neurons=`` for `diffeo.observe`.
    conditioning : ndarray of shape (k,), float64
        Smallest singular value of the Jacobian over the sample, divided by the median of the largest. 1 for an
        isometry, 0 at a fold and for fewer neurons than dimensions.
    turning : ndarray of shape (k,), float64
        Largest change of the Jacobian between a sample and its neighbours, relative to its smallest stretch: roughly the
        angle (in radians) by which the tangent turns over one sample spacing. Infinite for fewer neurons than dimensions.
    separation : ndarray of shape (k,), float64
        Smallest distance between measurements of inputs that are far apart (more than 3 spacings), in units of what
        the network makes of one spacing. Infinite where no two samples are far apart.
    problems : list of str
        What limits the layer or the set, where, and what to do; empty when nothing does.
    dim : int
        Intrinsic dimension d.
    layer : str or None
        The layer of the network; None is the output.
    n_projections : int or None
        Where no set of single neurons will do: so many random projections of the whole layer do
        (``reduce=diffeo.RandomProjection(n_projections)``). None where that is not needed, or does not help either.

    Examples
    --------
    >>> import numpy as np, torch, diffeo
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> chosen = diffeo.suggest_neurons(diffeo.observe(net, x, layer="1"))
    >>> len(chosen.neurons)
    5
    """

    neurons: IntArray
    conditioning: FloatArray
    turning: FloatArray
    separation: FloatArray
    problems: list[str]
    dim: int
    layer: str | None
    n_projections: int | None = None

    def __repr__(self) -> str:
        return (
            f"NeuronSet({self.neurons.tolist()}, conditioning={self.conditioning[-1]:.3g}, "
            f"turning={self.turning[-1]:.3g}, separation={self.separation[-1]:.3g}, {len(self.problems)} problems)"
        )


@sound
def suggest_neurons(
    model_or_observation: Any,
    inputs: Any = None,
    *,
    layer: str | None = None,
    reduce: Reduce = None,
    smooth: float | None = None,
    covariances: CovarianceKind = "auto",
    n_bursts: BurstSize = "auto",
    n_neurons: int | None = None,
    dim: int | None = None,
    tangents: Any = None,
    batch_size: int = 1024,
    device: Any = None,
    rng: int | np.random.Generator | None = 0,
) -> NeuronSet:
    """Pick neurons of one layer whose measurements embed the input.

    By Whitney's theorem 2 d + 1 generic neurons embed d dimensions; which ones decides how many samples that takes. At
    anchors i (up to 512 samples) with 12 neighbours j each, and with J_i the rows of the set S in the Jacobian, h_i the
    distance of the farthest neighbour and R_ij the rotation between the two local frames, the choice weighs

    - turning   t_i^2 = mean_j norm(J_j R_ij - J_i)^2 trace((J_i^T J_i)^-1), the change of the Jacobian between neighbours
      beside its smallest stretch (the trace is between 1 and d times sigma_d^-2),
    - crowding  c_i = h_i norm(J_i) / (2 sqrt(d) min_j norm(y_j - y_i)) over the samples j farther than 3 h_i: what one
      spacing becomes, beside twice the distance of the nearest measurement of another part of the domain.

    They are the curvature and the bottleneck that bound the reach of the measured manifold (Federer 1959), in units of
    the sample spacing. The cost is (mean_i t_i^8 + mean_i c_i^8)^(1/8), nearly the maximum. Neurons are added one by one
    at the lowest cost, then exchanged while that pays; a few random sets are improved likewise. Neighbours and distances
    are judged by the Mahalanobis distances of the whole layer. Nothing depends on the local frames (J_i may become
    J_i R_i) nor on the unit of the measurements; neurons are taken in the relative scale in which they will be measured.

    Parameters
    ----------
    model_or_observation : torch.nn.Module or Observation
        A network, whose layer is measured as in `diffeo.observe`; or an observation of the neurons to choose from.
    inputs : ndarray or torch.Tensor of shape (n, ...)
        Points of the common domain, as many as will be used later: the choice counts with their spacing. Of more than
        4,096 a random part is evaluated. None for an observation.
    layer : str, optional
        Dotted module name; None is the output.
    reduce, smooth, covariances, n_bursts
        As in `diffeo.observe`, where the neurons will be measured so.
    n_neurons : int, optional
        Size of the set, at least d. Default: 2 d + 1, or as many more, up to 4 d + 8, as it takes until the set bends and
        separates as the sample needs it.
    dim : int, optional
        Intrinsic dimension, as in `diffeo.observe`.
    tangents : ndarray or torch.Tensor of shape (n, ..., d), optional
        As in `diffeo.observe`.
    batch_size, device
        As in `diffeo.observe`.
    rng : int, Generator or None
        Seed of the anchors, and of the part that is evaluated.

    Returns
    -------
    NeuronSet
        Look at ``.problems``: a layer that does not embed, or too few samples for its curvature, are said there.

    Raises
    ------
    ParameterError
        Fewer neurons in the layer (constant and repeated ones not counted) than asked for, or fewer than d asked for.
    DataTypeError, ShapeError, SampleSizeError
        Arguments that do not fit.
    RankError, LayerError, CaptureError, NonFiniteError
        As in `diffeo.observe`.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((500, 2))
    >>> slopes = np.random.default_rng(1).normal(size=(20, 2))
    >>> y = np.tanh(x @ slopes.T)
    >>> obs = diffeo.Observation.from_jacobians(y, (1 - y**2)[:, :, None] * slopes)
    >>> chosen = diffeo.suggest_neurons(obs)
    >>> chosen.neurons.shape, chosen.problems
    ((5,), [])
    """
    generator = seeded(rng)
    if isinstance(model_or_observation, Observation):
        if any(given is not None for given in (inputs, layer, tangents, reduce, smooth)) or covariances != "auto":
            raise errors.ParameterError(
                "an observation is complete: inputs, layer, tangents, reduce, smooth and covariances are for a model"
            )
        if dim is not None and integer(dim, "dim", 1) != model_or_observation.dim:
            raise errors.ParameterError(
                f"dim = {dim}, but the observation has dim = {model_or_observation.dim}: give it where that is made"
            )
        n_all = len(model_or_observation)
        seen = _Layer(model_or_observation, n_all, np.arange(n_all), None, [])
    else:
        how = _How(layer, reduce, smooth, covariances, n_bursts, dim, tangents, batch_size, device)
        seen = _seen(model_or_observation, inputs, how, generator)
    observation = seen.observation
    d, m = observation.dim, observation.points.shape[1]
    most = 4 * d + 8 if n_neurons is None else 0
    n_neurons = 2 * d + 1 if n_neurons is None else integer(n_neurons, "n_neurons", 1)
    if not d <= n_neurons <= m:
        raise errors.ParameterError(
            f"{n_neurons} neurons are to be chosen for dimension {d} (default 2 dim + 1), of {m}: n_neurons must be from dim "
            "to the width of the layer; take a wider layer, or give n_neurons"
        )
    rows = observation.usable
    if len(rows) < d + 2:
        raise errors.SampleSizeError(f"{len(rows)} samples of full rank; at least dim + 2 = {d + 2} are needed")
    if len(rows) > MAX_SAMPLES:
        rows = np.sort(generator.choice(rows, MAX_SAMPLES, replace=False))
    sample = look(observation, rows, (len(rows) / seen.n_all) ** (1.0 / d), generator)
    cost = Cost(sample)
    chosen = enough(cost, best_set(cost, n_neurons, generator), min(most, m))
    problems = list(seen.problems)
    problems += _fold_problems("the whole layer", observation.singular_values[rows, d - 1], seen.rows[rows])
    problems += _neighbor_problems(sample, None if seen.inputs is None else seen.inputs[rows], seen.rows[rows])
    of_set = _set_problems(cost, chosen, seen.rows[rows], seen.n_all)
    problems += of_set
    n_projections = _projections(observation, rows, seen, m) if of_set else None
    if n_projections is not None:
        problems.append(
            f"{n_projections} random projections of all {m} neurons (reduce=diffeo.RandomProjection({n_projections})) bend and "
            "separate as the sample needs it: measure them in the place of single neurons"
        )
    steps = [measures(cost, chosen[: k + 1]) for k in range(len(chosen))]
    conditioning, turning, separation = np.array(steps).T
    numbers = np.array(chosen, dtype=np.int64)
    if observation.neurons is not None:
        numbers = observation.neurons[numbers]
    return NeuronSet(numbers, conditioning, turning, separation, problems, d, observation.layer, n_projections)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer as observed: at `rows` of the caller's `n_all` samples, with the inputs (n, p) where they can be compared."""

    observation: Observation
    n_all: int
    rows: IntArray
    inputs: Any
    problems: list[str]


class _How(NamedTuple):
    """How a layer is to be observed, in the words of `diffeo.observe`."""

    layer: str | None
    reduce: Reduce
    smooth: float | None
    covariances: CovarianceKind
    n_bursts: BurstSize
    dim: int | None
    tangents: Any
    batch_size: int
    device: Any


def _seen(model: Any, inputs: Any, how: _How, rng: np.random.Generator) -> _Layer:
    """Observe all neurons of a layer at no more than MAX_SAMPLES inputs."""
    tangents, dim = how.tangents, how.dim
    if inputs is None:
        raise errors.DataTypeError(f"a {type(model).__name__} needs inputs; without them, pass a diffeo.Observation")
    inputs = sample_set(inputs)
    # What is no array is left to `observe`, which says so.
    n_all = len(inputs) if getattr(inputs, "ndim", 0) else 0
    rows = np.arange(n_all)
    if n_all > MAX_SAMPLES and (tangents is None or hasattr(tangents, "ndim")):
        if tangents is not None and len(tangents) != n_all:
            raise errors.ShapeError(f"{len(tangents)} tangents for {n_all} inputs")
        rows = np.sort(rng.choice(n_all, MAX_SAMPLES, replace=False))
        inputs, tangents = inputs[rows], None if tangents is None else tangents[rows]
    # Constant neurons are left out by the choice.
    with errors.unsaid(errors.ConstantNeuronWarning):
        observation = observe(model, inputs, **how._replace(tangents=tangents)._asdict())
    x = dense(inputs, "inputs").reshape(len(inputs), -1)
    directions = x.shape[1] if tangents is None else int(tangents.shape[-1])
    if observation.dim == directions:
        return _Layer(observation, n_all, rows, x, [])
    problem = (
        f"the layer responds to only {observation.dim} of the {directions} input directions: it discards the others, and no "
        "choice of its neurons embeds the input; take an earlier layer"
    )
    # A dimension that was given says that the inputs fill no more; their distances are then not those of the tangents.
    return _Layer(observation, n_all, rows, None, [problem] if dim is None else [])


def _projections(observation: Observation, rows: IntArray, seen: _Layer, m: int) -> int | None:
    """How many random projections of the layer do where single neurons do not; None where none of them do."""
    for count in PROJECTIONS:
        if observation.dim <= count < m:
            rng = np.random.default_rng(0)
            mix = rng.standard_normal((m, count)) / np.sqrt(count)
            # J P from J = U Sigma, with W = U / Sigma.
            slopes = observation.whitening / (observation.whitening**2).sum(axis=1)[:, None, :]
            mixed = np.einsum("nmd,mk->nkd", slopes[rows], mix, optimize=True)
            projected = Observation.from_jacobians(observation.points[rows] @ mix, mixed, dim=observation.dim)
            thinning = (len(rows) / seen.n_all) ** (1.0 / observation.dim)
            if does(Cost(look(projected, projected.usable, thinning, rng)), list(range(count))):
                return count
    return None


def _fold_problems(what: str, smallest: FloatArray, rows: IntArray) -> list[str]:
    folded = nearly_vanishing(smallest)
    if not many_near_folds(len(folded), len(rows)):
        return []
    return [
        f"the Jacobian of {what} nearly vanishes in some direction at {len(folded)} of {len(rows)} samples "
        f"({rows_text(rows[folded])}): the measurements fold there; take more neurons, or another layer"
    ]


def _neighbor_problems(sample: Sample, inputs: Any, rows: IntArray) -> list[str]:
    """Whether samples that are near in the whole layer are near in the inputs (n, p), where these are known."""
    if inputs is None:
        return []
    false = np.array(
        [
            (np.linalg.norm(inputs[near] - inputs[i], axis=1) > FALSE_NEIGHBOR * reach).any()
            for i, near, reach in zip(sample.anchors, sample.neighbors, sample.reach, strict=True)
        ]
    )
    if false.mean() <= FALSE_NEIGHBOR_SHARE:
        return []
    return [
        f"at {100 * false.mean():.0f} % of the samples ({rows_text(rows[sample.anchors[false]])}) the whole layer gives nearly "
        "one measurement to inputs that are far apart: no choice of its neurons embeds the input; take another layer"
    ]


def _set_problems(cost: Cost, chosen: list[int], rows: IntArray, n_all: int) -> list[str]:
    """What limits the set that was chosen, the best that was found."""
    values = cost.stretches(chosen)
    problems = _fold_problems(f"the {len(chosen)} neurons", values[:, -1], rows)
    anchors = rows[cost.sample.anchors]
    turning = np.sqrt(cost.turning(chosen))
    if turning.max() > LIMIT_TURNING:
        worst = np.argsort(-turning, kind="stable")[: max(1, int((turning > LIMIT_TURNING).sum()))]
        enough = n_all * (turning.max() / LIMIT_TURNING) ** cost.dim
        problems.append(
            f"the Jacobian of the {len(chosen)} neurons changes by up to {turning.max():.2g} times its smallest stretch "
            f"between neighbouring samples (most around {rows_text(anchors[worst])}): the measurements bend too sharply for "
            f"{n_all} samples; use about {enough:.2g}, or take more neurons or an earlier layer"
        )
    nearest, squared = cost.nearest_far(chosen)
    separation = np.sqrt(squared[:, 0] / cost.spans(chosen))
    if separation.min() < LIMIT_SEPARATION:
        i = int(separation.argmin())
        problems.append(
            f"the {len(chosen)} neurons give inputs that are far apart (rows {anchors[i]} and {rows[nearest[i, 0]]}) "
            f"measurements only {separation[i]:.2g} of a sample spacing apart: they cross or nearly cross; take more "
            "neurons, or another layer"
        )
    return problems
