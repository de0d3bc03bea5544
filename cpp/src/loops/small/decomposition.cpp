// One-sided Jacobi rotations on eight factors, after a QR step where it shortens them.
#include "diffeo/small/decomposition.hpp"

#include <limits>

namespace diffeo {
namespace {

// Sweeps after which one-sided Jacobi has converged with a wide margin (it needs 3 to 10).
constexpr int kMaxSweeps = 40;

/// Rotates columns a and b of work (all_rows, columns) in the lanes where their first `rows` entries are not
/// orthogonal; true if any was.
inline bool rotate(Lanes* work, Index rows, Index all_rows, Index columns, Index a, Index b, double orthogonal) {
  Lanes aa = 0.0, bb = 0.0, ab = 0.0;
  for (Index i = 0; i < rows; ++i) {
    const Lanes x = work[i * columns + a], y = work[i * columns + b];
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  const LaneMask turned = abs(ab) > orthogonal * sqrt(aa * bb);
  if (!turned.any()) return false;
  // The smaller root t of t^2 + 2 zeta t - 1 = 0; what is wrong in lanes that do not turn is not used.
  const Lanes zeta = 0.5 * (bb - aa) / ab;
  const Lanes tangent = copysign(1.0, zeta) / (abs(zeta) + sqrt(1.0 + zeta * zeta));
  const Lanes cosine = select(turned, 1.0 / sqrt(1.0 + tangent * tangent), 1.0);
  const Lanes sine = select(turned, cosine * tangent, 0.0);
  for (Index i = 0; i < all_rows; ++i) {
    const Lanes x = work[i * columns + a], y = work[i * columns + b];
    work[i * columns + a] = cosine * x - sine * y;
    work[i * columns + b] = sine * x + cosine * y;
  }
  return true;
}

/// Sweeps over all pairs of columns until all are orthogonal. P fixes their number; -1 leaves it open.
template <int P>
void rotate_all(Lanes* work, Index rows, Index all_rows, Index open_columns) {
  const Index columns = P > 0 ? P : open_columns;
  // Columns count as orthogonal when their cosine is at the rounding level of the sums behind it.
  const double orthogonal =
      std::max(1e-15, std::sqrt(static_cast<double>(rows)) * std::numeric_limits<double>::epsilon());
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    bool rotated = false;
    for (Index a = 0; a + 1 < columns; ++a) {
      for (Index b = a + 1; b < columns; ++b) rotated |= rotate(work, rows, all_rows, columns, a, b, orthogonal);
    }
    if (!rotated) break;
  }
}

}  // namespace

SmallDecomposition::SmallDecomposition(Index m, Index p)
    : m_(m), p_(p), wide_(p > m), rows_(std::max(m, p)), columns_(std::min(m, p)) {
  // The left vectors of a wide A = (Q R)^T are those of R^T; a long A = Q R has less to rotate in R.
  reduced_ = wide_ || (rows_ > 2 * columns_ && columns_ > 2);
  const auto size = static_cast<std::size_t>(columns_);
  work_.resize(static_cast<std::size_t>(rows_ * columns_));
  if (reduced_) square_.resize(size * size);
  tau_.resize(size);
  values_.resize(size);
  order_.resize(size);
}

void SmallDecomposition::load(const LaneRows& factors) {
  if (wide_) {
    for (Index a = 0; a < m_; ++a) interleave(factors, a * p_, p_, work_.data() + a, m_);
  } else {
    interleave(factors, 0, m_ * p_, work_.data());
  }
}

void SmallDecomposition::load_transposed(const LaneRows& factors) {
  if (wide_) {
    interleave(factors, 0, m_ * p_, work_.data());
  } else {
    for (Index k = 0; k < p_; ++k) interleave(factors, k * m_, m_, work_.data() + k, p_);
  }
}

void SmallDecomposition::compute(Index dim, double gain) {
  Lanes sum = 0.0;
  for (const Lanes& x : work_) sum += LaneUnit::term(x);
  const LaneUnit unit(sum);
  for (Lanes& x : work_) x *= unit.inverse;
  if (reduced_) triangularise();
  if (wide_) transpose_triangle();
  orthogonalise();
  sort_columns();
  if (dim > 0) write_whitening(dim, gain, unit);
  for (Lanes& value : values_) value *= unit.unit;
}

/// Householder QR of work_ in place: reflections below the diagonal (their first entry 1 is not stored), R above.
void SmallDecomposition::triangularise() {
  Lanes* a = work_.data();
  const Index n = columns_;
  for (Index j = 0; j < n; ++j) {
    Lanes below = 0.0;
    for (Index i = j + 1; i < rows_; ++i) below += a[i * n + j] * a[i * n + j];
    const Lanes alpha = a[j * n + j];
    const Lanes beta = -copysign(sqrt(alpha * alpha + below), alpha);
    const LaneMask active = below > std::numeric_limits<double>::min();
    const Lanes tau = select(active, (beta - alpha) / beta, 0.0);
    const Lanes shrink = select(active, 1.0 / (alpha - beta), 0.0);
    tau_[static_cast<std::size_t>(j)] = tau;
    a[j * n + j] = select(active, beta, alpha);
    for (Index i = j + 1; i < rows_; ++i) a[i * n + j] *= shrink;
    for (Index k = j + 1; k < n; ++k) {
      Lanes dot = a[j * n + k];
      for (Index i = j + 1; i < rows_; ++i) dot += a[i * n + j] * a[i * n + k];
      dot *= tau;
      a[j * n + k] -= dot;
      for (Index i = j + 1; i < rows_; ++i) a[i * n + k] -= a[i * n + j] * dot;
    }
  }
  for (Index i = 0; i < n; ++i) {
    for (Index k = 0; k < n; ++k) square_[static_cast<std::size_t>(i * n + k)] = k < i ? Lanes(0.0) : a[i * n + k];
  }
}

void SmallDecomposition::transpose_triangle() {
  const Index n = columns_;
  for (Index i = 0; i < n; ++i) {
    for (Index k = 0; k < i; ++k) {
      std::swap(square_[static_cast<std::size_t>(i * n + k)], square_[static_cast<std::size_t>(k * n + i)]);
    }
  }
}

void SmallDecomposition::orthogonalise() {
  Lanes* work = reduced_ ? square_.data() : work_.data();
  const Index rows = reduced_ ? columns_ : rows_;
  switch (columns_) {
    case 1:
      return;
    case 2:
      return rotate_all<2>(work, rows, rows, 2);
    case 3:
      return rotate_all<3>(work, rows, rows, 3);
    case 4:
      return rotate_all<4>(work, rows, rows, 4);
    default:
      return rotate_all<-1>(work, rows, rows, columns_);
  }
}

/// values_ become the lengths of the columns, descending, and order_ the columns that they belong to.
void SmallDecomposition::sort_columns() {
  const Lanes* work = reduced_ ? square_.data() : work_.data();
  const Index rows = reduced_ ? columns_ : rows_;
  const auto n = static_cast<std::size_t>(columns_);
  for (std::size_t k = 0; k < n; ++k) {
    Lanes squared = 0.0;
    for (Index i = 0; i < rows; ++i) {
      const Lanes x = work[i * columns_ + static_cast<Index>(k)];
      squared += x * x;
    }
    values_[k] = sqrt(squared);
    order_[k] = static_cast<double>(k);
  }
  // Neighbours swap, so that equal values keep the order of their columns.
  for (std::size_t sorted = 0; sorted + 1 < n; ++sorted) {
    for (std::size_t k = n - 1; k > sorted; --k) {
      const LaneMask swap = values_[k] > values_[k - 1];
      const Lanes value = values_[k], column = order_[k];
      values_[k] = select(swap, values_[k - 1], value);
      values_[k - 1] = select(swap, value, values_[k - 1]);
      order_[k] = select(swap, order_[k - 1], column);
      order_[k - 1] = select(swap, column, order_[k - 1]);
    }
  }
}

void SmallDecomposition::write_whitening(Index dim, double gain, const LaneUnit& unit) {
  const Lanes* work = reduced_ ? square_.data() : work_.data();
  const Index rows = reduced_ ? columns_ : rows_;
  whitening_.resize(static_cast<std::size_t>(m_ * dim));
  for (Index k = 0; k < dim; ++k) {
    const Lanes value = values_[static_cast<std::size_t>(k)], column = order_[static_cast<std::size_t>(k)];
    const LaneMask positive = value > 0.0;
    const Lanes once = select(positive, 1.0 / value, 0.0);
    const Lanes twice = select(positive, gain * once * unit.inverse, 0.0);
    for (Index i = 0; i < rows; ++i) {
      Lanes x = work[i * columns_];
      for (Index c = 1; c < columns_; ++c) x = select(column == static_cast<double>(c), work[i * columns_ + c], x);
      whitening_[static_cast<std::size_t>(i * dim + k)] = select(positive, x * once * twice, 0.0);
    }
  }
  if (reduced_ && !wide_) apply_reflections(dim);
}

/// whitening_, whose first rows belong to R, becomes Q times it.
void SmallDecomposition::apply_reflections(Index dim) {
  Lanes* w = whitening_.data();
  const Lanes* a = work_.data();
  for (Index i = columns_ * dim; i < rows_ * dim; ++i) w[i] = 0.0;
  for (Index j = columns_; j-- > 0;) {
    const Lanes tau = tau_[static_cast<std::size_t>(j)];
    for (Index k = 0; k < dim; ++k) {
      Lanes dot = w[j * dim + k];
      for (Index i = j + 1; i < rows_; ++i) dot += a[i * columns_ + j] * w[i * dim + k];
      dot *= tau;
      w[j * dim + k] -= dot;
      for (Index i = j + 1; i < rows_; ++i) w[i * dim + k] -= a[i * columns_ + j] * dot;
    }
  }
}

void orthogonal_factor(Lanes* matrix, Index d, Lanes* scratch) {
  // Rotations turn A over I into U Sigma over V.
  Lanes* u = scratch;
  Lanes* v = scratch + d * d;
  for (Index e = 0; e < d * d; ++e) {
    u[e] = matrix[e];
    v[e] = e % (d + 1) == 0 ? 1.0 : 0.0;
  }
  d == 3 ? rotate_all<3>(scratch, d, 2 * d, d) : rotate_all<-1>(scratch, d, 2 * d, d);
  const auto length = [&](const Lanes* x) {
    Lanes squared = 0.0;
    for (Index i = 0; i < d; ++i) squared += x[i * d] * x[i * d];
    return sqrt(squared);
  };
  // Squares of columns below this size vanish.
  constexpr double kVanishing = 1e-150;
  for (Index k = 0; k < d; ++k) {
    const Lanes size = length(u + k);
    const Lanes inverse = select(size > kVanishing, 1.0 / size, 0.0);
    for (Index i = 0; i < d; ++i) u[i * d + k] *= inverse;
  }
  for (Index k = 0; k < d; ++k) {
    const LaneMask missing = !(length(u + k) > 0.5);
    if (!missing.any()) continue;
    // The rest of that axis which the other columns explain least; matrix serves as scratch space.
    Lanes longest = 0.0;
    for (Index axis = 0; axis < d; ++axis) {
      for (Index i = 0; i < d; ++i) {
        Lanes rest = i == axis ? 1.0 : 0.0;
        for (Index j = 0; j < d; ++j) {
          if (j != k) rest -= u[axis * d + j] * u[i * d + j];
        }
        matrix[i * d] = rest;
      }
      const Lanes size = length(matrix);
      const LaneMask longer = missing & (size > longest);
      longest = select(longer, size, longest);
      for (Index i = 0; i < d; ++i) u[i * d + k] = select(longer, matrix[i * d] / size, u[i * d + k]);
    }
  }
  for (Index k = 0; k < d; ++k) {
    for (Index l = 0; l < d; ++l) {
      Lanes sum = 0.0;
      for (Index c = 0; c < d; ++c) sum += u[k * d + c] * v[l * d + c];
      matrix[k * d + l] = sum;
    }
  }
}

}  // namespace diffeo
