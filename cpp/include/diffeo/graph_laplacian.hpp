// The Laplacian of a weighted graph in compressed rows.
#pragma once

#include "diffeo/sparse_rows.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// The matrix diag(anchors) + sum_e w_e (x_i - x_j)^2 of a graph of n samples and e edges with weights w >= 0, in
/// compressed rows with the diagonal; edges between the same samples add up. `anchors` (n, >= 0) may be null.
/// Throws std::invalid_argument for rows outside of [0, n). Thread-safe.
SparseRows graph_laplacian(Index n, const Index* i, const Index* j, const double* weights, Index e,
                           const double* anchors);

}  // namespace diffeo
