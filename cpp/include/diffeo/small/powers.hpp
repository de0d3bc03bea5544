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
    lowered_.assign(static_cast<std::size_t>(count * d), order == Order::constant_first ? 0 : count - 1);
    multiples_.assign(static_cast<std::size_t>(count * d), 0.0);
    products_.reserve(static_cast<std::size_t>(count));
    for (Index k = 0; k < count; ++k) {
      const Index t = order_ == Order::constant_first ? k : count - 1 - k;
      Product product{t, -1, -1};
      for (Index a = 0; a < d; ++a) {
        auto wanted = exponents_[static_cast<std::size_t>(t)];
        if (wanted[static_cast<std::size_t>(a)] == 0) continue;
        const double multiple = wanted[static_cast<std::size_t>(a)]--;
        for (Index s = 0; s < count; ++s) {
          if (exponents_[static_cast<std::size_t>(s)] == wanted) {
            lowered_[static_cast<std::size_t>(a * count + t)] = s;
            multiples_[static_cast<std::size_t>(a * count + t)] = multiple;
            product = {t, s, a};
            break;
          }
        }
      }
      products_.push_back(product);
    }
  }

  Index size() const { return static_cast<Index>(exponents_.size()); }

  /// All monomials at x (d), the factors of each in the order of the axes.
  void values(const double* x, double* row) const {
    for (const Product& p : products_) row[p.term] = p.axis < 0 ? 1.0 : row[p.lower] * x[p.axis];
  }

  /// Their derivatives along axis a, from their values.
  void derivatives(const double* values, Index a, double* row) const {
    const Index count = size();
    const Index* lowered = lowered_.data() + a * count;
    const double* multiples = multiples_.data() + a * count;
    for (Index t = 0; t < count; ++t) row[t] = multiples[t] * values[lowered[t]];
  }

 private:
  /// The monomial `term` is that of `lower` times the variable of the last `axis` that it has; -1 for the constant.
  struct Product {
    Index term, lower, axis;
  };

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
  std::vector<Product> products_;
  // By axis: of which monomial a derivative is a multiple, and the multiple: 0 times the constant where it vanishes.
  std::vector<Index> lowered_;
  std::vector<double> multiples_;
};

}  // namespace diffeo
