// Linear fits to the neighbours of a sample, eight samples at a time.
#pragma once

#include <vector>

#include "diffeo/small/lanes.hpp"

namespace diffeo {

/// sum_k coefficients[k] (row_k - row_0) over `count` rows of m numbers, to out[0..m): the combination of the rows with
/// coefficients that sum to zero, without the rounding that a common offset of the rows would bring in.
void combine_rows(const double* const* rows, Index count, Index m, const double* coefficients, double* out);

/// The pseudo-inverses of eight matrices of centred positions (k, p), by Gram-Schmidt with column pivoting and
/// reorthogonalisation. Holds scratch space: one object a thread.
class LocalFit {
 public:
  LocalFit(Index k, Index p);

  /// Coordinate c of neighbour a, to fill.
  Lanes& position(Index a, Index c) { return columns_[static_cast<std::size_t>(c * k_ + a)]; }

  /// Overwrites the positions. Directions that the positions do not span to rounding get no part of the fit.
  void compute();

  const Lanes* pseudo_inverse() const { return inverse_.data(); }  ///< (p, k); every row sums to zero
  /// Smallest over largest diagonal entry of the triangular factor; 0 where all positions coincide.
  const Lanes& condition() const { return condition_; }

 private:
  void pivot(Index j);
  void project(Index from, Index j);

  Index k_, p_;
  Lanes condition_;
  std::vector<Lanes> columns_, triangle_, order_, inverse_;
};

}  // namespace diffeo
