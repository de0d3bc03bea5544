"""What a file holds of the chart of each side, and the chart made from it again, its kernel assembled anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.memory import memory_limit
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.diffusion.bandwidth import EpsilonCurve
from diffeo.diffusion.diffusion_map import DiffusionMap
from diffeo.diffusion.independent import IndependentCoordinates
from diffeo.diffusion.kernel import mahalanobis_kernel
from diffeo.files import schema
from diffeo.files.container import Content
from diffeo.files.observation import build_observation
from diffeo.files.schema import fields_of, holds, take
from diffeo.isometry.embedding import IsometricEmbedding
from diffeo.isometry.hermite import HermiteChart
from diffeo.isometry.periods import turns
from diffeo.isometry.trust import is_suspicious
from diffeo.observation.observation import Observation

# Eigenpairs belong to the kernel assembled again if their residuals are below the tolerance of the fit times
# this factor, or below this floor (another instruction set rounds otherwise); derivatives on isometric
# coordinates to the observation if, whitened, they are rotations up to the floor.
RESIDUAL_FACTOR, RESIDUAL_FLOOR = 10.0, 1e-6
# An interpolant keeps up to 3^k copies of its nodes around k periods: more are meant to exhaust memory.
MAX_PERIODS = 8
# Nodes lie in the cell of the periods up to this share of it: at its edge, rounding decides.
CELL_EDGE = 1e-6
IN_TREE_ORDER = ("_scaling", "_degree")  # stored in the caller's order: trees may differ between machines


def chart_content(chart: Coordinates) -> Content:
    """What is stored of a chart beside its observation, of which a chart without coordinates is made again."""
    if isinstance(chart, IsometricChart):
        return _isometric_content(chart)
    return _diffusion_content(chart) if isinstance(chart, DiffusionChart) else {}


def _isometric_content(chart: IsometricChart) -> Content:
    fitted, nodes = chart.embedding, chart.embedding._chart
    rows, points = fitted._rows, chart.observation.points
    fits = len(rows) == len(nodes.nodes) and max(rows.max(initial=0), len(chart.observation) - 1) < len(points)
    pairs = (nodes.nodes, fitted.embedding_), (nodes.values, points), (nodes.gradients, fitted.jacobians_)
    fits = fits and all(len(x) == len(points) and np.array_equal(own, x[rows]) for own, x in pairs)
    fits = fits and np.array_equal(nodes.periods, fitted.periods_)
    if not (fits and np.array_equal(chart.coordinates, fitted.embedding_)):
        raise errors.InputError("coordinates, embedding and observation are not of the same samples")
    loose = fields_of("loose.", fitted, schema.LOOSE) if len(fitted.looseness_) else {}
    told = fitted.moved_ > 0.0 or is_suspicious(fitted.stress_, chart.observation.length_noise)
    moved = fields_of("moved.", fitted, schema.MOVED) if told else {}
    return fields_of("fitted.", fitted, schema.FITTED["isometric"]) | {"rows": rows} | loose | moved


def _diffusion_content(chart: DiffusionChart) -> Content:
    fitted, kernel = chart.diffusion_map, chart.diffusion_map.kernel_
    content = fields_of("fitted.", fitted, schema.FITTED["diffusion"])
    content |= fields_of("generator.", fitted, schema.GENERATOR)
    content |= fields_of("selection.", chart.selection, schema.SELECTION)
    for name in IN_TREE_ORDER:
        content[f"fitted.{name}"] = np.zeros(kernel.n_samples)
        content[f"fitted.{name}"][kernel.rows] = getattr(fitted, name)
    if fitted.epsilon_curve_ is not None:
        content |= fields_of("curve.", fitted.epsilon_curve_, schema.CURVE)
    return content | {"coordinates": chart.coordinates, "truncation": kernel.truncation}


def _restore(fitted: Any, kind: str, content: Content, at: str, sizes: dict[str, int]) -> Observation:
    """Set what was stored of an estimator, and give the observation that it was fitted to."""
    observation = build_observation(content, f"{at}observation.", sizes)
    for name, value in take(content, f"{at}fitted.", schema.FITTED[kind], sizes).items():
        setattr(fitted, name, value)
    fitted.n_features_in_ = sizes["m"]
    return observation


def build_isometric(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> IsometricChart:
    """An isometric layout, from content that may be anything."""
    fitted = IsometricEmbedding()
    observation = _restore(fitted, "isometric", content, at, sizes)
    rows, sizes["u"] = take(content, at, schema.ISOMETRIC, sizes)["rows"], sizes["d"]
    loose: Content = {"loose_part_": np.zeros(sizes["n"], dtype=np.int64), "looseness_": np.empty(0)}
    if holds(content, f"{at}loose."):
        loose = take(content, f"{at}loose.", schema.LOOSE, {"n": sizes["n"]})
    fitted.loose_part_, fitted.looseness_ = loose["loose_part_"], loose["looseness_"]
    if set(fitted.loose_part_) - {0} != set(range(1, len(fitted.looseness_) + 1)) or (fitted.looseness_ < 0.0).any():
        raise errors.InputError(f"{at}loose_part_ and looseness_ do not fit each other")
    # Of a layout that an older version made, it is not known: then as large as can be.
    fitted.moved_ = float(is_suspicious(fitted.stress_, observation.length_noise))
    if holds(content, f"{at}moved."):
        fitted.moved_ = take(content, f"{at}moved.", schema.MOVED, {})["moved_"]
    if len(rows) < 2 or sorted([*rows, *fitted.left_out_]) != list(range(sizes["n"])):
        raise errors.InputError(f"{at}rows and {at}left_out_ do not list every sample once")
    samples = (fitted.embedding_, observation.points, fitted.jacobians_)
    nodes, values, gradients = (np.ascontiguousarray(array[rows]) for array in samples)
    gap = orthogonality_gap(np.einsum("nmd,nme->nde", observation.whitening[rows], gradients))
    if not gap <= RESIDUAL_FLOOR:
        raise errors.InputError(f"{at}jacobians_ are not those of its observation (gap {gap:.2g}): altered")
    _check_periods(fitted.periods_, nodes, f"{at}fitted.periods_")
    fitted._rows = rows
    if assemble:
        fitted._chart = HermiteChart(nodes, values, gradients, fitted.periods_, observation.noise)
    return IsometricChart(observation, fitted, fitted.embedding_)


def orthogonality_gap(matrices: FloatArray) -> float:
    """How far the rows of matrices (n, d, e) are from orthonormal ones."""
    return float(np.abs(np.einsum("nde,nfe->ndf", matrices, matrices) - np.eye(matrices.shape[1])).max())


def _check_periods(periods: FloatArray, nodes: FloatArray, name: str) -> None:
    k, d = periods.shape
    if k == 0:
        return
    if k > min(d, MAX_PERIODS) or np.linalg.matrix_rank(periods) < k:
        raise errors.InputError(f"{name}: {k} periods in {d} dimensions are too many, or depend on each other")
    if 3**k * nodes.nbytes > memory_limit():
        raise errors.MemoryLimitError(
            f"{name}: up to {3**k * len(nodes)} copies of nodes would exceed the memory limit"
        )
    around = turns(nodes, periods)
    if not (np.abs(around - 0.5).max() <= 0.5 + CELL_EDGE and np.ptp(around, axis=0).min() >= 0.5):
        raise errors.InputError(f"{name}: the coordinates do not fill one cell of the periods")


def build_diffusion(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> DiffusionChart:
    """Diffusion coordinates, from content that may be anything, with their kernel if asked."""
    fitted = DiffusionMap()
    observation = _restore(fitted, "diffusion", content, at, sizes)
    plain = fitted.generator_eigenvalues_
    known: Content = {"generator_errors_": np.full(len(plain), np.inf), "plain_generator_eigenvalues_": plain}
    known["generator_mixing_"] = np.eye(len(plain) - 1)
    if holds(content, f"{at}generator."):
        known = take(content, f"{at}generator.", schema.GENERATOR, sizes)
    for name, value in known.items():
        setattr(fitted, name, value)
    curve = holds(content, f"{at}curve.")
    fitted.epsilon_curve_ = EpsilonCurve(**take(content, f"{at}curve.", schema.CURVE, sizes)) if curve else None
    selection = IndependentCoordinates(**take(content, f"{at}selection.", schema.SELECTION, sizes))
    rest = take(content, at, schema.DIFFUSION, sizes)
    if sizes["c"] != sizes["k"] - 1 or sizes["u"] > sizes["s"]:
        raise errors.ShapeError(f"{at}embedding_, selection and coordinates have inconsistent widths")
    if assemble:
        _attach_kernel(fitted, observation, rest["truncation"])
    return DiffusionChart(observation, fitted, selection, rest["coordinates"])


def _attach_kernel(fitted: DiffusionMap, observation: Observation, truncation: float) -> None:
    """Assemble the kernel of a diffusion map again, and verify that its eigenpairs belong to it."""
    parameters: Content = {"epsilon": fitted.epsilon_, "truncation": truncation, "n_jobs": fitted.n_jobs}
    with errors.unsaid(errors.DiffeoWarning):  # which were given when the object was made
        kernel = mahalanobis_kernel(observation, **parameters)
    fitted.kernel_ = replace(kernel, curve=fitted.epsilon_curve_)
    for name in IN_TREE_ORDER:
        setattr(fitted, name, getattr(fitted, name)[kernel.rows])
    fitted._weights = fitted._sample_weights[kernel.rows]
    vectors, scaling = fitted.eigenvectors_[kernel.rows], fitted._scaling[:, None]
    product = scaling * (kernel.in_tree_order() @ (scaling * vectors))
    gap = np.linalg.norm(product - vectors * fitted.eigenvalues_, axis=0).max()
    positive = min(fitted._weights.min(), fitted._scaling.min(), fitted._degree.min()) > 0
    if not positive or not gap <= max(RESIDUAL_FACTOR * fitted.tol, RESIDUAL_FLOOR):
        stated = f"its eigenvectors are not those of the kernel of its observation (residual {gap:.2g})"
        raise errors.InputError(f"{stated}: altered, or written by a version of diffeo whose kernel differs")


def chart_builder(kind: str, content: Content, at: str) -> Callable[..., Coordinates]:
    """What builds the chart of a side: called with content, name, sizes, and whether kernels are assembled."""
    if kind == "diffusion":
        return build_diffusion
    return _build_measured if kind == "regression" and not holds(content, f"{at}fitted.") else build_isometric


def _build_measured(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> MeasuredChart:
    observation = build_observation(content, f"{at}observation.", sizes)
    sizes["u"] = sizes["d"]
    return MeasuredChart(observation)


def n_features(chart: Coordinates, sizes: dict[str, int]) -> int:
    """How many inputs of a regression its coordinates are; periodic ones count twice."""
    return 0 if isinstance(chart, MeasuredChart) else sizes["u"] + sizes.get("p", 0)
