"""An observation laid out without distortion: graph, start, refinement, corrected lengths, and a second look."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.isometry.frame_layout import develop
from diffeo.isometry.frames import extended, gradients_along, local_frames
from diffeo.isometry.gauss_newton import held_up_by_few
from diffeo.isometry.graph import (
    ROWS_OF_ERROR,
    NeighborGraph,
    bridged,
    changes_steeply,
    layout_graph,
    neighbor_graph,
    overlap,
    pieces,
    pieces_text,
    steep_graph,
    supported,
)
from diffeo.isometry.hinges import Hinges, find_hinges
from diffeo.isometry.rough_lengths import (
    RoughLayout,
    disagreement,
    ends_disagree,
    fits_better,
    lengths_are_rough,
    relaid,
    ungated,
)
from diffeo.isometry.stress import (
    check_lengths,
    refine,
    refine_robustly,
    relative_stress,
    start_layout,
    unbent,
    untangle,
)
from diffeo.isometry.trend.trend_lengths import KEPT, along_trend
from diffeo.isometry.trust import (
    FEW_DIMENSIONS,
    FOLDED,
    LOOSE,
    OVERLAPPING,
    PIECE,
    SAME,
    SECOND_LOOK,
    holds_most,
    is_doubtful,
    is_firm,
    is_one_to_one,
    is_sure,
    too_many_strays,
)
from diffeo.isometry.unfolding import LITTLE_GAIN, Unfolding, closed_over_gap, corrected, winds_over_a_gap
from diffeo.observation.curvature import or_samples
from diffeo.observation.observation import Observation

# Samples above which a graph is laid out from a start of some of its samples, and how many.
LARGE = 30_000
START_SAMPLES = 15_000
# Rounds in which the graph is searched anew in the layout, and edges are weighed by how far they agree.
SECOND_LOOKS = 4
# A layout that one of them moves by less, relative to its size, has settled.
MOVING = 0.002
# Edges that no gate has chosen may have so many times the relative stress of those that one has; 1.04 and 1.14 were measured.
ROUGH_GROWTH = 1.5


def unfold(observation: Observation, n_neighbors: int, n_threads: int) -> Unfolding:
    """Lay out the largest piece of an observation's graph; raises DisconnectedError where no piece holds most of it."""
    graph = bridged(neighbor_graph(observation, n_neighbors, n_threads), observation, n_neighbors, n_threads)
    try:
        graph = _largest_piece(graph, observation)
    except errors.DisconnectedError:
        steep = _over_cliffs(observation, graph, n_neighbors, n_threads)
        if steep is not None and _stands(steep):
            return steep
        rough = ungated(observation, n_neighbors, n_threads)
        if rough is None:
            raise
        return _of_rough_lengths(observation, rough)
    check_lengths(graph.lengths)
    steeply, hinges, found, steep = changes_steeply(observation, graph), None, None, None
    if not steeply:
        hinges = find_hinges(observation, graph, n_neighbors, n_threads)
        # A cliff that few edges pass looks like a gap, and parts that hang on few edges take thousands of steps.
        found = _first_layout(observation, graph, n_neighbors, n_threads, None) if hinges is None else None
    if found is None or is_doubtful(found.stress, found.overlap, found.settled, observation.dim):
        steep = _over_cliffs(observation, graph, n_neighbors, n_threads)
        if steep is not None and _stands(steep):
            return steep
    if found is None:
        hinges = find_hinges(observation, graph, n_neighbors, n_threads) if steeply else hinges
        found = _first_layout(observation, graph, n_neighbors, n_threads, hinges)
    if is_doubtful(found.stress, found.overlap, found.settled, observation.dim):
        if hinges is None and observation.dim <= FEW_DIMENSIONS and _few_lengths_are_wrong(observation, found):
            found = _without_doubtful_edges(observation, found, n_neighbors)
        else:
            found = _reconsidered(observation, graph, found, n_neighbors, hinges)
    finish = _finished if steep is None else _weighed
    found = finish(observation, found, n_neighbors, n_threads, hinges)
    return found if steep is None or found.stress + found.overlap <= steep.stress + steep.overlap else steep


def _stands(steep: Unfolding) -> bool:
    """Whether a layout that leads over cliffs needs no other beside it."""
    return is_firm(steep.overlap, steep.moved)


def _first_layout(
    observation: Observation, graph: NeighborGraph, n_neighbors: int, n_threads: int, hinges: Hinges | None
) -> Unfolding:
    if hinges is not None:
        graph = hinges.braced(graph)
    start = _start(observation, graph, n_neighbors, n_threads)
    laid = untangle(graph, start) if hinges is None else _hinged(observation, graph, hinges, start)
    return corrected(observation, graph, *laid)


