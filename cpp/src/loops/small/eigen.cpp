// Tridiagonalisation, QL iteration and inverse iteration on eight symmetric matrices.
#include "diffeo/small/eigen.hpp"

#include <cstdint>
#include <limits>
#include <stdexcept>

namespace diffeo {
namespace {

// Half the distance of 1 to the next number: what one rounding changes.
constexpr double kRounding = 0.5 * std::numeric_limits<double>::epsilon();
// QL iterations for one eigenvalue: it needs 1 to 3.
constexpr int kMaxIterations = 60;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

SmallEigen::SmallEigen(Index n)
    : n_(n), matrix_(at(n * n)), diagonal_(at(n)), off_diagonal_(at(n)), tau_(at(n)), values_(at(n)), squares_(at(n)),
      reflection_(at(n)), product_(at(n)), trial_(at(n)), pivot_(at(n)), upper_(at(n)), second_(at(n)),
      multiplier_(at(n)), swapped_(at(n)) {}

void SmallEigen::compute(Index dim) {
  Lanes sum = 0.0;
  for (Index i = 0; i < n_; ++i) {
    for (Index j = 0; j <= i; ++j) sum += LaneUnit::term(matrix_[at(i * n_ + j)]);
  }
  const LaneUnit unit(sum);
  for (Index i = 0; i < n_; ++i) {
    for (Index j = 0; j <= i; ++j) matrix_[at(i * n_ + j)] *= unit.inverse;
  }
  tridiagonalise();
  norm_ = 0.0;
  for (Index i = 0; i < n_; ++i) norm_ = max(norm_, abs(diagonal_[at(i)]) + abs(off_diagonal_[at(i)]));
  iterate();
  sort_values();
  if (dim > 0) find_vectors(dim);
  for (Lanes& value : values_) value *= unit.unit;
}

/// diagonal_ and off_diagonal_ of Q^T A Q; the reflections of Q stay below the diagonal of matrix_ (first entry 1).
void SmallEigen::tridiagonalise() {
  Lanes* a = matrix_.data();
  Lanes* v = reflection_.data();
  Lanes* w = product_.data();
  const Index n = n_;
  for (Index j = 0; j < n; ++j) {
    diagonal_[at(j)] = a[j * n + j];
    tau_[at(j)] = 0.0;
    off_diagonal_[at(j)] = j + 1 < n ? a[(j + 1) * n + j] : Lanes(0.0);
    if (j + 2 >= n) continue;
    Lanes below = 0.0;
    for (Index i = j + 2; i < n; ++i) below += a[i * n + j] * a[i * n + j];
    const Lanes alpha = a[(j + 1) * n + j];
    const Lanes beta = -copysign(sqrt(alpha * alpha + below), alpha);
    const LaneMask active = below > std::numeric_limits<double>::min();
    const Lanes tau = select(active, (beta - alpha) / beta, 0.0);
    const Lanes shrink = select(active, 1.0 / (alpha - beta), 0.0);
    tau_[at(j)] = tau;
    off_diagonal_[at(j)] = select(active, beta, alpha);
    v[j + 1] = 1.0;
    for (Index i = j + 2; i < n; ++i) v[i] = a[i * n + j] = a[i * n + j] * shrink;
    // w = tau A v, A symmetric and only its lower triangle stored.
    for (Index i = j + 1; i < n; ++i) {
      const Lanes vi = v[i];
      Lanes sum = a[i * n + i] * vi;
      for (Index k = j + 1; k < i; ++k) {
        const Lanes x = a[i * n + k];
        sum += x * v[k];
        w[k] += x * vi;
      }
      w[i] = sum;
    }
    Lanes dot = 0.0;
    for (Index i = j + 1; i < n; ++i) {
      w[i] *= tau;
      dot += w[i] * v[i];
    }
    const Lanes half = 0.5 * tau * dot;
    for (Index i = j + 1; i < n; ++i) w[i] -= half * v[i];
    for (Index i = j + 1; i < n; ++i) {
      const Lanes vi = v[i], wi = w[i];
      for (Index k = j + 1; k <= i; ++k) a[i * n + k] -= vi * w[k] + wi * v[k];
    }
  }
}

/// values_ become the eigenvalues of the tridiagonal matrix, unsorted. Its end comes first: what a Gram matrix leaves
/// there is small, and the iteration finds small values first.
void SmallEigen::iterate() {
  Lanes* d = values_.data();
  Lanes* e2 = squares_.data();
  const Index n = n_;
  for (Index i = 0; i < n; ++i) {
    d[i] = diagonal_[at(n - 1 - i)];
    if (i + 1 < n) e2[i] = off_diagonal_[at(n - 2 - i)] * off_diagonal_[at(n - 2 - i)];
  }
  const Lanes negligible = (kRounding * norm_) * (kRounding * norm_);
  for (Index l = 0; l + 1 < n; ++l) {
    for (int iteration = 0;; ++iteration) {
      const LaneMask active = e2[l] > negligible;
      if (!active.any()) break;
      if (iteration == kMaxIterations) throw std::runtime_error("SmallEigen: no convergence");
      // Wilkinson's shift: the eigenvalue of the leading 2 by 2 block that is nearer to its first entry.
      const Lanes half = 0.5 * (d[l + 1] - d[l]);
      const Lanes shift = d[l] - e2[l] / (half + copysign(sqrt(half * half + e2[l]), half));
      Lanes c = 1.0, s = 0.0, gamma = d[n - 1] - shift, p = gamma * gamma;
      for (Index i = n - 2; i >= l; --i) {
        const Lanes bb = e2[i], r = p + bb;
        if (i + 2 < n) e2[i + 1] = select(active, s * r, e2[i + 1]);
        // p vanishes only where the rotation exchanges its rows, r where there is nothing to rotate. The quotients by r
        // and by p do not wait for one another: p = gamma^2 / c with 1/c = r/p.
        const LaneMask regular = r > 0.0, positive = p > 1e-290;
        const Lanes inverse = 1.0 / r, stretch = r / p, old_c = c, old_gamma = gamma, alpha = d[i];
        c = select(regular, p * inverse, 1.0);
        s = select(regular, bb * inverse, 0.0);
        gamma = c * (alpha - shift) - s * old_gamma;
        d[i + 1] = select(active, old_gamma + (alpha - gamma), d[i + 1]);
        p = select(positive, gamma * gamma * stretch, select(regular, old_c * bb, gamma * gamma));
      }
      e2[l] = select(active, s * p, e2[l]);
      d[l] = select(active, shift + gamma, d[l]);
    }
  }
}

void SmallEigen::sort_values() {
  for (Index sorted = 0; sorted + 1 < n_; ++sorted) {
    bool moved = false;
    for (Index k = n_ - 1; k > sorted; --k) {
      const Lanes low = values_[at(k)], high = values_[at(k - 1)];
      const LaneMask swap = low > high;
      moved |= swap.any();
      values_[at(k)] = select(swap, high, low);
      values_[at(k - 1)] = select(swap, low, high);
    }
    if (!moved) break;
  }
}

/// LU factors of T - value I with row interchanges: pivot_ (inverses), upper_ and second_ of U, multiplier_ of L.
void SmallEigen::factorise(const Lanes& value) {
  // Pivots that vanish stand for the rounding of the matrix; a matrix of zeros gets some number.
  const Lanes least = max(kRounding * norm_, 1e-30);
  const auto bounded = [&](const Lanes& x) { return select(abs(x) > least, x, copysign(least, x)); };
  Lanes first = diagonal_[0] - value, next = off_diagonal_[0];
  for (Index i = 0; i + 1 < n_; ++i) {
    const Lanes below = off_diagonal_[at(i)], diagonal = diagonal_[at(i + 1)] - value,
                beyond = off_diagonal_[at(i + 1)];
    const LaneMask swap = abs(below) > abs(first);
    const Lanes inverse = 1.0 / bounded(select(swap, below, first));
    const Lanes multiplier = select(swap, first, below) * inverse;
    const Lanes upper = select(swap, diagonal, next), second = select(swap, beyond, 0.0);
    first = select(swap, next, diagonal) - multiplier * upper;
    next = select(swap, 0.0, beyond) - multiplier * second;
    pivot_[at(i)] = inverse;
    upper_[at(i)] = upper;
    second_[at(i)] = second;
    multiplier_[at(i)] = multiplier;
    swapped_[at(i)] = swap;
  }
  pivot_[at(n_ - 1)] = 1.0 / bounded(first);
}

void SmallEigen::solve(Lanes* x, bool forward) const {
  if (forward) {
    for (Index i = 0; i + 1 < n_; ++i) {
      const Lanes a = x[i], b = x[i + 1];
      x[i] = select(swapped_[at(i)], b, a);
      x[i + 1] = select(swapped_[at(i)], a, b) - multiplier_[at(i)] * x[i];
    }
  }
  x[n_ - 1] *= pivot_[at(n_ - 1)];
  if (n_ > 1) x[n_ - 2] = (x[n_ - 2] - upper_[at(n_ - 2)] * x[n_ - 1]) * pivot_[at(n_ - 2)];
  for (Index i = n_ - 3; i >= 0; --i) {
    x[i] = (x[i] - upper_[at(i)] * x[i + 1] - second_[at(i)] * x[i + 2]) * pivot_[at(i)];
  }
}

/// Makes x orthogonal to the first k vectors, twice for full accuracy, and of length one.
void SmallEigen::orthonormalise(Lanes* x, Index k, Index dim) const {
  for (int pass = 0; pass < 2; ++pass) {
    Lanes squared = 0.0;
    for (Index i = 0; i < n_; ++i) squared += x[i] * x[i];
    const Lanes inverse = 1.0 / sqrt(squared);
    for (Index i = 0; i < n_; ++i) x[i] *= inverse;
    if (k == 0) return;
    for (Index c = 0; c < k; ++c) {
      Lanes dot = 0.0;
      for (Index i = 0; i < n_; ++i) dot += x[i] * vectors_[at(i * dim + c)];
      for (Index i = 0; i < n_; ++i) x[i] -= dot * vectors_[at(i * dim + c)];
    }
  }
  Lanes squared = 0.0;
  for (Index i = 0; i < n_; ++i) squared += x[i] * x[i];
  const Lanes inverse = 1.0 / sqrt(squared);
  for (Index i = 0; i < n_; ++i) x[i] *= inverse;
}

void SmallEigen::find_vectors(Index dim) {
  vectors_.resize(at(n_ * dim));
  Lanes* x = trial_.data();
  std::uint32_t state = 1;
  for (Index k = 0; k < dim; ++k) {
    factorise(values_[at(k)]);
    // Any start will do that no vector is orthogonal to: numbers from a congruential generator.
    for (Index i = 0; i < n_; ++i) {
      state = 1664525u * state + 1013904223u;
      x[i] = 0.5 + static_cast<double>(state >> 8) * 0x1p-24;
    }
    // Half a step (the start counts as L times something), then a whole one.
    solve(x, false);
    orthonormalise(x, k, dim);
    solve(x, true);
    orthonormalise(x, k, dim);
    for (Index i = 0; i < n_; ++i) vectors_[at(i * dim + k)] = x[i];
  }
  transform_back(dim);
}

void SmallEigen::transform_back(Index dim) {
  Lanes* x = vectors_.data();
  const Lanes* a = matrix_.data();
  for (Index j = n_ - 3; j >= 0; --j) {
    for (Index k = 0; k < dim; ++k) {
      Lanes dot = x[(j + 1) * dim + k];
      for (Index i = j + 2; i < n_; ++i) dot += a[i * n_ + j] * x[i * dim + k];
      dot *= tau_[at(j)];
      x[(j + 1) * dim + k] -= dot;
      for (Index i = j + 2; i < n_; ++i) x[i * dim + k] -= a[i * n_ + j] * dot;
    }
  }
}

}  // namespace diffeo
