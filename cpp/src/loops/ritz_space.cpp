// Rayleigh and Ritz on the subspace of the block iteration.
#include "diffeo/ritz_space.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <utility>

#include "diffeo/linear_algebra.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Rows per task: 1,024 rows of 48 doubles and their images fill most of a second-level cache.
constexpr Index kRows = 1024;

// Directions that carry less than this share of the largest, squared, are rounding noise of single precision.
constexpr double kDependent = 1e-11;

constexpr const char* kName = "leading_eigenpairs";

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Coefficients t with t^T g t = I over the independent directions of the Gram matrix g.
RowMatrix orthonormal_coefficients(const RowMatrix& g) {
  const Index n = g.rows();
  std::vector<double> unit(at(n));
  for (Index k = 0; k < n; ++k) unit[at(k)] = g(k, k) > 1e-300 ? 1.0 / std::sqrt(g(k, k)) : 0.0;
  RowMatrix scaled(n, n);
  for (Index k = 0; k < n; ++k) {
    for (Index l = 0; l < n; ++l) scaled(k, l) = unit[at(k)] * g(k, l) * unit[at(l)];
  }
  const auto [values, vectors] = symmetric_eigen(scaled, kName);
  Index first = 0;
  while (first < n && !(values[at(first)] > kDependent * values[at(n - 1)])) ++first;
  RowMatrix t(n, n - first);
  for (Index k = first; k < n; ++k) {
    const double inverse = 1.0 / std::sqrt(values[at(k)]);
    for (Index a = 0; a < n; ++a) t(a, k - first) = unit[at(a)] * vectors(a, k) * inverse;
  }
  return t;
}

struct Ritz {
  std::vector<double> values;  // descending
  RowMatrix coefficients;      // orthonormal in the metric of the Gram matrix

  Ritz(const RowMatrix& g, const RowMatrix& h) {
    const RowMatrix t = orthonormal_coefficients(g);
    RowMatrix projected = product(transposed_product(t, h), t);
    for (Index k = 0; k < projected.rows(); ++k) {
      for (Index l = 0; l <= k; ++l) projected(k, l) = projected(l, k) = 0.5 * (projected(k, l) + projected(l, k));
    }
    SymmetricEigen eigen = symmetric_eigen(projected, kName);
    values.assign(eigen.values.rbegin(), eigen.values.rend());
    coefficients = product(t, reversed_columns(eigen.vectors));
  }
};

/// Sum over chunks of small matrices, in the order of the chunks.
template <class Part>
void sum_chunks(Index n, int threads, std::vector<RowMatrix>& totals, Part&& part) {
  const Index chunks = (n + kRows - 1) / kRows;
  std::vector<std::vector<RowMatrix>> partial(static_cast<std::size_t>(chunks));
  parallel_chunks(n, kRows, threads, [&](Index chunk, Index begin, Index end) {
    auto& mine = partial[static_cast<std::size_t>(chunk)];
    mine = totals;
    part(begin, end, mine);
  });
  for (const auto& parts : partial) {
    for (std::size_t k = 0; k < totals.size(); ++k) {
      for (Index e = 0; e < totals[k].size(); ++e) totals[k].data()[e] += parts[k].data()[e];
    }
  }
}

/// Columns [first, first + count) of rows [begin, end).
MatrixView view(const RowMatrix& matrix, Index first, Index count, Index begin, Index end) {
  return {matrix.row(begin) + first, end - begin, count, matrix.cols()};
}

}  // namespace

void RitzSpace::start(const RowMatrix& x, std::uint64_t seed) {
  n_previous_ = n_new_ = 0;
  for (Index i = 0; i < n_; ++i) std::copy_n(x.row(i), block_, space_.row(i));
  RowMatrix g, h;
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  for (int attempt = 0;; ++attempt) {
    grams(g, h);
    if (orthonormal_coefficients(g).cols() == block_) break;
    if (attempt == 3) throw std::runtime_error("leading_eigenpairs: the start block is dependent");
    // Random noise of the size of the smallest columns makes any block independent.
    double trace = 0.0;
    for (Index k = 0; k < block_; ++k) trace += g(k, k);
    const double noise = 1e-3 / std::sqrt(static_cast<double>(n_)) * std::sqrt(std::max(trace, 1e-300));
    for (Index i = 0; i < n_; ++i) {
      for (Index k = 0; k < block_; ++k) space_(i, k) += noise * normal(generator);
    }
  }
  const int threads = op_.threads();
  const RowMatrix t = orthonormal_coefficients(g);
  parallel_chunks(n_, kRows, threads, [&](Index, Index begin, Index end) {
    const RowMatrix rows = product(view(space_, 0, block_, begin, end), t);
    for (Index i = begin; i < end; ++i) std::copy_n(rows.row(i - begin), block_, space_.row(i));
  });
  refresh();
}

