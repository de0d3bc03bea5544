// The pair metric of one sample against eight others at once: the same definition as PairMetric, lane by lane.
//
// A block holds eight samples field by field: field f of lane l lies at block[f * kBlock + l]. The fields are the
// coordinates (m), W^T (dim * m), the squared stretches (dim) and the stretch.
//
// Operations for one pair (m = 5, d = 2): 5 subtractions, 5 + 2 * 10 multiply-adds and some 10 more to know q; 20
// multiply-adds and some 35 more for the transport: about 100 a pair, 13 vector instructions with eight lanes.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "diffeo/gates.hpp"
#include "diffeo/pair_metric.hpp"
#include "diffeo/simd.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Samples a block.
inline constexpr Index kBlock = 8;

/// Numbers that a sample takes in a block.
constexpr Index block_fields(Index m, Index dim) { return m + dim * m + dim + 1; }

/// Writes a sample into a lane; a view without a point fills it with not-a-number, which is near nothing.
inline void store_in_block(const SampleView& view, Index m, Index dim, Index lane, double* block) {
  double* field = block + lane;
  const auto put = [&](double value) {
    *field = view.point == nullptr ? std::numeric_limits<double>::quiet_NaN() : value;
    field += kBlock;
  };
  for (Index a = 0; a < m; ++a) put(view.point == nullptr ? 0.0 : view.point[a]);
  for (Index e = 0; e < dim * m; ++e) put(view.point == nullptr ? 0.0 : view.whitening[e]);
  for (Index k = 0; k < dim; ++k) put(view.point == nullptr ? 0.0 : view.squared_stretches[k]);
  put(view.stretch);
}

/// Widens the limits of `BlockMetric::near`. It sums what `evaluate` sums, but the compiler may round the two
/// differently, by some 1e-15 of the terms, which are up to sigma_1 / sigma_d <= 1e6 times the sum.
inline constexpr double kNearSlack = 1.0 + 1e-6;

/// Pairs of one sample with the lanes of a block: bit l stands for lane l.
struct LaneStates {
  unsigned kept = 0, gated = 0;
};

/// Two-sided distances and gates of one sample against blocks. M and D fix m and dim at compile time; -1 leaves
/// them open.
///
/// Swapping the two samples of a pair changes the signs of the displacement and of nothing else, and both sides go
/// through the same operations: q and the gates are symmetric to the last bit.
/// Holds scratch space: one object a thread.
template <int M, int D>
class BlockMetric {
 public:
  /// Without `transports`, `evaluate` leaves the gate of transports out, which costs most where dim is large; its limit
  /// is `transport`.
  BlockMetric(Index m, Index dim, double squared_radius, bool transports = true, double transport = Gates::kTransport)
      : m_(m), dim_(dim), transports_(transports), transport_(transport), squared_radius_(squared_radius),
        squared_reach_(squared_reach(squared_radius)),
        scratch_(static_cast<std::size_t>(M >= 0 && D >= 0 ? 0 : (m + 4 * dim * dim) * kSimd)) {}

  Index m() const { return M >= 0 ? M : m_; }
  Index dim() const { return D >= 0 ? D : dim_; }

  /// The sample that `near` and `evaluate` measure from; the view must outlive them.
  void measure_from(const SampleView& own) {
    own_ = own;
    own_squared_reach_ = squared_reach_ * own.stretch * own.stretch;
  }

  /// Lanes within the reach and the radius as far as the own metric alone can tell: no lane of `evaluate` is missing,
  /// since q >= a_ij / 2.
  unsigned near(const double* block) const {
    unsigned lanes = 0;
    for (Index part = 0; part < kBlock; part += kSimd) {
      Simd sum{}, squared{}, u[kMaxFixedDim]{};
      for (Index a = 0; a < m(); ++a) {
        const Simd delta = load(block + a * kBlock + part) - own_.point[a];
        sum += delta * delta;
        if constexpr (D > 0) {
          for (Index k = 0; k < D; ++k) u[k] += own_.whitening[k * m() + a] * delta;
        }
      }
      SimdMask within = at_most(sum, splat(own_squared_reach_ * kNearSlack));
      if constexpr (D > 0) {
        for (Index k = 0; k < D; ++k) squared += u[k] * u[k];
        within = within & at_most(0.5 * squared, splat(squared_radius_ * kNearSlack));
      }
      lanes |= bits(within) << part;
    }
    return lanes;
  }

