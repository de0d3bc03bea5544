// Local linear fits of functions on the samples, weighted by a kernel: smoothed values and slopes.
//
// Around sample i the others have coordinates u_j, and the weights w_j = k_ij^power / p_j over their sum, with p the
// row sums of k^power, cut where the kernel is: a uniform measure of the domain, whatever the density of the samples.
// The fit of a function f by a + b^T u has b = C^-1 sum_j w_j (u_j - v) f_j and a = sum_j w_j f_j - b^T v, with v the
// mean and C the covariance of u under w.
#pragma once

#include "diffeo/operator.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Frames in which the neighbours of each sample are seen.
struct LocalFrames {
  const double* points;  ///< (n, m)
  const double* frames;  ///< W (n, m, d)
  Index m, d;
  bool orthonormal;  ///< whether frames are those of surfaces in space, whose chords are made as long as their arcs
};

/// Coordinates of neighbours.
struct LocalGeometry {
  const double* points;  ///< (n, d): u = y_j - y_i where there are no steps
  const float* steps;  ///< (entries, d) of `local_steps`, or null
  double unit;  ///< of the steps
  Index d;
};

/// What the fits need of every sample, and what shows where the border is.
struct LocalMoments {
  double* shift;       ///< (n, d) mean of u under k^power itself, the mean shift of the density
  double* mean;        ///< (n, d) v
  double* noise;       ///< (n) sum_j w_j^2 |u_j|^2: variance of v for samples drawn independently
  double* self;        ///< (n) share of the sample itself in the sum of the weights
  double* precision;   ///< (n, d, d) inverse of C + ridge I
};

/// A power of the kernel, which is the kernel of as large a share of its bandwidth.
struct KernelPower {
  int exponent;        ///< 1 or 2
  double least;        ///< smaller entries do not count
  const double* sums;  ///< (n) row sums p
};

/// Row sums (n, 3) of the kernel, of its squares that are at least `least`, and of its fourth powers.
void power_sums(const SparseView& kernel, double least, double* sums, int threads);

/// Orthonormal frames (n, m, d): leading principal directions of the neighbours of each sample, about it. Where they
/// are more than 24, as many of them, spread evenly over the row. 1 <= d <= m.
void tangent_frames(const SparseView& kernel, const double* points, Index m, Index d, double* frames, int threads);

/// Coordinates (entries, d) of j seen from i, in the given unit (they are kept in single precision: of the size of the
/// kernel's bandwidth, they neither overflow nor vanish). With orthonormal frames u = W_i^T (y_j - y_i), made as long
/// as the arc; else the trapezoidal displacement (edge_lengths.hpp), which knows the frames of both ends: where
/// measurements bend, one end's own are wrong by O(h) of it, and slopes by O(h^2), many times as much as the
/// trapezoid's.
void local_steps(const SparseView& kernel, const LocalFrames& at, double unit, float* steps, int threads);

/// Moments of all samples.
void local_moments(const SparseView& kernel, const KernelPower& power, const LocalGeometry& geometry, double ridge,
                   const LocalMoments& out, int threads);

/// Smoothed values a (n, k) and slopes b (n, d, k) at the samples of functions `f` (n, k), from their moments (mean
/// and precision).
///
/// All functions here: thread-safe; the same bits for any number of threads; Interrupted on Ctrl-C.
void local_slopes(const SparseView& kernel, const KernelPower& power, const LocalGeometry& geometry,
                  const LocalMoments& moments, const double* f, Index k, double* smoothed, double* slopes, int threads);

}  // namespace diffeo
