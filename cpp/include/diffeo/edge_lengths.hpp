// Lengths of edges from the derivatives at both ends, and how far an edge leaves the span of both tangents.
#pragma once

#include "diffeo/types.hpp"

namespace diffeo {

/// Lengths of e edges between n samples, by the trapezoidal rule along the straight line between the inputs.
///
/// With J_i = U_i Sigma_i in the frame of sample i and O the orthogonal part of W_i^T J_j + (W_j^T J_i)^T (the turn
/// from the frame of j to that of i), the displacement v solves y_j - y_i = (J_i + J_j O^T) v / 2 by least squares; the
/// length is norm(v). Its relative error is O(h^2) like that of sqrt(q), with a far smaller constant where tangents
/// turn. `off_tangent` is norm(y_j - y_i - (J_i + J_j O^T) v / 2) / norm(y_j - y_i): O(h^2) between neighbours on one
/// sheet, of order one between sheets that cross, whatever their distance. It is 0 where m = d.
///
/// `points` (n, m), `whitening` (n, m, d), rows `i` and `j` (e), `lengths` and `off_tangent` (e). Coincident samples
/// have length 0. Thread-safe; the same bits for any number of threads; throws Interrupted on Ctrl-C.
void edge_lengths(const double* points, const double* whitening, Index n, Index m, Index d, const Index* i,
                  const Index* j, Index e, double* lengths, double* off_tangent, int threads);

}  // namespace diffeo
