// Monomials of a few variables, and their derivatives, from those of lower degree.
#pragma once

#include <vector>

#include "diffeo/types.hpp"

namespace diffeo {

inline Index binomial(Index n, Index k) {
  Index value = 1;
  for (Index i = 1; i <= k; ++i) value = value * (n - k + i) / i;
  return value;
}

/// Number of monomials of d variables up to a degree.
inline Index terms_of(Index d, int degree) { return binomial(d + degree, d); }

/// Monomials of d variables up to a degree, from the constant on or towards it: with the highest degree first those of
/// a lower degree are the last ones.
class Powers {
 public:
  enum class Order { constant_first, constant_last };

  Powers(Index d, int degree, Order order) : d_(d), order_(order) {
    std::vector<int> exponents(static_cast<std::size_t>(d), 0);
    for (int total = 0; total <= degree; ++total) {
      list(0, order == Order::constant_first ? total : degree - total, exponents);
    }
    // Each as a product of one of lower degree and a variable; and its derivatives as multiples of lower ones.
    const Index count = size();
    lowered_.assign(static_cast<std::size_t>(count * d), -1);
    for (Index t = 0; t < count; ++t) {
      for (Index a = 0; a < d; ++a) {
        auto wanted = exponents_[static_cast<std::size_t>(t)];
        if (wanted[static_cast<std::size_t>(a)] == 0) continue;
        --wanted[static_cast<std::size_t>(a)];
        for (Index s = 0; s < count; ++s) {
          if (exponents_[static_cast<std::size_t>(s)] == wanted) {
            lowered_[static_cast<std::size_t>(t * d + a)] = s;
            break;
          }
        }
      }
    }
  }

  Index size() const { return static_cast<Index>(exponents_.size()); }

  /// All monomials at x (d), the factors of each in the order of the axes.
  void values(const double* x, double* row) const {
    const Index count = size();
    for (Index k = 0; k < count; ++k) {
      const Index t = order_ == Order::constant_first ? k : count - 1 - k;
      Index a = d_ - 1;
      while (a >= 0 && lowered(t, a) < 0) --a;
      row[t] = a < 0 ? 1.0 : row[lowered(t, a)] * x[a];
    }
  }

  /// Their derivatives along axis a, from their values.
  void derivatives(const double* values, Index a, double* row) const {
    for (Index t = 0; t < size(); ++t) {
      const Index s = lowered(t, a);
      row[t] = s < 0 ? 0.0 : exponents_[static_cast<std::size_t>(t)][static_cast<std::size_t>(a)] * values[s];
    }
  }

 private:
  Index lowered(Index t, Index a) const { return lowered_[static_cast<std::size_t>(t * d_ + a)]; }

  void list(Index axis, int left, std::vector<int>& exponents) {
    auto& own = exponents[static_cast<std::size_t>(axis)];
    if (axis + 1 == d_) {
      own = left;
      exponents_.push_back(exponents);
      return;
    }
    for (own = left; own >= 0; --own) list(axis + 1, left - own, exponents);
    own = 0;
  }

  Index d_;
  Order order_;
  std::vector<std::vector<int>> exponents_;
  std::vector<Index> lowered_;
};

}  // namespace diffeo
