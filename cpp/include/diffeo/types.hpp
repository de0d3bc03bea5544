// Aliases shared by the whole core: index types, row-major blocks, and uninitialised arrays (buffer.hpp).
#pragma once

#include <Eigen/Core>

#include "diffeo/buffer.hpp"
#include "diffeo/index.hpp"

namespace diffeo {

/// Blocks of vectors: one row a sample, columns contiguous, as NumPy stores them.
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

}  // namespace diffeo
