// Connected pieces of the graph of a sparse symmetric matrix.
#pragma once

#include <vector>

#include "diffeo/operator.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Label (n) of the piece of each row, numbered in the order of their first rows; returns the number of pieces.
/// Breadth-first search: O(entries), one thread.
Index connected_components(const SparseView& matrix, std::vector<Row>& labels);

}  // namespace diffeo
