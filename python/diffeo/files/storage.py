"""Saving and loading: one safetensors file an object, no pickle, written atomically, read with distrust.

Names in a file are dotted paths such as ``a.observation.points``. Kernels, search trees, atlases and factors of kernel
matrices are not stored but made again.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.memory import memory_limit
from diffeo.alignment.curved.registration import Registration
from diffeo.alignment.linear import Alignment
from diffeo.charts.chart import Chart
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.diffusion.bandwidth import EpsilonCurve
from diffeo.diffusion.diffusion_map import DiffusionMap
from diffeo.diffusion.independent import IndependentCoordinates
from diffeo.diffusion.kernel import mahalanobis_kernel
from diffeo.files import schema
from diffeo.files.container import Content, decode, encode, read, write
from diffeo.files.landmark_correction import build_residual, residual_content
from diffeo.files.report import build_report, report_content
from diffeo.files.schema import holds, take
from diffeo.isometry.embedding import IsometricEmbedding
from diffeo.isometry.hermite import HermiteChart
from diffeo.isometry.periods import turns
from diffeo.matching.diagnostics import Diagnostics
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation
from diffeo.verdict.report import Report

# Eigenpairs belong to the kernel assembled again if their residuals are below the tolerance of the fit times
# this factor, or below this floor (another instruction set rounds otherwise); derivatives on isometric
# coordinates to the observation if, whitened, they are rotations up to the floor.
RESIDUAL_FACTOR, RESIDUAL_FLOOR = 10.0, 1e-6
# An interpolant keeps up to 3^k copies of its nodes around k periods: more are meant to exhaust memory.
MAX_PERIODS = 8
# Nodes lie in the cell of the periods up to this share of it: at its edge, rounding decides.
CELL_EDGE = 1e-6
IN_TREE_ORDER = ("_scaling", "_degree")  # stored in the caller's order: trees may differ between machines


def save_observation(observation: Observation, path: str | os.PathLike[str]) -> None:
    """Write an observation to one file; on failure raise StorageError and leave an old file as it was."""
    _save(lambda: _fields("", observation, schema.OBSERVATION), "observation", path)


def save_transformation(transformation: Transformation, path: str | os.PathLike[str]) -> None:
    """Write a transformation, with both observations, to one file; errors as in `save_observation`."""
    _save(lambda: _transformation_content(transformation), transformation.coordinates, path)


def save_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report to one file; errors as in `save_observation`."""
    _save(lambda: report_content(report), "report", path)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file in UTF-8, in one step; errors as in `save_observation`."""
    name = os.fsdecode(path)
    with _refusing(name, " was not written"):
        write(text.encode("utf-8", "replace"), name)  # lone surrogates, of which no text consists


def load(path: str | os.PathLike[str]) -> Observation | Transformation | Report:
    """Read what ``.save`` wrote, bit for bit. Nothing in a file is executed.

    Kernels and trees of a transformation are made again; its maps give the same bits as when it was saved.

    Raises
    ------
    StorageError
        The file is missing, not one of diffeo's, of a newer format, truncated, altered or inconsistent.
    MemoryLimitError
        The file, or a kernel made from it, would take more memory than `mahalanobis_kernel` allows.
    """
    name = os.fsdecode(path)
    with _refusing(name):
        content, kind = decode(read(name))
        return _build(content, kind, assemble=True)


def _save(make: Callable[[], Content], kind: str, path: str | os.PathLike[str]) -> None:
    name = os.fsdecode(path)
    with _refusing(name, " was not written"):
        content = {key: x.item() if isinstance(x, np.generic) else x for key, x in make().items()}
        _build(dict(content), kind, assemble=False)  # what could not be read back is not written
        write(encode(content, kind), name)


@contextlib.contextmanager
def _refusing(name: str, what: str = "") -> Iterator[None]:
    """Turn what a path, a file or its content provokes into StorageError; MemoryLimitError stays."""
    try:
        yield
    except OSError as error:
        raise errors.StorageError(error.errno, error.strerror, name) from error
    except (errors.DataTypeError, ValueError, IndexError, OverflowError, RuntimeError) as error:
        raise errors.StorageError(f"{name}{what}: {error}") from error


# What is written


def _fields(at: str, holder: Any, rules: dict[str, str]) -> Content:
    return {at + name: getattr(holder, name) for name in rules}


def _transformation_content(t: Transformation) -> Content:
    known, kind = t.diagnostics, t.coordinates
    if kind != "regression" and type(t.a) is not type(t.b):
        raise errors.InputError("a has coordinates of one kind and b of the other")
    content: Content = {"problems": known.problems, "n_jobs": t.n_jobs}
    content |= {"scale": np.array([t.scale]), "landmark_residual": np.array([known.landmark_residual])}
    for i, (at, chart) in enumerate((("a.", t.a), ("b.", t.b))):
        own = _chart_content(chart)
        own |= _fields("observation.", chart.observation, schema.OBSERVATION)
        own |= {f"diagnosed.{x}": getattr(known, x) and getattr(known, x)[i] for x in schema.DIAGNOSED[kind]}
        content |= {at + name: value for name, value in own.items()}
    alignments = (t.alignment, *t.candidates)
    for i, alignment in enumerate(alignments):
        content |= _fields(f"alignments.{i}.", alignment, schema.ALIGNMENT)
    for name, rule in schema.ALIGNMENTS.items():
        values = [getattr(alignment, name) for alignment in alignments]
        content[f"alignments.{name}"] = values if rule == "texts" else np.stack(values)
    if t.registration is not None:
        content |= _registration_content(t.registration, t.a.observation)
    for at, model in (("forward.", t.forward), ("backward.", t.backward)):
        content |= {} if model is None else residual_content(at, model)
    if t.landmarks is not None:
        content |= {"landmarks.a": t.landmarks[0], "landmarks.b": t.landmarks[1]}
    return content


def _chart_content(chart: Chart) -> Content:
    """What is stored of a chart beside its observation, of which a chart without coordinates is made again."""
    if isinstance(chart, IsometricChart):
        return _isometric_content(chart)
    return _diffusion_content(chart) if isinstance(chart, DiffusionChart) else {}


def _isometric_content(chart: IsometricChart) -> Content:
    fitted, nodes = chart.embedding, chart.embedding._chart
    # Which samples are the nodes, in the order of the nodes, is found by their bits.
    rows = np.setdiff1d(np.arange(len(chart.observation)), fitted.left_out_)
    samples = [x[rows] for x in (fitted.embedding_, chart.observation.points, fitted.jacobians_)]
    both = (samples, (nodes.nodes, nodes.values, nodes.gradients))
    a, b = (np.ascontiguousarray(np.hstack([x.reshape(len(x), -1) for x in arrays])) for arrays in both)
    at_a, at_b = (np.argsort(x.view(f"V{x.strides[0]}")[:, 0], kind="stable") for x in (a, b))
    same = np.array_equal(a[at_a], b[at_b]) and np.array_equal(nodes.periods, fitted.periods_)
    if not (same and np.array_equal(chart.coordinates, fitted.embedding_)):
        raise errors.InputError("coordinates, embedding and observation are not of the same samples")
    return _fields("fitted.", fitted, schema.FITTED["isometric"]) | {"rows": rows[at_a[np.argsort(at_b)]]}


def _diffusion_content(chart: DiffusionChart) -> Content:
    fitted, kernel = chart.diffusion_map, chart.diffusion_map.kernel_
    content = _fields("fitted.", fitted, schema.FITTED["diffusion"])
    content |= _fields("selection.", chart.selection, schema.SELECTION)
    for name in IN_TREE_ORDER:
        content[f"fitted.{name}"] = np.zeros(kernel.n_samples)
        content[f"fitted.{name}"][kernel.rows] = getattr(fitted, name)
    if fitted.epsilon_curve_ is not None:
        content |= _fields("curve.", fitted.epsilon_curve_, schema.CURVE)
    return content | {"coordinates": chart.coordinates, "truncation": kernel.truncation}


def _registration_content(registration: Registration, observation: Observation) -> Content:
    if registration.observation is not observation:
        raise errors.InputError("the registration is not that of a's observation")
    content = _fields("registration.", registration, schema.REGISTRATION)
    return content | _fields("registration.counterparts.", registration.counterparts, schema.OBSERVATION)


# What is read


def _build(content: Content, kind: str, *, assemble: bool) -> Observation | Transformation | Report:
    """The object, from content that may be anything, with its kernels if asked; nothing may be left over."""
    if kind == "observation":
        built: Observation | Transformation | Report = _build_observation(content, "", {})
    elif kind in ("isometric", "diffusion", "regression"):
        built = _build_transformation(content, kind, assemble)
    elif kind == "report":
        built = build_report(content)
    else:
        raise errors.InputError(f"it holds an object of unknown kind, {kind!r:.60}")
    if content:
        raise errors.InputError(f"unexpected entries: {', '.join(sorted(content))!r:.300}")
    return built


def _build_observation(content: Content, at: str, sizes: dict[str, int]) -> Observation:
    taken = take(content, at, schema.OBSERVATION, sizes)
    values, deficient = taken["singular_values"], taken["deficient"]
    if taken["dim"] != sizes["d"] or sizes["d"] > min(sizes["m"], sizes["r"]):
        raise errors.ShapeError(f"{at}dim = {taken['dim']} does not fit whitening or singular_values")
    if (values < 0).any() or (np.diff(values, axis=1) > 0).any():
        raise errors.InputError(f"{at}singular_values are negative or not in descending order")
    if len(np.unique(deficient)) != len(deficient):
        raise errors.InputError(f"{at}deficient lists a sample twice")
    return Observation(**taken)


def _restore(fitted: Any, kind: str, content: Content, at: str, sizes: dict[str, int]) -> Observation:
    """Set what was stored of an estimator, and give the observation that it was fitted to."""
    observation = _build_observation(content, f"{at}observation.", sizes)
    for name, value in take(content, f"{at}fitted.", schema.FITTED[kind], sizes).items():
        setattr(fitted, name, value)
    fitted.n_features_in_ = sizes["m"]
    return observation


def _build_isometric(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> IsometricChart:
    fitted = IsometricEmbedding()
    observation = _restore(fitted, "isometric", content, at, sizes)
    rows, sizes["u"] = take(content, at, schema.ISOMETRIC, sizes)["rows"], sizes["d"]
    if len(rows) < 2 or sorted([*rows, *fitted.left_out_]) != list(range(sizes["n"])):
        raise errors.InputError(f"{at}rows and {at}left_out_ do not list every sample once")
    samples = (fitted.embedding_, observation.points, fitted.jacobians_)
    nodes, values, gradients = (np.ascontiguousarray(array[rows]) for array in samples)
    gap = _gap(np.einsum("nmd,nme->nde", observation.whitening[rows], gradients))
    if not gap <= RESIDUAL_FLOOR:
        raise errors.InputError(f"{at}jacobians_ are not those of its observation (gap {gap:.2g}): altered")
    _check_periods(fitted.periods_, nodes, f"{at}fitted.periods_")
    if assemble:
        fitted._chart = HermiteChart(nodes, values, gradients, fitted.periods_)
    return IsometricChart(observation, fitted, fitted.embedding_)


def _gap(matrices: FloatArray) -> float:
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


def _build_diffusion(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> DiffusionChart:
    fitted = DiffusionMap()
    observation = _restore(fitted, "diffusion", content, at, sizes)
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
    with warnings.catch_warnings():  # which were given when the object was made
        warnings.simplefilter("ignore", errors.DiffeoWarning)
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


def _build_transformation(content: Content, kind: str, assemble: bool) -> Transformation:
    sizes_a, sizes_b = dict[str, int](), dict[str, int]()
    a, b = (
        _builder(kind, content, at)(content, at, sizes, assemble) for at, sizes in (("a.", sizes_a), ("b.", sizes_b))
    )
    lost = sizes_a["d"] - sizes_b["d"]
    if lost < 0 or (kind == "diffusion" and (lost or sizes_a["u"] != sizes_b["u"])):
        raise errors.ShapeError("a and b have numbers of dimensions or of coordinates that do not fit each other")
    wanted = "regression" if kind == "regression" else "projection" if lost else ""
    first, *candidates = _build_alignments(content, {"a": sizes_a["u"], "u": sizes_b["u"]}, wanted)
    whole = take(content, "", schema.WHOLE, {"1": 1})
    registration = None
    if kind == "diffusion" and holds(content, "registration."):
        sizes = {"n": sizes_a["n"], "w": sizes_b["n"], "m": sizes_b["m"], "d": sizes_b["d"]}
        registration = _build_registration(content, a.observation, sizes, whole["n_jobs"])
    rules = schema.DIAGNOSED["registered" if registration is not None else kind]
    known_a, known_b = (take(content, f"{at}diagnosed.", rules, x) for at, x in (("a.", sizes_a), ("b.", sizes_b)))
    both: Content = {name: None if x is None else (x, known_b[name]) for name, x in known_a.items()}
    diagnostics = Diagnostics(whole["problems"], whole["landmark_residual"].item(), **both)
    # Inputs of the regressions: measurements, and common coordinates, or those of the own side if it has some.
    features_a = features_b = _features(b, sizes_b)
    if kind == "regression":
        features_a = _features(a, sizes_a)
        if not holds(content, "forward.") or holds(content, "backward.") != (lost == 0):
            raise errors.InputError("a regression has a model forward, and one backward if there is a way back")
    forward, backward = (
        build_residual(content, at, {"f": features + source["m"], "m": target["m"]}, assemble)
        for at, features, source, target in (
            ("forward.", features_a, sizes_a, sizes_b),
            ("backward.", features_b, sizes_b, sizes_a),
        )
    )
    landmarks = None
    if holds(content, "landmarks."):
        taken = take(content, "landmarks.", schema.LANDMARKS, {"m": sizes_a["m"], "n": sizes_b["m"]})
        landmarks = taken["a"], taken["b"]
    unit, n_jobs = whole["scale"].item(), whole["n_jobs"]
    joined = (a, b, first, candidates, unit, diagnostics, n_jobs, registration)
    return Transformation(*joined, forward, backward, landmarks)


def _builder(kind: str, content: Content, at: str) -> Callable[..., Chart]:
    """What builds the chart of a side."""
    if kind == "diffusion":
        return _build_diffusion
    return _build_measured if kind == "regression" and not holds(content, f"{at}fitted.") else _build_isometric


def _build_measured(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> MeasuredChart:
    observation = _build_observation(content, f"{at}observation.", sizes)
    sizes["u"] = sizes["d"]
    return MeasuredChart(observation)


def _features(chart: Chart, sizes: dict[str, int]) -> int:
    """How many inputs of a regression its coordinates are; periodic ones count twice."""
    return 0 if isinstance(chart, MeasuredChart) else sizes["u"] + sizes.get("p", 0)


def _build_alignments(content: Content, sizes: dict[str, int], wanted: str) -> list[Alignment]:
    """The alignment that is used, and all candidates, of the wanted kind if it is named."""
    rows = take(content, "alignments.", schema.ALIGNMENTS, sizes)
    count = sizes["i"]
    if not len(rows["kind"]) == len(rows["name"]) == count or count < 2:
        raise errors.ShapeError(f"alignments.kind or .name list fewer or more than {count} alignments, or no candidate")
    special = ("projection", "regression")
    if any(kind != wanted and (kind in special or wanted) for kind in rows["kind"]):
        raise errors.InputError(
            "alignments.kind: a projection is what joins different numbers of dimensions, a regression what has no common ones"
        )
    maps = [take(content, f"alignments.{i}.", schema.ALIGNMENT, sizes) for i in range(count)]
    if any(np.linalg.matrix_rank(one["linear"]) < sizes["u"] for one in maps):
        raise errors.InputError("alignments hold a singular matrix")
    rows |= {name: rows[name].tolist() for name in ("residual", "left_out", "scale")}
    numbers = zip(*rows.values(), strict=True)
    return [Alignment(**one, **dict(zip(rows, row, strict=True))) for one, row in zip(maps, numbers, strict=True)]


def _build_registration(
    content: Content, observation: Observation, sizes: dict[str, int], n_jobs: int | None
) -> Registration:
    counterparts = _build_observation(content, "registration.counterparts.", sizes)
    taken = take(content, "registration.", schema.REGISTRATION, sizes)
    if not np.array_equal(np.sort(counterparts.deficient), np.sort(observation.deficient)):
        raise errors.InputError("registration.counterparts are not those of a's samples of full rank")
    rows, d = counterparts.usable, counterparts.dim
    # The metric at the counterparts comes from derivatives, so that its whitening is U / Sigma.
    unit = counterparts.whitening[rows] * counterparts.singular_values[rows, None, :d]
    gap = _gap(unit.transpose(0, 2, 1))
    if not gap <= RESIDUAL_FLOOR:
        raise errors.InputError(f"registration.counterparts.whitening does not fit its singular values (gap {gap:.2g})")
    return Registration(observation, counterparts, **taken, n_jobs=n_jobs)
