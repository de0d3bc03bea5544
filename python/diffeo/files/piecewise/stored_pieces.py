"""What a file holds of a transformation by pieces, each of which is stored as a whole, and the transformation made from it."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from diffeo import errors
from diffeo._support.arrays import IntArray
from diffeo.charts.measured import MeasuredChart
from diffeo.files import schema
from diffeo.files.container import Content
from diffeo.files.expected_error import build_tried, expected_content
from diffeo.files.observation import build_observation, observation_content
from diffeo.files.schema import take
from diffeo.files.transformation import build_transformation, transformation_content
from diffeo.matching.parts.pieces_joined import assembled
from diffeo.matching.piecewise.by_pieces import ByPieces
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation

SIDES = ("a.", "b.")
# More parts than this are meant to exhaust memory: a piece holds some percent of the samples.
MOST_PARTS, KINDS = 64, ("isometric", "diffusion", "regression")


def pieces_content(t: Transformation) -> Content:
    """Arrays and entries of a transformation by pieces."""
    joined, known = t.map, t.diagnostics
    if not isinstance(joined, ByPieces):
        raise errors.InputError("a transformation of this kind is one by pieces")
    parts = [cast(Transformation, part) for part in joined.parts]
    content: Content = {"problems": known.problems, "n_jobs": t.n_jobs, "kinds": [part.coordinates for part in parts]}
    content |= {"expected_error": known.expected_error, "expected_error_back": known.expected_error_back}
    content |= {"wrong": known.wrong_landmarks, "apart": known.apart_landmarks} | expected_content(t)
    for side, (at, whole) in enumerate(zip(SIDES, (joined.a, joined.b), strict=True)):
        content |= observation_content(f"{at}observation.", whole.observation)
        content[f"{at}unmatched"] = joined.unmatched[side]
        content |= {f"{at}rows.{number}": rows[side] for number, rows in enumerate(joined.rows)}
    for number, part in enumerate(parts):
        content |= {f"parts.{number}.{name}": value for name, value in transformation_content(part).items()}
    return content


def build_pieces(content: Content, assemble: bool) -> Transformation | None:
    """The transformation, from content that may be anything; None where it is only checked."""
    whole = take(content, "", schema.PIECES, {})
    kinds = whole["kinds"]
    if not 0 < len(kinds) <= MOST_PARTS or any(kind not in KINDS for kind in kinds):
        raise errors.InputError(f"kinds are {kinds!r:.100}: of 1 to {MOST_PARTS} parts, each one of {', '.join(KINDS)}")
    sides, groups, unmatched = list[Observation](), list[list[IntArray]](), list[IntArray]()
    for at in SIDES:
        sizes = dict[str, int]()
        sides.append(build_observation(content, f"{at}observation.", sizes))
        unmatched.append(take(content, at, {"unmatched": "I u<n"}, sizes)["unmatched"])
        groups.append([])
        for number in range(len(kinds)):
            name = f"rows.{number}"
            groups[-1].append(take(content, at, {name: "I v<n"}, {"n": sizes["n"]})[name])
        every = np.concatenate([*groups[-1], unmatched[-1]])
        if len(np.unique(every)) < len(every):
            raise errors.InputError(f"{at}rows and .unmatched hold samples more than once")
    parts = []
    for number, kind in enumerate(kinds):
        at = f"parts.{number}."
        own = {name.removeprefix(at): content.pop(name) for name in list(content) if name.startswith(at)}
        part = build_transformation(own, kind, assemble)
        if own:
            raise errors.InputError(f"unexpected entries: {', '.join(sorted(own))!r:.300}")
        for side, of_part, rows in zip(sides, (part.a, part.b), groups, strict=True):
            if of_part.observation.points.shape != (len(rows[number]), side.points.shape[1]):
                raise errors.ShapeError(
                    f"{at}: a piece has other samples than its rows, or other measurements than its side"
                )
        if part.landmarks is None:
            raise errors.InputError(f"{at}landmarks are missing: pieces are joined by them")
        parts.append(part)
    tried = build_tried(content)
    if not assemble:
        return None
    pairs = list(zip(*groups, strict=True))
    found = assembled(
        (MeasuredChart(sides[0]), MeasuredChart(sides[1])),
        parts,
        pairs,
        (unmatched[0], unmatched[1]),
        whole["n_jobs"],
        problems=whole["problems"],
        known_errors=(whole["expected_error"], whole["expected_error_back"]),
        left_out=(whole["wrong"], whole["apart"]),
    )
    return replace(found, diagnostics=replace(found.diagnostics, **tried))
