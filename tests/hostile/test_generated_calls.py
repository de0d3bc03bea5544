"""Generated calls of public names: a right result, or an error of the library with a useful message; nothing else.

In full 20,000 calls; the pinned seed in CI is for the same calls every time.
"""

from __future__ import annotations

import io
import math
import pickle
import traceback
import warnings

import diffeo
import numpy as np
import pytest
from diffeo import errors
from support.samples import smooth_map

CALLS, FULL_CALLS = 250, 20_000
MAPS = smooth_map(2, 4, seed=1), smooth_map(2, 3, seed=2)
SCALES = (0.0, 1e-309, 1e-200, 1e-150, 1e-80, 1e-30, 1e-3, 1.0, 1e3, 1e30, 1e80, 1e150, 1e154, 1e200, 1e308)
NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    -1,
    -5,
    10**400,
    0.5,
    1e-309,
    1e308,
    math.inf,
    math.nan,
    True,
    None,
    "auto",
    "2",
    [1],
    np.int64(3),
)


class Drawn:
    """Arguments of one call, drawn from a seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.n = int(self.rng.choice([1, 2, 5, 20, 35, 60]))

    def one(self, options):
        return options[int(self.rng.integers(len(options)))]

    def often(self, usual, others, share=0.75):
        return usual if self.rng.random() < share else self.one(others)

    def number(self, usual):
        return self.often(usual, NUMBERS)

    def spoilt(self, array):
        """The array, or one that is wrong in some way."""
        rng = self.rng
        with np.errstate(all="ignore"):
            kind = rng.integers(16)
            if kind == 0:
                return array * self.one(SCALES)
            if kind == 1:
                array = array.copy()
                array[rng.integers(len(array))] = (array[rng.integers(len(array))] * self.one(SCALES)).astype(
                    array.dtype
                )
            elif kind == 2:
                array = array.copy()
                if array.dtype.kind == "f":
                    array.flat[rng.integers(array.size)] = self.one((np.nan, np.inf, -np.inf))
            elif kind == 3:
                return array[: rng.integers(len(array))]
            elif kind == 4:
                return self.one(
                    (array.astype(str), array + 0j, array > 0, array.tolist(), array[..., 0], array[None], None)
                )
            elif kind == 5:
                return np.repeat(array[:1], len(array), axis=0)
            elif kind == 6:
                return array.astype(self.one((np.float16, np.float32, ">f8", np.longdouble, object, np.int64)))
        return array

    def side(self, k, n=None):
        points, jacobians = MAPS[k](self.rng.random((n or self.n, 2)))
        return points, jacobians

    def observation(self, k=0):
        points, jacobians = self.side(k)
        kind, dim = self.rng.integers(4), self.number(2)
        if kind == 0:
            bursts = points[:, None] + 1e-3 * np.einsum(
                "nmp,nkp->nkm", jacobians, self.rng.normal(size=(len(points), 9, 2))
            )
            return diffeo.Observation.from_bursts(
                self.spoilt(points), self.spoilt(bursts), scale=self.number(1e-3), dim=dim
            )
        if kind == 1:
            covariances = jacobians @ jacobians.transpose(0, 2, 1)
            return diffeo.Observation.from_covariances(self.spoilt(points), self.spoilt(covariances), dim=dim)
        if kind == 2:
            reference = self.rng.random((len(points), 2))
            return diffeo.Observation.from_neighbors(
                self.spoilt(MAPS[k](reference)[0]), self.spoilt(reference), n_neighbors=self.number(9), dim=dim
            )
        return diffeo.Observation.from_jacobians(self.spoilt(points), self.spoilt(jacobians), dim=dim)

    def sound(self, k, n=40):
        return diffeo.Observation.from_jacobians(*self.side(k, n))

    def pairs(self, count=30):
        x = self.rng.random((count, 2))
        return tuple(self.spoilt(MAPS[k](x)[0]) for k in (0, 1))


def observed(d):
    return d.observation().whitening


def kernel(d):
    given = d.observation() if d.rng.random() < 0.5 else d.spoilt(d.side(0)[0])
    found = diffeo.mahalanobis_kernel(given, epsilon=d.number("auto"), truncation=d.number(1e-4), n_jobs=d.number(1))
    return found.values


def diffusion_map(d):
    options = {"n_components": d.number(2), "alpha": d.number(1.0), "tol": d.number(1e-8), "random_state": d.number(0)}
    given = d.observation() if d.rng.random() < 0.5 else d.spoilt(d.side(0)[0])
    fitted = diffeo.DiffusionMap(**options, epsilon=d.number("auto")).fit(given)
    return fitted.transform(d.spoilt(d.side(0, 5)[0]))


def embedding(d):
    fitted = diffeo.IsometricEmbedding(n_neighbors=d.number(8), random_state=d.number(0))
    fitted.fit(d.observation() if d.rng.random() < 0.5 else d.spoilt(d.side(0)[0]))
    return fitted.transform(d.spoilt(d.side(0, 5)[0])), fitted.inverse_transform(d.spoilt(d.rng.random((4, 2))))


def matched(d):
    rows = d.spoilt(np.column_stack([np.arange(12)] * 2).astype(np.int64))
    landmarks = d.one((d.pairs(12), rows, None))
    sides = (d.sound(0), d.sound(1)) if d.rng.random() < 0.6 else (d.observation(0), d.observation(1))
    how = d.often("auto", ("isometric", "diffusion", "nothing"), 0.5)
    t = diffeo.match(*sides, landmarks=landmarks, coordinates=how, check=False, random_state=d.number(0))
    return t.transform(d.spoilt(d.side(0, 5)[0]))


def relative_error(d):
    return diffeo.relative_error(*d.pairs())


def pairs(d):
    return diffeo.Pairs(*d.pairs())[d.one((slice(0, 5), [1, 2], [99], np.ones(30, bool), "a", 3, -1))].points_a


def screened(d):
    return len(diffeo.screen(d.observation(0), d.sound(1), n_jobs=d.number(1)).summary())


def rows(d):
    key = d.one((slice(None, None, 2), [0, 1, 2], [-1], [10**400], 3, np.ones(d.n, bool), "x", None, 1.5, [[0]]))
    return d.observation()[key].points


def selected(d):
    return d.observation().select(d.one(([0, 1], [0], [7], [0, 0], "a", 1.0, [], np.array([True, False])))).points


def charted(d):
    chart = diffeo.embed(
        d.observation(), coordinates=d.often("auto", ("isometric", "diffusion", 3)), n_jobs=d.number(1)
    )
    return chart.transform(d.spoilt(d.side(0, 5)[0])), chart.inverse_transform(d.spoilt(chart.coordinates[:4]))


def matched_pairs(d):
    x = d.rng.random((d.one((1, 3, 12, 40)), 2))
    sides = [MAPS[k](x) for k in (0, 1)]
    slopes = [d.spoilt(jacobians) for _, jacobians in sides] if d.rng.random() < 0.5 else [None, None]
    given = diffeo.Pairs(d.spoilt(sides[0][0]), d.spoilt(sides[1][0]), *slopes)
    t = diffeo.match_pairs(given, random_state=d.number(0), n_jobs=d.number(1))
    return t.transform(d.spoilt(d.side(0, 5)[0])), t.predicted_error(d.spoilt(d.side(0, 5)[0]))


def assessed(d):
    x = d.rng.random((12, 2))
    t = diffeo.match(d.sound(0), d.sound(1), landmarks=tuple(MAPS[k](x)[0] for k in (0, 1)), check=False)
    report = diffeo.assess(t, d.pairs(25), margin=d.number(0.05), significance=d.number(0.05))
    return len(report.summary())


def joined(d):
    return diffeo.concatenate([d.observation(), d.one((d.observation(), d.sound(0), None, 3))]).whitening


def chosen(d):
    return diffeo.suggest_neurons(d.observation(), n_neurons=d.number(None), rng=d.number(0)).neurons


def more_inputs(d):
    x = d.rng.random((40, 2))
    seen = diffeo.Observation.from_jacobians(*MAPS[0](x))
    found = diffeo.suggest_inputs(seen, d.spoilt(x), d.number(5)).inputs
    return np.zeros(1) if found is None else found


def stored(d):
    file = io.BytesIO()
    d.observation().save(file)
    data = bytearray(file.getvalue())
    if d.rng.random() < 0.5:
        data[d.rng.integers(len(data))] ^= 1 << int(d.rng.integers(8))
        return d.one((diffeo.load,))(io.BytesIO(bytes(data[: d.often(len(data), (0, 7, 100))]))).points
    return diffeo.load(io.BytesIO(bytes(data))).points


def network(d):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Tanh()).to(d.often(torch.float64, (torch.float32,)))
    given = d.spoilt(d.rng.random((d.n, 2)))
    kind = d.often("jacobians", ("bursts", "nothing"))
    options = {"covariances": kind, "neurons": d.number(None), "dim": d.number(2), "batch_size": d.number(1024)}
    return diffeo.observe(net, given, **options).points


USES = (
    *(observed, kernel, diffusion_map, embedding, matched, relative_error, pairs, screened, rows, selected),
    *(charted, matched_pairs, assessed, joined, chosen, more_inputs, stored, network),
)


def outcome(seed):
    """None where a call ended right; else what was wrong."""
    drawn = Drawn(seed)
    use = drawn.one(USES)
    state = np.geterr(), warnings.filters[:]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = use(drawn)
        except errors.DiffeoError as error:
            found = 0.0
            if len(str(error)) < 15:
                return f"{use.__name__}: says only {error}"
            pickle.loads(pickle.dumps(error))
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            return f"{use.__name__}: {type(error).__name__}: {error} at {place.filename}:{place.lineno}"
    foreign = [one for one in said if not issubclass(one.category, errors.DiffeoWarning)]
    if foreign:
        return f"{use.__name__}: warns: {foreign[0].message} at {foreign[0].filename}:{foreign[0].lineno}"
    if not all(np.isfinite(np.asarray(part)).all() for part in (found if isinstance(found, tuple) else (found,))):
        return f"{use.__name__}: gives what is not finite"
    if state != (np.geterr(), warnings.filters[:]):
        return f"{use.__name__}: leaves the state of NumPy or of warnings changed"
    return None


def test_generated_calls(full, seed):
    wrong = {}
    for k in range(FULL_CALLS if full else CALLS):
        what = outcome(seed * 100_000 + k)
        if what is not None:
            wrong[seed * 100_000 + k] = what
    assert not wrong, "\n".join(f"seed {key}: {what}" for key, what in list(wrong.items())[:30])
