"""What a file holds of a transformation, and the transformation made from it again."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo.alignment.curved.registration import Registration
from diffeo.alignment.linear import Alignment
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.files import schema
from diffeo.files.charts import RESIDUAL_FLOOR, chart_builder, chart_content, n_features, orthogonality_gap
from diffeo.files.container import Content
from diffeo.files.expected_error import build_expected, build_tried, expected_content
from diffeo.files.landmark_correction import build_correction, correction_content
from diffeo.files.observation import build_observation, observation_content
from diffeo.files.schema import fields_of, holds, take
from diffeo.matching.diagnostics import Diagnostics
from diffeo.matching.landmark_correction import LandmarkCorrection
from diffeo.matching.maps import ByDiffusion, ByIsometry, ByPairs, ByRegistration, Map
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation


def transformation_content(t: Transformation) -> Content:
    """Arrays and entries of a transformation and of both its sides, by dotted names."""
    known, kind = t.diagnostics, t.coordinates
    if kind != "regression" and type(t.a) is not type(t.b):
        raise errors.InputError("a has coordinates of one kind and b of the other")
    content: Content = {"problems": known.problems, "n_jobs": t.n_jobs}
    content |= {"scale": np.array([t.scale]), "landmark_residual": np.array([known.landmark_residual])}
    for i, (at, chart) in enumerate((("a.", t.a), ("b.", t.b))):
        own = chart_content(chart)
        own |= observation_content("observation.", chart.observation)
        own |= {f"diagnosed.{x}": getattr(known, x) and getattr(known, x)[i] for x in schema.DIAGNOSED[kind]}
        content |= {at + name: value for name, value in own.items()}
    alignments = (t.alignment, *t.candidates)
    for i, alignment in enumerate(alignments):
        content |= fields_of(f"alignments.{i}.", alignment, schema.ALIGNMENT)
    for name, rule in schema.ALIGNMENTS.items():
        values = [getattr(alignment, name) for alignment in alignments]
        content[f"alignments.{name}"] = values if rule == "texts" else np.stack(values)
    if t.registration is not None:
        content |= _registration_content(t.registration, t.a.observation)
    for at, model in (("forward.", t.forward), ("backward.", t.backward)):
        content |= {} if model is None else correction_content(at, model)
    if len(known.wrong_landmarks):
        content["wrong.landmarks"] = known.wrong_landmarks
    if len(known.apart_landmarks):
        content["apart.landmarks"] = known.apart_landmarks
    if t.landmarks is not None:
        content |= {"landmarks.a": t.landmarks[0], "landmarks.b": t.landmarks[1]}
    return content | expected_content(t)


def _registration_content(registration: Registration, observation: Observation) -> Content:
    if registration.observation is not observation:
        raise errors.InputError("the registration is not that of a's observation")
    content = fields_of("registration.", registration, schema.REGISTRATION)
    return content | observation_content("registration.counterparts.", registration.counterparts)


def build_transformation(content: Content, kind: str, assemble: bool) -> Transformation:
    """The transformation, from content that may be anything, with its kernels if asked."""
    sizes_a, sizes_b = dict[str, int](), dict[str, int]()
    a, b = (
        chart_builder(kind, content, at)(content, at, sizes, assemble)
        for at, sizes in (("a.", sizes_a), ("b.", sizes_b))
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
    for name in ("wrong", "apart"):
        if holds(content, f"{name}."):
            both[f"{name}_landmarks"] = take(content, f"{name}.", schema.WRONG, {})["landmarks"]
    # Inputs of the regressions: measurements, and common coordinates, or those of the own side if it has some.
    features_a = features_b = n_features(b, sizes_b)
    if kind == "regression":
        features_a = n_features(a, sizes_a)
        if not holds(content, "forward.") or holds(content, "backward.") != (lost == 0):
            raise errors.InputError("a regression has a model forward, and one backward if there is a way back")
    forward, backward = (
        build_correction(content, at, {"f": features + source["m"], "m": target["m"]}, assemble)
        for at, features, source, target in (
            ("forward.", features_a, sizes_a, sizes_b),
            ("backward.", features_b, sizes_b, sizes_a),
        )
    )
    landmarks = None
    if holds(content, "landmarks."):
        taken = take(content, "landmarks.", schema.LANDMARKS, {"m": sizes_a["m"], "n": sizes_b["m"]})
        landmarks = taken["a"], taken["b"]
    expected = build_expected(content, (_n_places(a, sizes_a), _n_places(b, sizes_b)), lost == 0)
    both |= build_tried(content)
    if expected is not None:
        both["expected_error"] = expected.forward.relative
        both["expected_error_back"] = None if expected.backward is None else expected.backward.relative
    diagnostics = Diagnostics(whole["problems"], whole["landmark_residual"].item(), **both)
    joined = _build_map(a, b, first, registration, (forward, backward), kind)
    return Transformation(joined, candidates, whole["scale"].item(), diagnostics, whole["n_jobs"], landmarks, expected)


def _n_places(chart: Coordinates, sizes: dict[str, int]) -> int:
    """How many numbers a place has in an `ErrorField` of this side."""
    return sizes["m"] if isinstance(chart, MeasuredChart) else n_features(chart, sizes)


def _build_map(
    a: Coordinates,
    b: Coordinates,
    alignment: Alignment,
    registration: Registration | None,
    taught: tuple[LandmarkCorrection | None, LandmarkCorrection | None],
    kind: str,
) -> Map:
    """What joins two sides; content of no kind has corrections where there is no place for them."""
    if isinstance(a, IsometricChart) and isinstance(b, IsometricChart) and kind == "isometric":
        return ByIsometry(a, b, alignment, *taught)
    if isinstance(a, DiffusionChart) and isinstance(b, DiffusionChart):
        if taught != (None, None):
            raise errors.InputError("diffusion coordinates have no corrections forward or backward")
        if registration is not None:
            return ByRegistration(a, b, alignment, registration)
        return ByDiffusion(a, b, alignment)
    return ByPairs(a, b, alignment, *taught)


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
    counterparts = build_observation(content, "registration.counterparts.", sizes)
    taken = take(content, "registration.", schema.REGISTRATION, sizes)
    if not np.array_equal(np.sort(counterparts.deficient), np.sort(observation.deficient)):
        raise errors.InputError("registration.counterparts are not those of a's samples of full rank")
    rows, d = counterparts.usable, counterparts.dim
    # The metric at the counterparts comes from derivatives, so that its whitening is U / Sigma.
    unit = counterparts.whitening[rows] * counterparts.singular_values[rows, None, :d]
    gap = orthogonality_gap(unit.transpose(0, 2, 1))
    if not gap <= RESIDUAL_FLOOR:
        raise errors.InputError(f"registration.counterparts.whitening does not fit its singular values (gap {gap:.2g})")
    return Registration(observation, counterparts, **taken, n_jobs=n_jobs)