void RitzSpace::refresh() {
  n_previous_ = n_new_ = 0;
  op_.apply(space_.data(), stride_, image_.data(), stride_, block_);
  products_ += block_;
  grams(gram_, projected_);
  Ritz ritz(gram_, projected_);
  if (static_cast<Index>(ritz.values.size()) < block_) {
    throw std::runtime_error("leading_eigenpairs: the block became dependent");
  }
  values_ = std::move(ritz.values);
  combine(ritz.coefficients);
}

void RitzSpace::grams(RowMatrix& g, RowMatrix& h) const {
  const Index w = width();
  std::vector<RowMatrix> totals(2, RowMatrix::zero(w, w));
  sum_chunks(n_, op_.threads(), totals, [&](Index begin, Index end, std::vector<RowMatrix>& mine) {
    const MatrixView z = view(space_, 0, w, begin, end);
    multiply_transposed(z, z, mine[0].data(), w);
    multiply_transposed(z, view(image_, 0, w, begin, end), mine[1].data(), w);
  });
  g = std::move(totals[0]);
  h = std::move(totals[1]);
}

/// Completes gram_ and projected_, known for X and P, by the rows and columns of W.
void RitzSpace::border_grams() {
  const Index w = width(), known = w - n_new_;
  std::vector<RowMatrix> totals(2, RowMatrix::zero(w, n_new_));
  sum_chunks(n_, op_.threads(), totals, [&](Index begin, Index end, std::vector<RowMatrix>& mine) {
    const MatrixView z = view(space_, 0, w, begin, end);
    multiply_transposed(z, view(space_, known, n_new_, begin, end), mine[0].data(), n_new_);
    multiply_transposed(z, view(image_, known, n_new_, begin, end), mine[1].data(), n_new_);
  });
  const auto border = [&](RowMatrix& matrix, const RowMatrix& new_columns) {
    RowMatrix larger(w, w);
    for (Index k = 0; k < w; ++k) {
      if (k < known) std::copy_n(matrix.row(k), known, larger.row(k));
      std::copy_n(new_columns.row(k), n_new_, larger.row(k) + known);
    }
    for (Index k = known; k < w; ++k) {
      for (Index l = 0; l < known; ++l) larger(k, l) = new_columns(l, k - known);
    }
    matrix = std::move(larger);
  };
  border(gram_, totals[0]);
  border(projected_, totals[1]);
}

/// The leading columns of space and image become the combinations given by the columns of the coefficients
/// (width, block + n_previous); also finds the norms of the residuals.
void RitzSpace::combine(const RowMatrix& coefficients) {
  const Index w = coefficients.rows(), count = coefficients.cols();
  std::vector<RowMatrix> totals(1, RowMatrix::zero(1, block_));
  sum_chunks(n_, op_.threads(), totals, [&](Index begin, Index end, std::vector<RowMatrix>& mine) {
    const RowMatrix z = product(view(space_, 0, w, begin, end), coefficients);
    const RowMatrix image = product(view(image_, 0, w, begin, end), coefficients);
    double* sums = mine[0].data();
    for (Index i = 0; i < end - begin; ++i) {
      const double* from = z.row(i);
      const double* from_image = image.row(i);
      std::copy_n(from, count, space_.row(begin + i));
      std::copy_n(from_image, count, image_.row(begin + i));
      for (Index k = 0; k < block_; ++k) {
        const double r = from_image[k] - values_[at(k)] * from[k];
        sums[k] += r * r;
      }
    }
  });
  norms_.resize(at(block_));
  for (Index k = 0; k < block_; ++k) norms_[at(k)] = std::sqrt(totals[0](0, k));
  gram_ = product(transposed_product(coefficients, gram_), coefficients);
  projected_ = product(transposed_product(coefficients, projected_), coefficients);
}

