// Singular values and left singular vectors of small factors, eight samples at a time.
#pragma once

#include <vector>

#include "diffeo/small/lanes.hpp"

namespace diffeo {

/// Thin decomposition A = U Sigma V^T of eight factors (m, p): a Householder QR step where it shortens the columns,
/// then one-sided Jacobi rotations (Hestenes 1958), which find small singular values to high *relative* accuracy where
/// only the lengths of columns make them small (Demmel and Veselic 1992).
///
/// Scaling a factor by a power of two scales the results by it, exactly. A factor with a number that is not finite has
/// singular values that are not numbers and whitening 0. Holds scratch space: one object a thread.
class SmallDecomposition {
 public:
  SmallDecomposition(Index m, Index p);

  /// Reads the factors, (m, p) row-major.
  void load(const LaneRows& factors);
  /// The same from their transposes, (p, m) row-major.
  void load_transposed(const LaneRows& factors);
  /// Entry (a, k) of the factors, before `compute`.
  Lanes& entry(Index a, Index k) { return work_[static_cast<std::size_t>(wide_ ? k * m_ + a : a * p_ + k)]; }

  /// Singular values (min(m, p)), descending, and gain U_d / Sigma_d (m, dim); dim = 0: values only.
  void compute(Index dim, double gain);

  const Lanes* singular_values() const { return values_.data(); }
  const Lanes* whitening() const { return whitening_.data(); }

 private:
  void orthogonalise();
  void triangularise();
  void transpose_triangle();
  void sort_columns();
  void write_whitening(Index dim, double gain, const LaneUnit& unit);
  void apply_reflections(Index dim);

  Index m_, p_;
  bool wide_;            // p > m: the work is on A^T
  bool reduced_;         // a QR step precedes the rotations
  Index rows_, columns_;  // of the matrix at work: (m, p) or (p, m)
  std::vector<Lanes> work_;      // the factor, then its reflections
  std::vector<Lanes> square_;    // (columns, columns), where reduced
  std::vector<Lanes> tau_, values_, order_, whitening_;
};

/// Replaces eight square matrices (d, d) by the orthogonal matrices nearest to them, U V^T of their singular value
/// decompositions; directions that a matrix maps to zero are completed. `scratch` holds 2 d^2 numbers. Thread-safe.
void orthogonal_factor(Lanes* matrix, Index d, Lanes* scratch);

}  // namespace diffeo
