"""Saving and loading: one safetensors file an object, no pickle, written atomically, read with distrust.

Arrays are the tensors of the file. All else is one JSON string, ``diffeo`` in its metadata: format, version,
kind (of a transformation: that of its coordinates), a flat table of entries, and a SHA-256 over it all. Names
in both are dotted paths such as ``a.observation.points``. Kernels and search trees are not stored but remade.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import safetensors.numpy

from diffeo import __version__, errors
from diffeo._validation import check_finite, index_array, integer, real
from diffeo.alignment import Alignment
from diffeo.charts import Chart, DiffusionChart, IsometricChart
from diffeo.diagnostics import Diagnostics
from diffeo.diffusion_map import DiffusionMap
from diffeo.interpolation import HermiteChart
from diffeo.isometry import IsometricEmbedding
from diffeo.kernel import EpsilonCurve, mahalanobis_kernel, memory_limit
from diffeo.observation import Observation
from diffeo.selection import IndependentCoordinates
from diffeo.transformation import Transformation

Content = dict[str, Any]
FORMAT, FORMAT_VERSION = "diffeo", 1
# Names and entries take some kilobytes; a longer header is foreign, damaged or meant to exhaust memory.
MAX_HEADER = 1 << 20
# Eigenpairs belong to the kernel assembled again if their residuals are below the tolerance of the fit times
# this factor, or below this floor (another instruction set rounds otherwise); derivatives on isometric
# coordinates to the observation if, whitened, they are rotations up to the floor.
RESIDUAL_FACTOR, RESIDUAL_FLOOR = 10.0, 1e-6

# What a file holds of each object, in the words of `_checked`. Axes: n samples, m measurements, d dimensions,
# k eigenvectors, c = k - 1 components, s of them selected, u coordinates, v nodes, i alignments, t trials.
# fmt: off
OBSERVATION = {
    "points": "F nm", "whitening": "F nmd", "singular_values": "F nr", "dim": "int 1", "deficient": "I q<n",
    "source": "str", "known_unit": "bool", "layer": "null|str", "neurons": "null|I m", "scale": "null|>0"}
FITTED = {  # misfits are infinite for samples left out, generator eigenvalues for eigenvalues of 0 or below
    "isometric": {
        "n_neighbors": "int 1", "random_state": "null|int 0", "n_jobs": "null|-1|threads", "stress_": ">=0",
        "embedding_": "F nd", "jacobians_": "F nmd", "misfit_": "F* n", "overlap_": ">=0", "n_iter_": "int 1",
        "converged_": "bool", "left_out_": "I l<n"},
    "diffusion": {
        "n_components": "int 1", "epsilon": "auto|>0", "alpha": ">=0", "tol": ">0",
        "random_state": "null|int 0", "n_jobs": "null|-1|threads", "eigenvalues_": "F k", "residuals_": "F k",
        "generator_eigenvalues_": "F* k", "eigenvectors_": "F nk", "embedding_": "F nc", "epsilon_": ">0",
        "_sample_weights": "F n", "_scaling": "F n", "_degree": "F n", "n_iter_": "int 0",
        "n_connected_components_": "int 1"}}
CURVE = {  # the dimension is NaN where a single bandwidth was tried
    "epsilon": "F t", "row_sum": "F t", "entries": "F t", "gated_share": "F t", "dimension": "F* t",
    "target": ">0"}
SELECTION = {"mixing": "F cs", "components": "I s<c", "unexplained": "F c"}
ISOMETRIC = {"rows": "I v<n"}  # of the nodes: their order decides between neighbours equally far
DIFFUSION = {"coordinates": "F nu", "truncation": ">0"}
ALIGNMENTS = {  # misfits are infinite where there were too few landmarks to leave one out
    "linear": "F iuu", "shift": "F iu", "kind": "texts", "residual": "F* i", "left_out": "F* i",
    "scale": "F i"}
FOLDS = {"near_folds": "I f<n"}
DIAGNOSED = {
    "isometric": {"stress": ">=0", "generator_eigenvalues": "null", "gated_share": "null"} | FOLDS,
    "diffusion": {"stress": "null", "generator_eigenvalues": "F* g", "gated_share": ">=0"} | FOLDS}
WHOLE = {  # arrays of length 1 hold what may be infinite, which JSON cannot say
    "scale": "F* 1", "landmark_residual": "F* 1", "problems": "texts", "n_jobs": "null|-1|threads"}
# fmt: on
TYPES = {"str": str, "bool": bool, "texts": list, "null": type(None)}
LITERALS: Content = {"null": None, "auto": "auto", "-1": -1}
IN_TREE_ORDER = ("_scaling", "_degree")  # stored in the caller's order: trees may differ between machines


def save_observation(observation: Observation, path: str | os.PathLike[str]) -> None:
    """Write an observation to one file; on failure raise StorageError and leave an old file as it was."""
    _save(lambda: _fields("", observation, OBSERVATION), "observation", path)


def save_transformation(transformation: Transformation, path: str | os.PathLike[str]) -> None:
    """Write a transformation, with both observations, to one file; errors as in `save_observation`."""
    _save(lambda: _transformation_content(transformation), transformation.coordinates, path)


def load(path: str | os.PathLike[str]) -> Observation | Transformation:
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
        content, kind = _decode(_read(name))
        return _build(content, kind, assemble=True)


def _save(make: Callable[[], Content], kind: str, path: str | os.PathLike[str]) -> None:
    name = os.fsdecode(path)
    with _refusing(name, " was not written"):
        content = {key: x.item() if isinstance(x, np.generic) else x for key, x in make().items()}
        _build(dict(content), kind, assemble=False)  # what could not be read back is not written
        _write(_encode(content, kind), name)


@contextlib.contextmanager
def _refusing(name: str, what: str = "") -> Iterator[None]:
    """Turn what a path, a file or its content provokes into StorageError; MemoryLimitError stays."""
    try:
        yield
    except OSError as error:
        raise errors.StorageError(error.errno, error.strerror, name) from error
    except (errors.DataTypeError, ValueError, IndexError, OverflowError, RuntimeError) as error:
        raise errors.StorageError(f"{name}{what}: {error}") from error


def _fields(at: str, holder: Any, schema: dict[str, str]) -> Content:
    return {at + name: getattr(holder, name) for name in schema}


def _transformation_content(t: Transformation) -> Content:
    if type(t.a) is not type(t.b):
        raise errors.InputError("a has coordinates of one kind and b of the other")
    known, kind = t.diagnostics, t.coordinates
    content: Content = {"problems": known.problems, "n_jobs": t.n_jobs}
    content |= {"scale": np.array([t.scale]), "landmark_residual": np.array([known.landmark_residual])}
    for i, (at, chart) in enumerate((("a.", t.a), ("b.", t.b))):
        own = _isometric_content(chart) if isinstance(chart, IsometricChart) else _diffusion_content(chart)
        own |= _fields("observation.", chart.observation, OBSERVATION)
        own |= {f"diagnosed.{x}": getattr(known, x) and getattr(known, x)[i] for x in DIAGNOSED[kind]}
        content |= {at + name: value for name, value in own.items()}
    for name in ALIGNMENTS:
        values = [getattr(alignment, name) for alignment in (t.alignment, *t.candidates)]
        content[f"alignments.{name}"] = values if name == "kind" else np.stack(values)
    return content


def _isometric_content(chart: IsometricChart) -> Content:
    fitted, nodes = chart.embedding, chart.embedding._chart
    # Which samples are the nodes, in the order of the nodes, is found by their bits.
    rows = np.setdiff1d(np.arange(len(chart.observation)), fitted.left_out_)
    samples = [x[rows] for x in (fitted.embedding_, chart.observation.points, fitted.jacobians_)]
    both = (samples, (nodes.nodes, nodes.values, nodes.gradients))
    a, b = (np.ascontiguousarray(np.hstack([x.reshape(len(x), -1) for x in arrays])) for arrays in both)
    at_a, at_b = (np.argsort(x.view(f"V{x.strides[0]}")[:, 0], kind="stable") for x in (a, b))
    if not (np.array_equal(a[at_a], b[at_b]) and np.array_equal(chart.coordinates, fitted.embedding_)):
        raise errors.InputError("coordinates, embedding and observation are not of the same samples")
    return _fields("fitted.", fitted, FITTED["isometric"]) | {"rows": rows[at_a[np.argsort(at_b)]]}


def _diffusion_content(chart: DiffusionChart) -> Content:
    fitted, kernel = chart.diffusion_map, chart.diffusion_map.kernel_
    content = _fields("fitted.", fitted, FITTED["diffusion"])
    content |= _fields("selection.", chart.selection, SELECTION)
    for name in IN_TREE_ORDER:
        content[f"fitted.{name}"] = np.zeros(kernel.n_samples)
        content[f"fitted.{name}"][kernel.rows] = getattr(fitted, name)
    if fitted.epsilon_curve_ is not None:
        content |= _fields("curve.", fitted.epsilon_curve_, CURVE)
    return content | {"coordinates": chart.coordinates, "truncation": kernel.truncation}


def _checked(rule: str, value: Any, name: str, sizes: dict[str, int]) -> Any:
    """The value, if it is as the rule says.

    "F nm": float64 of these axes, finite unless "F*"; "I q<n": row numbers below length n; "int 1":
    at least 1; ">0", ">=0": real; alternatives first. Lengths go to `sizes`, or must equal what is there.
    """
    *alternatives, rule = rule.split("|")
    if any(type(value) is type(LITERALS[word]) and value == LITERALS[word] for word in alternatives):
        return value
    kind, _, detail = rule.partition(" ")
    if kind == "int":
        return integer(value, name, int(detail))
    if kind == "threads":  # a file must not be able to ask for a million
        return int(real(integer(value, name, 1), name, below=4097))
    if kind[0] == ">":
        return real(value, name, above=0.0) if kind == ">0" else real(value, name, at_least=0.0)
    if kind in TYPES:
        texts = value if kind == "texts" and isinstance(value, list) else []
        if type(value) is not TYPES[kind] or any(type(text) is not str for text in texts):
            raise errors.DataTypeError(f"{name} must be {kind}, not {value!r:.60}")
        return value
    axes, _, upper = detail.partition("<")
    dtype, found = np.dtype(np.int64 if kind == "I" else np.float64), getattr(value, "dtype", type(value))
    if not isinstance(value, np.ndarray) or found != dtype:
        raise errors.DataTypeError(f"{name} is {found}; an array of {dtype} is needed")
    fits = value.ndim == len(axes) and (value.size > 0 or kind == "I")
    if not fits or any(sizes.setdefault(*pair) != pair[1] for pair in zip(axes, value.shape, strict=True)):
        expected = tuple(sizes.get(axis, axis) for axis in axes)
        raise errors.ShapeError(f"{name} has shape {value.shape}, which does not fit the rest: {expected}")
    if kind == "I":
        return index_array(value, name, sizes[upper] if upper else np.iinfo(np.int64).max)
    if kind == "F":
        check_finite(value, name)
    return value


def _take(content: Content, at: str, schema: dict[str, str], sizes: dict[str, int]) -> Content:
    """Remove from content what the schema names, checked."""
    if missing := [at + name for name in schema if at + name not in content]:
        raise errors.InputError(f"entries are missing: {', '.join(missing)}")
    return {name: _checked(rule, content.pop(at + name), at + name, sizes) for name, rule in schema.items()}


def _build(content: Content, kind: str, *, assemble: bool) -> Observation | Transformation:
    """The object, from content that may be anything, with its kernels if asked; nothing may be left over."""
    if kind == "observation":
        built: Observation | Transformation = _build_observation(content, "", {})
    elif kind in ("isometric", "diffusion"):
        built = _build_transformation(content, kind, assemble)
    else:
        raise errors.InputError(f"it holds an object of unknown kind, {kind!r:.60}")
    if content:
        raise errors.InputError(f"unexpected entries: {', '.join(sorted(content))!r:.300}")
    return built


def _build_observation(content: Content, at: str, sizes: dict[str, int]) -> Observation:
    taken = _take(content, at, OBSERVATION, sizes)
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
    for name, value in _take(content, f"{at}fitted.", FITTED[kind], sizes).items():
        setattr(fitted, name, value)
    fitted.n_features_in_ = sizes["m"]
    return observation


def _build_isometric(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> IsometricChart:
    fitted = IsometricEmbedding()
    observation = _restore(fitted, "isometric", content, at, sizes)
    rows, sizes["u"] = _take(content, at, ISOMETRIC, sizes)["rows"], sizes["d"]
    if len(rows) < 2 or sorted([*rows, *fitted.left_out_]) != list(range(sizes["n"])):
        raise errors.InputError(f"{at}rows and {at}left_out_ do not list every sample once")
    samples = (fitted.embedding_, observation.points, fitted.jacobians_)
    nodes, values, gradients = (np.ascontiguousarray(array[rows]) for array in samples)
    turned = np.einsum("nmd,nme->nde", observation.whitening[rows], gradients)
    gap = np.abs(np.einsum("nde,nfe->ndf", turned, turned) - np.eye(sizes["d"])).max()
    if not gap <= RESIDUAL_FLOOR:
        raise errors.InputError(f"{at}jacobians_ are not those of its observation (gap {gap:.2g}): altered")
    if assemble:
        fitted._chart = HermiteChart(nodes, values, gradients)
    return IsometricChart(observation, fitted, fitted.embedding_)


def _build_diffusion(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> DiffusionChart:
    fitted = DiffusionMap()
    observation = _restore(fitted, "diffusion", content, at, sizes)
    curve = f"{at}curve.epsilon" in content
    fitted.epsilon_curve_ = EpsilonCurve(**_take(content, f"{at}curve.", CURVE, sizes)) if curve else None
    selection = IndependentCoordinates(**_take(content, f"{at}selection.", SELECTION, sizes))
    rest = _take(content, at, DIFFUSION, sizes)
    if sizes["c"] != sizes["k"] - 1 or sizes["u"] > sizes["s"]:
        raise errors.ShapeError(f"{at}embedding_, selection and coordinates have inconsistent widths")
    if assemble:
        _attach_kernel(fitted, observation, rest["truncation"])
    return DiffusionChart(observation, fitted, selection, rest["coordinates"])


def _build_transformation(content: Content, kind: str, assemble: bool) -> Transformation:
    build: Callable[..., Chart] = _build_isometric if kind == "isometric" else _build_diffusion
    # The sides have the numbers of dimensions and of coordinates in common, and no other length.
    sizes_a: dict[str, int] = {}
    a = build(content, "a.", sizes_a, assemble)
    sizes = {"d": sizes_a["d"], "u": sizes_a["u"], "1": 1}
    b = build(content, "b.", sizes, assemble)
    known_a = _take(content, "a.diagnosed.", DIAGNOSED[kind], sizes_a)
    known_b = _take(content, "b.diagnosed.", DIAGNOSED[kind], sizes)
    aligned, whole = _take(content, "alignments.", ALIGNMENTS, sizes), _take(content, "", WHOLE, sizes)
    if len(aligned["kind"]) != sizes["i"] or sizes["i"] < 2:
        raise errors.ShapeError(f"alignments.kind lists {len(aligned['kind'])} of {sizes['i']} alignments")
    if (np.linalg.matrix_rank(aligned["linear"]) < sizes["u"]).any():
        raise errors.InputError("alignments.linear holds a singular matrix")
    aligned |= {name: aligned[name].tolist() for name in ("residual", "left_out", "scale")}
    first, *candidates = [Alignment(*row) for row in zip(*aligned.values(), strict=True)]
    both: Content = {name: None if x is None else (x, known_b[name]) for name, x in known_a.items()}
    diagnostics = Diagnostics(whole["problems"], whole["landmark_residual"].item(), **both)
    return Transformation(a, b, first, candidates, whole["scale"].item(), diagnostics, whole["n_jobs"])


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


def _encode(content: Content, kind: str) -> bytes:
    arrays = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    description: Content = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind}
    description["diffeo_version"] = __version__
    description["entries"] = {name: content[name] for name in content.keys() - arrays.keys()}
    # Matrix products round differently in the two memory orders, so the order is kept.
    description["fortran"] = sorted(name for name, array in arrays.items() if array.flags.fnc)
    description["sha256"] = _digest(description, tensors)
    data: bytes = safetensors.numpy.save(tensors, {FORMAT: json.dumps(description, sort_keys=True)})
    return data


def _digest(description: Content, tensors: Content) -> str:
    """SHA-256 over the description, and over name, dtype, shape and bytes of every tensor."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name!r} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(tensors[name].data)
    return digest.hexdigest()