void RitzSpace::residuals(const std::vector<Index>& columns, SingleBlock& r) const {
  const Index count = static_cast<Index>(columns.size());
  const Index padded = (count + kSingleColumns - 1) / kSingleColumns * kSingleColumns;
  r.resize(n_, padded);
  parallel_chunks(n_, kRows, op_.threads(), [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      float* row = r.row(i);
      for (Index c = 0; c < count; ++c) {
        const Index k = columns[at(c)];
        row[c] = static_cast<float>((image_(i, k) - values_[at(k)] * space_(i, k)) / norms_[at(k)]);
      }
      std::fill(row + count, row + padded, 0.0f);
    }
  });
}

void RitzSpace::append(const SingleBlock& w, Index count) {
  const Index known = block_ + n_previous_;
  std::vector<RowMatrix> totals{RowMatrix::zero(known, count), RowMatrix::zero(1, count)};
  const auto rows_of = [&](Index begin, Index end) {
    RowMatrix rows(end - begin, count);
    for (Index i = begin; i < end; ++i) std::copy_n(w.row(i), count, rows.row(i - begin));
    return rows;
  };
  sum_chunks(n_, op_.threads(), totals, [&](Index begin, Index end, std::vector<RowMatrix>& mine) {
    const RowMatrix rows = rows_of(begin, end);
    multiply_transposed(view(space_, 0, known, begin, end), rows, mine[0].data(), count);
    double* squares = mine[1].data();
    for (Index i = 0; i < rows.rows(); ++i) {
      for (Index c = 0; c < count; ++c) squares[c] += rows(i, c) * rows(i, c);
    }
  });
  const RowMatrix& overlap = totals[0];
  // X and P are orthonormal: what remains of w has the rest of its norm.
  std::vector<double> unit(at(count));
  for (Index c = 0; c < count; ++c) {
    const double whole = totals[1](0, c);
    double rest = whole;
    for (Index k = 0; k < known; ++k) rest -= overlap(k, c) * overlap(k, c);
    unit[at(c)] = 1.0 / std::sqrt(std::max({rest, 1e-12 * whole, 1e-300}));
  }
  fresh_.resize(n_, count);
  parallel_chunks(n_, kRows, op_.threads(), [&](Index, Index begin, Index end) {
    const RowMatrix rows = rows_of(begin, end);
    const RowMatrix known_part = product(view(space_, 0, known, begin, end), overlap);
    for (Index i = begin; i < end; ++i) {
      double* to = fresh_.row(i);
      for (Index c = 0; c < count; ++c) to[c] = (rows(i - begin, c) - known_part(i - begin, c)) * unit[at(c)];
      std::copy_n(to, count, space_.row(i) + known);
    }
  });
  n_new_ = count;
  op_.apply(fresh_.data(), count, image_.data() + known, stride_, count);
  products_ += count;
}

void RitzSpace::extend(const SingleBlock& w, const std::vector<Index>& columns) {
  const Index count = static_cast<Index>(columns.size());
  append(w, count);
  border_grams();
  const Ritz ritz(gram_, projected_);
  if (static_cast<Index>(ritz.values.size()) < block_) {
    throw std::runtime_error("leading_eigenpairs: the block became dependent");
  }
  values_.assign(ritz.values.begin(), ritz.values.begin() + block_);
  const RowMatrix x = diffeo::columns(ritz.coefficients, 0, block_);
  // The step of X without its share of the old X, made orthonormal to the new X and within itself.
  RowMatrix step = RowMatrix::zero(width(), count);
  for (Index k = block_; k < width(); ++k) {
    for (Index c = 0; c < count; ++c) step(k, c) = x(k, columns[at(c)]);
  }
  const RowMatrix share = product(x, transposed_product(x, product(gram_, step)));
  for (Index e = 0; e < step.size(); ++e) step.data()[e] -= share.data()[e];
  const RowMatrix p = product(step, orthonormal_coefficients(product(transposed_product(step, gram_), step)));
  RowMatrix coefficients(width(), block_ + p.cols());
  for (Index k = 0; k < width(); ++k) {
    std::copy_n(x.row(k), block_, coefficients.row(k));
    std::copy_n(p.row(k), p.cols(), coefficients.row(k) + block_);
  }
  n_previous_ = p.cols();
  n_new_ = 0;
  combine(coefficients);
}

}  // namespace diffeo
