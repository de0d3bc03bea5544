// The gates that a pair of samples must pass, stated once, for one pair or for as many as a register has lanes.
//
// W_i^T is blind to displacements along the normal, so points of different sheets can seem near; the gates drop such
// pairs. What evaluates pairs (PairMetric one by one, BlockMetric eight at a time, TileMetric by matrix products)
// supplies the numbers of a pair, which are double or Simd; answers are bool or SimdMask. reference.py states the same
// definition in NumPy; the tests hold them together.
#pragma once

#include "diffeo/simd.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Limits of the gates; each holds both ways (see reference.py, which states the same numbers).
struct Gates {
  static constexpr double kReach = 1.5;         ///< |D| <= kReach * sigma_1 * r
  static constexpr double kAsymmetry = 4.0;     ///< larger one-sided squared distance over the smaller
  static constexpr double kOffTangent = 0.5;    ///< share of |D|^2 outside the tangent space
  static constexpr double kTransport = 2.0;     ///< singular values of W_i^T pinv(W_j^T) in [1/2, 2]
};

/// What a comparison of numbers gives: bool or SimdMask.
template <class Number>
using Truth = decltype(less(Number{}, Number{}));

/// A gate with the numbers of a pair: value <= bound. Numbers that rounding has moved are given as far to one side as
/// they may lie, for `passes` to the worse and for `fails` to the better: then both are sure. What is not a number
/// neither passes nor fails.
template <class Number>
struct Gate {
  Number value, bound;
};
template <class Number>
Truth<Number> passes(const Gate<Number>& gate) {
  return at_most(gate.value, gate.bound);
}
template <class Number>
Truth<Number> fails(const Gate<Number>& gate) {
  return less(gate.bound, gate.value);
}

/// (kReach r)^2.
constexpr double squared_reach(double squared_radius) { return Gates::kReach * Gates::kReach * squared_radius; }

/// |D| within the reach: `stretch` is the smaller sigma_1 of the two samples.
template <class Number>
Gate<Number> within_reach(const Number& squared_distance, double squared_reach, const Number& stretch) {
  return {squared_distance, squared_reach * stretch * stretch};
}

/// Both samples see about the same distance: the larger and the smaller of a_ij and a_ji.
template <class Number>
Gate<Number> symmetric(const Number& larger, const Number& smaller) {
  return {larger, Gates::kAsymmetry * smaller};
}

/// D lies along a tangent space: `tangent` is |U^T D|^2.
template <class Number>
Gate<Number> along_tangent(const Number& tangent, const Number& squared_distance) {
  return {(1.0 - Gates::kOffTangent) * squared_distance, tangent};
}

// What follows is inlined by decree: of themselves compilers keep the small matrices in memory.

/// The transports of a pair, (d, d) each: W_i^T pinv(W_j^T) = (W_i^T W_j) diag(sigma_j^2), since the columns of
/// W_j = U_j / Sigma_j are orthogonal, and the one back. inner(k, l) gives the inner product of column k of W_i with
/// column l of W_j. D fixes the dimension at compile time, here and below; -1 leaves it open.
template <int D, class Number, class Inner, class SquaredI, class SquaredJ>
[[gnu::always_inline]] inline void transports(Index dim, Inner&& inner, SquaredI&& squared_stretch_i,
                                              SquaredJ&& squared_stretch_j, Number* forward, Number* backward) {
  const Index d = D >= 0 ? D : dim;
  for (Index k = 0; k < d; ++k) {
    for (Index l = 0; l < d; ++l) {
      const Number product = inner(k, l);
      forward[k * d + l] = product * squared_stretch_j(l);
      backward[l * d + k] = product * squared_stretch_i(k);
    }
  }
}

/// How far the singular values of a matrix are from the limits of a transport: inside where least > 0, outside where
/// least < 0, and beyond doubt where |least| exceeds the error of the matrix times `size`.
template <class Number>
struct Slack {
  Number least, size;
};

