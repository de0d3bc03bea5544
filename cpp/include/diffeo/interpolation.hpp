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
void local_polynomial_fit(const double* queries, Index n_queries, Index d, const double* nodes, Index n_nodes,
                          const double* values, Index v, const Index* neighbors, Index k, int degree, double* result,
                          int threads);

/// Hermite moving least squares: value and gradient at each query of the weighted polynomial fit to values *and*
/// gradients at its k listed nodes.
///
/// Arguments as above, and `gradients` (n, v, d), dv/dx at the nodes. Fills `result` (q, v) and, unless null,
/// `slopes` (q, v, d). Degree 1 to 3: with degree 3 and nodes at distance h the error is O(h^4).
void local_hermite_fit(const double* queries, Index n_queries, Index d, const double* nodes, Index n_nodes,
                       const double* values, const double* gradients, Index v, const Index* neighbors, Index k,
                       int degree, double* result, double* slopes, int threads);

}  // namespace diffeo
