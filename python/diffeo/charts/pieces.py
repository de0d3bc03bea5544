"""The large pieces into which a sample falls, by row: each can have a chart of its own."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo._support.arrays import IntArray
from diffeo._support.threads import thread_count
from diffeo.charts.chart import Chart
from diffeo.isometry.embedding import usual_neighbors, without_repeats
from diffeo.isometry.graph import bridged, neighbor_graph, pieces
from diffeo.isometry.trust import PIECE, too_many_strays

# Samples of a piece for each dimension and one more, below which its layout is loose.
FEWEST = 4


def large_pieces(chart: Chart) -> list[IntArray]:
    """Rows of each piece that is large enough for a chart, ascending; the largest piece first, all samples where they are one.

    Pieces are those of the neighbour graph; where the largest has the chart of the whole sample, that and those of the rest.
    """
    layout, observation = chart.isometric(), chart.measured
    found, rest = list[IntArray](), observation.usable
    if layout is not None:
        found, rest = [layout.used], np.intersect1d(layout.left_out, rest)
        if not too_many_strays(len(rest), len(observation)):
            return found
    with errors.unsaid(errors.DuplicateWarning):  # said when the layout was sought
        rest = np.intersect1d(without_repeats(observation).usable, rest)
    fewest = max(PIECE * len(observation), FEWEST * (chart.dim + 1))
    if len(rest) >= fewest:
        k, n_threads = usual_neighbors(chart.dim), thread_count(chart.n_jobs)
        part = observation[rest]
        graph = bridged(neighbor_graph(part, k, n_threads), part, k, n_threads)
        count, labels = pieces(graph)
        found += [np.sort(rest[graph.rows[labels == label]]) for label in range(count)]
    return sorted((rows for rows in found if len(rows) >= fewest), key=lambda rows: (-len(rows), int(rows[0])))
