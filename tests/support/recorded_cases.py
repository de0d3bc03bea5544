"""What is recorded of each public call: cases on fixed seeds, by public names alone; `recorded_results` runs them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import diffeo
import numpy as np
from diffeo import Observation

Results = dict[str, np.ndarray]
CASES: dict[str, Callable[[], Results]] = {}


def case(function):
    """Registers a case under its name."""
    CASES[function.__name__] = function
    return function


# Measurement maps with exact Jacobians.


def cube(n, dim, seed):
    return np.random.default_rng(seed).random((n, dim))


def waves(dim, m, seed, bend=0.3):
    """A random map of R^dim to R^m, linear plus waves, that gives (points, jacobians)."""
    rng = np.random.default_rng(seed)
    linear, slopes, phases = rng.normal(size=(m, dim)), rng.normal(size=(m, dim)), rng.uniform(0, 2 * np.pi, m)
    linear[: min(m, dim)] += 2.0 * np.eye(min(m, dim), dim)

    def measure(x):
        angles = 2.0 * (x @ slopes.T) + phases
        return x @ linear.T + bend * np.sin(angles), linear + (2.0 * bend * np.cos(angles))[:, :, None] * slopes

    return measure


def seen(measure, x, tangents=None):
    """An observation, each Jacobian along tangents (n, D, d) where there are any."""
    points, jacobians = measure(x)
    return Observation.from_jacobians(points, jacobians if tangents is None else jacobians @ tangents)


def ring(u):
    """Points of the unit circle at angles 2 pi u (n, 1), and tangents (n, 2, 1) per radian."""
    angle = 2 * np.pi * u[:, 0]
    return np.column_stack([np.cos(angle), np.sin(angle)]), np.column_stack([-np.sin(angle), np.cos(angle)])[:, :, None]


def sphere(n, seed):
    """Points of the unit sphere, and orthonormal tangents (n, 3, 2)."""
    x = np.random.default_rng(seed).normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.linalg.svd(x[:, None, :])[2][:, 1:, :].transpose(0, 2, 1)


def bursts(measure, x, count, scale, seed):
    """Points, and what is measured at inputs perturbed by normal noise, (n, count, m)."""
    nearby = x[:, None, :] + scale * np.random.default_rng(seed).normal(size=(len(x), count, x.shape[1]))
    points = measure(x)[0]
    return points, measure(nearby.reshape(-1, x.shape[1]))[0].reshape(len(x), count, -1)


def fold(x):
    """The square folded at the middle of its first coordinate."""
    return np.column_stack([(x[:, 0] - 0.5) ** 2, x[:, 1]])


def folded(measure, x):
    points, jacobians = measure(fold(x))
    jacobians[:, :, 0] *= 2.0 * (x[:, :1] - 0.5)
    return Observation.from_jacobians(points, jacobians, dim=2)


# What is recorded of each kind of result.


def texts(values):
    return np.array(list(values) or [""], dtype=str)


def fields(result, names):
    return {name: np.asarray(getattr(result, name)) for name in names.split()}


def digest(write, suffix):
    """SHA-256 of what write(path) writes, without times and paths."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return np.array(hashlib.sha256(path.read_bytes()).hexdigest())


def of_observation(obs):
    found = fields(obs, "points whitening singular_values dim deficient")
    return found | {"file": digest(obs.save, ".safetensors")}


def of_kernel(kernel):
    matrix = kernel.matrix
    return {
        "indptr": np.asarray(matrix.indptr, np.int64), "indices": np.asarray(matrix.indices, np.int64),
        "data": matrix.data, "epsilon": np.array(kernel.epsilon), "n_gated": np.array(kernel.n_gated),
    }  # fmt: skip


def of_diffusion_map(fitted, new):
    names = "eigenvalues_ eigenvectors_ residuals_ embedding_ generator_eigenvalues_ epsilon_"
    return fields(fitted, names) | {"transformed": fitted.transform(new)}


def of_embedding(fitted, new):
    return fields(fitted, "embedding_ stress_ overlap_ periods_ left_out_") | {"transformed": fitted.transform(new)}


