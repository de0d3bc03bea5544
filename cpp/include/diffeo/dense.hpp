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

}  // namespace diffeo
