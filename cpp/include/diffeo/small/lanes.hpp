// Eight doubles side by side, one of each of eight samples: small problems of one shape are solved eight at a time.
//
// Every operation acts on each lane alone, so the result of a sample depends neither on the samples beside it nor on
// the position of its lane; code that loops until all lanes are done keeps finished lanes as they are (`select`).
// The eight doubles are as many registers (simd.hpp) as the instruction set of the translation unit needs.
#pragma once

#include <algorithm>
#include <cstdint>

#include "diffeo/simd.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

inline constexpr Index kLanes = 8;

namespace detail {
/// Registers that hold them.
inline constexpr int kParts = static_cast<int>(kLanes) / kSimd;
}  // namespace detail

/// Truth of each lane.
struct LaneMask {
  SimdMask part[detail::kParts];

  LaneMask operator&(const LaneMask& o) const {
    LaneMask r;
    for (int i = 0; i < detail::kParts; ++i) r.part[i] = part[i] & o.part[i];
    return r;
  }
  LaneMask operator|(const LaneMask& o) const {
    LaneMask r;
    for (int i = 0; i < detail::kParts; ++i) r.part[i] = part[i] | o.part[i];
    return r;
  }
  LaneMask operator!() const {
    LaneMask r;
    for (int i = 0; i < detail::kParts; ++i) r.part[i] = ~part[i];
    return r;
  }
  bool operator[](Index lane) const { return ((bits(part[lane / kSimd]) >> (lane % kSimd)) & 1U) != 0; }
  bool any() const {
    SimdMask all = part[0];
    for (int i = 1; i < detail::kParts; ++i) all = all | part[i];
    return diffeo::any(all);
  }
};

/// Eight doubles with the arithmetic of one.
struct Lanes {
  Simd part[detail::kParts];

  Lanes() = default;
  Lanes(double x) {  // NOLINT(google-explicit-constructor): a number is the same in every lane
    for (auto& p : part) p = splat(x);
  }

  double operator[](Index lane) const { return part[lane / kSimd][lane % kSimd]; }
  void set(Index lane, double x) { part[lane / kSimd][lane % kSimd] = x; }

#define DIFFEO_LANES_OPERATOR(op)                                                \
  friend Lanes operator op(const Lanes& a, const Lanes& b) {                     \
    Lanes r;                                                                     \
    for (int i = 0; i < detail::kParts; ++i) r.part[i] = a.part[i] op b.part[i]; \
    return r;                                                                    \
  }                                                                              \
  Lanes& operator op## = (const Lanes& b) { return *this = *this op b; }
  DIFFEO_LANES_OPERATOR(+)
  DIFFEO_LANES_OPERATOR(-)
  DIFFEO_LANES_OPERATOR(*)
  DIFFEO_LANES_OPERATOR(/)
#undef DIFFEO_LANES_OPERATOR
  Lanes operator-() const {
    Lanes r;
    for (int i = 0; i < detail::kParts; ++i) r.part[i] = -part[i];
    return r;
  }

  friend LaneMask operator<(const Lanes& a, const Lanes& b) {
    LaneMask r;
    for (int i = 0; i < detail::kParts; ++i) r.part[i] = less(a.part[i], b.part[i]);
    return r;
  }
  friend LaneMask operator==(const Lanes& a, const Lanes& b) {
    LaneMask r;
    for (int i = 0; i < detail::kParts; ++i) r.part[i] = equal(a.part[i], b.part[i]);
    return r;
  }
  friend LaneMask operator>(const Lanes& a, const Lanes& b) { return b < a; }
};

inline Lanes select(const LaneMask& mask, const Lanes& yes, const Lanes& no) {
  Lanes r;
  for (int i = 0; i < detail::kParts; ++i) r.part[i] = select(mask.part[i], yes.part[i], no.part[i]);
  return r;
}

inline Lanes abs(const Lanes& x) {
  Lanes r;
  for (int i = 0; i < detail::kParts; ++i) r.part[i] = abs(x.part[i]);
  return r;
}

