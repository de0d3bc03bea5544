"""One file of each kind that can be saved, and what it means that one comes back."""

from __future__ import annotations

import dataclasses
import functools
import json
import re

import diffeo
import numpy as np
import pytest
import safetensors.numpy
from diffeo import Observation, errors
from diffeo.observation.how_measured import MeasureOptions
from scipy.spatial import cKDTree
from support.samples import random_orthogonal, smooth_map, smooth_observation, square


def assert_same(a, b, where="object"):
    """Equal in every dataclass field, every instance attribute and every bit."""
    assert type(a) is type(b), where
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        assert a.shape == b.shape, where
        assert a.tobytes() == b.tobytes(), where
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        assert_same([*a.values()], [*b.values()], where)
    elif dataclasses.is_dataclass(a):
        for entry in dataclasses.fields(a):
            if entry.name not in ("_tree", "_maps"):  # made on request
                assert_same(getattr(a, entry.name), getattr(b, entry.name), f"{where}.{entry.name}")
    elif isinstance(a, cKDTree):
        assert_same(a.data, b.data, where)
        assert_same(a.indices, b.indices, where)
    elif isinstance(a, (diffeo.DiffusionMap, diffeo.IsometricEmbedding)):
        assert vars(a).keys() == vars(b).keys(), where
        for name, value in vars(a).items():
            assert_same(value, vars(b)[name], f"{where}.{name}")
    else:
        assert a == b or (a != a and b != b), where