def of_transformation(found, new_a, new_b, exact=True):
    """The maps at new measurements; `exact` also records the saved file."""
    diagnostics = found.diagnostics
    result = {
        "coordinates": np.array(found.coordinates), "scale": np.array(found.scale),
        "problems": texts(diagnostics.problems), "candidates": texts(each.name for each in found.candidates),
        "forward": found.transform(new_a), "intrinsic": found.intrinsic(new_a),
    }  # fmt: skip
    if found.invertible:
        result["backward"] = found.inverse_transform(new_b)
    if exact:
        result["file"] = digest(found.save, ".safetensors")
        with tempfile.TemporaryDirectory() as folder:
            found.save(Path(folder) / "map.safetensors")
            result["loaded"] = diffeo.load(Path(folder) / "map.safetensors").transform(new_a)
    return result


def of_report(report):
    result = {
        "verdict": np.array(report.verdict),
        "reason": np.array(report.reason),
        "problems": texts(report.problems),
    }
    for name in ("forward", "backward"):
        side = getattr(report, name)
        result |= {f"{name}.{key}": np.asarray(getattr(side, key)) for key in ("error", "lower", "upper", "status")}
        result[f"{name}.predicted"] = side.predicted
        if side.loss is not None:
            result[f"{name}.loss"] = np.array(side.loss.text)
    for name in ("embeddings", "held_out", "spectra"):
        result |= {f"{name}.{i}": array for i, array in enumerate(getattr(report, name))}
    result["baselines"] = np.array(
        [[np.nan if e is None else e for e in (b.forward, b.backward)] for b in report.baselines]
    )
    result["summary"] = np.array(report.summary())
    result["page"] = digest(report.to_html, ".html")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        report.to_json(path)
        result["json"] = np.array(path.read_text())
    return result


def of_screening(found):
    # Rows of the comparison are recorded through its dictionary: every number in it, printed in full.
    return {"text": np.array(found.summary()), "numbers": np.array(json.dumps(found.to_dict(), sort_keys=True))}


# The cases.


@case
def sources():
    measure, x = waves(2, 4, 5), cube(1500, 2, 1)
    points, jacobians = measure(x)
    covariances = jacobians @ jacobians.transpose(0, 2, 1)
    t = np.linspace(0.0, 3.0, 200)
    found = {
        "jacobians": Observation.from_jacobians(points, jacobians),
        "single": Observation.from_jacobians(points.astype(np.float32), jacobians.astype(np.float32)),
        "wide": Observation.from_jacobians(*waves(3, 60, 6)(cube(400, 3, 2))),
        "bursts": Observation.from_bursts(*bursts(measure, x, 20, 0.01, 3), scale=0.01, dim=2),
        "shrunk": Observation.from_bursts(*bursts(measure, x, 30, 0.05, 4), scale=0.05, dim=2, shrinkage=0.002),
        "covariances": Observation.from_covariances(points, covariances, dim=2),
        "neighbors": Observation.from_neighbors(points, x, dim=2),
        "curve": Observation.from_neighbors(np.column_stack([np.cos(t), np.sin(t)]), dim=1),
    }
    return {f"{name}.{key}": value for name, obs in found.items() for key, value in of_observation(obs).items()}


@case
def kernels():
    found = {}
    for dim, m, n in (
        (1, 1, 400),
        (1, 3, 900),
        (2, 2, 1500),
        (2, 5, 4000),
        (2, 40, 1200),
        (3, 7, 4000),
        (3, 300, 500),
        (5, 12, 1500),
    ):
        kernel = diffeo.mahalanobis_kernel(seen(waves(dim, m, m), cube(n, dim, dim)))
        found |= {f"{dim}-{m}.{key}": value for key, value in of_kernel(kernel).items()}
    turned = seen(waves(2, 5, 9, bend=1.5), cube(3000, 2, 8))  # many pairs that the gates drop
    return found | {
        f"gated.{key}": value for key, value in of_kernel(diffeo.mahalanobis_kernel(turned, epsilon=0.05)).items()
    }


@case
def diffusion_map():
    measure = waves(2, 5, 3)
    found = {}
    for name, obs, options in (
        ("small", seen(measure, cube(800, 2, 1)), {"n_components": 4}),
        ("large", seen(measure, cube(30_000, 2, 1)), {}),
        ("three", seen(waves(3, 7, 4), cube(6000, 3, 1)), {"alpha": 0.5}),
    ):
        fitted = diffeo.DiffusionMap(**options).fit(obs)
        found |= {f"{name}.{k}": v for k, v in of_diffusion_map(fitted, obs.points[:50] + 1e-4).items()}
    plain = cube(2000, 3, 6)
    fitted = diffeo.DiffusionMap(n_components=5).fit(plain)
    return found | {f"plain.{k}": v for k, v in of_diffusion_map(fitted, plain[:50] + 1e-3).items()}


