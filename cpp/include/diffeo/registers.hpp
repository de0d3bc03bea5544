// A few doubles side by side, as wide as the registers that the compiler may use: the vector extensions of GCC and
// Clang, which any target understands. Code written with them has the same bits at every position of an array.
#pragma once

#include <cstdint>

namespace diffeo {

/// Doubles in one register.
#if defined(__AVX512F__)
inline constexpr int kRegister = 8;
#elif defined(__AVX__)
inline constexpr int kRegister = 4;
#else
inline constexpr int kRegister = 2;
#endif

typedef double Register __attribute__((vector_size(kRegister * sizeof(double))));
/// What comparisons of Register give: all bits set where true.
typedef std::int64_t RegisterMask __attribute__((vector_size(kRegister * sizeof(double))));

namespace detail {
typedef double LooseRegister
    __attribute__((vector_size(kRegister * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef std::int64_t LooseRegisterMask
    __attribute__((vector_size(kRegister * sizeof(double)), aligned(sizeof(double)), may_alias));
}  // namespace detail

inline Register load(const double* from) { return *reinterpret_cast<const detail::LooseRegister*>(from); }
inline void store(double* to, Register x) { *reinterpret_cast<detail::LooseRegister*>(to) = x; }
inline RegisterMask load(const std::int64_t* from) { return *reinterpret_cast<const detail::LooseRegisterMask*>(from); }
inline void store(std::int64_t* to, RegisterMask x) { *reinterpret_cast<detail::LooseRegisterMask*>(to) = x; }
inline Register splat(double x) { return x - Register{}; }

inline Register min(Register a, Register b) { return b < a ? b : a; }
inline Register max(Register a, Register b) { return a < b ? b : a; }

inline bool any(RegisterMask mask) {
  std::int64_t all = 0;
  for (int l = 0; l < kRegister; ++l) all |= mask[l];
  return all != 0;
}

}  // namespace diffeo
