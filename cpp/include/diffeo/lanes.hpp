// A few doubles side by side, as wide as the registers that the compiler may use: the vector extensions of GCC and
// Clang, which any target understands. Code written with them has the same bits at every position of an array.
#pragma once

#include <cstdint>

namespace diffeo {

/// Doubles in one register.
#if defined(__AVX512F__)
inline constexpr int kLanes = 8;
#elif defined(__AVX__)
inline constexpr int kLanes = 4;
#else
inline constexpr int kLanes = 2;
#endif

typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));
/// What comparisons of Lanes give: all bits set where true.
typedef std::int64_t LaneMask __attribute__((vector_size(kLanes * sizeof(double))));

namespace detail {
typedef double LooseLanes __attribute__((vector_size(kLanes * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef std::int64_t LooseMask
    __attribute__((vector_size(kLanes * sizeof(double)), aligned(sizeof(double)), may_alias));
}  // namespace detail

inline Lanes load(const double* from) { return *reinterpret_cast<const detail::LooseLanes*>(from); }
inline void store(double* to, Lanes x) { *reinterpret_cast<detail::LooseLanes*>(to) = x; }
inline LaneMask load(const std::int64_t* from) { return *reinterpret_cast<const detail::LooseMask*>(from); }
inline void store(std::int64_t* to, LaneMask x) { *reinterpret_cast<detail::LooseMask*>(to) = x; }
inline Lanes splat(double x) { return x - Lanes{}; }

inline Lanes min(Lanes a, Lanes b) { return b < a ? b : a; }
inline Lanes max(Lanes a, Lanes b) { return a < b ? b : a; }

inline bool any(LaneMask mask) {
  std::int64_t all = 0;
  for (int l = 0; l < kLanes; ++l) all |= mask[l];
  return all != 0;
}

}  // namespace diffeo
