// Vectors of doubles as wide as the registers of the instruction set that a file is compiled for.
//
// The vector extensions of GCC and Clang, which any target understands, and what they leave out: loads and stores at
// any address, and masks, which are registers of their own in AVX-512 and whole vectors elsewhere. Code written with
// them has the same bits at every position of an array.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "diffeo/index.hpp"

namespace diffeo {

/// Doubles in one register.
#if defined(__AVX512F__)
inline constexpr int kSimd = 8;
#elif defined(__AVX__)
inline constexpr int kSimd = 4;
#else
inline constexpr int kSimd = 2;
#endif

using Simd = double __attribute__((vector_size(kSimd * sizeof(double))));
/// The same bits as integers.
using SimdBits = std::int64_t __attribute__((vector_size(kSimd * sizeof(double))));

/// Two doubles and four floats: the smallest registers of every level.
using Pair = double __attribute__((vector_size(2 * sizeof(double))));
using Quad = float __attribute__((vector_size(4 * sizeof(float))));

/// `Vector` is one of the four above; the address need only be aligned to its elements.
template <class Vector, class Element>
Vector load_as(const Element* from) {
  Vector x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
template <class Vector, class Element>
void store(Element* to, const Vector& x) {
  std::memcpy(to, &x, sizeof x);
}

inline Simd load(const double* from) { return load_as<Simd>(from); }
inline Quad load(const float* from) { return load_as<Quad>(from); }
inline Simd splat(double x) { return x - Simd{}; }

/// Truth of each lane; `bits` has that of lane l in bit l.
#if defined(__AVX512F__)

struct SimdMask {
  __mmask8 lanes;

  SimdMask operator&(const SimdMask& o) const { return {static_cast<__mmask8>(lanes & o.lanes)}; }
  SimdMask operator|(const SimdMask& o) const { return {static_cast<__mmask8>(lanes | o.lanes)}; }
  SimdMask operator~() const { return {static_cast<__mmask8>(~lanes)}; }
};
inline SimdMask less(const Simd& a, const Simd& b) { return {_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ)}; }
inline SimdMask at_most(const Simd& a, const Simd& b) { return {_mm512_cmp_pd_mask(a, b, _CMP_LE_OQ)}; }
inline SimdMask equal(const Simd& a, const Simd& b) { return {_mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ)}; }
inline Simd select(const SimdMask& mask, const Simd& yes, const Simd& no) {
  return _mm512_mask_blend_pd(mask.lanes, no, yes);
}
inline unsigned bits(const SimdMask& mask) { return mask.lanes; }

#elif defined(__SSE2__) && !defined(__AVX__)

// By name: GCC 12 takes the general form below apart lane by lane, since SSE2 does not compare integers of 64 bits.
struct SimdMask {
  Simd lanes;  // all bits of a lane or none

  SimdMask operator&(const SimdMask& o) const { return {_mm_and_pd(lanes, o.lanes)}; }
  SimdMask operator|(const SimdMask& o) const { return {_mm_or_pd(lanes, o.lanes)}; }
  SimdMask operator~() const { return {_mm_xor_pd(lanes, _mm_castsi128_pd(_mm_set1_epi32(-1)))}; }
};
inline SimdMask less(const Simd& a, const Simd& b) { return {_mm_cmplt_pd(a, b)}; }
inline SimdMask at_most(const Simd& a, const Simd& b) { return {_mm_cmple_pd(a, b)}; }
inline SimdMask equal(const Simd& a, const Simd& b) { return {_mm_cmpeq_pd(a, b)}; }
inline Simd select(const SimdMask& mask, const Simd& yes, const Simd& no) {
  return _mm_or_pd(_mm_and_pd(mask.lanes, yes), _mm_andnot_pd(mask.lanes, no));
}
inline unsigned bits(const SimdMask& mask) { return static_cast<unsigned>(_mm_movemask_pd(mask.lanes)); }

#else

struct SimdMask {
  SimdBits lanes;  // all bits of a lane or none

  SimdMask operator&(const SimdMask& o) const { return {lanes & o.lanes}; }
  SimdMask operator|(const SimdMask& o) const { return {lanes | o.lanes}; }
  SimdMask operator~() const { return {~lanes}; }
};
inline SimdMask less(const Simd& a, const Simd& b) { return {SimdBits(a < b)}; }
inline SimdMask at_most(const Simd& a, const Simd& b) { return {SimdBits(a <= b)}; }
inline SimdMask equal(const Simd& a, const Simd& b) { return {SimdBits(a == b)}; }
inline Simd select(const SimdMask& mask, const Simd& yes, const Simd& no) { return mask.lanes ? yes : no; }
inline unsigned bits(const SimdMask& mask) {
#if defined(__AVX__)
  return static_cast<unsigned>(_mm256_movemask_pd(Simd(mask.lanes)));
#else
  unsigned result = 0;
  for (int l = 0; l < kSimd; ++l) result |= static_cast<unsigned>(mask.lanes[l] != 0) << l;
  return result;
#endif
}

#endif

inline bool any(const SimdMask& mask) { return bits(mask) != 0; }

/// The same questions of one number, for templates over both.
inline bool less(double a, double b) { return a < b; }
inline bool at_most(double a, double b) { return a <= b; }

/// The first where either is not a number.
inline Simd min(const Simd& a, const Simd& b) { return b < a ? b : a; }
inline Simd max(const Simd& a, const Simd& b) { return a < b ? b : a; }
inline double min(double a, double b) { return b < a ? b : a; }
inline double max(double a, double b) { return a < b ? b : a; }

inline Simd abs(const Simd& x) { return Simd(SimdBits(x) & std::int64_t{0x7fffffffffffffff}); }

/// |x| with the sign of `sign`.
inline Simd copysign(const Simd& x, const Simd& sign) {
  constexpr std::int64_t kRest = 0x7fffffffffffffff;
  return Simd((SimdBits(x) & kRest) | (SimdBits(sign) & ~kRest));
}

inline Simd sqrt(const Simd& x) {
  Simd root{};
  for (int l = 0; l < kSimd; ++l) root[l] = std::sqrt(x[l]);
  return root;
}

/// Sum of a[k] b[k]; four sums run side by side, so that additions need not wait for one another.
inline double dot(const double* a, const double* b, Index count) {
  double sum = 0.0;
  Index k = 0;
  if (count >= 4 * kSimd) {
    Simd sums[4]{};
    for (; k + 4 * kSimd <= count; k += 4 * kSimd) {
      for (Index s = 0; s < 4; ++s) sums[s] += load(a + k + s * kSimd) * load(b + k + s * kSimd);
    }
    const Simd all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (int l = 0; l < kSimd; ++l) sum += all[l];
  }
  for (; k < count; ++k) sum += a[k] * b[k];
  return sum;
}

}  // namespace diffeo
