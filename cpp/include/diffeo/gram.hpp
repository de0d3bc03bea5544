// Gram matrices of tall blocks of vectors (n, b), in fixed chunks of rows.
//
// All functions are thread-safe and give the same bits for any number of threads.
#pragma once

#include "diffeo/types.hpp"

namespace diffeo {

/// Gram matrix x^T y of two blocks: partial products of fixed chunks, added in chunk order.
RowMatrix gram(const RowMatrix& x, const RowMatrix& y, int threads);

}  // namespace diffeo
