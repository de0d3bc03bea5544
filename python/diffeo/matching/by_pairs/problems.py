"""What is to be said of maps learned from pairs: missing derivatives, too few pairs, sides that do not determine each other."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.wording import Names, percent
from diffeo.matching.diagnostics import USELESS
from diffeo.matching.paired.direction import PairFit
from diffeo.observation.observation import Observation

# An error at pairs left out above this is worth a sentence.
WORTH_SAYING = 0.01
# A share of rows whose expected error is so many times that of all is a steep place.
STEEP, STEEP_SHARE = 10.0, 0.02


def problems_of(
    fits: tuple[PairFit, PairFit], sides: tuple[Observation, Observation], *, with_derivatives: bool, names: Names
) -> list[str]:
    """Sentences that say what is suspected, where, and what to do; none where nothing is."""
    found = []
    if not with_derivatives:
        found.append(
            f"the pairs carry no derivatives: tangents in {sides[0].dim} dimensions were estimated from neighbours, and slopes "
            "count for nothing, so that some (1 + d) times as many pairs are needed for the same accuracy; "
            "diffeo.measure_pairs takes derivatives along"
        )
    a, b = names
    for fit, way, (source, target) in zip(fits, (f"{a} to {b}", f"{b} to {a}"), ((a, b), (b, a)), strict=True):
        if fit.error > USELESS:
            found.append(
                f"from {way} pairs left out are missed by {percent(fit.error)} of their spread: {source} does not determine "
                f"{target}, or the pairs are too few; diffeo.assess tells which"
            )
        elif fit.error > WORTH_SAYING:
            share, part = _steep(fit)
            where = ""
            if share:
                where = f", {percent(part)} of the square of it in {percent(share)} of them, where a side is steep"
            found.append(
                f"from {way} pairs left out are missed by {percent(fit.error)} of their spread{where}: more pairs there would "
                "help (t.predicted_error says where)"
            )
    return found


def _steep(fit: PairFit) -> tuple[float, float]:
    """The share of pairs left out whose errors are far above the usual one, and their part of the sum of squares."""
    squares: FloatArray = fit.missed**2
    far = fit.missed > STEEP * np.median(fit.missed)
    if not 0 < far.mean() <= 0.5 or far.mean() < STEEP_SHARE / 10:
        return 0.0, 0.0
    return float(far.mean()), float(squares[far].sum() / squares.sum())
