"""Loading refuses forged entries, one by one, whose digest fits."""

from __future__ import annotations

import numpy as np
import pytest
from support.forgeries import forge, refused
from support.stored import DISTINCT, parts


def with_nan(array):
    array = array.copy()
    array.flat[-1] = np.nan
    return array


REMOVED = object()
OBSERVATION_FORGERIES = [
    ("points", REMOVED, "entries are missing: points"),
    ("dim", REMOVED, "entries are missing: dim"),
    ("extra", np.zeros(3), "unexpected entries: 'extra'"),
    ("extra", 1, "unexpected entries: 'extra'"),
    ("points", 7, "points is <class 'int'>; an array"),
    ("points", lambda x: x.astype(np.float32), "points is float32; an array of float64"),
    ("points", lambda x: x.astype(bool), "points is bool"),
    ("points", lambda x: x[:-1], "whitening has shape"),
    ("points", lambda x: x[..., None], "points has shape"),
    ("points", lambda x: x[:0], "points has shape"),
    ("points", with_nan, "points holds NaN"),
    ("whitening", with_nan, "whitening holds NaN"),
    ("whitening", lambda x: x[:, :, :1], "dim = 2 does not fit"),
    ("singular_values", with_nan, "singular_values holds NaN"),
    ("singular_values", lambda x: -x, "negative or not in descending order"),
    ("singular_values", lambda x: x[:, ::-1].copy(), "descending order"),
    ("singular_values", lambda x: x[:, :1].copy(), "dim = 2 does not fit"),
    ("dim", 3, "dim = 3 does not fit"),
    ("dim", True, "dim must be an integer"),
    ("dim", 10**400, "dim = 1000"),
    ("deficient", np.array([40]), "outside of"),
    ("deficient", np.array([-1]), "outside of"),
    ("deficient", np.array([1, 1]), "lists a sample twice"),
    ("deficient", np.array([1.0]), "deficient is float64"),
    ("options.neurons", np.arange(4), "neurons has shape"),
    ("options.neurons", np.array([0, 1, -2]), "outside of"),
    ("options.neurons", [0, 1, 2], "neurons is <class 'list'>"),
    ("source", 1, "source must be str"),
    ("options.layer", ["net"], "layer must be str"),
    ("known_unit", 1, "known_unit must be bool"),
    ("options.scale", 0.0, "scale must be > 0"),
    ("options.scale", float("nan"), "scale must be a finite number"),
    ("options.scale", 10**400, "scale|too large"),
    ("options.scale", "1", "scale must be a finite number"),
]
TRANSFORMATION_FORGERIES = [  # of both kinds
    ("b.observation.dim", 3, "dim = 3 does not fit"),
    ("b.observation.whitening", lambda x: x[:, :, :1].copy(), "dim = 2 does not fit"),
    ("alignments.0.linear", np.zeros_like, "singular matrix"),
    ("alignments.1.linear", np.zeros_like, "singular matrix"),
    ("alignments.0.linear", lambda x: x[:, :1].copy(), "alignments.0.linear has shape"),
    ("alignments.1.linear", lambda x: x[:1], "alignments.1.linear has shape"),
    ("alignments.1.shift", REMOVED, "entries are missing: alignments.1.shift"),
    ("alignments.2.shift", np.zeros(2), "unexpected entries: 'alignments.2.shift'"),
    ("alignments.kind", ["orthogonal"], "fewer or more than 2"),
    ("alignments.kind", ["orthogonal", 1], "alignments.kind must be texts"),
    ("alignments.kind", ["rigid", "projection"], "a projection is what joins"),
    ("alignments.name", ["", "", ""], "fewer or more than 2"),
    ("alignments.name", ["", None], "alignments.name must be texts"),
    ("alignments.scale", with_nan, "alignments.scale holds NaN"),
    ("alignments.scale", lambda x: x[:1], "alignments.scale has shape"),
    ("problems", "none", "problems must be texts"),
    ("a.diagnosed.near_folds", np.array([300]), "outside of"),
    ("landmark_residual", np.zeros(2), "landmark_residual has shape"),
    ("landmarks.a", REMOVED, "entries are missing: landmarks.a"),
    ("landmarks.a", with_nan, "landmarks.a holds NaN"),
    ("landmarks.b", lambda x: x[:-1], "landmarks.b has shape"),
    ("landmarks.b", lambda x: x[:, :1].copy(), "landmarks.b has shape"),
    ("landmarks.c", np.zeros((1, 1)), "unexpected entries: 'landmarks.c'"),
    ("n_jobs", 2.5, "n_jobs must be an integer"),
    ("b.fitted.n_jobs", 10**9, "n_jobs must be < 4097"),
    ("b.fitted.n_jobs", 0, "n_jobs must be at least 1"),
    ("b.fitted.random_state", -1, "random_state must be at least 0"),
    ("b.fitted.fit", 1, "unexpected entries: 'b.fitted.fit'"),
    ("b.curve.target", 20.0, "unexpected entries: 'b.curve.target'|missing: b.curve.epsilon"),
]
ISOMETRIC_FORGERIES = [
    ("a.rows", lambda x: x[:-1], "do not list every sample once"),
    ("a.rows", lambda x: np.r_[x[:-1], x[0]], "do not list every sample once"),
    ("a.rows", lambda x: np.r_[x, 7], "do not list every sample once"),
    ("a.rows", lambda x: np.r_[x[:-1], 300], "outside of"),
    ("a.rows", lambda x: np.r_[x[:-1], -1], "outside of"),
    ("a.rows", lambda x: x.astype(float), "a.rows is float64"),
    ("a.fitted.left_out_", lambda x: x[:1], "do not list every sample once"),
    ("a.fitted.left_out_", np.array([7, 300]), "outside of"),
    ("a.fitted.embedding_", lambda x: x[:, :1].copy(), "embedding_ has shape"),
    ("a.fitted.embedding_", lambda x: np.column_stack([x, x]), "embedding_ has shape"),
    ("a.fitted.embedding_", with_nan, "embedding_ holds NaN"),
    ("a.fitted.periods_", REMOVED, "entries are missing: a.fitted.periods_"),
    ("a.fitted.periods_", np.zeros((1, 2)), "too many, or depend on each other"),
    ("a.fitted.periods_", np.full((1, 2), 1e308), "do not fill one cell|depend on each other"),
    ("a.fitted.periods_", np.array([[3.0, 0.0]]), "do not fill one cell"),
    ("a.fitted.periods_", np.zeros(0), "periods_ has shape"),
    ("a.fitted.periods_", np.zeros((0, 3)), "periods_ has shape"),
    ("a.fitted.periods_", np.zeros((0, 2), dtype=np.int64), "periods_ is int64"),
    ("a.fitted.jacobians_", lambda x: x[:, :, ::-1] * 1.001, "not those of its observation"),
    ("a.fitted.jacobians_", lambda x: x * 1e200, "not those of its observation"),
    ("a.fitted.jacobians_", np.zeros_like, "not those of its observation"),
    ("a.fitted.jacobians_", lambda x: x[:, :-1].copy(), "jacobians_ has shape"),
    ("a.observation.whitening", lambda x: x[::-1].copy(), "not those of its observation"),
    ("b.fitted.misfit_", lambda x: x[:-1], "misfit_ has shape"),
    ("b.fitted.stress_", -0.1, "stress_ must be >= 0"),
    ("b.fitted.converged_", 1, "converged_ must be bool"),
    ("b.fitted.n_iter_", 0, "n_iter_ must be at least 1"),
    ("b.fitted.n_neighbors", 0, "n_neighbors must be at least 1"),
    ("b.diagnosed.stress", None, "stress must be a finite number"),
    ("b.diagnosed.gated_share", 0.0, "gated_share must be null"),
    ("b.diagnosed.generator_eigenvalues", np.ones(3), "generator_eigenvalues must be null"),
    ("b.coordinates", np.zeros((250, 2)), "unexpected entries: 'b.coordinates'"),
]
DIFFUSION_FORGERIES = [
    ("a.observation.deficient", lambda x: x[:1], "not those of the kernel|not|weights"),
    ("a.coordinates", lambda x: x[:, :1].copy(), "do not fit each other"),
    ("a.coordinates", lambda x: np.column_stack([x, x]), "inconsistent"),
    ("b.coordinates", with_nan, "b.coordinates holds NaN"),
    ("a.observation.points", lambda x: x + 0.1 * np.sin(30 * x), "eigenvectors are not those of the kernel"),
    ("b.fitted.eigenvectors_", lambda x: x[::-1].copy(), "eigenvectors are not those"),
    ("b.fitted.eigenvalues_", lambda x: x * 0.9, "eigenvectors are not those"),
    ("b.fitted.embedding_", lambda x: x[:, :-1].copy(), "inconsistent|shape"),
    ("b.fitted._degree", lambda x: -x, "not those of the kernel"),
    ("b.fitted._sample_weights", np.zeros_like, "not those of the kernel"),
    ("b.fitted._scaling", lambda x: x[:-1], "_scaling has shape"),
    ("b.fitted.generator_eigenvalues_", lambda x: x[:-1], "generator_eigenvalues_ has shape"),
    ("b.fitted.epsilon_", 1e300, "eigenvectors are not those|epsilon"),
    ("b.fitted.epsilon_", 1e-300, "eigenvectors are not those|epsilon"),
    ("b.fitted.epsilon_", -1.0, "epsilon_ must be > 0"),
    ("b.fitted.n_iter_", -1, "n_iter_ must be at least 0"),
    ("b.fitted.epsilon", "large", "epsilon must be a finite number"),
    ("b.fitted.tol", 0.0, "tol must be > 0"),
    ("b.truncation", 2.0, "truncation must be"),
    ("b.selection.components", np.array([0, 99]), "outside of"),
    ("b.selection.components", np.array([0]), "shape"),
    ("b.selection.mixing", with_nan, "holds NaN"),
    ("a.diagnosed.gated_share", -0.1, "gated_share must be"),
    ("a.diagnosed.stress", 0.1, "stress must be null"),
    ("a.rows", np.arange(300), "unexpected entries: 'a.rows'"),
    ("a.fitted.periods_", np.zeros((0, 2)), "unexpected entries: 'a.fitted.periods_'"),
]
RESIDUAL_FORGERIES = [
    ("forward.landmarks", REMOVED, "entries are missing: forward.landmarks"),
    ("forward.landmarks", lambda x: x[:, :-1].copy(), "forward.landmarks has shape"),
    ("forward.landmarks", lambda x: x[:-1], "forward.dual has shape"),
    ("forward.landmarks", with_nan, "forward.landmarks holds NaN"),
    ("forward.kinds", [], "forward.kinds .* 4 predictors"),
    ("forward.kinds", "aligned", "forward.kinds must be texts"),
    ("forward.kinds", [1, 2, 3, 4], "forward.kinds must be texts"),
    ("forward.base", lambda x: x[:0], "forward.base has shape"),
    ("forward.base", lambda x: x[:-1], "has shape"),
    ("forward.amplitude", lambda x: -1 - x, "are negative or out of proportion"),
    ("forward.amplitude", with_nan, "forward.amplitude holds NaN"),
    # Factors are sought with more and more noise: from none at all, for ever.
    ("forward.noise", np.zeros_like, "are negative or out of proportion"),
    ("forward.noise", lambda x: -x, "are negative or out of proportion"),
    ("forward.noise", lambda x: np.full_like(x, 5e-324), "are negative or out of proportion"),
    ("forward.inverse_scales", lambda x: x + 1e308, "inverse_scales are out of proportion"),
    ("forward.inverse_scales", lambda x: x[:, :1].copy(), "forward.inverse_scales has shape"),
    ("forward.doubt", lambda x: x[:, :-1].copy(), "forward.doubt has shape"),
    ("forward.spread", with_nan, "forward.spread holds NaN"),
    ("forward.offset", lambda x: x.astype(np.float32), "forward.offset is float32"),
    ("forward.dual", lambda x: x[:, :-1].copy(), "forward.dual has shape"),
    ("forward.dual", lambda x: x[0], "forward.dual has shape"),
    ("backward.dual", lambda x: x[:, :, :1].copy(), "backward.dual has shape"),
    ("forward.errors.names", ["a", "b", "c", "d", "e"], "errors.names do not name"),
    ("forward.errors.names", ["combined"] * 5, "errors.names do not name"),
    ("forward.errors.names", ["combined"], "errors.names do not name"),
    ("forward.errors.values", with_nan, "forward.errors.values holds NaN"),
    ("forward.errors.values", lambda x: x[:-1], "errors.names do not name"),
    ("forward.error", 0.0, "unexpected entries: 'forward.error'"),
    ("registration.stress", 0.0, "unexpected entries: 'registration.stress'"),
]
CIRCLE_FORGERIES = [
    ("a.fitted.periods_", lambda x: x / 2, "do not fill one cell"),
    ("a.fitted.periods_", lambda x: 3 * x, "do not fill one cell"),
    ("a.fitted.periods_", lambda x: -x, "do not fill one cell"),
    ("a.fitted.periods_", lambda x: np.vstack([x, x]), "too many, or depend on each other"),
    ("a.fitted.periods_", with_nan, "periods_ holds NaN"),
    ("b.fitted.periods_", np.zeros((0, 1)), "forward.landmarks has shape"),
]
PROJECTION_FORGERIES = [
    ("alignments.kind", ["rigid", "rigid"], "a projection is what joins"),
    ("alignments.0.linear", np.eye(2), "alignments.0.linear has shape"),
    ("alignments.0.linear", np.zeros((2, 1)), "singular matrix"),
    ("alignments.0.linear", np.ones((1, 1)), "alignments.0.linear has shape"),
    ("alignments.1.shift", np.zeros(2), "alignments.1.shift has shape"),
    ("backward.kinds", ["aligned"], "entries are missing: backward.landmarks"),
]
SPHERE_FORGERIES = [
    ("registration.stress", REMOVED, "entries are missing: registration.stress"),
    ("registration.stress", -0.1, "registration.stress must be"),
    ("registration.scale", 0.0, "registration.scale must be > 0"),
    ("registration.noise", None, "registration.noise must be a finite number"),
    ("registration.converged", 1, "registration.converged must be bool"),
    ("registration.n_iter", -1, "registration.n_iter must be at least 0"),
    ("registration.misfit", lambda x: x[:-1], "registration.misfit has shape"),
    ("registration.uncovered", np.array([350]), "outside of"),
    ("registration.caught", np.array([-1]), "outside of"),
    ("registration.caught", np.array([400]), "outside of"),
    ("registration.caught", np.array([1.0]), "registration.caught is float64"),
    ("registration.n_jobs", 2, "unexpected entries: 'registration.n_jobs'"),
    ("registration.counterparts.points", lambda x: x[:-1], "counterparts.points has shape"),
    ("registration.counterparts.points", lambda x: x[:, :-1].copy(), "counterparts.points has shape"),
    ("registration.counterparts.points", with_nan, "counterparts.points holds NaN"),
    ("registration.counterparts.dim", 1, "dim = 1 does not fit"),
    ("registration.counterparts.whitening", np.zeros_like, "does not fit its singular values"),
    ("registration.counterparts.whitening", lambda x: x[::-1].copy(), "does not fit its singular values"),
    ("registration.counterparts.whitening", lambda x: x * 1.001, "does not fit its singular values"),
    ("registration.counterparts.singular_values", lambda x: 2 * x, "does not fit its singular values"),
    ("registration.counterparts.deficient", np.array([7]), "not those of a's samples of full rank"),
    ("registration.counterparts.deficient", np.arange(400), "not those of a's samples of full rank"),
    ("registration.counterparts.deficient", np.array([7, 7]), "lists a sample twice"),
    ("a.diagnosed.stress", None, "stress must be a finite number"),
    ("a.fitted.n_jobs", 10**9, "n_jobs must be < 4097"),
]
REGRESSION_FORGERIES = [
    ("alignments.kind", ["rigid", "rigid"], "a regression what has no common ones"),
    ("forward.landmarks", lambda x: x[:, 1:].copy(), "forward.landmarks has shape"),
    ("backward.landmarks", lambda x: np.column_stack([x, x[:, :2]]), "backward.landmarks has shape"),
    ("a.diagnosed.stress", 0.1, "stress must be null"),
    ("b.rows", np.arange(250), "unexpected entries: 'b.rows'"),
    ("b.fitted.stress_", 0.0, "entries are missing: b.fitted"),
]
FORGERIES = [("observation", *forgery) for forgery in OBSERVATION_FORGERIES]
FORGERIES += [(kind, *forgery) for kind in ("isometric", "diffusion") for forgery in TRANSFORMATION_FORGERIES]
FORGERIES += [("isometric", *forgery) for forgery in ISOMETRIC_FORGERIES]
FORGERIES += [("diffusion", *forgery) for forgery in DIFFUSION_FORGERIES]
FORGERIES += [("isometric", *forgery) for forgery in RESIDUAL_FORGERIES]
FORGERIES += [("circle", *forgery) for forgery in CIRCLE_FORGERIES]
FORGERIES += [("projection", *forgery) for forgery in PROJECTION_FORGERIES]
FORGERIES += [("regression", *forgery) for forgery in REGRESSION_FORGERIES]
FORGERIES += [("sphere", *forgery) for forgery in SPHERE_FORGERIES]


