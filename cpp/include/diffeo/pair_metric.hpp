// The squared Mahalanobis distance of one pair of samples, and the gates that decide whether it is trusted.
//
// With D = y_j - y_i and one-sided a_ij = |W_i^T D|^2, the squared distance is q_ij = (a_ij + a_ji)/2. W_i^T is blind
// to displacements along the normal, so points of different sheets can seem near; the gates drop such pairs.
// reference.py states the same definition in NumPy; the tests hold the two together.
#pragma once

#include <algorithm>
#include <vector>

#include "diffeo/native_vector.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Limits of the gates; each holds both ways (see reference.py, which states the same numbers).
struct Gates {
  static constexpr double kReach = 1.5;         ///< |D| <= kReach * sigma_1 * r
  static constexpr double kAsymmetry = 4.0;     ///< larger one-sided squared distance over the smaller
  static constexpr double kOffTangent = 0.5;    ///< share of |D|^2 outside the tangent space
  static constexpr double kTransport = 2.0;     ///< singular values of W_i^T pinv(W_j^T) in [1/2, 2]
};

/// A sample as the metric sees it; dim = 0 (Euclidean) leaves the last three members unused.
struct SampleView {
  const double* point;               ///< (m)
  const double* whitening;           ///< W^T, (dim, m)
  const double* squared_stretches;   ///< sigma_k^2, (dim)
  double stretch;                    ///< sigma_1
};

enum class PairState { outside, gated, kept };

namespace detail {

/// Whether the symmetric matrix s (d, d), overwritten, has only positive pivots in Gaussian elimination.
inline bool positive_definite(double* s, Index d) {
  for (Index k = 0; k < d; ++k) {
    if (!(s[k * d + k] > 0.0)) return false;
    for (Index i = k + 1; i < d; ++i) {
      const double factor = s[i * d + k] / s[k * d + k];
      for (Index j = k + 1; j < d; ++j) s[i * d + j] -= factor * s[k * d + j];
    }
  }
  return true;
}

/// Whether all singular values of t (d, d) lie between 1/limit and limit: limit^2 I - T^T T and
/// T^T T - I/limit^2 are both positive definite. `scratch` holds 2 d^2 numbers.
inline bool singular_values_within(const double* t, Index d, double limit, double* scratch) {
  const double high = limit * limit, low = 1.0 / high;
  double* above = scratch;
  double* below = scratch + d * d;
  for (Index k = 0; k < d; ++k) {
    for (Index l = 0; l < d; ++l) {
      double g = 0.0;
      for (Index a = 0; a < d; ++a) g += t[a * d + k] * t[a * d + l];
      above[k * d + l] = (k == l ? high : 0.0) - g;
      below[k * d + l] = g - (k == l ? low : 0.0);
    }
  }
  return positive_definite(above, d) && positive_definite(below, d);
}

}  // namespace detail

/// Distances under the metric of both samples. M and D fix m and dim at compile time; -1 leaves them open.
///
/// Holds scratch space: one object a thread.
template <int M, int D>
class PairMetric {
 public:
  PairMetric(Index m, Index dim, double squared_radius)
      : m_(m), dim_(dim), squared_radius_(squared_radius),
        squared_reach_(Gates::kReach * Gates::kReach * squared_radius),
        scratch_(static_cast<std::size_t>(m + 4 * dim * dim)) {}

  Index m() const { return M >= 0 ? M : m_; }
  Index dim() const { return D >= 0 ? D : dim_; }

  /// Two-sided: both samples have a metric. `q` is set unless the pair is outside of the reach; outside of the radius
  /// it may be a lower bound.
  PairState operator()(const SampleView& i, const SampleView& j, double& q) {
    const double distance2 = displacement(i, j);
    const double stretch = std::min(i.stretch, j.stretch);
    if (!(distance2 <= squared_reach_ * stretch * stretch)) return PairState::outside;
    if (dim() == 0) {
      q = distance2;
      return q <= squared_radius_ ? PairState::kept : PairState::outside;
    }
    double a, b, tangent_i, tangent_j;
    one_sided(i, a, tangent_i);
    // Most pairs within the reach are outside of the radius, and half of them by the first metric alone.
    q = 0.5 * a;
    if (!(q <= squared_radius_)) return PairState::outside;
    one_sided(j, b, tangent_j);
    q = 0.5 * (a + b);
    if (!(q <= squared_radius_)) return PairState::outside;
    if (std::max(a, b) > Gates::kAsymmetry * std::min(a, b)) return PairState::gated;
    if (std::min(tangent_i, tangent_j) < (1.0 - Gates::kOffTangent) * distance2) return PairState::gated;
    return transport_is_tame(i, j) ? PairState::kept : PairState::gated;
  }

