// Levels for multigrid on weighted graphs by smoothed aggregation (Vanek, Mandel, Brezina 1996): each coarse unknown is
// a sample with its neighbours, interpolation is smoothed once, and coarse matrices are the Galerkin products P^T A P.
//
// Only the graph enters, no geometry: edges that lost their weight, sheets, holes and thin arms are seen as they are.
#pragma once

#include <vector>

#include "diffeo/single.hpp"
#include "diffeo/sparse_rows.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// One level: a symmetric matrix A in single precision, and the transfer to the next coarser one.
struct AggregationLevel {
  OwnedSingleRows matrix;
  std::vector<float> inverse_diagonal;  ///< (n); 0 for samples without edges
  double highest = 0.0;  ///< an upper bound of the spectrum of diag(A)^-1 A, to a few percent

  // Towards the next level; empty on the last.
  OwnedSingleRows prolongation;  ///< P (n, n_coarse)
  OwnedSingleRows restriction;  ///< P^T

  Index size() const { return matrix.rows.n_rows; }
};

/// Levels of a matrix, the finest first, and the last one's matrix in double precision.
struct AggregationHierarchy {
  std::vector<AggregationLevel> levels;
  SparseRows coarsest;
};

/// The matrix diag(anchors) + sum_e w_e (x_i - x_j)^2 of a graph of n samples and e edges with weights w >= 0, in
/// compressed rows with the diagonal; edges between the same samples add up. `anchors` (n, >= 0) may be null.
/// Throws std::invalid_argument for rows outside of [0, n). Thread-safe.
SparseRows graph_laplacian(Index n, const Index* i, const Index* j, const double* weights, Index e,
                           const double* anchors);

/// Builds the levels of such a matrix. Throws Interrupted on Ctrl-C. Thread-safe; the same bits for any number of
/// threads.
AggregationHierarchy build_aggregation(const SparseRows& matrix, int threads);

}  // namespace diffeo