def _over_cliffs(observation: Observation, graph: NeighborGraph, n_neighbors: int, n_threads: int) -> Unfolding | None:
    """A layout whose graph takes stretches to change more from sample to sample; None where that has hardly other edges.

    Where the gates leave a sample of a cliff edges along it only, what leads across goes to and fro, and is many times too
    long: both sides are laid out apart from each other, or over each other.
    """
    few = observation.dim <= FEW_DIMENSIONS
    steep = steep_graph(observation, graph, n_neighbors, n_threads) if few else None
    if steep is None:
        return None
    try:
        steep = _largest_piece(steep, observation)
    except errors.DisconnectedError:
        return None
    check_lengths(steep.lengths)
    hinges = find_hinges(observation, steep, n_neighbors, n_threads)
    first = _first_layout(observation, steep, n_neighbors, n_threads, hinges)
    return _weighed(observation, first, n_neighbors, n_threads, hinges)


def _weighed(
    observation: Observation, first: Unfolding, n_neighbors: int, n_threads: int, hinges: Hinges | None
) -> Unfolding:
    """As `_finished`, of a layout beside cliffs, where wrong lengths may hold it as it is.

    Weights by doubt lead out of that. Where they lead nowhere else, those without are nearer to the truth, by a factor of 2
    mostly.
    """
    found = _finished(observation, first, n_neighbors, n_threads, hinges)
    if is_sure(found.moved):
        return found
    again = _finished(observation, first, n_neighbors, n_threads, hinges, by_doubt=True)
    return found if _stands(found) and found.distance(again) <= SAME else again


def _finished(
    observation: Observation,
    found: Unfolding,
    n_neighbors: int,
    n_threads: int,
    hinges: Hinges | None,
    *,
    by_doubt: bool = False,
) -> Unfolding:
    """A layout closed, looked at again, and by other lengths, where these are better; with what is to be said of its parts."""
    many = observation.dim > FEW_DIMENSIONS
    if observation.dim == 1 and not found.graph.n_periods:
        found = closed_over_gap(observation, found, n_neighbors, n_threads)
    strays = len(found.graph.rows) < len(observation.usable)
    # In many dimensions edges are long beside the domain: if a layout settles, it is their lengths that miss.
    missed = found.stress > SECOND_LOOK and not (many and found.settled)
    for _ in range(SECOND_LOOKS if strays or missed else 0):
        again = _second_look(observation, found, n_neighbors, n_threads, hinges, by_doubt=by_doubt)
        if again is None:
            break
        settled = np.array_equal(again.graph.rows, found.graph.rows) and found.distance(again) <= MOVING
        settled &= again.stress > LITTLE_GAIN * found.stress
        found = again
        if settled:
            break
    if many and found.stress > KEPT:
        found = _with_trend(observation, found)
    # Slopes of networks with kinks are smooth enough for gates and corrected lengths: layouts of 2,000 samples of convolutional
    # networks with rectifiers were off by 0.9 to 1.1 %, by place 2.1 to 2.5 %; of nine perceptrons none was better by place.
    by_place = not observation.options.slopes and found.overlap <= OVERLAPPING
    if by_place and lengths_are_rough(observation, found.graph, found.layout):
        return _by_place(observation, found, n_neighbors, n_threads)
    return found if hinges is None else _held(observation, found, hinges)


def _with_trend(observation: Observation, found: Unfolding) -> Unfolding:
    """A layout of few samples for its dimension again, by lengths that know the trend, if it keeps these better."""
    points, whitening = (np.ascontiguousarray(x[found.graph.rows]) for x in (observation.points, observation.whitening))
    again = along_trend(found.graph, found.layout, points, whitening, found.gradients)
    if again is None:
        return found
    graph, layout, gradients, steps, settled = again
    stress, overlapping = relative_stress(graph, layout), overlap(graph, layout)
    laid = Unfolding(graph, layout, gradients, stress, overlapping, found.n_iter + steps, settled)
    return laid if stress < found.stress and overlapping <= found.overlap + OVERLAPPING else found


def _by_place(observation: Observation, found: Unfolding, n_neighbors: int, n_threads: int) -> Unfolding:
    """A layout of rough lengths again from neighbours by place, if it keeps lengths better in the median, and all nearly so.

    A layout that is wrong has neighbours that are none, and their lengths tear it further.
    """
    rough = relaid(observation, found.graph.rows, found.layout, n_neighbors, n_threads)
    if rough is None or not np.array_equal(rough.graph.rows, found.graph.rows):
        return found
    again = _of_rough_lengths(observation, rough)
    kept = again.overlap <= OVERLAPPING and again.stress <= ROUGH_GROWTH * found.stress
    return again if kept and fits_better(observation, rough, found.layout, n_neighbors, n_threads) else found


