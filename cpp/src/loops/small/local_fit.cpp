// Gram-Schmidt with column pivoting on eight neighbourhoods.
#include "diffeo/small/local_fit.hpp"

#include <limits>

namespace diffeo {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

void remove_mean(Lanes* x, Index count) {
  Lanes sum = 0.0;
  for (Index a = 0; a < count; ++a) sum += x[a];
  const Lanes mean = sum * (1.0 / static_cast<double>(count));
  for (Index a = 0; a < count; ++a) x[a] -= mean;
}

Lanes dot(const Lanes* x, const Lanes* y, Index count) {
  Lanes sum = 0.0;
  for (Index a = 0; a < count; ++a) sum += x[a] * y[a];
  return sum;
}

}  // namespace

void combine_rows(const double* const* rows, Index count, Index m, const double* coefficients, double* out) {
  Index j = 0;
  for (; j + 2 * kSimd <= m; j += 2 * kSimd) {
    const Simd first = load(rows[0] + j), next = load(rows[0] + j + kSimd);
    Simd sum{}, sum_next{};
    for (Index k = 1; k < count; ++k) {
      sum += coefficients[k] * (load(rows[k] + j) - first);
      sum_next += coefficients[k] * (load(rows[k] + j + kSimd) - next);
    }
    store(out + j, sum);
    store(out + j + kSimd, sum_next);
  }
  for (; j < m; ++j) {
    double sum = 0.0;
    for (Index k = 1; k < count; ++k) sum += coefficients[k] * (rows[k][j] - rows[0][j]);
    out[j] = sum;
  }
}

LocalFit::LocalFit(Index k, Index p)
    : k_(k), p_(p), columns_(at(k * p)), triangle_(at(p * p)), order_(at(p)), inverse_(at(k * p)) {}

/// Moves the longest of the columns from j on to place j.
void LocalFit::pivot(Index j) {
  Lanes longest = dot(&position(0, j), &position(0, j), k_), best = static_cast<double>(j);
  for (Index c = j + 1; c < p_; ++c) {
    const Lanes length = dot(&position(0, c), &position(0, c), k_);
    const LaneMask longer = length > longest;
    longest = select(longer, length, longest);
    best = select(longer, static_cast<double>(c), best);
  }
  for (Index c = j + 1; c < p_; ++c) {
    const LaneMask swap = best == static_cast<double>(c);
    if (!swap.any()) continue;
    const auto exchange = [&](Lanes& x, Lanes& y) {
      const Lanes old = x;
      x = select(swap, y, x);
      y = select(swap, old, y);
    };
    for (Index a = 0; a < k_; ++a) exchange(position(a, j), position(a, c));
    for (Index i = 0; i < j; ++i) exchange(triangle_[at(i * p_ + j)], triangle_[at(i * p_ + c)]);
    exchange(order_[at(j)], order_[at(c)]);
  }
}

/// Takes the part along column `from` out of column j.
void LocalFit::project(Index from, Index j) {
  const Lanes part = dot(&position(0, from), &position(0, j), k_);
  triangle_[at(from * p_ + j)] += part;
  for (Index a = 0; a < k_; ++a) position(a, j) -= part * position(a, from);
}

void LocalFit::compute() {
  Lanes sum = 0.0;
  for (Index c = 0; c < p_; ++c) {
    remove_mean(&position(0, c), k_);
    for (Index a = 0; a < k_; ++a) sum += LaneUnit::term(position(a, c));
    order_[at(c)] = static_cast<double>(c);
  }
  const LaneUnit unit(sum);
  for (Lanes& x : columns_) x *= unit.inverse;
  std::fill(triangle_.begin(), triangle_.end(), Lanes(0.0));
  const double rounding = static_cast<double>(p_) * std::numeric_limits<double>::epsilon();
  Lanes first = 0.0, last = 0.0;
  for (Index j = 0; j < p_; ++j) {
    pivot(j);
    for (Index i = 0; i < j; ++i) project(i, j);
    last = sqrt(dot(&position(0, j), &position(0, j), k_));
    if (j == 0) first = last;
    triangle_[at(j * p_ + j)] = last;
    const Lanes inverse = select(last > rounding * first, 1.0 / last, 0.0);
    for (Index a = 0; a < k_; ++a) position(a, j) *= inverse;
    for (Index c = j + 1; c < p_; ++c) project(j, c);
  }
  condition_ = select(first > 0.0, last / first, 0.0);
  // Rows of R^-1 Q^T, from the last, then each to the coordinate that it belongs to.
  for (Index j = p_; j-- > 0;) {
    const Lanes diagonal = triangle_[at(j * p_ + j)];
    const Lanes inverse = select(diagonal > rounding * first, 1.0 / diagonal, 0.0);
    for (Index c = j + 1; c < p_; ++c) {
      const Lanes factor = triangle_[at(j * p_ + c)];
      for (Index a = 0; a < k_; ++a) position(a, j) -= factor * position(a, c);
    }
    for (Index a = 0; a < k_; ++a) position(a, j) *= inverse;
  }
  for (Index c = 0; c < p_; ++c) {
    Lanes* row = inverse_.data() + c * k_;
    for (Index a = 0; a < k_; ++a) {
      row[a] = position(a, 0);
      for (Index j = 1; j < p_; ++j) {
        row[a] = select(order_[at(j)] == static_cast<double>(c), position(a, j), row[a]);
      }
      row[a] *= unit.inverse;
    }
    remove_mean(row, k_);
  }
}

}  // namespace diffeo
