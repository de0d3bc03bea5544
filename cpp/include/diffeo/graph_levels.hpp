// Levels of the multigrid for graph Laplacians: aggregates and prolongations.
//
// By smoothed aggregation (Vanek, Mandel, Brezina 1996): each coarse unknown is a sample with its neighbours,
// interpolation is smoothed once, and coarse matrices are the Galerkin products P^T A P. Only the graph enters, no
// geometry: edges that lost their weight, sheets, holes and thin arms are seen as they are.
#pragma once

#include <vector>

#include "diffeo/single.hpp"
#include "diffeo/sparse_rows.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// One level: a symmetric matrix A in single precision, and the transfer to the next coarser one.
struct GraphLevel {
  OwnedSingleRows matrix;
  std::vector<float> inverse_diagonal;  ///< (n); 0 for samples without edges
  double highest = 0.0;  ///< an upper bound of the spectrum of diag(A)^-1 A, to a few percent

  // Towards the next level; empty on the last.
  OwnedSingleRows prolongation;  ///< P (n, n_coarse)
  OwnedSingleRows restriction;  ///< P^T

  Index size() const { return matrix.rows.n_rows; }
};

/// Levels of a matrix, the finest first, and the last one's matrix in double precision.
struct GraphLevels {
  std::vector<GraphLevel> levels;
  SparseRows coarsest;
};

/// Builds the levels of the Laplacian of a graph (graph_laplacian.hpp). Throws Interrupted on Ctrl-C. Thread-safe; the
/// same bits for any number of threads.
GraphLevels build_graph_levels(const SparseRows& matrix, int threads);

}  // namespace diffeo
