// Local covariances: singular values and whitening of every sample, from whatever is known of its surroundings.
//
// That is a Jacobian, a burst, neighbours in reference coordinates, or the covariance itself.
//
// Each sample i has a factor A_i with C_i = A_i A_i^T. With A_i = U Sigma V^T, the whitening is
// W_i = U_d / Sigma_d, so that W_i W_i^T is the rank-d pseudo-inverse of C_i (Singer and Coifman 2008).
// All arrays are row-major. All functions are thread-safe and give the same bits for any number of threads; a sample's
// result depends on nothing but its own numbers. They work on eight samples at a time (small/lanes.hpp).
#pragma once

#include "diffeo/types.hpp"

namespace diffeo {

/// What every function below fills; `whitening` may be null when only singular values are wanted.
struct WhiteningOutput {
  double* singular_values;  ///< (n, r), descending, r = min(m, p)
  double* whitening;        ///< (n, m, dim); columns with a zero singular value are zero
  Index dim;                ///< number of columns of the whitening
};

/// Whitening from Jacobians: A_i = J_i, `jacobians` (n, m, p). Small singular values have high *relative* accuracy
/// where only the lengths of the columns make them small (small/decomposition.hpp).
void whitening_from_jacobians(const double* jacobians, Index n, Index m, Index p, WhiteningOutput out, int threads);

/// Whitening from bursts (n, K, m) of isotropic Gaussian perturbations of standard deviation `scale`:
/// C_i = sum_k (y_ik - mean)(y_ik - mean)^T / ((K - 1) scale^2).
///
/// The inverse of a sample covariance of rank d is too large by (K - 1)/(K - d - 2) on average (inverse
/// Wishart distribution), so W_i is multiplied by sqrt((K - d - 2)/(K - 1)). Singular values stay those of C_i.
/// Requires K >= dim + 3.
///
/// They come from the smaller Gram matrix of the centred burst, so a singular value s_k has an absolute error of about
/// 1e-16 s_1^2 / s_k, and those below 1e-8 s_1 are noise of that size or zero: enough for telling ranks and noise
/// levels (floors of 1e-2). Samples with s_dim < 1e-2 s_1 are decomposed again without squaring, to 1e-15 s_1, when a
/// whitening is asked for (small/burst_decomposition.hpp).
void whitening_from_bursts(const double* bursts, Index n, Index burst_size, Index m, double scale, WhiteningOutput out,
                           int threads);

/// Whitening from symmetric positive semi-definite covariances (n, m, m); singular values are square roots
/// of their eigenvalues, r = m. Negative eigenvalues keep their sign, -sqrt(-lambda), so that the caller can see them.
void whitening_from_covariances(const double* covariances, Index n, Index m, WhiteningOutput out, int threads);

/// Local least-squares Jacobians J_i = argmin sum_j |(y_j - mean y) - J (x_j - mean x)|^2 over the k listed
/// neighbours of i (rows of `neighbors`, (n, k), i itself may be among them).
///
/// `jacobians` (n, m, p) and `conditions` (n): smallest over largest diagonal of the pivoted QR factor of the
/// centred neighbour positions; a value near zero means that the neighbours do not span the reference space.
void jacobians_from_neighbors(const double* points, Index n, Index m, const double* reference, Index p,
                              const Index* neighbors, Index k, double* jacobians, double* conditions, int threads);

}  // namespace diffeo
