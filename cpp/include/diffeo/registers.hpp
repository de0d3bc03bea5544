// A few doubles side by side, as wide as the registers that the compiler may use: the vector extensions of GCC and
// Clang, which any target understands. Code written with them has the same bits at every position of an array.
#pragma once

#include <cstdint>

#include "diffeo/native_vector.hpp"

namespace diffeo {

/// Doubles in one register.
inline constexpr int kRegister = static_cast<int>(detail::kVector);
using Register = detail::Vector;

/// What comparisons of Register give: all bits set where true.
typedef std::int64_t RegisterMask __attribute__((vector_size(kRegister * sizeof(double))));

namespace detail {
typedef std::int64_t LooseRegisterMask
    __attribute__((vector_size(kRegister * sizeof(double)), aligned(sizeof(double)), may_alias));
}  // namespace detail

using detail::load;
inline void store(double* to, const Register& x) { detail::store(x, to); }
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
