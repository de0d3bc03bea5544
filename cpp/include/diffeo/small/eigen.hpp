// Eigenvalues and leading eigenvectors of small symmetric matrices, eight samples at a time.
#pragma once

#include <vector>

#include "diffeo/small/lanes.hpp"

namespace diffeo {

/// All eigenvalues, descending, and the eigenvectors of the first ones of eight symmetric matrices (n, n).
///
/// Householder tridiagonalisation, then the square-root-free QL iteration for the values (Pal, Walker and Kahan;
/// Parlett, The symmetric eigenvalue problem, 8.15) and inverse iteration with Gram-Schmidt for the vectors. Values are
/// exact for a matrix that differs from the given one by some rounding units of its norm: small eigenvalues have that
/// *absolute* error. Scaling a matrix by a power of two scales the values by it, exactly. A matrix with a number that
/// is not finite has values that are not numbers. Holds scratch space: one object a thread.
class SmallEigen {
 public:
  explicit SmallEigen(Index n);

  /// The matrices to fill, (n, n) row-major; only entries at and below the diagonal are read. Overwritten by `compute`.
  Lanes* matrix() { return matrix_.data(); }

  /// Throws std::runtime_error where the iteration does not converge.
  void compute(Index dim);

  const Lanes* eigenvalues() const { return values_.data(); }  ///< (n)
  const Lanes* eigenvectors() const { return vectors_.data(); }  ///< (n, dim) row-major, orthonormal

 private:
  void tridiagonalise();
  void iterate();
  void sort_values();
  void factorise(const Lanes& value);
  void solve(Lanes* x, bool forward) const;
  void find_vectors(Index dim);
  void orthonormalise(Lanes* x, Index k, Index dim) const;
  void transform_back(Index dim);

  Index n_;
  Lanes norm_;
  std::vector<Lanes> matrix_, diagonal_, off_diagonal_, tau_, values_, squares_, vectors_;
  std::vector<Lanes> reflection_, product_, trial_;
  std::vector<Lanes> pivot_, upper_, second_, multiplier_;
  std::vector<LaneMask> swapped_;
};

}  // namespace diffeo
