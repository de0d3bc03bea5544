// Derivatives of the measurements along a layout of a neighbour graph, and lengths that they correct to the next order.
//
// Functions are thread-safe, give the same bits for any number of threads, and throw Interrupted on Ctrl-C. `steps`
// (e, d) are the steps of the layout along the edges, from sample i[e] to j[e]; `points` (n, m).
#pragma once

#include <cstdint>

#include "diffeo/stress.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Edges of a graph of n samples between rows `i` and `j` (e), with their steps (e, d) in a layout.
struct LaidEdges {
  const IncidentEdges* incident;
  const Index* i;
  const Index* j;
  const double* steps;
  Index e, d;
};

/// Rotations Q_s (n, d, d) with W_s^T (y_t - y_s) = Q_s (X_t - X_s) in the limit, `whitening` W (n, m, d).
///
/// Procrustes over the edges of each sample, weighted by 1 / squared step. One-sided local coordinates have an error of
/// second order, which the ends of an edge see with opposite signs: in `rounds` more rounds, displacements averaged
/// over both ends, which need the frames, take their place.
void local_frames(const LaidEdges& edges, const double* points, const double* whitening, Index m, int rounds,
                  double* frames, int threads);

/// Places the samples that are not `known` (n) beside those that are, outwards along the edges, which need no steps.
///
/// A sample s with placed neighbours t gets the frame Q_s nearest to sum_t W_s^T J_t Q_t, and the mean over t of
/// X_t + (W_t Q_t + W_s Q_s)^T (y_s - y_t) / 2, whose error is of third order in the distance. `layout` (n, d) and
/// `frames` (n, d, d) are completed in place; samples that no path joins to a known one remain as they are.
void extend_layout(const LaidEdges& edges, const double* points, const double* whitening, Index m,
                   const std::uint8_t* known, double* layout, double* frames, int threads);

/// Lengths (e) to the next order, from the derivatives `gradients` G = dy/dX (n, m, d).
///
/// With s = X_j - X_i and D_i = d2y/dX2 [s, s] at i, Hermite quadrature (Euler and Maclaurin) says
/// y_j - y_i = (G_i + G_j) s / 2 + (D_i - D_j) / 12 + O(s^5). Second derivatives come from least squares on the
/// differences of G along the edges of each sample; what s misses of y_j - y_i becomes a displacement by the
/// pseudo-inverse of the mean derivative. A length that would change by more than the share `believable` stays.
void corrected_lengths(const LaidEdges& edges, const double* points, const double* gradients, Index m,
                       const double* lengths, double believable, double* corrected, int threads);

}  // namespace diffeo