  /// One-sided: only the sample j has a metric; the new point i is its position alone.
  PairState from_sample(const SampleView& i, const SampleView& j, double& q) {
    const double distance2 = displacement(i, j);
    if (!(distance2 <= squared_reach_ * j.stretch * j.stretch)) return PairState::outside;
    double tangent = distance2;
    q = distance2;
    if (dim() > 0) one_sided(j, q, tangent);
    if (!(q <= squared_radius_)) return PairState::outside;
    return tangent < (1.0 - Gates::kOffTangent) * distance2 ? PairState::gated : PairState::kept;
  }

 private:
  double displacement(const SampleView& i, const SampleView& j) {
    double* delta = scratch_.data();
    for (Index a = 0; a < m(); ++a) delta[a] = j.point[a] - i.point[a];
    return detail::dot(delta, delta, m());
  }

  /// squared = |W^T D|^2 and tangent = |U^T D|^2 = sum_k sigma_k^2 (W^T D)_k^2.
  void one_sided(const SampleView& at, double& squared, double& tangent) const {
    const double* delta = scratch_.data();
    squared = tangent = 0.0;
    for (Index k = 0; k < dim(); ++k) {
      const double u = detail::dot(at.whitening + k * m(), delta, m());
      squared += u * u;
      tangent += at.squared_stretches[k] * u * u;
    }
  }

  /// W_i^T pinv(W_j^T) = (W_i^T W_j) diag(sigma_j^2), since the columns of W_j = U_j / Sigma_j are orthogonal.
  bool transport_is_tame(const SampleView& i, const SampleView& j) {
    const Index d = dim();
    double* forward = scratch_.data() + m_;
    double* backward = forward + d * d;
    for (Index k = 0; k < d; ++k) {
      for (Index l = 0; l < d; ++l) {
        const double inner = detail::dot(i.whitening + k * m(), j.whitening + l * m(), m());
        forward[k * d + l] = inner * j.squared_stretches[l];
        backward[l * d + k] = inner * i.squared_stretches[k];
      }
    }
    double* scratch = backward + d * d;
    return detail::singular_values_within(forward, d, Gates::kTransport, scratch) &&
           detail::singular_values_within(backward, d, Gates::kTransport, scratch);
  }

  Index m_, dim_;
  double squared_radius_, squared_reach_;
  std::vector<double> scratch_;  // displacement (m), then four (dim, dim) blocks
};

/// Calls work(PairMetric<M, D>) with the compile-time sizes that fit; the common small ones are unrolled.
template <class Work>
auto with_pair_metric(Index m, Index dim, double squared_radius, Work&& work) {
  if (dim == 0 && m == 2) return work(PairMetric<2, 0>(m, dim, squared_radius));
  if (dim == 0) return work(PairMetric<-1, 0>(m, dim, squared_radius));
  if (dim == 1 && m == 1) return work(PairMetric<1, 1>(m, dim, squared_radius));
  if (dim == 1 && m == 3) return work(PairMetric<3, 1>(m, dim, squared_radius));
  if (dim == 1) return work(PairMetric<-1, 1>(m, dim, squared_radius));
  if (dim == 2 && m == 2) return work(PairMetric<2, 2>(m, dim, squared_radius));
  if (dim == 2 && m == 5) return work(PairMetric<5, 2>(m, dim, squared_radius));
  if (dim == 2) return work(PairMetric<-1, 2>(m, dim, squared_radius));
  if (dim == 3) return work(PairMetric<-1, 3>(m, dim, squared_radius));
  return work(PairMetric<-1, -1>(m, dim, squared_radius));
}

}  // namespace diffeo