def parts(path):
    """Description and tensors of a file."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["diffeo"]), safetensors.numpy.load(data)


def with_deficient():
    points, jacobians = smooth_map(2, 4, 5)(square(300, 2, 1))
    jacobians[[7, 100]] = 0.0
    with pytest.warns(errors.RankWarning):
        observation = Observation.from_jacobians(points, jacobians, dim=2)
    assert observation.deficient.tolist() == [7, 100]
    return observation


def observed_options(**options):
    """Options as of what `diffeo.observe` made, three neurons of a wide layer."""
    return MeasureOptions(
        layer="net.3 \u2192 \U0001f40e", neurons=np.array([5, 0, 2**40]), width=2**41, covariances="jacobians", tangents=True,
        complete=True, **options,
    )  # fmt: skip


def older(description, tensors, version):
    """Description and tensors of a file of format 3 as format 1 or 2 would have held them."""
    entries, kept = dict(description["entries"]), dict(tensors)
    moved = re.compile(r"(.*)options\.(layer|neurons|scale)")
    for name in [*entries, *kept]:
        holder = entries if name in entries else kept
        if found := moved.fullmatch(name):
            holder[found[1] + found[2]] = holder.pop(name)
        elif "options." in name or name.endswith(("degrees_of_freedom", "precision")):
            del holder[name]
    orders = {name: order for name, order in description["orders"].items() if name in kept}
    return description | {"entries": entries, "orders": orders, "format_version": version}, kept


def observations():
    x, rng = square(120, 2, 4), np.random.default_rng(0)
    points, jacobians = smooth_map(2, 3, 6)(x)
    bursts = points[:, None] + 0.01 * np.einsum("nmp,nkp->nkm", jacobians, rng.normal(size=(120, 12, 2)))
    circle = np.linspace(0.0, 3.0, 80)
    plain = Observation.from_jacobians(points, jacobians)
    return {
        "jacobians": plain,
        "deficient": with_deficient(),
        "bursts": Observation.from_bursts(points, bursts, scale=0.01, dim=2),
        "covariances": Observation.from_covariances(points, jacobians @ jacobians.transpose(0, 2, 1), dim=2),
        "neighbors": Observation.from_neighbors(points, x, dim=2),
        "unknown unit": Observation.from_neighbors(np.column_stack([np.cos(circle), np.sin(circle)]), dim=1),
        "layer": dataclasses.replace(plain, options=observed_options(reduce="mean", smooth=0.25)),
        "projected": dataclasses.replace(plain, options=observed_options(reduce=diffeo.RandomProjection(3, rng=7))),
        "shrunken": Observation.from_bursts(points, bursts, scale=0.01, dim=2, shrinkage=1e-5),
    }


def circle(u):
    """Points of the unit circle at angles 2 pi u, and tangents (n, 2, 1) per unit of u."""
    x = np.column_stack([np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)])
    return x, 2 * np.pi * np.column_stack([-x[:, 1], x[:, 0]])[:, :, None]


def sphere(n, seed):
    """Points of the unit sphere and orthonormal tangents (n, 3, 2)."""
    x = np.random.default_rng(seed).normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    frame = np.concatenate([x[:, :, None], random_orthogonal(n, 3, seed)[:, :, :2]], axis=2)
    return x, np.linalg.qr(frame)[0][:, :, 1:]


def lift(x):
    """A first coordinate, as one that the other side does not see."""
    return x[:, :1]


def folded(x):
    """The square folded at the middle of its first coordinate."""
    return np.column_stack([(x[:, 0] - 0.5) ** 2, x[:, 1]])


def same(x):
    return x


# Measurements of both sides as functions of common inputs: what B sees of them, and the maps.
MAPS = {
    "isometric": (same, smooth_map(2, 4, 5), smooth_map(2, 3, 6)),
    "diffusion": (same, smooth_map(2, 4, 5), smooth_map(2, 3, 6)),
    "projection": (lift, smooth_map(2, 4, 5), smooth_map(1, 3, 6)),
    "circle": (same, smooth_map(2, 4, 5), smooth_map(2, 5, 7)),
    "candidates": (same, smooth_map(2, 4, 5), smooth_map(2, 5, 7)),
    "regression": (folded, smooth_map(2, 4, 5), smooth_map(2, 5, 7)),
    "sphere": (same, smooth_map(3, 6, 5, 0.1), smooth_map(3, 5, 7, 0.1)),
}


def at(kind, x):
    """Measurements of A and of B."""
    seen, a, b = MAPS[kind]
    return a(x)[0], b(seen(x))[0]


def sides(kind):
    """Both observations; those of square and sphere with rank-deficient samples on side A."""
    _, a, b = MAPS[kind]
    if kind in ("circle", "candidates"):
        rng, found = np.random.default_rng(0), []
        for measure, n in ((a, 120), (b, 130)):
            x, tangents = circle(rng.random(n))
            points, jacobians = measure(x)
            found.append(Observation.from_jacobians(points, jacobians @ tangents))
        return tuple(found)
    if kind == "sphere":
        (x, tangents_a), (z, tangents_b) = sphere(400, 0), sphere(350, 1)
        (points_a, jacobians_a), (points_b, jacobians_b) = a(x), b(z)
        jacobians_a[[7, 100]] = 0.0
        with pytest.warns(errors.RankWarning):
            first = Observation.from_jacobians(points_a, jacobians_a @ tangents_a, dim=2)
        return first, Observation.from_jacobians(points_b, jacobians_b @ tangents_b, dim=2)
    if kind == "regression":
        x = square(250, 2, 4)
        points, jacobians = b(folded(x))
        jacobians[:, :, 0] *= 2.0 * (x[:, :1] - 0.5)
        return with_deficient(), Observation.from_jacobians(points, jacobians, dim=2)
    if kind == "projection":
        return with_deficient(), Observation.from_jacobians(*b(square(250, 1, 4)))
    return with_deficient(), smooth_observation(250, 2, 3, 6)


def landmarks(kind):
    """Common inputs; a single one on a circle leaves a choice."""
    if kind in ("circle", "candidates"):
        return circle(np.array([0.05, 0.3, 0.71, 0.86])[: 1 if kind == "candidates" else None])[0]
    if kind == "regression":
        return square(40, 2, 9)
    # Enough of them, in two kinds, that corrections are of use, and kept.
    return sphere(4, 3)[0] if kind == "sphere" else square({"isometric": 30, "projection": 60}.get(kind, 10), 2, 9)


@functools.cache
def matched(kind):
    wanted = "diffusion" if kind == "diffusion" else "auto" if kind in ("sphere", "regression") else "isometric"
    return diffeo.match(*sides(kind), landmarks=at(kind, landmarks(kind)), coordinates=wanted, n_jobs=2)


def new_inputs(kind):
    """Some of them outside of the sampled domain."""
    if kind in ("circle", "candidates"):
        return circle(np.linspace(0.0, 1.0, 101))[0] * np.linspace(1.0, 1.2, 101)[:, None]
    if kind == "sphere":
        return sphere(100, 11)[0] * np.linspace(1.0, 1.2, 100)[:, None]
    return 1.2 * square(200, 2, 11) - 0.1


KINDS = ["observation", *MAPS]
# Candidates add nothing to these files but length.
DISTINCT = [kind for kind in KINDS if kind != "candidates"]


def write_files(folder):
    """One file of each kind: path, saved object."""
    saved = {kind: matched(kind) for kind in MAPS} | {"observation": smooth_observation(40, 2, 3, 6)}
    for kind in KINDS:
        saved[kind].save(folder / f"{kind}.safetensors")
    return {kind: (folder / f"{kind}.safetensors", saved[kind]) for kind in KINDS}
