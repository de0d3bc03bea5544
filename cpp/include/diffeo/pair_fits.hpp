// Maps between two sides learned from pairs: local polynomials in one side's tangent coordinates, fitted to values and
// slopes.
#pragma once

#include "diffeo/types.hpp"

namespace diffeo {

/// n common inputs as both sides measure them, of which one is the source and the other the target.
///
/// Around sample i, u = W_i^T (y - y_i) are local coordinates of the source, in units of the input.
struct PairedSamples {
  const double* points;  ///< (n, m) y_j on the source
  const double* whitening;  ///< (n, d, m) the columns of W_j = U_j / Sigma_j, those of U_j orthonormal
  const double* stretches;  ///< (n, d) Sigma_j
  const double* values;  ///< (n, v) on the target
  /// (n, p, m) and (n, v, p): derivatives of both sides by the same p coordinates of the input; or both null: then
  /// polynomials are fitted to the values alone, of more pairs.
  const double* jacobians;
  const double* slopes;
  Index n, m, d, v, p;
  /// Misfits are those of the first `tested` values alone, random combinations of all where there are many. The first
  /// `hidden` values are of use for nothing else.
  Index tested, hidden;
};

/// How many pairs a polynomial of d variables and this degree is fitted to, with slopes or without.
Index pairs_of_fit(Index d, int degree, bool with_slopes);

/// Local polynomial fits at queries (q, m) on the source, of several degrees.
///
/// `neighbors` (q, k) are rows of the samples, near ones of each query in any order, of which each fit takes the
/// nearest by local coordinates around the one whose tangent plane explains the query best; k must be at least
/// pairs_of_fit of every degree. Weights fall with the distance from the query. Fills `result` (q, n_degrees,
/// v - hidden), the polynomials at the queries, and `doubt` (q, n_degrees), their standard errors by the misfit of each
/// fit and the position of its pairs, for all values together: infinite, and the value that of the nearest pair, where
/// the pairs leave the value open. Thread-safe; the same bits for any number of threads; throws std::invalid_argument
/// on a degree out of 0 to 8, too few neighbours, or rows that do not exist.
void pair_fits(const PairedSamples& samples, const double* queries, Index n_queries, const Index* neighbors, Index k,
               const Index* degrees, Index n_degrees, double* result, double* doubt, int threads);

}  // namespace diffeo
