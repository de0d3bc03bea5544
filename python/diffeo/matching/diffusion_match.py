"""A match on diffusion coordinates, the method of the paper; on curved domains the samples are registered on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.alignment.curved.registration import Registered, registered_charts
from diffeo.alignment.linear import align_diffusion
from diffeo.charts.diffusion import DiffusionChart, common_coordinates
from diffeo.matching.diagnostics import diagnose_diffusion, diagnose_registered, spectral_scale
from diffeo.matching.maps import ByDiffusion, ByRegistration
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.matching.wrong_landmarks import by_diffusion_coordinates


def by_diffusion(problem: MatchProblem) -> Transformation:
    """The paper's own method: one bandwidth on both sides, diffusion coordinates, orthogonal alignment."""
    a, b = _charts(problem)
    sifted = by_diffusion_coordinates(problem, problem.located(a, b))
    found = _aligned(sifted.problem, a, b, sifted.problem.located(a, b), [])
    return replace(found, diagnostics=sifted.noted(found.diagnostics))


def by_registration(problem: MatchProblem, reasons: list[str]) -> Transformation:
    """Diffusion coordinates, and on top of them the samples of A registered on B's manifold.

    The `reasons` why there are no isometric coordinates are problems only where that fails.
    """
    a, b = _charts(problem)
    sifted = by_diffusion_coordinates(problem, problem.located(a, b))
    problem = sifted.problem
    located = problem.located(a, b)
    found = _registered(problem, a, b, located)
    if found.registration is None:
        said = [*problem.unused, *found.problems]
        aligned = _aligned(problem, a, b, located, said, found, reasons)
        return replace(aligned, diagnostics=sifted.noted(aligned.diagnostics))
    registration, alignment = found.registration, found.alignments[0]
    said = [*problem.unused, *found.problems]
    diagnostics = diagnose_registered(a, b, registration, said, alignment.left_out, problem.names)
    diagnostics = sifted.noted(diagnostics)
    joined = ByRegistration(a, b, alignment, registration)
    return Transformation(joined, found.alignments, registration.scale, diagnostics, problem.n_jobs, _used(problem))


def _charts(problem: MatchProblem) -> tuple[DiffusionChart, DiffusionChart]:
    """Diffusion coordinates of both sides, as many on one as on the other."""
    epsilon: float | str = "auto"
    if problem.known_unit:
        epsilon = max(problem.a.epsilon, problem.b.epsilon)
    a, b = (
        chart.diffusion(epsilon, f"observation {name}")
        for chart, name in zip(problem.charts, problem.names, strict=True)
    )
    return common_coordinates(a, b)


def _registered(
    problem: MatchProblem, a: DiffusionChart, b: DiffusionChart, located: tuple[FloatArray, FloatArray]
) -> Registered:
    """Both samples registered; without a registration, and with the reason, where the landmarks do not suffice."""
    if problem.landmarks is None:
        raise errors.LandmarkError("samples cannot be registered without landmarks")
    try:
        return registered_charts(
            a, b, problem.landmarks.marks, located,
            known_unit=problem.known_unit, names=problem.names, numbers=problem.numbers, n_jobs=problem.n_jobs,
        )  # fmt: skip
    except errors.LandmarkError as error:
        # Enough for the method of the paper they may still be.
        if len(located[0]) < located[0].shape[1]:
            raise
        return Registered([], None, [f"the samples could not be registered: {error}"])


def _aligned(
    problem: MatchProblem,
    a: DiffusionChart,
    b: DiffusionChart,
    located: tuple[FloatArray, FloatArray],
    said: list[str],
    found: Registered | None = None,
    reasons: Sequence[str] = (),
) -> Transformation:
    """A linear map between diffusion coordinates, by the landmarks or as a registration found it."""
    alignments = found.alignments if found is not None else []
    alignments = alignments or [align_diffusion(*located, problem.names)]
    diagnostics = diagnose_diffusion(a, b, alignments[0], problem.known_unit, problem.names)
    diagnostics.problems[:0] = said
    diagnostics.reasons[:0] = reasons
    scale = spectral_scale(*diagnostics.generator_eigenvalues) if diagnostics.generator_eigenvalues else 1.0
    joined = ByDiffusion(a, b, alignments[0])
    return Transformation(joined, alignments, scale, diagnostics, problem.n_jobs, _used(problem))


def _used(problem: MatchProblem) -> tuple[FloatArray, FloatArray] | None:
    return None if problem.landmarks is None else problem.landmarks.points