def _of_rough_lengths(observation: Observation, rough: RoughLayout) -> Unfolding:
    graph, layout = rough.graph, rough.layout
    points, whitening = np.ascontiguousarray(observation.points[graph.rows]), observation.whitening[graph.rows]
    gradients = gradients_along(whitening, local_frames(graph, layout, points, whitening))
    stress, overlapping = relative_stress(graph, layout), overlap(graph, layout)
    return Unfolding(graph, layout, gradients, stress, overlapping, rough.n_iter, rough.settled)


def _hinged(
    observation: Observation, graph: NeighborGraph, hinges: Hinges, start: FloatArray
) -> tuple[FloatArray, int, bool]:
    """As `untangle`, the lower stress of the layout found and of that with its parts turned as the frames say.

    Parts that few edges hold move by much at little gain, which looks settled to a majorisation.
    """
    layouts, total = [], 0
    for _ in range(2):
        layout, steps, settled = unbent(graph, start)
        total += steps
        layouts.append((relative_stress(graph, layout) + overlap(graph, layout), layout, settled))
        start = hinges.turned(observation, graph, layout)
    _, layout, settled = min(layouts, key=lambda found: found[0])
    return layout, total, settled


def _held(observation: Observation, found: Unfolding, hinges: Hinges) -> Unfolding:
    """The layout with what is to be said of its parts; if one is loose, of it and that from the local frames the better.

    Frames that are handed on along a corridor know its bends, of which lengths along a single line say nothing.
    """
    found = replace(found, loose=hinges.loose(observation, found.graph, found.layout))
    if found.graph.n_periods or not any(part.doubt > LOOSE for part in found.loose):
        return found
    points, whitening = (
        np.ascontiguousarray(observation.points[found.graph.rows]),
        observation.whitening[found.graph.rows],
    )
    development = None
    with contextlib.suppress(RuntimeError):
        development = develop(found.graph, points, whitening)
    if development is None or development[0].n_periods:
        return found
    again = corrected(observation, development[0], *unbent(*development))
    if not again.stress + again.overlap < found.stress + found.overlap:
        return found
    return replace(again, loose=hinges.loose(observation, again.graph, again.layout))


def _start(observation: Observation, graph: NeighborGraph, n_neighbors: int, n_threads: int) -> FloatArray:
    """A layout (n, d) to start from; of a large graph, that of some of its samples with the others between them.

    Laying out some samples costs little and is right to a fraction of their spacing, while distances to landmarks cost
    many searches of the whole graph and are wrong by many spacings. Where it does not work out, the whole graph decides.
    """
    n = len(graph.rows)
    if n > LARGE:
        # One of each stretch of consecutive samples, which are near in space.
        chosen = np.arange(START_SAMPLES) * n // START_SAMPLES
        others = np.ones(len(observation), dtype=bool)
        others[graph.rows[chosen]] = False
        coarse = neighbor_graph(replace(observation, deficient=np.flatnonzero(others)), n_neighbors, n_threads)
        if pieces(coarse)[0] == 1 and np.isfinite(coarse.lengths).all():
            layout, _, _ = untangle(coarse, start_layout(coarse, observation.dim))
            if relative_stress(coarse, layout) <= FOLDED:
                place = np.empty(len(observation), dtype=np.int64)
                place[graph.rows] = np.arange(n)
                known = place[coarse.rows]
                points = np.ascontiguousarray(observation.points[graph.rows])
                whitening = observation.whitening[graph.rows]
                frames = local_frames(coarse, layout, points[known], whitening[known])
                return extended(graph, known, layout, frames, points, whitening)
    return start_layout(graph, observation.dim)


def _few_lengths_are_wrong(observation: Observation, found: Unfolding) -> bool:
    """Whether a layout in one sheet misses a few lengths, those at cliffs, which would hold it up from any other start, too."""
    few = is_one_to_one(found.overlap) and held_up_by_few(found.graph, found.layout)
    return few and ends_disagree(observation, found.graph, found.layout)


def _without_doubtful_edges(observation: Observation, found: Unfolding, n_neighbors: int) -> Unfolding:
    """A layout that few wrong lengths hold up, refined without doubtful edges, if it is better so."""
    firm = supported(found.graph, observation, n_neighbors)
    if len(firm.i) == len(found.graph.i) or pieces(firm)[0] > 1:
        return found
    layout, steps, settled = refine(firm, found.layout)
    again = corrected(observation, firm, layout, found.n_iter + steps, settled, rounds=0)
    return again if again.stress + again.overlap < found.stress + found.overlap else found


