"""What a file holds of each object, as rules, and the check of what was read against them."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import check_finite, index_array, integer, real
from diffeo.files.container import Content

# Rules in the words of `checked`. Axes: n samples, m measurements, d dimensions, p periods, k eigenvectors,
# c = k - 1 components, s of them selected, u coordinates (a of A's), v nodes, i alignments, t trials, w samples
# of B, L landmarks, f features of a regression, j predictors.
# fmt: off
OBSERVATION = {  # degrees of freedom are infinite for derivatives
    "points": "F nm", "whitening": "F nmd", "singular_values": "F nr", "dim": "int 1", "deficient": "I q<n",
    "source": "str", "known_unit": "bool", "degrees_of_freedom": "F* n", "precision": "str"}
MEASURE_OPTIONS = {  # rules that are no words, and numbers that may be words, are JSON texts
    "layer": "null|str", "neurons": "null|I m", "width": "null|int 1", "reduce": "null|str", "smooth": "null|>0",
    "covariances": "null|str", "n_bursts": "null|int 2", "scale": "null|>0", "shrinkage": "null|str",
    "tangents": "bool", "complete": "bool"}
OBSERVATION_BEFORE_3 = {name: rule for name, rule in OBSERVATION.items() if rule != "F* n" and name != "precision"} | {
    name: MEASURE_OPTIONS[name] for name in ("layer", "neurons", "scale")}
FITTED = {  # misfits are infinite for samples left out, generator eigenvalues for eigenvalues of 0 or below
    "isometric": {
        "n_neighbors": "auto|int 1", "random_state": "null|int 0", "n_jobs": "null|-1|threads", "stress_": ">=0",
        "embedding_": "F nd", "jacobians_": "F nmd", "misfit_": "F* n", "overlap_": ">=0", "periods_": "F0 pd",
        "n_iter_": "int 1", "converged_": "bool", "left_out_": "I l<n"},
    "diffusion": {
        "n_components": "int 1", "epsilon": "auto|>0", "alpha": ">=0", "tol": ">0",
        "random_state": "null|int 0", "n_jobs": "null|-1|threads", "eigenvalues_": "F k", "residuals_": "F k",
        "generator_eigenvalues_": "F* k", "eigenvectors_": "F nk", "embedding_": "F nc", "epsilon_": ">0",
        "_sample_weights": "F n", "_scaling": "F n", "_degree": "F n", "n_iter_": "int 0",
        "n_connected_components_": "int 1", "levels_": "I l"}}
GENERATOR = {  # of diffusion maps; in files of older versions, generator eigenvalues are the plain ones
    "generator_errors_": "F* k", "plain_generator_eigenvalues_": "F* k", "generator_mixing_": "F cc"}
CURVE = {  # the dimension is NaN where a single bandwidth was tried
    "epsilon": "F t", "row_sum": "F t", "entries": "F t", "gated_share": "F t", "dimension": "F* t",
    "target": ">0"}
SELECTION = {"mixing": "F cs", "components": "I s<c", "unexplained": "F c"}
ISOMETRIC = {"rows": "I v<n"}  # of the nodes: their order decides between neighbours equally far
LOOSE = {"loose_part_": "I n", "looseness_": "F h"}  # only where parts are held loosely; files of older versions have none
MOVED = {"moved_": ">=0"}  # only of layouts of suspicious stress; files of older versions have none
DIFFUSION = {"coordinates": "F nu", "truncation": ">0"}
ALIGNMENTS = {  # misfits are infinite where there were too few landmarks to leave one out
    "kind": "texts", "name": "texts", "residual": "F* i", "left_out": "F* i", "scale": "F i"}
ALIGNMENT = {"linear": "F au", "shift": "F u"}  # of each: their orders in memory may differ
REGISTRATION = {  # misfits are infinite for samples left out
    "stress": ">=0", "misfit": "F* n", "scale": ">0", "noise": ">=0", "uncovered": "I x<w", "caught": "I y<n",
    "n_iter": "int 0", "converged": "bool"}
CORRECTION = {
    "landmarks": "F Lf", "kinds": "texts", "base": "F j", "inverse_scales": "F jf", "amplitude": "F j",
    "noise": "F j", "offset": "F jm", "spread": "F jm", "doubt": "F jm", "dual": "F jLm", "linear": "F jfm",
    "known": "F j"}
ERRORS = {"names": "texts", "values": "F e"}  # of a correction, in their order
LANDMARKS = {"a": "F Lm", "b": "F Ln"}  # of A's m measurements and B's n; files of version 1 have none
WRONG = {"landmarks": "I w"}  # of the landmarks given, only where there are any; so are those apart
FOLDS = {"near_folds": "I f<n"}
SPECTRA = {"generator_eigenvalues": "F* g", "gated_share": ">=0"} | FOLDS
DIAGNOSED = {
    "isometric": {"stress": ">=0", "generator_eigenvalues": "null", "gated_share": "null"} | FOLDS,
    "diffusion": {"stress": "null"} | SPECTRA,
    "regression": {"stress": "null", "generator_eigenvalues": "null", "gated_share": "null"} | FOLDS,
    "registered": {"stress": ">=0"} | SPECTRA}
WHOLE = {  # arrays of length 1 hold what may be infinite, which JSON cannot say
    "scale": "F* 1", "landmark_residual": "F* 1", "problems": "texts", "n_jobs": "null|-1|threads"}
TRIED = {"reasons": "texts", "names": "texts", "errors": "F*0 t"}  # of a map: figures are infinite where nothing is known
ERROR_FIELD = {"places": "F kf", "errors": "F k", "spacing": "F k", "growth": "F k", "order": "int 1"}
ERROR_OVER_ALL = {"forward": ">=0", "backward": "null|>=0"}  # only where samples were left out of a chart
ERROR_SIZES = {"forward": "null|F k", "backward": "null|F j"}  # by what errors are measured at places; older files have none
# L pairs of A's m and B's k measurements, derivatives by p coordinates; r and v components, C kernels, g degrees.
PAIRS = {
    "points_a": "F Lm", "points_b": "F Lk", "jacobians_a": "null|F Lmp", "jacobians_b": "null|F Lkp", "ids": "null|I L",
    "names": "texts"}
PAIRED = {"n_jobs": "null|-1|threads", "problems": "texts"}
COMPONENTS = {"centre": "F m", "axes": "F mr"}
PAIR_FIT = {
    "metric": "F rs", "degrees": "I g", "known": "I c<n", "missed": "F c", "trust": "F t", "scale": ">0", "error": ">=0"}
# Of all pairs, b directions at each centre and D = C (1 + b); or around each query.
KERNEL_FIT = {"profile": "str", "width": ">0", "centres": "F Cs", "directions": "F0 Csb", "dual": "F Dv"}
LOCAL_KERNELS = {"profile": "str", "factor": ">0", "ridge": ">0", "step": ">=0"}
PIECES = {  # of a map by pieces: each part is a transformation; errors are null where they are not known
    "problems": "texts", "n_jobs": "null|-1|threads", "kinds": "texts", "expected_error": "null|>=0",
    "expected_error_back": "null|>=0", "wrong": "I w", "apart": "I x"}
EMBEDDED = {  # a bandwidth only of diffusion coordinates, and of a known unit
    "asked": "str", "random_state": "int 0", "n_jobs": "null|-1|threads", "disconnected": "str", "no_diffusion": "str",
    "epsilon": "null|>0"}
REPORT = {
    "verdict": "str", "reason": "str", "margin": ">0", "significance": ">0", "problems": "texts",
    "n_landmarks": "int 0", "coordinates": "str", "diagnostics": "str", "settings": "str"}
# v, w samples of A and of B that are shown, H held-out pairs, x, y, m dimensions and measurements.
REPORT_SIDE_A = {"embeddings": "F vx", "held_out": "F Hx", "spectra": "F*0 g", "rows": "null|I v"}
REPORT_SIDE_B = {"embeddings": "F wy", "held_out": "F Hy", "spectra": "F*0 h", "rows": "null|I w"}
DIRECTION = {"bounds": "F* 3", "status": "str", "how": "str", "true": "F Hm", "predicted": "F Hm"}
ASIDE = {"rows": "I s", "verdict": "str"}  # only where pairs were set aside; files of older versions have none
LOSS = {
    "kind": "str", "share": ">=0", "rows": "I r", "direction": "F d", "centre": "F c", "extent": ">=0", "pairs": "I k2",
    "text": "str"}
EVIDENCE = {  # of a direction; files of older versions have none
    "shown": "bool", "kind": "str", "twins": "int 0", "torn": "int 0", "torn_share": ">=0", "least_error": ">=0",
    "wrong": "I w", "pairs": "I k2", "text": "str"}
BASELINES = {"names": "texts", "notes": "texts", "errors": "F*0 j2"}  # NaN where a method cannot be fitted
# fmt: on
TYPES = {"str": str, "bool": bool, "texts": list, "null": type(None)}
LITERALS: Content = {"null": None, "auto": "auto", "-1": -1}


def checked(rule: str, value: Any, name: str, sizes: dict[str, int]) -> Any:
    """The value, if it is as the rule says.

    "F nm": float64 of these axes, finite unless "F*", not empty unless "F0" or "F*0"; "I q<n": row numbers below length n;
    "int 1": at least 1; ">0", ">=0": real; alternatives first. Lengths go to `sizes`, or must equal what is there.
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
    fits = value.ndim == len(axes) and (value.size > 0 or kind in ("I", "F0", "F*0"))
    if not fits or any(sizes.setdefault(*pair) != pair[1] for pair in zip(axes, value.shape, strict=True)):
        expected = tuple(sizes.get(axis, axis) for axis in axes)
        raise errors.ShapeError(f"{name} has shape {value.shape}, which does not fit the rest: {expected}")
    if kind == "I":
        return index_array(value, name, sizes[upper] if upper else np.iinfo(np.int64).max, value.ndim)
    if not kind.startswith("F*"):
        check_finite(value, name)
    return value


def take(content: Content, at: str, schema: dict[str, str], sizes: dict[str, int]) -> Content:
    """Remove from content what the schema names, checked."""
    if missing := [at + name for name in schema if at + name not in content]:
        raise errors.InputError(f"entries are missing: {', '.join(missing)}")
    return {name: checked(rule, content.pop(at + name), at + name, sizes) for name, rule in schema.items()}


def holds(content: Content, at: str) -> bool:
    """Whether any name in the content begins like this."""
    return any(name.startswith(at) for name in content)


def fields_of(at: str, holder: Any, rules: dict[str, str]) -> Content:
    """What the rules name of an object, under names that begin like this."""
    return {at + name: getattr(holder, name) for name in rules}
