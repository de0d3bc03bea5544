// The multigrid cycle, its smoother and the conjugate gradients around it, for Laplacians of weighted graphs.
//
// Solves A x = b for a few right-hand sides at once, in time proportional to the number of edges: conjugate gradients
// in double precision, preconditioned by one cycle on the levels of graph_levels.hpp in single.
#pragma once

#include <vector>

#include "diffeo/graph_levels.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Approximate and full solutions with one Laplacian; anchors make it definite, without them its pieces float.
///
/// Immutable after construction, so that any number of threads may use it at once; the same bits for any number of
/// threads. Everything throws Interrupted on Ctrl-C.
class LaplacianSolver {
 public:
  /// As `graph_laplacian`.
  LaplacianSolver(Index n, const Index* i, const Index* j, const double* weights, Index e, const double* anchors,
                  int threads);

  Index size() const { return matrix_.n_rows; }
  /// Samples of each level, the finest first.
  std::vector<Index> levels() const;

  /// w = M^-1 r for blocks (n, b): one V-cycle, a fixed symmetric positive definite map with 0 < M^-1 A <= 1 up to a
  /// few percent, so that x + M^-1 (b - A x) lowers the energy of the error from any x. Without anchors the columns of
  /// w have mean zero, and those of r must sum to zero over each piece of the graph.
  void cycle(const double* r, Index b, double* w) const;

  /// Conjugate gradients from x (n, b) until norm(b - A x) <= tolerance norm(b) in every column; returns the
  /// iterations. `reduction` gets the largest norm(b - A x) / norm(b), computed from x at the end: callers must look.
  Index solve(const double* right, Index b, double tolerance, Index max_iterations, double* x, double* reduction) const;

 private:
  struct Work;
  void descend(std::size_t level, Work& work) const;
  void smooth(std::size_t level, bool from_zero, Work& work) const;

  int threads_;
  bool anchored_;
  SparseRows matrix_;
  std::vector<GraphLevel> levels_;
  Matrix<float> coarsest_inverse_;  // pseudo-inverse; empty where the coarsest level is too large for one
};

}  // namespace diffeo
