"""What a file holds of pairs of common inputs, and of maps learned from them, and both made from it again."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo._support.threads import working
from diffeo.charts.measured import MeasuredChart
from diffeo.files import schema
from diffeo.files.container import Content
from diffeo.files.schema import fields_of, holds, take
from diffeo.matching.by_pairs.matched import assembled, observed_sides, sample_of
from diffeo.matching.paired.both_ways import ByPairFits
from diffeo.matching.paired.components import Components
from diffeo.matching.paired.direction import PairFit
from diffeo.matching.paired.kernel_fit import KernelFit
from diffeo.matching.paired.local_kernels import LocalKernels
from diffeo.matching.paired.local_polynomials import possible_degrees
from diffeo.matching.paired.radial import PROFILES
from diffeo.matching.pairs import Pairs
from diffeo.matching.transformation import Transformation

# Axes of components are orthonormal to this.
ORTHONORMAL = 1e-6
WAYS = ("fit", "fit_back")


def pairs_content(at: str, pairs: Pairs) -> Content:
    """Arrays and entries of pairs, whose names begin like this; rows of observations are not kept, their measurements are."""
    content = fields_of(at, pairs, dict.fromkeys(("points_a", "points_b", "jacobians_a", "jacobians_b"), ""))
    numbers = pairs.ids is not None and pairs.ids.dtype.kind in "iu"
    content[f"{at}ids"] = pairs.ids.astype(np.int64) if numbers and pairs.ids is not None else None
    content[f"{at}names"] = [] if pairs.ids is None or numbers else [str(one) for one in pairs.ids]
    return content


def build_pairs(content: Content, at: str) -> Pairs:
    """The pairs, from content that may be anything."""
    sizes: dict[str, int] = {}
    taken = take(content, at, schema.PAIRS, sizes)
    ids, names = taken.pop("ids"), taken.pop("names")
    if ids is not None and names:
        raise errors.InputError(f"{at}ids and {at}names are both there")
    known = ids if ids is not None else np.array(names) if names else None
    return Pairs(**taken, ids_a=known, ids_b=known)


def paired_content(t: Transformation) -> Content:
    """Arrays and entries of a transformation learned from pairs."""
    joined = t.map
    if not isinstance(joined, ByPairFits):
        raise errors.InputError("a transformation of this kind is learned from pairs")
    content: Content = {"n_jobs": t.n_jobs, "problems": t.diagnostics.problems}
    content |= pairs_content("pairs.", joined.pairs)
    content |= {} if joined.held_out is None else pairs_content("held_out.", joined.held_out)
    for at, components in (("a.", joined.fit.source), ("b.", joined.fit.target)):
        content |= fields_of(at, components, schema.COMPONENTS)
    for way in WAYS:
        fit: PairFit = getattr(joined, way)
        rules = schema.LOCAL_KERNELS if isinstance(fit.kernel, LocalKernels) else schema.KERNEL_FIT
        content |= fields_of(f"{way}.", fit, schema.PAIR_FIT) | fields_of(f"{way}.", fit.kernel, rules)
    return content


def build_paired(content: Content, assemble: bool) -> Transformation | None:
    """The transformation, from content that may be anything; None where it is only checked."""
    whole = take(content, "", schema.PAIRED, {})
    pairs = build_pairs(content, "pairs.")
    held_out = build_pairs(content, "held_out.") if holds(content, "held_out.") else None
    components = []
    for at, points in zip("ab", pairs.points, strict=True):
        taken = take(content, f"{at}.", schema.COMPONENTS, {"m": points.shape[1]})
        gram = taken["axes"].T @ taken["axes"]
        if not np.abs(gram - np.eye(len(gram))).max() <= ORTHONORMAL:
            raise errors.InputError(f"{at}.axes are not orthonormal")
        components.append(Components(**taken))
    fits = []
    for way, (source, target) in zip(WAYS, (components, components[::-1]), strict=True):
        sizes = {"n": len(pairs), "r": source.axes.shape[1], "v": target.axes.shape[1]}
        taken = take(content, f"{way}.", schema.PAIR_FIT, sizes)
        kernel = _kernel_taken(content, f"{way}.", sizes)
        if sizes["t"] != sizes["g"] + 1 or (taken["missed"] < 0).any() or (taken["trust"] < 0).any():
            raise errors.InputError(f"{way}.trust or {way}.missed do not fit its degrees, or are negative")
        fits.append((taken, kernel))
    if held_out is not None and [x.shape[1] for x in held_out.points] != [x.shape[1] for x in pairs.points]:
        raise errors.ShapeError("held_out have other measurements than pairs")
    if not assemble:
        return None
    with working(whole["n_jobs"]):
        sides = observed_sides(pairs)
        found = []
        for i, (taken, kernel) in enumerate(fits):
            sample = sample_of(sides, (components[0], components[1]), inverse=bool(i))
            possible = possible_degrees(len(sample), sample.dim, sample.with_slopes)
            if not (np.isin(taken["degrees"], possible).all() and (np.diff(taken["degrees"]) > 0).all()):
                raise errors.InputError(f"{WAYS[i]}.degrees are not those that {len(pairs)} pairs can carry")
            metric = taken.pop("metric")
            seen = sample.seen_by(metric)
            known = kernel if isinstance(kernel, KernelFit) else LocalKernels(seen, **kernel)
            found.append(PairFit(sample, metric, seen, components[i], components[1 - i], kernel=known, **taken))
        charts = MeasuredChart(sides.a), MeasuredChart(sides.b)
    return assembled(charts, pairs, held_out, (found[0], found[1]), whole["problems"], whole["n_jobs"])


def _kernel_taken(content: Content, at: str, sizes: dict[str, int]) -> KernelFit | Content:
    """The kernel fit of a direction; or what is known of local ones, which need the sample."""
    local = at + "factor" in content
    taken = take(content, at, schema.LOCAL_KERNELS if local else schema.KERNEL_FIT, sizes)
    if taken["profile"] not in PROFILES:
        raise errors.InputError(f"{at}profile is {taken['profile']!r:.60}: one of {', '.join(PROFILES)} is needed")
    if local:
        return taken
    if sizes["D"] != sizes["C"] * (1 + sizes["b"]):
        raise errors.InputError(f"{at}dual does not fit its centres and directions")
    return KernelFit(**taken)
