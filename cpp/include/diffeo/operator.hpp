// The normalised diffusion operator S = D^-1/2 K_alpha D^-1/2, stored as the kernel K and a scaling vector.
//
// K_alpha = D_0^-alpha K D_0^-alpha with D_0 = diag(K 1), and D = diag(K_alpha 1) (Coifman and Lafon 2006), so
// S = diag(s) K diag(s) with s = D_0^-alpha D^-1/2. S is similar to the Markov matrix D^-1 K_alpha.
#pragma once

#include "diffeo/types.hpp"

namespace diffeo {

/// A symmetric sparse matrix that somebody else owns.
struct SparseView {
  Index n;
  const Index* indptr;
  const Row* indices;
  const double* values;
};

/// Row sums `density` = K 1 (n), `degree` = K_alpha 1 (n) and `scaling` s (n).
void normalise(const SparseView& kernel, double alpha, double* density, double* degree, double* scaling, int threads);

/// S as a linear map on blocks of vectors. Thread-safe; the same bits for any number of threads.
class DiffusionOperator {
 public:
  DiffusionOperator(const SparseView& kernel, const double* scaling, int threads)
      : kernel_(kernel), scaling_(scaling), threads_(threads) {}

  Index size() const { return kernel_.n; }
  int threads() const { return threads_; }
  const SparseView& kernel() const { return kernel_; }
  const double* scaling() const { return scaling_; }

  /// y = S x for blocks (n, b); y is resized.
  void apply(const RowMatrix& x, RowMatrix& y) const {
    y.resize(x.rows(), x.cols());
    apply(x.data(), x.cols(), y.data(), x.cols(), x.cols());
  }
  /// The same for the first `columns` columns of row-major arrays with so many numbers a row; y must not overlap x.
  void apply(const double* x, Index x_stride, double* y, Index y_stride, Index columns) const;

  /// S as a dense matrix: for small n only.
  RowMatrix dense() const;

 private:
  SparseView kernel_;
  const double* scaling_;
  int threads_;
};

}  // namespace diffeo