def _decode(data: bytes) -> tuple[Content, str]:
    """Content and kind of a file whose digest fits."""
    problem = "not a safetensors file, or damaged"
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        problem = "a safetensors file, but not one that diffeo wrote"
        description = json.loads(header["__metadata__"][FORMAT])
        name, version = description["format"], description["format_version"]
        if name != FORMAT or version != FORMAT_VERSION:
            stated = f"its format is {name!r:.40}, version {version!r:.20}; this diffeo reads version"
            raise errors.InputError(f"{stated} {FORMAT_VERSION}: update diffeo if the file is newer")
        problem = "damaged or truncated"
        tensors, digest = safetensors.numpy.load(data), description.pop("sha256")
        if digest != _digest(description, tensors):
            raise errors.InputError("damaged or altered: its SHA-256 does not fit its content")
        ordered = {key: np.asfortranarray(tensors[key]) for key in tensors if key in description["fortran"]}
        return dict(**description["entries"], **(tensors | ordered)), description["kind"]  # no name twice
    except errors.InputError:
        raise
    except Exception as error:  # whatever strange bytes provoke in two parsers
        raise errors.InputError(f"{problem} ({error!r:.200})") from error


def _read(name: str) -> bytes:
    # Asked before opening, which would wait at a pipe.
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise errors.InputError("not a regular file")
    with open(name, "rb") as file:
        size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if not 8 + length <= min(size, MAX_HEADER):
            what = "header too large" if length > MAX_HEADER else "truncated"
            raise errors.InputError(f"{what}: {length} bytes in a file of {size}: not safetensors or damaged")
        if 2 * size > memory_limit():  # the bytes, and the arrays copied out of them
            raise errors.MemoryLimitError(f"{name} has {size} bytes; reading it takes twice as many")
        file.seek(0)
        return file.read()


def _write(data: bytes, name: str) -> None:
    """Replace the file in one step: readers, and a crash, see the old one or the new one."""
    target = os.path.realpath(name)
    if os.path.exists(target) and not os.path.isfile(target):
        raise errors.InputError("it exists and is not a regular file")
    temporary = os.path.join(os.path.dirname(target), f".diffeo-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
