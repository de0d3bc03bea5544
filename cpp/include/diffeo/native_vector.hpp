// Vectors of doubles as wide as the instruction set that a file is compiled for.
#pragma once

#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "diffeo/index.hpp"

namespace diffeo::detail {

#if defined(__AVX512F__)
inline constexpr Index kVector = 8;
#elif defined(__AVX__)
inline constexpr Index kVector = 4;
#else
inline constexpr Index kVector = 2;
#endif
typedef double Vector __attribute__((vector_size(kVector * sizeof(double))));

inline Vector load(const double* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(const Vector& v, double* to) { std::memcpy(to, &v, sizeof v); }

/// Bit l is set where a <= b in lane l.
inline unsigned at_most(const Vector& a, const Vector& b) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ);
#elif defined(__AVX__)
  return static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LE_OQ)));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_pd(_mm_cmple_pd(a, b)));
#else
  unsigned bits = 0;
  for (Index l = 0; l < kVector; ++l) bits |= static_cast<unsigned>(a[l] <= b[l]) << l;
  return bits;
#endif
}

/// Bit l is set where a < b in lane l.
inline unsigned below(const Vector& a, const Vector& b) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ);
#elif defined(__AVX__)
  return static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LT_OQ)));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_pd(_mm_cmplt_pd(a, b)));
#else
  unsigned bits = 0;
  for (Index l = 0; l < kVector; ++l) bits |= static_cast<unsigned>(a[l] < b[l]) << l;
  return bits;
#endif
}

/// Sum of a[k] b[k]; four sums run side by side, so that additions need not wait for one another.
inline double dot(const double* a, const double* b, Index count) {
  double sum = 0.0;
  Index k = 0;
  if (count >= 4 * kVector) {
    Vector sums[4]{};
    for (; k + 4 * kVector <= count; k += 4 * kVector) {
      for (Index s = 0; s < 4; ++s) sums[s] += load(a + k + s * kVector) * load(b + k + s * kVector);
    }
    const Vector all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (Index l = 0; l < kVector; ++l) sum += all[l];
  }
  for (; k < count; ++k) sum += a[k] * b[k];
  return sum;
}

}  // namespace diffeo::detail