  /// The states of all lanes; q (kBlock) is set in all of them, and of use in those that are kept or gated.
  LaneStates evaluate(const double* block, double* q) {
    LaneStates states;
    for (Index part = 0; part < kBlock; part += kSimd) {
      const LaneStates some = evaluate_part(block + part, q + part);
      states.kept |= some.kept << part;
      states.gated |= some.gated << part;
    }
    return states;
  }

 private:
  static constexpr Index kMaxFixedDim = D > 0 ? D : 1;

  LaneStates evaluate_part(const double* block, double* q_out) {
    std::array<Simd, static_cast<std::size_t>(M >= 0 && D >= 0 ? M + 4 * D * D + 1 : 1)> local;
    Simd* delta = M >= 0 && D >= 0 ? local.data() : reinterpret_cast<Simd*>(scratch_.data());
    Simd distance2{};
    for (Index a = 0; a < m(); ++a) {
      delta[a] = load(block + a * kBlock) - own_.point[a];
      distance2 += delta[a] * delta[a];
    }
    const Simd stretch = load(block + (block_fields(m(), dim()) - 1) * kBlock);
    SimdMask within = passes(within_reach(distance2, squared_reach_, min(splat(own_.stretch), stretch)));
    if (dim() == 0) {
      store(q_out, distance2);
      return {bits(within & at_most(distance2, splat(squared_radius_))), 0};
    }
    const double* whitening = block + m() * kBlock;
    const double* squared_stretches = whitening + dim() * m() * kBlock;
    Simd a{}, b{}, tangent_own{}, tangent_other{};
    for (Index k = 0; k < dim(); ++k) {
      Simd u{}, v{};
      for (Index c = 0; c < m(); ++c) {
        u += own_.whitening[k * m() + c] * delta[c];
        v += load(whitening + (k * m() + c) * kBlock) * delta[c];
      }
      a += u * u;
      b += v * v;
      tangent_own += own_.squared_stretches[k] * u * u;
      tangent_other += load(squared_stretches + k * kBlock) * v * v;
    }
    const Simd q = 0.5 * (a + b);
    store(q_out, q);
    within = within & at_most(q, splat(squared_radius_));
    if (!any(within)) return {};
    SimdMask tame = within & passes(symmetric(max(a, b), min(a, b)));
    tame = tame & passes(along_tangent(tangent_own, distance2)) & passes(along_tangent(tangent_other, distance2));
    if (transports_) tame = tame & transports_tame(whitening, squared_stretches, delta + m());
    return {bits(tame), bits(within & ~tame)};
  }

  SimdMask transports_tame(const double* whitening, const double* squared_stretches, Simd* scratch) const {
    const auto inner = [&](Index k, Index l) {
      Simd sum{};
      for (Index a = 0; a < m(); ++a) sum += own_.whitening[k * m() + a] * load(whitening + (l * m() + a) * kBlock);
      return sum;
    };
    return transports_are_tame<D>(
        dim(), inner, [&](Index k) { return own_.squared_stretches[k]; },
        [&](Index l) { return load(squared_stretches + l * kBlock); }, transport_, scratch);
  }

  Index m_, dim_;
  bool transports_;
  double transport_, squared_radius_, squared_reach_, own_squared_reach_ = 0.0;
  SampleView own_{nullptr, nullptr, nullptr, 0.0};
  Buffer<double> scratch_;  // displacement (m), then four (dim, dim) matrices, of vectors
};

/// Calls work(BlockMetric<M, D>) with the compile-time sizes that fit; the common small ones are unrolled.
template <class Work>
auto with_block_metric(Index m, Index dim, double squared_radius, Work&& work) {
  const auto fixed = [&]<int M, int D>() { return work(BlockMetric<M, D>(m, dim, squared_radius)); };
  if (dim == 0) return m == 2 ? fixed.template operator()<2, 0>() : fixed.template operator()<-1, 0>();
  if (dim == 1) return m == 3 ? fixed.template operator()<3, 1>() : fixed.template operator()<-1, 1>();
  if (dim == 2 && m == 2) return fixed.template operator()<2, 2>();
  if (dim == 2 && m == 3) return fixed.template operator()<3, 2>();
  if (dim == 2 && m == 5) return fixed.template operator()<5, 2>();
  if (dim == 2) return fixed.template operator()<-1, 2>();
  if (dim == 3) return m == 7 ? fixed.template operator()<7, 3>() : fixed.template operator()<-1, 3>();
  return fixed.template operator()<-1, -1>();
}

}  // namespace diffeo
