// Local polynomial interpolation of values given at scattered nodes.
#pragma once

#include "diffeo/types.hpp"

namespace diffeo {

/// Moving least squares: at each query the value of the weighted polynomial fit to its k listed nodes.
///
/// `queries` (q, d), `nodes` (n, d), `values` (n, v), `neighbors` (q, k) rows of the nodes, nearest first; `result`
/// (q, v). Weights are exp(-|x - x_j|^2 / h^2) with h half the distance to the farthest of the k nodes.
/// Degree 1 or 2; directions that the nodes do not span (below 1e-6 of the widest) are left out of the fit, so
/// that a degenerate neighbourhood lowers the degree there and nothing else.
/// Thread-safe; the same bits for any number of threads; throws std::invalid_argument on a degree beyond 2.
void local_polynomial_fit(const double* queries, Index n_queries, Index d, const double* nodes, const double* values,
                          Index v, const Index* neighbors, Index k, int degree, double* result, int threads);

}  // namespace diffeo
