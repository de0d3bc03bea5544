"""screen: what two observations show without a single pair for or against one being a change of coordinates of the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, RandomState, integer, real, seed
from diffeo._support.progress import showing
from diffeo._support.threads import working
from diffeo.charts.chart import Chart, as_chart
from diffeo.charts.isometric import IsometricChart
from diffeo.observation.observation import Observation
from diffeo.observation.rank import BURST_FLOOR, COVARIANCE_FLOOR, JACOBIAN_FLOOR, NEIGHBOR_FLOOR, SINGLE_FLOOR
from diffeo.screening.findings import bent, density_problems, overlay_differences, spectral_differences
from diffeo.screening.overlay import Overlay, lay_over
from diffeo.screening.spectra import Comparison, Fingerprints, compare_fingerprints

# Samples of each side kept for pictures.
SHOWN = 2000


@dataclass(frozen=True, eq=False)
class Screening:
    """Evidence without pairs; made by `diffeo.screen`. It can speak against equivalence, and never prove it.

    Attributes
    ----------
    dims : tuple of int
        Intrinsic dimensions of A and of B.
    ranks : tuple of ndarray of shape (r + 1,)
        Share of the samples of A, and of B, whose local covariance has rank 0, 1, ..., r.
    deficient : tuple of ndarray of int64
        Samples of A and of B of too low a rank.
    fingerprints : Fingerprints or None
        Generator spectra and densities of both sides beside those of random halves of each; None where the samples are too
        few, or fall into pieces.
    stress : tuple of float or None
        Relative stress of the isometric coordinates of A and of B; None where there are none.
    overlay : Overlay or None
        A's sample laid over B's without pairs; None where the dimensions differ or a side has no isometric coordinates.
    differences : list of str
        What speaks against equivalence; empty where nothing does.
    problems : list of str
        What is suspected of either side or of the comparison, and what kept a part of it from being made.
    significance : float
    settings : dict
        Sizes and arguments.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((2, 400, 2))
    >>> a, b = (diffeo.Observation.from_jacobians(p, np.broadcast_to(np.eye(2), (400, 2, 2))) for p in x)
    >>> found = diffeo.screen(a, b)
    >>> found.dims, found.differences
    ((2, 2), [])
    """

    dims: tuple[int, int]
    ranks: tuple[FloatArray, FloatArray]
    deficient: tuple[IntArray, IntArray]
    fingerprints: Fingerprints | None
    stress: tuple[float | None, float | None]
    overlay: Overlay | None
    differences: list[str]
    problems: list[str]
    significance: float
    settings: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"Screening({self.conclusion})"

    @property
    def distance(self) -> float:
        """Distance of the spectra in units of what chance makes of them: about 1 for one domain; infinite without spectra."""
        return np.inf if self.fingerprints is None else self.fingerprints.spectra.distance

    @property
    def conclusion(self) -> str:
        """One sentence."""
        if self.differences:
            return f"differs: {'; '.join(self.differences)}"
        if self.fingerprints is None:
            return f"no conclusion: {self.problems[0]}"
        if not self.problems:
            return "nothing speaks against equivalence"
        count = len(self.problems)
        return f"nothing speaks against equivalence, but {count} problem{'s are' if count > 1 else ' is'} named"

    @property
    def embeddings(self) -> tuple[FloatArray, FloatArray] | None:
        """Isometric coordinates of A's samples moved onto B's, and of B's: at most 2,000 evenly spaced rows of each."""
        if self.overlay is None:
            return None
        found = self.overlay.transformation
        moved = found.b.wrapped(found.alignment.forward(found.a.coordinates)), found.b.wrapped(found.b.coordinates)
        rows = [np.unique(np.linspace(0, len(x) - 1, SHOWN).astype(np.int64)) for x in moved]
        return moved[0][rows[0]], moved[1][rows[1]]

    def summary(self) -> str:
        """All of it as text."""
        lines = [self.conclusion, "", f"intrinsic dimension   A {self.dims[0]}, B {self.dims[1]}"]
        for name, shares, rows in zip("AB", self.ranks, self.deficient, strict=True):
            text = ", ".join(f"{100 * share:.3g} % of rank {rank}" for rank, share in enumerate(shares) if share > 0)
            lines.append(f"local rank of {name}       {text}; {len(rows)} samples left out")
        if self.fingerprints is not None:
            found = self.fingerprints
            lines += [_line("spectra", found.spectra), _line("densities", found.densities)]
            lines += [f"  spectrum of {name}       {_digits(_spectrum(found, i))}" for i, name in enumerate("AB")]
        lines += [f"stress of {n}           {s:.2g}" for n, s in zip("AB", self.stress, strict=True) if s is not None]
        if self.overlay is not None:
            lines.append(
                "without counterpart   "
                + ", ".join(f"{100 * share:.2g} % of {n}" for n, share in zip("AB", self._uncovered(), strict=True))
            )
            forth, back = self.overlay.round_trip
            lines.append(f"there and back        A to B to A {100 * forth:.2g} %, B to A to B {100 * back:.2g} %")
        lines += [f"problem: {problem}" for problem in self.problems]
        lines += [
            "",
            "No pair was looked at: this can speak against equivalence, and never prove it (`diffeo.assess` does).",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All numbers and texts as lists, numbers and strings, for JSON; numbers that are infinite are None."""
        result: dict[str, Any] = {
            "conclusion": self.conclusion,
            "distance": self.distance if np.isfinite(self.distance) else None,
            "dims": list(self.dims),
            "ranks": [shares.tolist() for shares in self.ranks],
            "deficient": [rows.tolist() for rows in self.deficient],
            "stress": list(self.stress),
            "differences": list(self.differences),
            "problems": list(self.problems),
            "significance": self.significance,
            "settings": dict(self.settings),
            "fingerprints": None,
            "overlay": None,
        }
        if self.fingerprints is not None:
            found = self.fingerprints
            result["fingerprints"] = {
                "epsilon": list(found.epsilon),
                "n_samples": found.n_samples,
                "scale": found.scale,
                "gated_share": list(found.gated_share),
                "spectra": _as_dict(found.spectra),
                "shapes": _as_dict(found.shapes),
                "densities": _as_dict(found.densities),
            }
        if self.overlay is not None:
            result["overlay"] = {
                "border": self.overlay.border,
                "density": self.overlay.density,
                "uncovered": [rows.tolist() for rows in self.overlay.uncovered],
                "round_trip": list(self.overlay.round_trip),
            }
        return result

    def _uncovered(self) -> tuple[float, float]:
        assert self.overlay is not None
        found = self.overlay
        a, b = (len(side.observation) for side in (found.transformation.a, found.transformation.b))
        return len(found.uncovered[0]) / a, len(found.uncovered[1]) / b


def screen(
    obs_a: Observation | Chart,
    obs_b: Observation | Chart,
    *,
    n_eigenvalues: int = 10,
    significance: float = 0.01,
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Screening:
    """Look for evidence against equivalence in two observations alone, without a single pair.

    The generator spectra of both sides are those of one domain wherever the two are a change of coordinates of each other
    (Singer and Coifman 2008). They are computed from equally many samples with one bandwidth, so that their bias cancels, and
    their difference is measured in units of that between random halves of one side's own sample. Then A's sample is laid
    over B's by shape and density, where both have isometric coordinates: what does not cover the other side, and
    what does not come back from it, speaks against one domain.

    Parameters
    ----------
    obs_a, obs_b : Observation or Chart
        Of one input domain, as is supposed; inputs drawn alike. They need not share any. A chart, as `diffeo.embed` makes it,
        saves embedding its observation again.
    n_eigenvalues : int
        Nontrivial generator eigenvalues compared.
    significance : float
        Spectra differ where those of one domain would do so with this probability, and by more than 2 %.
    random_state : int, numpy generator or None
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars.

    Returns
    -------
    Screening
        Whatever cannot be computed is a text in `problems`, not an error.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((2, 600, 2))
    >>> a, b = (diffeo.Observation.from_jacobians(p, np.broadcast_to(np.eye(2), (600, 2, 2))) for p in x)
    >>> diffeo.screen(a, b).conclusion
    'nothing speaks against equivalence'
    """
    charts = as_chart(obs_a, "obs_a", n_jobs=n_jobs), as_chart(obs_b, "obs_b", n_jobs=n_jobs)
    # Of bursts the smoothed metric is compared, whatever kind the charts are of.
    charts = replace(charts[0], asked="auto"), replace(charts[1], asked="auto")
    obs_a, obs_b = charts[0].observation, charts[1].observation
    count = integer(n_eigenvalues, "n_eigenvalues", 1)
    level = real(significance, "significance", above=0.0, below=1.0)
    seed_value = seed(random_state)
    differences, problems = list[str](), list[str]()
    # What they warn of, the problems say.
    with showing(verbose), working(n_jobs), errors.unsaid(errors.DiffeoWarning):
        measured = charts[0].measured, charts[1].measured
        fingerprints = None
        try:
            fingerprints = compare_fingerprints(*measured, n_eigenvalues=count, seed_value=seed_value, n_jobs=n_jobs)
        except errors.DiffeoError as error:
            problems.append(f"the spectra could not be compared: {error}")
        stress, found = _overlaid(charts, seed_value, n_jobs, differences, problems)
    if obs_a.dim != obs_b.dim:
        more, less = ("A", "B") if obs_a.dim > obs_b.dim else ("B", "A")
        differences.insert(
            0,
            f"A has intrinsic dimension {obs_a.dim} and B {obs_b.dim}, so that {less} discards something that {more} keeps",
        )
    elif fingerprints is not None:
        gated = bent(fingerprints)
        problems += gated
        if not gated:
            differences[:0] = spectral_differences(fingerprints, level)
            problems += density_problems(fingerprints, level)
    settings = {
        "n_samples": [len(obs_a), len(obs_b)],
        "n_measurements": [obs_a.points.shape[1], obs_b.points.shape[1]],
        "n_eigenvalues": count,
        "random_state": seed_value,
    }
    ranks = (_rank_shares(obs_a), _rank_shares(obs_b))
    deficient = (obs_a.deficient, obs_b.deficient)
    dims = (obs_a.dim, obs_b.dim)
    return Screening(dims, ranks, deficient, fingerprints, stress, found, differences, problems, level, settings)


def _overlaid(
    sides: tuple[Chart, Chart],
    seed_value: int,
    n_jobs: int | None,
    differences: list[str],
    problems: list[str],
) -> tuple[tuple[float | None, float | None], Overlay | None]:
    """Stress of both charts and the overlay, where there are any; adds to the differences and problems."""
    charts: list[IsometricChart | None] = []
    for name, side in zip("AB", sides, strict=True):
        charts.append(None)
        try:
            charts[-1] = side.isometric()
        except errors.DiffeoError as error:
            problems.append(f"no isometric coordinates: {error}")
            continue
        if charts[-1] is None:
            problems.append(f"no isometric coordinates: observation {name}: {side.disconnected}")
    a, b = charts
    stress = (None if a is None else a.embedding.stress_, None if b is None else b.embedding.stress_)
    flat = [chart is not None and chart.is_chart for chart in charts]
    for name, chart, is_flat in zip("AB", charts, flat, strict=True):
        if chart is not None and not is_flat:
            problems.append(
                f"side {name} has no isometric coordinates (relative stress {chart.embedding.stress_:.3f}): the domain is "
                "curved, or the measurements do not embed it; only the spectra were compared"
            )
    if a is None or b is None or not all(flat) or sides[0].dim != sides[1].dim:
        return stress, None
    try:
        found = lay_over(a, b, np.random.default_rng([seed_value, 2]), n_jobs)
    except errors.DomainMismatchError as error:
        differences.append(str(error))
        return stress, None
    except errors.DiffeoError as error:
        problems.append(f"the samples could not be laid over each other: {error}")
        return stress, None
    said = overlay_differences(found)
    # Without a common unit the overlay goes by the spread of the samples: too little to say that they differ.
    known_unit = all(side.observation.known_unit for side in sides)
    (differences if known_unit else problems).extend(said)
    covered = not any("no counterpart" in text for text in said)
    problems += [text for text in found.problems if covered or "no counterpart" not in text]
    return stress, found


def _rank_shares(obs: Observation) -> FloatArray:
    """Share of the samples whose local covariance has rank 0, 1, ..., r."""
    floors = {
        "jacobians": SINGLE_FLOOR if obs.precision == "single" else JACOBIAN_FLOOR,
        "covariances": COVARIANCE_FLOOR,
        "neighbors": NEIGHBOR_FLOOR,
    }
    values = obs.singular_values
    scale = np.maximum(values[:, 0], np.median(values[:, 0]))
    ranks = (values > floors.get(obs.source, BURST_FLOOR) * scale[:, None]).sum(axis=1)
    shares: FloatArray = np.bincount(ranks, minlength=values.shape[1] + 1) / len(ranks)
    return shares


def _spectrum(found: Fingerprints, side: int) -> FloatArray:
    values: FloatArray = np.exp(found.spectra.values[side])
    return values


def _digits(values: FloatArray) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _line(name: str, compared: Comparison) -> str:
    return (
        f"{name:<22}distance {compared.distance:.2f} (about 1: as like as two samples of one domain), "
        f"p = {compared.p_value:.2g}, apart by {100 * compared.difference:.2g} %"
    )


def _as_dict(compared: Comparison) -> dict[str, Any]:
    return {
        "values": [values.tolist() for values in compared.values],
        "halves": [values.tolist() for values in compared.halves],
        "distance": compared.distance,
        "p_value": compared.p_value,
        "difference": compared.difference,
    }
