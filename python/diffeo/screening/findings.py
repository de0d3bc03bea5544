"""What the comparisons of a screen say: for each, a sentence where it speaks against one domain, or casts a doubt."""

from __future__ import annotations

import numpy as np

from diffeo.alignment.candidates import BORDERS_MISS
from diffeo.charts.problems import SUSPICIOUS_GATED_SHARE
from diffeo.observation.curvature import SUGGESTED
from diffeo.screening.overlay import Overlay
from diffeo.screening.spectra import Fingerprints

# Spectra that differ by less than this (root mean square of the logarithm; 1 % in length) may do so by what the kernel
# makes of the curvature of the measurements, however many samples there are.
SPECTRUM_FLOOR = 0.02
# The same where the samples are not drawn alike: the bias of a spectrum depends on the density.
UNEVEN_FLOOR = 0.25
# The same of densities, in which noise of the local metric shows more.
DENSITY_FLOOR = 0.05
# Samples that come back from the other side with an error above this were somewhere else: the default margin.
LOST_ON_THE_WAY = 0.05
# Share of a side's samples without counterpart that speaks against one domain; fewer happen where the other side is
# sampled thinly.
UNCOVERED_SHARE = 0.05
# Spectra that differ by a common factor are that of one shape where what is left is below this share of the difference.
SAME_SHAPE = 0.3


def bent(found: Fingerprints) -> list[str]:
    """Sides whose kernel the gates cut so far that its spectrum cannot be compared."""
    return [
        f"on side {name} {100 * share:.0f} % of the near pairs fail the gates, so that the spectra were not judged: the "
        "measurements bend sharply or pass near themselves; add neurons, or samples: " + SUGGESTED
        for name, share in zip("AB", found.gated_share, strict=True)
        if share > SUSPICIOUS_GATED_SHARE
    ]


def spectral_differences(found: Fingerprints, significance: float) -> list[str]:
    """Spectra that chance, the kernel and densities do not explain; whether they are those of one shape in two units."""
    spectra = found.spectra
    floor = UNEVEN_FLOOR if density_problems(found, significance) else SPECTRUM_FLOOR
    if spectra.p_value >= significance or spectra.difference <= floor:
        return []
    by = f"{spectra.distance:.1f} times what chance makes, p = {spectra.p_value:.1g}"
    if found.shapes.p_value >= significance and found.shapes.difference <= SAME_SHAPE * spectra.difference:
        return [f"lengths on B are {found.scale:.3f} times those on A (the spectra differ by a common factor, {by})"]
    a, b = spectra.values
    k = int(np.abs(a - b).argmax())
    return [
        f"the spectra differ by {by}, most in generator eigenvalue {k + 1}, which is {100 * np.expm1(b[k] - a[k]):+.0f} % on "
        "B: the two sides do not see the same domain"
    ]


def overlay_differences(found: Overlay) -> list[str]:
    """Samples without counterpart, borders that miss each other, and samples that do not come back."""
    differences = []
    sides = (found.transformation.a, found.transformation.b)
    for name, other, side, rows in zip("AB", "BA", sides, found.uncovered, strict=True):
        share = len(rows) / len(side.observation)
        if share > UNCOVERED_SHARE:
            differences.append(f"{100 * share:.0f} % of {name}'s samples have no counterpart in {other}'s domain")
    if found.border > BORDERS_MISS:
        differences.append(
            f"the borders of the two samples miss each other by {100 * found.border:.1f} % of their size"
        )
    error = max(found.round_trip)
    if error > LOST_ON_THE_WAY:
        way = "A to B" if found.round_trip[0] == error else "B to A"
        differences.append(f"samples sent from {way} and back return with a relative error of {100 * error:.0f} %")
    return differences


def density_problems(found: Fingerprints, significance: float) -> list[str]:
    """Densities that chance does not explain."""
    densities = found.densities
    if densities.p_value >= significance or densities.difference <= DENSITY_FLOOR:
        return []
    return [
        f"the samples are not drawn alike: their densities differ {densities.distance:.1f} times as much as chance makes them; "
        "the inputs were drawn differently, fill domains of different size, or a side folds"
    ]