@pytest.mark.parametrize(("kind", "name", "change", "message"), FORGERIES, ids=range(len(FORGERIES)))
def test_forgeries_are_refused(kind, name, change, message, copy_of):
    path = copy_of(kind)
    description, tensors = parts(path)
    old = tensors.pop(name, None)
    description["entries"].pop(name, None)
    value = change(old) if callable(change) else change
    if isinstance(value, np.ndarray):
        tensors[name] = np.ascontiguousarray(value)
    elif value is not REMOVED:
        description["entries"][name] = value
    description["orders"] = {}
    forge(path, description, tensors)
    refused(path, message)


@pytest.mark.parametrize("kind", DISTINCT)
def test_every_entry_is_required(kind, files, tmp_path):
    path, (description, tensors) = tmp_path / "lacking.safetensors", parts(files[kind][0])
    for name in [*tensors, *description["entries"]]:
        entries = {key: value for key, value in description["entries"].items() if key != name}
        rest = {key: value for key, value in tensors.items() if key != name}
        orders = {key: value for key, value in description["orders"].items() if key != name}
        forge(path, description | {"entries": entries, "orders": orders}, rest)
        refused(path, "entries are missing")


@pytest.mark.parametrize("way", ["forward.", "backward."])
def test_a_regression_without_a_model_is_refused(way, files, tmp_path):
    path, (description, tensors) = tmp_path / "lacking.safetensors", parts(files["regression"][0])
    entries = {key: value for key, value in description["entries"].items() if not key.startswith(way)}
    rest = {key: value for key, value in tensors.items() if not key.startswith(way)}
    orders = {key: value for key, value in description["orders"].items() if not key.startswith(way)}
    forge(path, description | {"entries": entries, "orders": orders}, rest)
    refused(path, "a regression has a model forward")
