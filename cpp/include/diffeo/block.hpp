// Products of tall blocks of vectors (n, b) with small matrices, in fixed chunks of rows.
//
// All functions are thread-safe and give the same bits for any number of threads.
#pragma once

#include "diffeo/types.hpp"

namespace diffeo {

/// Gram matrix x^T y of two blocks: partial products of fixed chunks, added in chunk order.
RowMatrix gram(const RowMatrix& x, const RowMatrix& y, int threads);

/// target = x * coefficients, or target += x * coefficients; `target` must not be x.
void multiply(const RowMatrix& x, const RowMatrix& coefficients, RowMatrix& target, bool accumulate, int threads);

/// One step of the Chebyshev iteration for (I - S) w = r, given image = S w:
/// update = keep * update + gain * (r - w + image), then w += update.
void chebyshev_step(const RowMatrix& r, const RowMatrix& image, double keep, double gain, RowMatrix& update,
                    RowMatrix& w, int threads);

}  // namespace diffeo
