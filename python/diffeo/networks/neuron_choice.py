"""suggest_neurons: which neurons of a layer to measure, a small set that conditions, bends little and separates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, dense, integer, seeded
from diffeo._support.threads import sound
from diffeo._support.wording import rows_text
from diffeo.networks.batches import sample_set
from diffeo.networks.observe_networks import observe
from diffeo.observation.curvature import LIMIT_TURNING, MAX_SAMPLES, Cost, Sample, look
from diffeo.observation.folds import many_near_folds, nearly_vanishing
from diffeo.observation.observation import Observation

# Random sets to start from, beside the greedy one: exchanges can be caught.
N_RANDOM = 3
# Rounds of exchanging one neuron for a better one, and the gain that is worth an exchange.
EXCHANGE_ROUNDS = 5
EXCHANGE_GAIN = 0.99
# Candidates whose costs differ by less than this are equal; the first is taken, whatever the rounding.
TIE = 1e-9
# Measurements of far inputs nearer than this share of a spacing nearly cross.
LIMIT_SEPARATION = 0.25
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
        A network, whose layer is measured with Jacobians; or an observation of the neurons to choose from.
    inputs : ndarray or torch.Tensor of shape (n, ...)
        Points of the common domain, as many as will be used later: the choice counts with their spacing. Of more than
        4,096 a random part is evaluated. None for an observation.
    layer : str, optional
        Dotted module name; None is the output.
    n_neurons : int, optional
        Size of the set, at least d; default 2 d + 1.
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
        if inputs is not None or layer is not None or tangents is not None:
            raise errors.ParameterError("an observation is complete: inputs, layer and tangents are for a model")
        if dim is not None and integer(dim, "dim", 1) != model_or_observation.dim:
            raise errors.ParameterError(
                f"dim = {dim}, but the observation has dim = {model_or_observation.dim}: give it where that is made"
            )
        n_all = len(model_or_observation)
        seen = _Layer(model_or_observation, n_all, np.arange(n_all), None, [])
    else:
        seen = _seen(model_or_observation, inputs, layer, dim, tangents, batch_size, device, generator)
    observation = seen.observation
    d, m = observation.dim, observation.points.shape[1]
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
    chosen = _choose(cost, n_neurons, generator)
    problems = list(seen.problems)
    problems += _fold_problems("the whole layer", observation.singular_values[rows, d - 1], seen.rows[rows])
    problems += _neighbor_problems(sample, None if seen.inputs is None else seen.inputs[rows], seen.rows[rows])
    problems += _set_problems(cost, chosen, seen.rows[rows], seen.n_all)
    steps = [_measures(cost, chosen[: k + 1]) for k in range(n_neurons)]
    conditioning, turning, separation = np.array(steps).T
    numbers = np.array(chosen, dtype=np.int64)
    if observation.neurons is not None:
        numbers = observation.neurons[numbers]
    return NeuronSet(numbers, conditioning, turning, separation, problems, d, observation.layer)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer as observed: at `rows` of the caller's `n_all` samples, with the inputs (n, p) where they can be compared."""

    observation: Observation
    n_all: int
    rows: IntArray
    inputs: Any
    problems: list[str]


def _seen(
    model: Any,
    inputs: Any,
    layer: str | None,
    dim: int | None,
    tangents: Any,
    batch_size: int,
    device: Any,
    rng: np.random.Generator,
) -> _Layer:
    """Observe all neurons of a layer at no more than MAX_SAMPLES inputs."""
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
        observation = observe(
            model, inputs, layer=layer, tangents=tangents, dim=dim, batch_size=batch_size, device=device
        )
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


def _first_best(costs: FloatArray) -> int:
    return int(np.argmax(costs <= costs.min() * (1.0 + TIE)))


def _choose(cost: Cost, n_neurons: int, rng: np.random.Generator) -> list[int]:
    """The best of a greedy set and a few random ones, after exchanges of one neuron for a better one while they pay."""
    starts = [_greedy(cost, n_neurons)] + [_random(cost, n_neurons, rng) for _ in range(N_RANDOM)]
    best, least = starts[0], np.inf
    for start in starts:
        chosen, value = _exchanged(cost, start)
        if value < EXCHANGE_GAIN * least:
            best, least = chosen, value
    return _ordered(cost, best)


def _greedy(cost: Cost, n_neurons: int) -> list[int]:
    """Neurons added one by one at the lowest cost."""
    chosen: list[int] = []
    for _ in range(n_neurons):
        costs = cost.with_each(chosen)
        if not np.isfinite(costs).any():
            raise errors.ParameterError(
                f"only {len(chosen)} of the {len(costs)} neurons vary and differ from each other (not counting scale and "
                f"offset), {n_neurons} are to be chosen: take a wider layer, or give n_neurons"
            )
        chosen.append(_first_best(costs))
    return chosen


def _random(cost: Cost, n_neurons: int, rng: np.random.Generator) -> list[int]:
    """Neurons drawn one by one among those that add something."""
    chosen: list[int] = []
    while len(chosen) < n_neurons:
        left = np.flatnonzero(~cost.excluded(chosen))
        if len(left) == 0:
            return _greedy(cost, n_neurons)
        chosen.append(int(rng.choice(left)))
    return chosen


def _exchanged(cost: Cost, chosen: list[int]) -> tuple[list[int], float]:
    """Exchange one neuron at a time for a better one, while that pays; the set and its cost."""
    best = cost.of(chosen)
    for _ in range(EXCHANGE_ROUNDS):
        before = best
        for place in range(len(chosen)):
            others = chosen[:place] + chosen[place + 1 :]
            added = _first_best(cost.with_each(others))
            value = best if added == chosen[place] else cost.of([*others, added])
            if value < EXCHANGE_GAIN * best:
                chosen, best = [*chosen[:place], added, *chosen[place + 1 :]], value
        if best == before:
            break
    return chosen, best


def _ordered(cost: Cost, chosen: list[int]) -> list[int]:
    """The set in greedy order: exchanges may have put a late neuron first."""
    ordered: list[int] = []
    left = sorted(chosen)
    while left:
        ordered.append(left.pop(_first_best(np.array([cost.of([*ordered, k]) for k in left]))))
    return ordered


def _measures(cost: Cost, chosen: list[int]) -> tuple[float, float, float]:
    """Conditioning, turning and separation of a set: the worst over the sample."""
    values = cost.stretches(chosen)
    if values.shape[1] < cost.dim:
        return 0.0, np.inf, 0.0
    conditioning = float(values[:, -1].min() / np.median(values[:, 0]))
    separation = float(np.sqrt((cost.gaps(chosen).min(axis=1) / cost.spans(chosen)).min()))
    return conditioning, float(np.sqrt(cost.turning(chosen).max())), separation


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
    gaps = cost.gaps(chosen)
    separation = np.sqrt(gaps.min(axis=1) / cost.spans(chosen))
    if separation.min() < LIMIT_SEPARATION:
        i = int(separation.argmin())
        problems.append(
            f"the {len(chosen)} neurons give inputs that are far apart (rows {anchors[i]} and {rows[gaps[i].argmin()]}) "
            f"measurements only {separation[i]:.2g} of a sample spacing apart: they cross or nearly cross; take more "
            "neurons, or another layer"
        )
    return problems
