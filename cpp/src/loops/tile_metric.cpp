// Distances and gates of a tile with margins for rounding; what lies within them is computed again.
#include "diffeo/tile_metric.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "diffeo/exponential.hpp"
#include "diffeo/gates.hpp"

namespace diffeo {
namespace {

constexpr double kRounding = std::numeric_limits<double>::epsilon() / 2.0;

// Relative margin of a decision. Since 2 x delta <= margin x^2 + delta^2 / margin, the error of a squared length x^2
// whose root is known to delta is within this share of it and delta^2 / margin: no root is needed.
constexpr double kMargin = 1e-8;

// Limits of the singular values of a transport are moved by this share to both sides where they are not known in closed
// form.
constexpr double kTransportMargin = 1e-6;

// Digits are lost where the points are farther from the centre than from each other: not worth a second look up to
// this squared ratio, or while the exponent is still known well enough; beyond the second ratio always, so that
// coincident samples have distance zero.
constexpr double kNear = 64.0, kTwins = 0x1p24;

constexpr std::uint64_t kGroup = (std::uint64_t{1} << kSimd) - 1;

struct Verdict {
  SimdMask tame, wild;  // neither: too close to tell
};

/// Whether a transport is tame, where `rounding` bounds the error of each of its elements.
template <int D>
Verdict judge(const Simd* t, Index d, Simd rounding, Simd* scratch) {
  if constexpr (D == 1 || D == 2) {
    const Slack<Simd> slack = transport_slack<D>(t);
    // Relative errors of the square are 2 roundings of one element; of norm and determinant at most 4 and 2 |t|.
    const Simd margin = (kMargin + (D == 1 ? 4.0 : 16.0) * rounding) * slack.size;
    return {less(margin, slack.least), less(slack.least, -margin)};
  } else {
    const SimdMask known = less((D >= 0 ? 16.0 : 16.0 * static_cast<double>(d)) * rounding, splat(kTransportMargin));
    const SimdMask tame = singular_values_within<D>(t, d, Gates::kTransport * (1.0 - kTransportMargin), scratch);
    if (!any(~tame)) return {known, SimdMask{}};
    const SimdMask wild = ~singular_values_within<D>(t, d, Gates::kTransport * (1.0 + kTransportMargin), scratch);
    return {tame & known, wild & known};
  }
}

}  // namespace

TileMetric::TileMetric(const MetricTree& tree, double epsilon, double squared_radius, double exponent_error)
    : tree_(tree), m_(tree.n_measurements()), dim_(tree.dim()), scale_(1.0 / (4.0 * epsilon)),
      squared_radius_(squared_radius), squared_reach_(squared_reach(squared_radius)),
      // Any order of summation has a relative error below m u against the product of the norms; twice for the two
      // products of a difference, and twice again for the pair by pair computation that decides in the end.
      rounding_(4.0 * static_cast<double>(m_ + 8) * kRounding),
      square_margin_(2.0 * rounding_ * rounding_ * (1.0 + 1.0 / kMargin)),
      digits_(0.25 * static_cast<double>(m_) * kRounding * kRounding / (exponent_error * exponent_error)),
      metric_(m_, dim_, squared_radius), products_(static_cast<std::size_t>((1 + dim_) * (1 + dim_) * kTile * kTile)),
      squared_distances_(kTile * kTile), scratch_(4 * dim_ * dim_ * kSimd) {}

void TileMetric::operator()(TileSide& rows, TileSide& columns, const std::uint64_t* candidates, TilePairs& pairs) {
  choose_blocks(rows, columns, candidates);
  kept_ = gated_ = doubtful_ = {};
  multiply(rows, 0, columns, 0);
  reach(rows, columns);
  if (dim_ > 0 && live_.any) {
    rows.set_whitening();
    columns.set_whitening();
    for (Index k = 1; k <= dim_; ++k) {
      multiply(rows, k, columns, 0);
      multiply(rows, 0, columns, k);
    }
    switch (dim_) {
      case 1:
        distances<1>(rows, columns);
        break;
      case 2:
        distances<2>(rows, columns);
        break;
      case 3:
        distances<3>(rows, columns);
        break;
      default:
        distances<-1>(rows, columns);
    }
  }
  if (dim_ > 0 && live_.any) {
    for (Index k = 1; k <= dim_; ++k) {
      for (Index l = 1; l <= dim_; ++l) multiply(rows, k, columns, l);
    }
    switch (dim_) {
      case 1:
        transports<1>(rows, columns);
        break;
      case 2:
        transports<2>(rows, columns);
        break;
      case 3:
        transports<3>(rows, columns);
        break;
      default:
        transports<-1>(rows, columns);
    }
  }
  recompute(rows, columns, candidates);
  collect(candidates, pairs);
}

void TileMetric::choose_blocks(const TileSide& rows, const TileSide& columns, const std::uint64_t* candidates) {
  live_ = LiveBlocks();
  const double factor = std::sqrt(squared_reach_);
  for (Index r = 0; r < kRowPanels; ++r) {
    std::uint64_t bits = 0;
    for (Index i = 0; i < kPanelRows; ++i) bits |= candidates[r * kPanelRows + i];
    for (Index c = 0; c < kColumnPanels; ++c, bits >>= kPanelColumns) {
      const bool some = (bits & ((std::uint64_t{1} << kPanelColumns) - 1)) != 0;
      if (some && rows.panel_is_near(r, columns, c, factor)) live_.set(r, c);
    }
  }
}

void TileMetric::multiply(const TileSide& rows, Index row_plane, const TileSide& columns, Index column_plane) {
  panel_product(rows.panels(row_plane), columns.panels(column_plane), m_, live_, products(row_plane, column_plane));
}

/// Calls work(i, j) for the first j of each group of lanes of the live blocks; it answers which lanes stay alive.
/// Blocks without any die.
template <class Work>
void TileMetric::each_live_block(Index n_rows, Work&& work) {
  live_.any = false;
  for (Index r = 0; r < kRowPanels; ++r) {
    for (Index c = 0; c < kColumnPanels; ++c) {
      if (!live_.at[r][c]) continue;
      std::uint64_t alive = 0;
      for (Index i = r * kPanelRows; i < std::min(n_rows, (r + 1) * kPanelRows); ++i) {
        for (Index j = c * kPanelColumns; j < (c + 1) * kPanelColumns; j += kSimd) alive |= work(i, j);
      }
      live_.at[r][c] = alive != 0;
      live_.any = live_.any || live_.at[r][c];
    }
  }
}

/// Sets the states of the pairs (i, j ...); those that are neither outside, kept nor gated are doubtful.
void TileMetric::settle(Index i, Index j, SimdMask outside, SimdMask kept, SimdMask gated) {
  const auto row = static_cast<std::size_t>(i);
  kept_[row] |= std::uint64_t{bits(kept)} << j;
  gated_[row] |= std::uint64_t{bits(gated)} << j;
  doubtful_[row] |= (~std::uint64_t{bits(outside | kept | gated)} & kGroup) << j;
}

void TileMetric::reach(const TileSide& rows, const TileSide& columns) {
  const double* inner = products(0, 0);
  const bool euclidean = dim_ == 0;
  each_live_block(rows.count(), [&](Index i, Index j) -> std::uint64_t {
    const Simd norms = rows.squared_norm()[i] + load(columns.squared_norm() + j);
    const Simd squared = norms - 2.0 * load(inner + i * kTile + j);
    const Simd stretch = min(splat(rows.stretch()[i]), load(columns.stretch() + j));
    const Simd error = rounding_ * norms;
    const SimdMask outside = fails(within_reach(Simd(squared - error), squared_reach_, stretch));
    if (!euclidean) return bits(~outside);
    store(squared_distances_.data() + i * kTile + j, max(squared, Simd{}));
    const SimdMask beyond = outside | less(splat(squared_radius_), squared - error);
    const SimdMask inside = passes(within_reach(Simd(squared + error), squared_reach_, stretch)) &
                            at_most(squared + error, splat(squared_radius_));
    // The exponent is known to some u |y|^2 / (4 epsilon), and the share that is lost grows with norms / squared.
    const Simd digits = norms * scale_;
    settle(i, j, beyond, inside & ~lost(norms, squared, digits * digits * digits_), SimdMask{});
    return bits(~beyond);
  });
}

/// Pairs whose value would lose digits: `error` is the squared error of the exponent in units of what is allowed.
SimdMask TileMetric::lost(const Simd& norms, const Simd& squared, const Simd& error) {
  return (less(kNear * squared, norms) & less(splat(1.0), error)) | less(kTwins * squared, norms);
}

template <int D>
void TileMetric::distances(const TileSide& rows, const TileSide& columns) {
  const Index d = D >= 0 ? D : dim_;
  each_live_block(rows.count(), [&](Index i, Index j) -> std::uint64_t {
    const Index at = i * kTile + j;
    const Simd norms = rows.squared_norm()[i] + load(columns.squared_norm() + j);
    const Simd squared = norms - 2.0 * load(products(0, 0) + at);
    Simd a{}, b{}, tangent_a{}, tangent_b{};
    for (Index k = 0; k < d; ++k) {
      const Simd u = load(products(1 + k, 0) + at) - rows.own(k)[i];
      const Simd v = load(products(0, 1 + k) + at) - load(columns.own(k) + j);
      a += u * u;
      b += v * v;
      tangent_a += rows.squared_stretches(k)[i] * (u * u);
      tangent_b += load(columns.squared_stretches(k) + j) * (v * v);
    }
    const Simd q = 0.5 * (a + b);
    store(squared_distances_.data() + at, q);
    const Simd whitening = rows.squared_whitening()[i] + load(columns.squared_whitening() + j);
    const Simd error = rounding_ * norms;
    const Simd error_q = square_margin_ * norms * whitening;
    const Simd error_tangent = square_margin_ * static_cast<double>(d) * norms;
    const Simd stretch = min(splat(rows.stretch()[i]), load(columns.stretch() + j));
    const Simd larger = max(a, b), smaller = min(a, b);
    constexpr double kLess = 1.0 - kMargin, kMore = 1.0 + kMargin;
    const Simd near = squared - error, far = squared + error, radius = splat(squared_radius_);
    const SimdMask outside = fails(within_reach(near, squared_reach_, stretch)) | less(radius, kLess * q - error_q);
    const SimdMask inside = passes(within_reach(far, squared_reach_, stretch)) & at_most(kMore * q + error_q, radius);
    const auto least = [&](const Simd& tangent) { return Simd(kLess * tangent - error_tangent); };
    const auto most = [&](const Simd& tangent) { return Simd(kMore * tangent + error_tangent); };
    const SimdMask tame = passes(symmetric(Simd(kMore * larger + error_q), Simd(kLess * smaller - error_q))) &
                          passes(along_tangent(least(tangent_a), far)) & passes(along_tangent(least(tangent_b), far));
    const SimdMask wild = fails(symmetric(Simd(kLess * larger - error_q), Simd(kMore * smaller + error_q))) |
                          fails(along_tangent(most(tangent_a), near)) | fails(along_tangent(most(tangent_b), near));
    const Simd digits = (q * scale_) * (norms * whitening * scale_) * digits_;
    const SimdMask kept = inside & tame & ~lost(norms, squared, digits) & ~outside;
    settle(i, j, outside, kept, inside & wild & ~outside);
    return bits(kept);
  });
}

template <int D>
void TileMetric::transports(const TileSide& rows, const TileSide& columns) {
  const Index d = D >= 0 ? D : dim_;
  std::array<Simd, static_cast<std::size_t>(D >= 0 ? 4 * D * D : 1)> local;
  Simd* forward = D >= 0 ? local.data() : reinterpret_cast<Simd*>(scratch_.data());
  Simd* backward = forward + d * d;
  Simd* rest = backward + d * d;
  each_live_block(rows.count(), [&](Index i, Index j) -> std::uint64_t {
    const auto row = static_cast<std::size_t>(i);
    const std::uint64_t open = (kept_[row] >> j) & kGroup;
    if (open == 0) return open;
    const Index at = i * kTile + j;
    diffeo::transports<D>(
        d, [&](Index k, Index l) { return load(products(1 + k, 1 + l) + at); },
        [&](Index k) { return rows.squared_stretches(k)[i]; },
        [&](Index l) { return load(columns.squared_stretches(l) + j); }, forward, backward);
    // An element w.v sigma^2 of the transport is known to |w| |v| sigma^2 roundings.
    const Verdict there =
        judge<D>(forward, d, rounding_ * rows.whitening_norm()[i] * load(columns.stretch() + j), rest);
    const Verdict back =
        judge<D>(backward, d, rounding_ * rows.stretch()[i] * load(columns.whitening_norm() + j), rest);
    const std::uint64_t tame = bits(there.tame & back.tame), wild = bits(there.wild | back.wild);
    kept_[row] &= ~((open & ~tame) << j);
    gated_[row] |= (open & wild & ~tame) << j;
    doubtful_[row] |= (open & ~wild & ~tame) << j;
    return open;
  });
}

void TileMetric::recompute(const TileSide& rows, const TileSide& columns, const std::uint64_t* candidates) {
  for (Index i = 0; i < rows.count(); ++i) {
    const auto row = static_cast<std::size_t>(i);
    for (std::uint64_t rest = doubtful_[row] & candidates[i]; rest != 0; rest &= rest - 1) {
      const int j = std::countr_zero(rest);
      const PairState exact = metric_(tree_.sample(rows.sample(i)), tree_.sample(columns.sample(j)),
                                      squared_distances_[static_cast<std::size_t>(i * kTile + j)]);
      if (exact == PairState::kept) kept_[row] |= std::uint64_t{1} << j;
      if (exact == PairState::gated) gated_[row] |= std::uint64_t{1} << j;
    }
  }
}

void TileMetric::collect(const std::uint64_t* candidates, TilePairs& pairs) const {
  pairs.any = false;
  for (Index i = 0; i < kTile; ++i) {
    const auto row = static_cast<std::size_t>(i);
    pairs.kept[i] = kept_[row] & candidates[i];
    pairs.gated[i] = gated_[row] & candidates[i];
    pairs.any = pairs.any || (pairs.kept[i] | pairs.gated[i]) != 0;
    for (Index j = 0; j < kTile; j += kSimd) {
      if (((pairs.kept[i] >> j) & kGroup) == 0) continue;
      store(pairs.values + i * kTile + j, exp(-load(squared_distances_.data() + i * kTile + j) * scale_));
    }
  }
}

}  // namespace diffeo