@case
def isometric_embedding():
    measure, thin = waves(2, 5, 3), cube(6000, 2, 7)
    thin = thin[(thin[:, 0] < 0.15) | (thin[:, 1] < 0.15)][:900]
    points, tangents = ring(cube(700, 1, 2))
    samples = {
        "square": seen(measure, cube(2000, 2, 1)),
        "large": seen(measure, cube(25_000, 2, 1)),
        "arms": seen(measure, thin),
        "three": seen(waves(3, 7, 4), cube(3000, 3, 1)),
        "ring": seen(waves(2, 5, 5, bend=0.2), points, tangents),
        "bursts": Observation.from_bursts(*bursts(measure, cube(1200, 2, 4), 20, 0.01, 3), scale=0.01, dim=2),
        "bent": seen(waves(2, 5, 9, bend=0.8), cube(1500, 2, 8)),
    }
    found = {}
    for name, obs in samples.items():
        fitted = diffeo.IsometricEmbedding().fit(obs)
        found |= {f"{name}.{k}": v for k, v in of_embedding(fitted, obs.points[:50]).items()}
    plain = cube(1000, 2, 6)
    return found | {
        f"plain.{k}": v for k, v in of_embedding(diffeo.IsometricEmbedding().fit(plain), plain[:50]).items()
    }


def square_pair(n=1500):
    a, b = waves(2, 5, 10), waves(2, 6, 11)
    return a, b, seen(a, cube(n, 2, 50)), seen(b, cube(n, 2, 150))


@case
def match():
    a, b, obs_a, obs_b = square_pair()
    new, marks = 0.02 + 0.96 * cube(200, 2, 99), cube(12, 2, 98)
    at = {count: (a(marks[:count])[0], b(marks[:count])[0]) for count in (3, 12)}
    found = {}

    def add(name, result, new_a, new_b, exact=True):
        found.update({f"{name}.{k}": v for k, v in of_transformation(result, new_a, new_b, exact).items()})

    new_ab = a(new)[0], b(new)[0]
    add("three", diffeo.match(obs_a, obs_b, landmarks=at[3]), *new_ab)
    add("twelve", diffeo.match(obs_a, obs_b, landmarks=at[12]), *new_ab)
    add("rows", diffeo.match(obs_a, obs_a, landmarks=[[0, 0], [5, 5], [9, 9], [40, 40]]), new_ab[0], new_ab[0])
    add("diffusion", diffeo.match(obs_a, obs_b, landmarks=at[12], coordinates="diffusion"), *new_ab)
    values = tuple(np.sin(3 * x[:, 0]) + x[:, 1] for x in (cube(1500, 2, 50), cube(1500, 2, 150)))
    add("observables", diffeo.match(obs_a, obs_b, observables=values), *new_ab)
    add("shape", diffeo.match(obs_a, obs_b), *new_ab)
    line = waves(1, 3, 6)
    add(
        "projection",
        diffeo.match(obs_a, seen(line, cube(500, 1, 4)), landmarks=(a(marks)[0], line(marks[:, :1])[0])),
        new_ab[0],
        None,
    )
    many = cube(60, 2, 97)
    add(
        "regression",
        diffeo.match(obs_a, folded(b, cube(1500, 2, 4)), landmarks=(a(many)[0], b(fold(many))[0])),
        new_ab[0],
        b(fold(new))[0],
    )
    return found


@case
def match_closed():
    found = {}
    a, b = waves(2, 5, 5, bend=0.2), waves(2, 6, 6, bend=0.2)
    sides = [seen(measure, *ring(cube(600, 1, seed))) for measure, seed in ((a, 2), (b, 3))]
    for name, marks in (("circle", ring(cube(4, 1, 7))[0]), ("candidates", ring(cube(1, 1, 7))[0])):
        result = diffeo.match(*sides, landmarks=(a(marks)[0], b(marks)[0]))
        new = ring(cube(100, 1, 8))[0]
        found |= {f"{name}.{k}": v for k, v in of_transformation(result, a(new)[0], b(new)[0]).items()}
    a, b = waves(3, 6, 5, bend=0.1), waves(3, 5, 7, bend=0.1)
    sides = [seen(measure, *sphere(700, seed)) for measure, seed in ((a, 2), (b, 3))]
    marks, new = sphere(5, 9)[0], sphere(60, 10)[0]
    result = diffeo.match(*sides, landmarks=(a(marks)[0], b(marks)[0]))
    return found | {f"sphere.{k}": v for k, v in of_transformation(result, a(new)[0], b(new)[0]).items()}


