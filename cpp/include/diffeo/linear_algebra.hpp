// Dense linear algebra by Eigen, which no other file includes: its templates take longer to compile than all the rest.
//
// All functions are thread-safe, run on the calling thread alone, and allocate nothing that outlives them but results.
#pragma once

#include <memory>
#include <vector>

#include "diffeo/types.hpp"

namespace diffeo {

/// out = a b, (a.rows, b.cols), rows `stride` numbers apart; `out` must not overlap a or b.
void multiply(const MatrixView& a, const MatrixView& b, double* out, Index stride);
/// out = a^T b, (a.cols, b.cols), in the same way.
void multiply_transposed(const MatrixView& a, const MatrixView& b, double* out, Index stride);

RowMatrix product(const MatrixView& a, const MatrixView& b);
RowMatrix transposed_product(const MatrixView& a, const MatrixView& b);

/// Eigenvalues, ascending, and orthonormal eigenvectors in the columns of `vectors`.
struct SymmetricEigen {
  std::vector<double> values;
  RowMatrix vectors;
};

/// Of a symmetric matrix (n, n), by tridiagonalisation and implicit QR. Throws std::runtime_error, in the name of
/// `caller`, where it has no decomposition: a number that is not finite, above all.
SymmetricEigen symmetric_eigen(const RowMatrix& matrix, const char* caller);

/// Solutions of least norm of linear least-squares problems of one shape, by a complete orthogonal decomposition:
/// directions of the design below `threshold` of the widest count as zero. Many terms of a design that is far from such
/// directions are found by refined normal equations, to some 1e-12. Holds scratch space: one object a thread.
class LeastNormFit {
 public:
  LeastNormFit(Index rows, Index terms, double threshold);
  ~LeastNormFit();
  LeastNormFit(const LeastNormFit&) = delete;
  LeastNormFit& operator=(const LeastNormFit&) = delete;

  /// Coefficients (terms, v) that take the design (rows, terms) nearest to the targets (rows, v).
  const RowMatrix& solve(const RowMatrix& design, const RowMatrix& targets);

 private:
  struct Solver;
  std::unique_ptr<Solver> solver_;
  RowMatrix coefficients_;
};

}  // namespace diffeo
