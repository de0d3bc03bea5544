// Distances and gates of a tile with margins for rounding; what lies within them is computed again.
#include "diffeo/tile_metric.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "diffeo/exponential.hpp"

namespace diffeo {
namespace {

// States of a pair; doubtful ones are left to PairMetric.
constexpr std::int64_t kOutside = 0, kKept = 1, kGated = 2, kDoubtful = 3;

constexpr double kRounding = std::numeric_limits<double>::epsilon() / 2.0;

// Relative margin of a decision. Since 2 x delta <= margin x^2 + delta^2 / margin, the error of a squared length x^2
// whose root is known to delta is within this share of it and delta^2 / margin: no root is needed.
constexpr double kMargin = 1e-8;

// Bounds of the singular values of a transport are moved by this share to both sides where they are not known in
// closed form.
constexpr double kTransportMargin = 1e-6;

// Digits are lost where the points are farther from the centre than from each other: not worth a second look up to
// this squared ratio, or while the exponent is still known well enough; beyond the second ratio always, so that
// coincident samples have distance zero.
constexpr double kNear = 64.0, kTwins = 0x1p24;

RegisterMask choose(RegisterMask condition, RegisterMask yes, RegisterMask no) {
  return (condition & yes) | (~condition & no);
}
RegisterMask state(std::int64_t s) { return s - RegisterMask{}; }

struct Verdict {
  RegisterMask tame, wild;  // neither: too close to tell
};

/// Whether the singular values of t lie between 1/limit and limit, in closed form for one and two dimensions: with
/// s = limit^2 and 1/limit^2, (s - sigma_1^2)(s - sigma_2^2) = s^2 - s |t|^2 + det(t)^2. `rounding` bounds the error of
/// each element of t.
template <int D>
Verdict judge(const Register (&t)[D][D], Register rounding) {
  constexpr double high = Gates::kTransport * Gates::kTransport, low = 1.0 / high;
  Register least, margin;
  if constexpr (D == 1) {
    const Register square = t[0][0] * t[0][0];
    least = min(high - square, square - low);
    margin = (kMargin + 4.0 * rounding) * (high + square);
  } else {
    const Register norm = t[0][0] * t[0][0] + t[0][1] * t[0][1] + t[1][0] * t[1][0] + t[1][1] * t[1][1];
    const Register determinant = t[0][0] * t[1][1] - t[0][1] * t[1][0];
    const Register square = determinant * determinant;
    const Register above = min(2.0 * high - norm, high * high - high * norm + square);
    const Register below = min(norm - 2.0 * low, low * low - low * norm + square);
    least = min(above, below);
    // Errors of norm and determinant are at most 4 |t| and 2 |t| roundings.
    margin = (kMargin + 16.0 * rounding) * (high * high + high * norm + square);
  }
  return {least > margin, least < -margin};
}

/// Whether D x D symmetric matrices, overwritten, have only positive pivots.
template <int D>
RegisterMask positive_definite(Register (&s)[D][D]) {
  RegisterMask positive = s[0][0] > 0.0;
  for (int k = 0; k < D; ++k) {
    if (k > 0) positive &= s[k][k] > 0.0;
    for (int i = k + 1; i < D; ++i) {
      const Register factor = s[i][k] / s[k][k];
      for (int j = k + 1; j < D; ++j) s[i][j] -= factor * s[k][j];
    }
  }
  return positive;
}

/// Whether all singular values of t lie between 1/limit and limit (see detail::singular_values_within).
template <int D>
RegisterMask singular_values_within(const Register (&t)[D][D], double limit) {
  const double high = limit * limit, low = 1.0 / high;
  Register above[D][D], below[D][D];
  for (int k = 0; k < D; ++k) {
    for (int l = 0; l < D; ++l) {
      Register g{};
      for (int a = 0; a < D; ++a) g += t[a][k] * t[a][l];
      above[k][l] = (k == l ? high : 0.0) - g;
      below[k][l] = g - (k == l ? low : 0.0);
    }
  }
  return positive_definite<D>(above) & positive_definite<D>(below);
}

template <>
Verdict judge<3>(const Register (&t)[3][3], Register rounding) {
  const RegisterMask known = 16.0 * rounding < kTransportMargin;
  const RegisterMask tame = singular_values_within<3>(t, Gates::kTransport * (1.0 - kTransportMargin));
  if (!any(~tame)) return {tame & known, RegisterMask{}};
  return {tame & known, ~singular_values_within<3>(t, Gates::kTransport * (1.0 + kTransportMargin)) & known};
}

}  // namespace

TileMetric::TileMetric(const MetricTree& tree, double epsilon, double squared_radius, double exponent_error)
    : tree_(tree), m_(tree.n_measurements()), dim_(tree.dim()), scale_(1.0 / (4.0 * epsilon)),
      squared_radius_(squared_radius), squared_reach_(Gates::kReach * Gates::kReach * squared_radius),
      // Any order of summation has a relative error below m u against the product of the norms; twice for the two
      // products of a difference, and twice again for the pair by pair computation that decides in the end.
      rounding_(4.0 * static_cast<double>(m_ + 8) * kRounding),
      square_margin_(2.0 * rounding_ * rounding_ * (1.0 + 1.0 / kMargin)),
      digits_(0.25 * static_cast<double>(m_) * kRounding * kRounding / (exponent_error * exponent_error)),
      metric_(m_, dim_, squared_radius), products_(static_cast<std::size_t>((1 + dim_) * (1 + dim_) * kTile * kTile)),
      squared_distances_(kTile * kTile), states_(kTile * kTile) {}

void TileMetric::operator()(TileSide& rows, TileSide& columns, const std::uint64_t* candidates, TilePairs& pairs) {
  choose_blocks(rows, columns, candidates);
  std::fill(states_.begin(), states_.end(), kOutside);
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
        transports_one_by_one(rows, columns);
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

/// Calls work(i, j) for the first j of each group of lanes of the live blocks; blocks where it never answers true die.
template <class Work>
void TileMetric::each_live_block(Index n_rows, Work&& work) {
  live_.any = false;
  for (Index r = 0; r < kRowPanels; ++r) {
    for (Index c = 0; c < kColumnPanels; ++c) {
      if (!live_.at[r][c]) continue;
      RegisterMask alive{};
      for (Index i = r * kPanelRows; i < std::min(n_rows, (r + 1) * kPanelRows); ++i) {
        for (Index j = c * kPanelColumns; j < (c + 1) * kPanelColumns; j += kRegister) alive |= work(i, j);
      }
      live_.at[r][c] = any(alive);
      live_.any = live_.any || live_.at[r][c];
    }
  }
}

void TileMetric::reach(const TileSide& rows, const TileSide& columns) {
  const double* inner = products(0, 0);
  const bool euclidean = dim_ == 0;
  each_live_block(rows.count(), [&](Index i, Index j) {
    const Register norms = rows.squared_norm()[i] + load(columns.squared_norm() + j);
    const Register squared = norms - 2.0 * load(inner + i * kTile + j);
    const Register stretch = min(splat(rows.stretch()[i]), load(columns.stretch() + j));
    const Register error = rounding_ * norms;
    Register limit = squared_reach_ * stretch * stretch;
    if (euclidean) limit = min(limit, splat(squared_radius_));
    const RegisterMask outside = squared - error > limit;
    RegisterMask states = choose(outside, state(kOutside), state(kDoubtful));
    if (euclidean) {
      store(squared_distances_.data() + i * kTile + j, max(squared, Register{}));
      // The exponent is known to some u |y|^2 / (4 epsilon), and the share that is lost grows with norms / squared.
      const Register digits = norms * scale_;
      const RegisterMask lost =
          ((norms > kNear * squared) & (digits * digits * digits_ > 1.0)) | (norms > kTwins * squared);
      states = choose((squared + error <= limit) & ~lost, state(kKept), states);
    }
    store(states_.data() + i * kTile + j, states);
    return ~outside;
  });
}

template <int D>
void TileMetric::distances(const TileSide& rows, const TileSide& columns) {
  const Index d = D >= 0 ? D : dim_;
  each_live_block(rows.count(), [&](Index i, Index j) {
    const Index at = i * kTile + j;
    const Register norms = rows.squared_norm()[i] + load(columns.squared_norm() + j);
    const Register squared = norms - 2.0 * load(products(0, 0) + at);
    Register a{}, b{}, tangent_a{}, tangent_b{};
    for (Index k = 0; k < d; ++k) {
      const Register u = load(products(1 + k, 0) + at) - rows.own(k)[i];
      const Register v = load(products(0, 1 + k) + at) - load(columns.own(k) + j);
      a += u * u;
      b += v * v;
      tangent_a += rows.squared_stretches(k)[i] * (u * u);
      tangent_b += load(columns.squared_stretches(k) + j) * (v * v);
    }
    const Register q = 0.5 * (a + b);
    store(squared_distances_.data() + at, q);
    const Register whitening = rows.squared_whitening()[i] + load(columns.squared_whitening() + j);
    const Register error = rounding_ * norms;
    const Register error_q = square_margin_ * norms * whitening;
    const Register error_tangent = square_margin_ * static_cast<double>(d) * norms;
    const Register stretch = min(splat(rows.stretch()[i]), load(columns.stretch() + j));
    const Register limit = squared_reach_ * stretch * stretch;
    const Register larger = max(a, b), smaller = min(a, b), tangent = min(tangent_a, tangent_b);
    constexpr double less = 1.0 - kMargin, more = 1.0 + kMargin, share = 1.0 - Gates::kOffTangent;
    const RegisterMask outside = (squared - error > limit) | (less * q - error_q > squared_radius_);
    const RegisterMask inside = (squared + error <= limit) & (more * q + error_q <= squared_radius_);
    const RegisterMask passes = (more * larger + error_q <= Gates::kAsymmetry * (less * smaller - error_q)) &
                                (less * tangent - error_tangent >= share * (squared + error));
    const RegisterMask fails = (less * larger - error_q > Gates::kAsymmetry * (more * smaller + error_q)) |
                               (more * tangent + error_tangent < share * (squared - error));
    const Register digits = (q * scale_) * (norms * whitening * scale_) * digits_;
    const RegisterMask lost = ((norms > kNear * squared) & (digits > 1.0)) | (norms > kTwins * squared);
    const RegisterMask kept = inside & passes & ~lost;
    const RegisterMask known = choose(inside & fails, state(kGated), state(kDoubtful));
    store(states_.data() + at, choose(outside, state(kOutside), choose(kept, state(kKept), known)));
    return kept & ~outside;
  });
}

template <int D>
void TileMetric::transports(const TileSide& rows, const TileSide& columns) {
  each_live_block(rows.count(), [&](Index i, Index j) {
    const Index at = i * kTile + j;
    const RegisterMask before = load(states_.data() + at);
    const RegisterMask open = before == kKept;
    if (!any(open)) return open;
    // An element w.v sigma^2 of the transport is known to |w| |v| sigma^2 roundings.
    const Register error_j = rounding_ * rows.whitening_norm()[i] * load(columns.stretch() + j);
    const Register error_i = rounding_ * rows.stretch()[i] * load(columns.whitening_norm() + j);
    Register there[D][D], back[D][D];
    for (int k = 0; k < D; ++k) {
      for (int l = 0; l < D; ++l) {
        const Register inner = load(products(1 + k, 1 + l) + at);
        there[k][l] = inner * load(columns.squared_stretches(l) + j);
        back[l][k] = inner * rows.squared_stretches(k)[i];
      }
    }
    const Verdict forward = judge<D>(there, error_j), backward = judge<D>(back, error_i);
    const RegisterMask tame = forward.tame & backward.tame, wild = forward.wild | backward.wild;
    const RegisterMask after = choose(tame, state(kKept), choose(wild, state(kGated), state(kDoubtful)));
    store(states_.data() + at, choose(open, after, before));
    return open;
  });
}

/// Many dimensions: one pair after the other.
void TileMetric::transports_one_by_one(const TileSide& rows, const TileSide& columns) {
  const Index d = dim_;
  std::vector<double> scratch(static_cast<std::size_t>(4 * d * d));
  double* forward = scratch.data();
  double* backward = forward + d * d;
  const auto within = [&](double margin) {
    const double limit = Gates::kTransport * (1.0 + margin);
    return detail::singular_values_within(forward, d, limit, backward + d * d) &&
           detail::singular_values_within(backward, d, limit, backward + d * d);
  };
  for (Index i = 0; i < rows.count(); ++i) {
    for (Index j = 0; j < columns.count(); ++j) {
      const Index at = i * kTile + j;
      std::int64_t& here = states_[static_cast<std::size_t>(at)];
      if (here != kKept) continue;
      for (Index k = 0; k < d; ++k) {
        for (Index l = 0; l < d; ++l) {
          const double inner = products(1 + k, 1 + l)[at];
          forward[k * d + l] = inner * columns.squared_stretches(l)[j];
          backward[l * d + k] = inner * rows.squared_stretches(k)[i];
        }
      }
      const double ratio =
          std::max(rows.stretch()[i] * columns.whitening_norm()[j], columns.stretch()[j] * rows.whitening_norm()[i]);
      const bool known = 16.0 * static_cast<double>(d) * rounding_ * ratio < kTransportMargin;
      here = !known ? kDoubtful : within(-kTransportMargin) ? kKept : within(kTransportMargin) ? kDoubtful : kGated;
    }
  }
}

void TileMetric::recompute(const TileSide& rows, const TileSide& columns, const std::uint64_t* candidates) {
  const auto view = [&](Row t) {
    return SampleView{tree_.point(t), tree_.whitening(t), tree_.squared_stretches(t), tree_.stretch(t)};
  };
  for (Index i = 0; i < rows.count(); ++i) {
    RegisterMask doubtful{};
    for (Index j = 0; j < kTile; j += kRegister) doubtful |= load(states_.data() + i * kTile + j) == kDoubtful;
    if (!any(doubtful)) continue;
    for (std::uint64_t rest = candidates[i]; rest != 0; rest &= rest - 1) {
      const auto at = static_cast<std::size_t>(i * kTile + std::countr_zero(rest));
      if (states_[at] != kDoubtful) continue;
      const PairState exact =
          metric_(view(rows.sample(i)), view(columns.sample(std::countr_zero(rest))), squared_distances_[at]);
      states_[at] = exact == PairState::kept ? kKept : exact == PairState::gated ? kGated : kOutside;
    }
  }
}

void TileMetric::collect(const std::uint64_t* candidates, TilePairs& pairs) const {
  RegisterMask bit;
  for (int l = 0; l < kRegister; ++l) bit[l] = std::int64_t{1} << l;
  pairs.any = false;
  for (Index i = 0; i < kTile; ++i) {
    RegisterMask kept{}, gated{};
    if (candidates[i] != 0) {
      RegisterMask bits = bit;
      for (Index j = 0; j < kTile; j += kRegister, bits <<= kRegister) {
        const RegisterMask states = load(states_.data() + i * kTile + j);
        const RegisterMask here = states == kKept;
        kept |= here & bits;
        gated |= (states == kGated) & bits;
        if (any(here)) {
          store(pairs.values + i * kTile + j, exp(-load(squared_distances_.data() + i * kTile + j) * scale_));
        }
      }
    }
    std::int64_t kept_bits = 0, gated_bits = 0;
    for (int l = 0; l < kRegister; ++l) {
      kept_bits |= kept[l];
      gated_bits |= gated[l];
    }
    pairs.kept[i] = static_cast<std::uint64_t>(kept_bits) & candidates[i];
    pairs.gated[i] = static_cast<std::uint64_t>(gated_bits) & candidates[i];
    pairs.any = pairs.any || (pairs.kept[i] | pairs.gated[i]) != 0;
  }
}

}  // namespace diffeo
