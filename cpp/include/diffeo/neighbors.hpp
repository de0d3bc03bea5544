// Anisotropic neighbour search: the nearest samples by squared Mahalanobis distance among pairs that pass the gates.
#pragma once

#include "diffeo/tree.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// For every sample its k nearest others by q_ij (see pair_metric.hpp) among the pairs that pass the gates, that of
/// transports with the limit `transport` (at least 1) instead of Gates::kTransport.
///
/// `neighbors` and `squared_distances` (n, k), in tree positions and order, nearest first; missing ones are -1 and
/// infinity. Coincident samples (q = 0) are skipped: they say nothing of lengths. The radius of the search grows until
/// it is large enough beside the k-th q for the gate of reach to bind no more, which makes the result independent of
/// it. A sample whose reach holds many more others than k, with too few of them passing the gates, keeps what it has:
/// its surroundings bend too sharply. Thread-safe; the same bits for any number of threads; throws Interrupted on
/// Ctrl-C.
void nearest_neighbors(const MetricTree& tree, Index k, double transport, Row* neighbors, double* squared_distances,
                       int threads);

}  // namespace diffeo