/// In closed form for one and two dimensions. With s = limit^2 and its inverse, both
/// (s - sigma_1^2) + (s - sigma_2^2) = 2 s - |t|^2 and (s - sigma_1^2) (s - sigma_2^2) = s^2 - s |t|^2 + det(t)^2 have
/// the sign of the side.
template <int D, class Number>
[[gnu::always_inline]] inline Slack<Number> transport_slack(const Number* t, double limit = Gates::kTransport) {
  static_assert(D == 1 || D == 2);
  const double high = limit * limit, low = 1.0 / high;
  if constexpr (D == 1) {
    const Number square = t[0] * t[0];
    return {min(Number(high - square), Number(square - low)), high + square};
  } else {
    const Number norm = t[0] * t[0] + t[1] * t[1] + t[2] * t[2] + t[3] * t[3];
    const Number determinant = t[0] * t[3] - t[1] * t[2];
    const Number square = determinant * determinant;
    const Number above = min(Number(2.0 * high - norm), Number(high * high - high * norm + square));
    const Number below = min(Number(norm - 2.0 * low), Number(low * low - low * norm + square));
    return {min(above, below), high * high + high * norm + square};
  }
}

/// Whether the symmetric matrix s (d, d), overwritten, has only positive pivots in Gaussian elimination.
template <int D, class Number>
[[gnu::always_inline]] inline Truth<Number> positive_definite(Number* s, Index dim) {
  const Index d = D >= 0 ? D : dim;
  const Number zero{};
  Truth<Number> positive = less(zero, s[0]);
  for (Index k = 0; k < d; ++k) {
    const Truth<Number> pivot = less(zero, s[k * d + k]);
    positive = positive & pivot;
    for (Index i = k + 1; i < d; ++i) {
      const Number factor = s[i * d + k] / s[k * d + k];
      for (Index j = k + 1; j < d; ++j) s[i * d + j] -= factor * s[k * d + j];
    }
  }
  return positive;
}

/// Whether all singular values of t (d, d) lie between 1/limit and limit: limit^2 I - T^T T and T^T T - I/limit^2 are
/// both positive definite. `scratch` holds 2 d^2 numbers.
template <int D, class Number>
Truth<Number> singular_values_within(const Number* t, Index dim, double limit, Number* scratch) {
  const Index d = D >= 0 ? D : dim;
  const double high = limit * limit, low = 1.0 / high;
  Number* above = scratch;
  Number* below = scratch + d * d;
  for (Index k = 0; k < d; ++k) {
    for (Index l = k; l < d; ++l) {
      Number g{};
      for (Index a = 0; a < d; ++a) g += t[a * d + k] * t[a * d + l];
      above[k * d + l] = above[l * d + k] = (k == l ? high : 0.0) - g;
      below[k * d + l] = below[l * d + k] = g - (k == l ? low : 0.0);
    }
  }
  const Truth<Number> not_above = positive_definite<D>(above, dim), not_below = positive_definite<D>(below, dim);
  return not_above & not_below;
}

/// Whether a transport is near an orthogonal matrix. `scratch` holds 2 d^2 numbers.
template <int D, class Number>
[[gnu::always_inline]] inline Truth<Number> transport_is_tame(const Number* t, Index dim, double limit,
                                                              Number* scratch) {
  if constexpr (D == 1 || D == 2) {
    return less(Number{}, transport_slack<D>(t, limit).least);
  } else {
    return singular_values_within<D>(t, dim, limit, scratch);
  }
}

/// The same of both transports of a pair, which `transports` describes. `scratch` holds 4 d^2 numbers.
template <int D, class Number, class Inner, class SquaredI, class SquaredJ>
[[gnu::always_inline]] inline Truth<Number> transports_are_tame(Index dim, Inner&& inner, SquaredI&& squared_stretch_i,
                                                                SquaredJ&& squared_stretch_j, double limit,
                                                                Number* scratch) {
  const Index d = D >= 0 ? D : dim;
  Number* forward = scratch;
  Number* backward = forward + d * d;
  transports<D>(dim, inner, squared_stretch_i, squared_stretch_j, forward, backward);
  Number* rest = backward + d * d;
  const Truth<Number> there = transport_is_tame<D>(forward, dim, limit, rest);
  const Truth<Number> back = transport_is_tame<D>(backward, dim, limit, rest);
  return there & back;
}

}  // namespace diffeo
