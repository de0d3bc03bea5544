// The kernel by tiles of matrix products (tile_metric.hpp), for small samples, wide kernels and many measurements.
// Tiles out of reach of one another are skipped, so that cost and memory stay those of the entries.
#pragma once

#include "diffeo/mahalanobis.hpp"
#include "diffeo/tree.hpp"

namespace diffeo {

/// The same as assemble_kernel, by tiles: the same pairs, values to rounding, symmetric to the last bit.
/// Memory: 12 bytes an entry, and a third as much again while it runs.
/// Thread-safe; the same bits for any number of threads; throws Interrupted on Ctrl-C.
Kernel assemble_dense(const MetricTree& tree, Bandwidth bandwidth, int threads);

/// The same as row_statistics, by tiles; sums to some 1e-10. Worth it wherever tiles are.
/// Thread-safe; the same bits for any number of threads; throws Interrupted on Ctrl-C.
void dense_row_statistics(const MetricTree& tree, Bandwidth bandwidth, const Row* rows, Index count, double* sums,
                          Index* entries, Index* gated, int threads);

/// Which way costs less for a kernel with so many entries a row.
///
/// A tile costs 2 m (d + 1)^2 + some 100 operations for each of its pairs, all at the rate of matrix products; the
/// search costs 2 (m + 2 m d) for each end of fewer pairs, at a third of that rate. Counts and measurements agree that
/// tiles are cheaper from nine measurements on at any density, and below where rows hold an eighth of all samples.
/// Beyond eight dimensions the (d + 1)^2 products of a tile outgrow the caches, and the search it is.
bool tiles_are_cheaper(const MetricTree& tree, double entries_per_row);

}  // namespace diffeo