/// |x| with the sign of `sign`.
inline Lanes copysign(const Lanes& x, const Lanes& sign) {
  Lanes r;
  for (int i = 0; i < detail::kParts; ++i) r.part[i] = copysign(x.part[i], sign.part[i]);
  return r;
}

/// The larger of two; the second where either is not a number.
inline Lanes max(const Lanes& a, const Lanes& b) {
  Lanes r;
  for (int i = 0; i < detail::kParts; ++i) r.part[i] = max(b.part[i], a.part[i]);
  return r;
}

inline Lanes sqrt(const Lanes& x) {
  Lanes r;
  for (int i = 0; i < detail::kParts; ++i) r.part[i] = sqrt(x.part[i]);
  return r;
}

/// A power of two near the size of what sums to `sum` = 2^-64 (|x_1| + |x_2| + ...), and its inverse: dividing by it
/// works at size 1 without rounding. Both are not-a-number where a term is not finite.
struct LaneUnit {
  Lanes unit, inverse;

  explicit LaneUnit(const Lanes& sum) {
    const Lanes bounded = select(sum < 0x1p-1000, 0x1p-1000, select(sum > 0x1p950, 0x1p950, sum));
    Lanes power;
    for (int i = 0; i < detail::kParts; ++i) {
      power.part[i] = Simd(SimdBits(bounded.part[i]) & std::int64_t{0x7ff0000000000000});
    }
    const Lanes poison = sum - sum;
    unit = power * 0x1p64 + poison;
    inverse = 1.0 / unit;
  }

  /// What is added up to `sum`.
  static Lanes term(const Lanes& x) { return abs(x) * 0x1p-64; }
};

/// Where the rows of the eight samples of a group start; a group that is not full repeats its last sample.
struct LaneRows {
  const double* row[kLanes];

  LaneRows(const double* first, Index stride, Index valid) {
    for (Index l = 0; l < kLanes; ++l) row[l] = first + std::min(l, valid - 1) * stride;
  }
};

/// out[e * step] = element `offset` + e of every row, e < count.
inline void interleave(const LaneRows& rows, Index offset, Index count, Lanes* out, Index step = 1) {
  Index e = 0;
  for (; e + 1 < count; e += 2) {
    double* even = reinterpret_cast<double*>(out + e * step);
    double* odd = reinterpret_cast<double*>(out + (e + 1) * step);
    for (Index l = 0; l < kLanes; l += 2) {
      const Pair a = load_as<Pair>(rows.row[l] + offset + e);
      const Pair b = load_as<Pair>(rows.row[l + 1] + offset + e);
      store(even + l, Pair{a[0], b[0]});
      store(odd + l, Pair{a[1], b[1]});
    }
  }
  if (e < count) {
    for (Index l = 0; l < kLanes; ++l) out[e * step].set(l, rows.row[l][offset + e]);
  }
}

/// Writes the first `valid` lanes of values[0..count) to rows of `count` numbers that lie `stride` apart.
///
/// Zeros lose their sign: it may depend on how long the other lanes took.
inline void deinterleave(const Lanes* values, Index count, double* first, Index stride, Index valid) {
  Index e = 0;
  for (; e + 1 < count; e += 2) {
    const Lanes even = values[e] + 0.0, odd = values[e + 1] + 0.0;
    double a[kLanes], b[kLanes];
    for (Index l = 0; l < kLanes; ++l) a[l] = even[l], b[l] = odd[l];
    for (Index l = 0; l < valid; ++l) store(first + l * stride + e, Pair{a[l], b[l]});
  }
  if (e < count) {
    const Lanes last = values[e] + 0.0;
    for (Index l = 0; l < valid; ++l) first[l * stride + e] = last[l];
  }
}

/// One lane of values[0..count), to `out`.
inline void extract(const Lanes* values, Index count, Index lane, double* out) {
  for (Index e = 0; e < count; ++e) out[e] = values[e][lane] + 0.0;
}

}  // namespace diffeo
