// The solver of a Laplacian is made ready: its levels, and the inverse of the coarsest.
#include <algorithm>
#include <cmath>
#include <utility>

#include "diffeo/graph_laplacian.hpp"
#include "diffeo/graph_multigrid.hpp"
#include "diffeo/linear_algebra.hpp"

namespace diffeo {
namespace {

// A coarsest level above this size is not decomposed: only graphs of very many pieces have one, and smoothing does.
constexpr Index kDecomposed = 1500;

// Eigenvalues of the coarsest matrix below this share of the largest are those of floating pieces.
constexpr double kFloating = 1e-13;

}  // namespace

LaplacianSolver::LaplacianSolver(Index n, const Index* i, const Index* j, const double* weights, Index e,
                                 const double* anchors, int threads)
    : threads_(threads), anchored_(anchors != nullptr), matrix_(graph_laplacian(n, i, j, weights, e, anchors)) {
  GraphLevels built = build_graph_levels(matrix_, threads);
  levels_ = std::move(built.levels);
  const SparseRows& last = built.coarsest;
  if (last.n_rows > kDecomposed || last.n_rows == 0) return;
  const Index m = last.n_rows;
  RowMatrix dense = RowMatrix::zero(m, m);
  for (Index row = 0; row < m; ++row) {
    for (Index k = last.indptr[row]; k < last.indptr[row + 1]; ++k) dense(row, last.indices[k]) += last.values[k];
  }
  const auto [values, vectors] = symmetric_eigen(dense, "LaplacianSolver");
  const double floating = kFloating * std::max(std::abs(values.front()), std::abs(values.back()));
  RowMatrix scaled(m, m), transposed(m, m);
  for (Index row = 0; row < m; ++row) {
    for (Index k = 0; k < m; ++k) {
      const double value = values[static_cast<std::size_t>(k)];
      scaled(row, k) = value > floating ? vectors(row, k) / value : 0.0;
      transposed(k, row) = vectors(row, k);
    }
  }
  const RowMatrix inverse = product(scaled, transposed);
  coarsest_inverse_ = Matrix<float>(m, m);
  for (Index k = 0; k < m * m; ++k) coarsest_inverse_.data()[k] = static_cast<float>(inverse.data()[k]);
}

std::vector<Index> LaplacianSolver::levels() const {
  std::vector<Index> sizes;
  sizes.reserve(levels_.size());
  for (const GraphLevel& level : levels_) sizes.push_back(level.size());
  return sizes;
}

}  // namespace diffeo