@case
def assess():
    a, b, obs_a, obs_b = square_pair()
    marks, pairs = cube(10, 2, 98), 0.02 + 0.96 * cube(120, 2, 99)
    report = diffeo.assess(
        diffeo.match(obs_a, obs_b, landmarks=(a(marks)[0], b(marks)[0])), held_out=(a(pairs)[0], b(pairs)[0])
    )
    found = {f"square.{k}": v for k, v in of_report(report).items()}
    marks = cube(60, 2, 97)
    result = diffeo.match(obs_a, folded(b, cube(1500, 2, 4)), landmarks=(a(marks)[0], b(fold(marks))[0]))
    report = diffeo.assess(result, held_out=(a(pairs)[0], b(fold(pairs))[0]))
    return found | {f"folded.{k}": v for k, v in of_report(report).items()}


@case
def screen():
    _, b, obs_a, obs_b = square_pair(1200)
    found = {f"square.{k}": v for k, v in of_screening(diffeo.screen(obs_a, obs_b)).items()}
    return found | {
        f"folded.{k}": v for k, v in of_screening(diffeo.screen(obs_a, folded(b, cube(1200, 2, 4)))).items()
    }


@case
def reconstruct():
    measure, x = waves(2, 5, 3), cube(1000, 2, 1)
    obs, new = seen(measure, x), 0.02 + 0.96 * cube(100, 2, 9)
    found = {}
    for kind, count, values in (("input", 8, x), ("output", 40, np.sin(3 * x[:, :1]) * x[:, 1:])):
        result = diffeo.reconstruct(obs, np.arange(count), values[:count], kind=kind)
        found |= {f"{kind}.predicted": result.predict(measure(new)[0]), f"{kind}.error": np.array(result.error)}
    return found


def network(*widths, seed=0):
    """A multilayer perceptron with weights drawn by NumPy, in double precision."""
    import torch

    torch.set_num_threads(1)
    rng, layers = np.random.default_rng(seed), []
    for rows, columns in zip(widths[1:], widths[:-1], strict=True):
        linear = torch.nn.Linear(columns, rows, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(rng.normal(size=(rows, columns)) * 1.5 / np.sqrt(columns)))
            linear.bias.copy_(torch.as_tensor(rng.normal(size=rows) * 0.5))
        layers += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


@case
def networks():
    model, x = network(2, 24, 24, 1), cube(800, 2, 1)
    found = {f"capture.{k}": v for k, v in diffeo.capture(model, x, layers=["1", "3"]).items()}
    for name, options in (
        ("jacobians", {"neurons": 6}),
        ("bursts", {"covariances": "bursts", "n_bursts": 24, "dim": 2}),
        ("chosen", {"neurons": [3, 1, 7]}),
    ):
        obs = diffeo.observe(model, x, layer="3", **options)
        found |= {f"{name}.{k}": v for k, v in of_observation(obs).items()} | {
            f"{name}.neurons": np.asarray(obs.neurons)
        }
    for name, chosen in (
        ("model", diffeo.suggest_neurons(model, x, layer="3")),
        ("observation", diffeo.suggest_neurons(diffeo.observe(model, x, layer="1"), n_neurons=6)),
    ):
        found |= {
            f"suggested.{name}.{k}": v for k, v in fields(chosen, "neurons conditioning turning separation dim").items()
        }
        found[f"suggested.{name}.problems"] = texts(chosen.problems)
    return found


@case
def compare_layers():
    models = network(2, 16, 16, 2, seed=1), network(2, 16, 12, 2, seed=2)
    result = diffeo.compare_layers(
        *models, cube(700, 2, 1), cube(700, 2, 2), layers_a=["1", "3"], layers_b=["1", "3"],
        landmark_inputs=cube(10, 2, 3), held_out_inputs=cube(60, 2, 4),
    )  # fmt: skip
    return {"summary": np.array(str(result))} | fields(result, "forward backward verdicts")
