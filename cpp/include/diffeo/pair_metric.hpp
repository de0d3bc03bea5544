// The squared Mahalanobis distance of one pair of samples, and whether it passes the gates (gates.hpp).
//
// With D = y_j - y_i and one-sided a_ij = |W_i^T D|^2, the squared distance is q_ij = (a_ij + a_ji)/2.
#pragma once

#include <algorithm>
#include <vector>

#include "diffeo/gates.hpp"
#include "diffeo/simd.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// A sample as the metric sees it; dim = 0 (Euclidean) leaves the last three members unused.
struct SampleView {
  const double* point;               ///< (m)
  const double* whitening;           ///< W^T, (dim, m)
  const double* squared_stretches;   ///< sigma_k^2, (dim)
  double stretch;                    ///< sigma_1
};

enum class PairState { outside, gated, kept };

/// Distances under the metric of both samples. M and D fix m and dim at compile time; -1 leaves them open.
///
/// Holds scratch space: one object a thread.
template <int M, int D>
class PairMetric {
 public:
  /// Without `transports`, the two-sided evaluation leaves that gate to `transports_tame`; its limit is `transport`.
  PairMetric(Index m, Index dim, double squared_radius, bool transports = true, double transport = Gates::kTransport)
      : m_(m), dim_(dim), transports_(transports), transport_(transport), squared_radius_(squared_radius),
        squared_reach_(squared_reach(squared_radius)), scratch_(static_cast<std::size_t>(m + 4 * dim * dim)) {}

  Index m() const { return M >= 0 ? M : m_; }
  Index dim() const { return D >= 0 ? D : dim_; }

  /// Two-sided: both samples have a metric. `q` is set unless the pair is outside of the reach; outside of the radius
  /// it may be a lower bound.
  PairState operator()(const SampleView& i, const SampleView& j, double& q) {
    const double distance2 = displacement(i, j);
    const double stretch = std::min(i.stretch, j.stretch);
    if (!passes(within_reach(distance2, squared_reach_, stretch))) return PairState::outside;
    if (dim() == 0) {
      q = distance2;
      return q <= squared_radius_ ? PairState::kept : PairState::outside;
    }
    double a = 0.0, b = 0.0, tangent_i = 0.0, tangent_j = 0.0;
    one_sided(i, a, tangent_i);
    // Most pairs within the reach are outside of the radius, and half of them by the first metric alone.
    q = 0.5 * a;
    if (!(q <= squared_radius_)) return PairState::outside;
    one_sided(j, b, tangent_j);
    q = 0.5 * (a + b);
    if (!(q <= squared_radius_)) return PairState::outside;
    if (!passes(symmetric(std::max(a, b), std::min(a, b)))) return PairState::gated;
    if (!passes(along_tangent(tangent_i, distance2))) return PairState::gated;
    if (!passes(along_tangent(tangent_j, distance2))) return PairState::gated;
    return !transports_ || transports_tame(i, j) ? PairState::kept : PairState::gated;
  }

  /// One-sided: only the sample j has a metric; the new point i is its position alone.
  PairState from_sample(const SampleView& i, const SampleView& j, double& q) {
    const double distance2 = displacement(i, j);
    if (!passes(within_reach(distance2, squared_reach_, j.stretch))) return PairState::outside;
    double tangent = distance2;
    q = distance2;
    if (dim() > 0) one_sided(j, q, tangent);
    if (!(q <= squared_radius_)) return PairState::outside;
    return passes(along_tangent(tangent, distance2)) ? PairState::kept : PairState::gated;
  }

  /// The gate of transports alone, both ways.
  bool transports_tame(const SampleView& i, const SampleView& j) {
    return transports_are_tame<D>(
        dim(), [&](Index k, Index l) { return dot(i.whitening + k * m(), j.whitening + l * m(), m()); },
        [&](Index k) { return i.squared_stretches[k]; }, [&](Index l) { return j.squared_stretches[l]; }, transport_,
        scratch_.data() + m_);
  }

 private:
  double displacement(const SampleView& i, const SampleView& j) {
    double* delta = scratch_.data();
    for (Index a = 0; a < m(); ++a) delta[a] = j.point[a] - i.point[a];
    return dot(delta, delta, m());
  }

  /// squared = |W^T D|^2 and tangent = |U^T D|^2 = sum_k sigma_k^2 (W^T D)_k^2.
  void one_sided(const SampleView& at, double& squared, double& tangent) const {
    const double* delta = scratch_.data();
    squared = tangent = 0.0;
    for (Index k = 0; k < dim(); ++k) {
      const double u = dot(at.whitening + k * m(), delta, m());
      squared += u * u;
      tangent += at.squared_stretches[k] * u * u;
    }
  }

  Index m_, dim_;
  bool transports_;
  double transport_, squared_radius_, squared_reach_;
  std::vector<double> scratch_;  // displacement (m), then four (dim, dim) blocks
};

/// Calls work(PairMetric<-1, D>), D fixed at compile time where it is small: for many measurements, whose number is
/// not.
template <class Work>
auto with_wide_pair_metric(Index m, Index dim, double squared_radius, Work&& work) {
  if (dim == 0) return work(PairMetric<-1, 0>(m, dim, squared_radius));
  if (dim == 1) return work(PairMetric<-1, 1>(m, dim, squared_radius));
  if (dim == 2) return work(PairMetric<-1, 2>(m, dim, squared_radius));
  if (dim == 3) return work(PairMetric<-1, 3>(m, dim, squared_radius));
  return work(PairMetric<-1, -1>(m, dim, squared_radius));
}

/// Calls work(PairMetric<M, D>) with the compile-time sizes that fit; the common small ones are unrolled.
template <class Work>
auto with_pair_metric(Index m, Index dim, double squared_radius, Work&& work) {
  if (dim == 0 && m == 2) return work(PairMetric<2, 0>(m, dim, squared_radius));
  if (dim == 1 && m == 1) return work(PairMetric<1, 1>(m, dim, squared_radius));
  if (dim == 1 && m == 3) return work(PairMetric<3, 1>(m, dim, squared_radius));
  if (dim == 2 && m == 2) return work(PairMetric<2, 2>(m, dim, squared_radius));
  if (dim == 2 && m == 5) return work(PairMetric<5, 2>(m, dim, squared_radius));
  return with_wide_pair_metric(m, dim, squared_radius, work);
}

}  // namespace diffeo
