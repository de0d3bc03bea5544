// Sparse assembly of the Mahalanobis kernel k_ij = exp(-q_ij / (4 epsilon)) on a tree.
//
// Every pair of the definition in pair_metric.hpp and no other; no n-by-n array.
#pragma once

#include "diffeo/sparse_rows.hpp"
#include "diffeo/tree.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Bandwidth and cut: entries below `truncation` are dropped, r^2 = 4 epsilon log(1/truncation).
struct Bandwidth {
  double epsilon;
  double truncation;
  double squared_radius() const;
};

/// The kernel in tree order, and what was seen on the way.
struct Kernel {
  SparseRows rows;          ///< sorted columns, unit diagonal
  Buffer<Row> gated;        ///< pairs within the radius that the gates dropped, (n); each counts in both of its rows
  Index n_gated = 0;        ///< the same over all samples, each pair once
  Index n_ones = 0;         ///< entries off the diagonal that equal 1
  bool is_finite = true;    ///< no entry is not-a-number
};

/// Assembles the kernel over all samples of the tree, symmetric to the last bit.
///
/// Each pair is computed from both of its ends, by operations that give the same bits (see BlockMetric): rows are then
/// complete and sorted when they are computed, and are written once.
/// Memory: 12 bytes an entry, and little more while it runs.
/// Thread-safe; the same bits for any number of threads; throws Interrupted on Ctrl-C.
Kernel assemble_kernel(const MetricTree& tree, Bandwidth bandwidth, int threads);

/// The same by the search on the tree; assemble_kernel chooses between this and the tiles of dense.hpp.
Kernel assemble_sparse(const MetricTree& tree, Bandwidth bandwidth, int threads);

/// For `count` chosen samples (`rows`: tree positions): row sums of the kernel (diagonal included), entries, and
/// pairs dropped by the gates. What the choice of epsilon needs, without assembling anything.
void row_statistics(const MetricTree& tree, Bandwidth bandwidth, const Row* rows, Index count, double* sums,
                    Index* entries, Index* gated, int threads);

/// Kernel between new points (count, m) and the samples, with columns in the caller's row numbers.
///
/// `whitening` (count, m, dim) makes it two-sided with all gates; null makes it one-sided (q = a_ji from the samples'
/// metric alone; gates of reach and tangent only), which is all that a bare point allows.
SparseRows cross_kernel(const MetricTree& tree, Bandwidth bandwidth, const double* points, const double* whitening,
                        Index count, int threads);

}  // namespace diffeo
