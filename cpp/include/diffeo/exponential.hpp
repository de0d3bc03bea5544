// exp of many numbers at once, in plain vector arithmetic: the exponentials of a kernel cost less than its distances.
#pragma once

#include <bit>
#include <cmath>

#include "diffeo/simd.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// exp(x) for x <= 0 in every lane, within one unit in the last place; exp(0) = 1 exactly, gradual underflow, NaN
/// stays.
///
/// x = k log 2 + r with integer k and |r| <= log(2)/2; exp(r) = 1 + r + r^2 P(r) with the polynomial P of degree 10
/// nearest in the sense of Chebyshev (relative error 4e-19); 2^k through the exponent bits, in two factors, since
/// 2^k itself underflows where the result does not yet. Thread-safe.
inline Simd exp(Simd x) {
  // Below, the result is zero.
  constexpr double kLowest = -746.0;
  // Adding it leaves an integer in the low bits of the sum.
  constexpr double kShift = 0x1.8p52;
  // log 2 in two parts: k times the first is exact for |k| < 2^20.
  constexpr double kLog2High = 0x1.62e42feep-1, kLog2Low = 0x1.a39ef35793c76p-33;
  constexpr double kPolynomial[] = {0x1.1f730349868cep-29, 0x1.af4de97ca4194p-26, 0x1.27e4db646b17ep-22,
                                    0x1.71de0231960ebp-19, 0x1.a01a01a6d889cp-16, 0x1.a01a01abe7fe1p-13,
                                    0x1.6c16c16c162d4p-10, 0x1.11111111100dcp-7,  0x1.5555555555556p-5,
                                    0x1.5555555555557p-3,  0x1.0000000000000p-1};
  constexpr int kMantissaBits = 52;
  constexpr std::int64_t kOne = std::int64_t{1023} << kMantissaBits;  // the bits of 1.0
  x = max(x, splat(kLowest));  // NaN passes
  const Simd k = (x * M_LOG2E + kShift) - kShift;
  const Simd r = (x - k * kLog2High) - k * kLog2Low;
  Simd p = splat(kPolynomial[0]);
  for (int c = 1; c < static_cast<int>(std::size(kPolynomial)); ++c) p = p * r + kPolynomial[c];
  const Simd e = 1.0 + (r + r * r * p);
  const Simd half = 0.5 * k + kShift;
  const Simd rest = (k - (half - kShift)) + kShift;
  const Simd first = std::bit_cast<Simd>((std::bit_cast<SimdBits>(half) << kMantissaBits) + kOne);
  const Simd second = std::bit_cast<Simd>((std::bit_cast<SimdBits>(rest) << kMantissaBits) + kOne);
  return e * first * second;
}

/// x <- exp(x) for `count` numbers x <= 0 (see above); the same bits at any position. Thread-safe.
inline void exponentials(double* x, Index count) {
  Index k = 0;
  for (; k + kSimd <= count; k += kSimd) store(x + k, exp(load(x + k)));
  if (k == count) return;
  Simd rest{};
  for (Index l = 0; k + l < count; ++l) rest[l] = x[k + l];
  rest = exp(rest);
  for (Index l = 0; k + l < count; ++l) x[k + l] = rest[l];
}

}  // namespace diffeo