def _reconsidered(
    observation: Observation, graph: NeighborGraph, found: Unfolding, n_neighbors: int, hinges: Hinges | None
) -> Unfolding:
    """The best of the layout found, and of those without doubtful edges from the same start and from local frames."""
    firm = supported(graph, observation, n_neighbors)
    if hinges is not None:
        firm = hinges.braced(firm)
    if pieces(firm)[0] > 1:
        firm = graph
    layouts = [found]
    if len(firm.i) < len(graph.i):
        layouts.append(corrected(observation, firm, *untangle(firm, start_layout(firm, observation.dim))))
    points = np.ascontiguousarray(observation.points[firm.rows])
    development = None
    with contextlib.suppress(RuntimeError):  # a system may be singular where lengths are: the layouts before it stand
        development = develop(firm, points, observation.whitening[firm.rows])
    if development is not None:
        laid = corrected(observation, development[0], *untangle(*development))
        layouts += _opened(observation, laid) if winds_over_a_gap(laid) else [laid]
    return min(layouts, key=lambda layout: layout.stress + layout.overlap)


def _opened(observation: Observation, found: Unfolding) -> list[Unfolding]:
    """A curve laid out again without the edges that wind around it, if it holds together without them."""
    graph = found.graph.subset(np.flatnonzero((found.graph.windings == 0.0).all(axis=1)))
    graph = replace(graph, windings=np.empty((len(graph.i), 0)))
    if pieces(graph)[0] > 1:
        return []
    return [corrected(observation, graph, *untangle(graph, start_layout(graph, 1)))]


def _second_look(
    observation: Observation,
    found: Unfolding,
    n_neighbors: int,
    n_threads: int,
    hinges: Hinges | None = None,
    *,
    by_doubt: bool = False,
) -> Unfolding | None:
    """The layout from edges between samples that are near in it, samples left out before included."""
    rows, layout = found.graph.rows, found.layout
    n = len(rows)
    if found.graph.n_periods:
        graph = found.graph
    else:
        strays = np.setdiff1d(observation.usable, rows)
        # A piece that hangs together has no place in this layout: it would be spread along its border.
        if len(strays) > 0 and not too_many_strays(len(strays), len(observation)):
            located = found.chart(observation).locate(np.ascontiguousarray(observation.points[strays]), n_threads)
            rows, layout = np.concatenate([rows, strays]), np.concatenate([layout, located.coordinates])
        graph = layout_graph(observation, rows, layout, n_neighbors, n_threads)
        count, labels = pieces(graph)
        if count > 1:
            keep = labels == np.bincount(labels).argmax()
            # A layout that is wrong loses most of its edges here: then it is left as it was.
            if too_many_strays(int(n - keep.sum()), len(observation)):
                return None
            graph, layout = graph.restricted(keep), layout[keep]
    if hinges is not None:
        graph = hinges.braced(graph)
    doubts = None
    if by_doubt:
        doubts = disagreement(observation.points[graph.rows], observation.whitening[graph.rows], graph.i, graph.j)
    moved, steps, settled = refine_robustly(graph, layout, doubts=doubts)
    return corrected(observation, graph, moved, found.n_iter + steps, settled, rounds=2, robust=True, doubts=doubts)


def _largest_piece(graph: NeighborGraph, observation: Observation) -> NeighborGraph:
    """The graph of its largest piece; raises where that does not hold most of the samples."""
    count, labels = pieces(graph)
    if count == 1:
        return graph
    keep = labels == np.bincount(labels).argmax()
    # A side that folds loses crumbs along the fold, and what is left lies on itself: only pieces of a size may be left out.
    sizes = np.bincount(labels)
    crumbs = int(sizes[sizes < PIECE * len(observation)].sum())
    most = holds_most(int(keep.sum()), len(observation)) and not too_many_strays(crumbs, len(observation))
    if not most and too_many_strays(int((~keep).sum()), len(observation)):
        order = np.argsort(-np.bincount(labels), kind="stable")
        raise errors.DisconnectedError(
            f"the neighbour graph falls into {pieces_text(labels)} samples: the measurements fold or bend too "
            "sharply for this many samples, or do not cover the domain; add "
            f"neurons{or_samples(observation)}{ROWS_OF_ERROR}",
            [np.sort(graph.rows[labels == label]) for label in order],
        )
    return graph.restricted(keep)
