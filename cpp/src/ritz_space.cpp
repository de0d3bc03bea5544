// Rayleigh and Ritz on the subspace of the block iteration.
#include "diffeo/ritz_space.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

using SymmetricSolver = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>;

// Rows per task: 1,024 rows of 48 doubles and their images fill most of a second-level cache.
constexpr Index kRows = 1024;

// Directions that carry less than this share of the largest, squared, are rounding noise of single precision.
constexpr double kDependent = 1e-11;

/// Coefficients t with t^T g t = I over the independent directions of the Gram matrix g.
RowMatrix orthonormal_coefficients(const RowMatrix& g) {
  const Eigen::VectorXd unit =
      g.diagonal().unaryExpr([](double square) { return square > 1e-300 ? 1.0 / std::sqrt(square) : 0.0; });
  const SymmetricSolver solver(Eigen::MatrixXd(unit.asDiagonal() * g * unit.asDiagonal()));
  if (solver.info() != Eigen::Success) throw std::runtime_error("leading_eigenpairs: Gram matrix has no decomposition");
  const Eigen::VectorXd& values = solver.eigenvalues();
  Index first = 0;
  while (first < values.size() && !(values[first] > kDependent * values[values.size() - 1])) ++first;
  const Index kept = values.size() - first;
  return unit.asDiagonal() * solver.eigenvectors().rightCols(kept) *
         values.tail(kept).cwiseSqrt().cwiseInverse().asDiagonal();
}

struct Ritz {
  Eigen::VectorXd values;     // descending
  RowMatrix coefficients;     // orthonormal in the metric of the Gram matrix

  Ritz(const RowMatrix& g, const RowMatrix& h) {
    const RowMatrix t = orthonormal_coefficients(g);
    const Eigen::MatrixXd projected = t.transpose() * h * t;
    const SymmetricSolver solver(Eigen::MatrixXd(0.5 * (projected + projected.transpose())));
    if (solver.info() != Eigen::Success) throw std::runtime_error("leading_eigenpairs: Rayleigh-Ritz failed");
    values = solver.eigenvalues().reverse();
    coefficients = t * solver.eigenvectors().rowwise().reverse();
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
    for (std::size_t k = 0; k < totals.size(); ++k) totals[k] += parts[k];
  }
}

}  // namespace

RitzSpace::RitzSpace(const DiffusionOperator& op, Index block)
    : op_(op), n_(op.size()), block_(block), stride_(3 * block), space_(n_, stride_), image_(n_, stride_) {}

void RitzSpace::start(const RowMatrix& x, std::uint64_t seed) {
  n_previous_ = n_new_ = 0;
  space_.leftCols(block_) = x;
  RowMatrix g, h;
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  for (int attempt = 0;; ++attempt) {
    grams(g, h);
    if (orthonormal_coefficients(g).cols() == block_) break;
    if (attempt == 3) throw std::runtime_error("leading_eigenpairs: the start block is dependent");
    // Random noise of the size of the smallest columns makes any block independent.
    const double noise = 1e-3 / std::sqrt(static_cast<double>(n_)) * std::sqrt(std::max(g.trace(), 1e-300));
    for (Index i = 0; i < n_; ++i) {
      for (Index k = 0; k < block_; ++k) space_(i, k) += noise * normal(generator);
    }
  }
  const int threads = op_.threads();
  const RowMatrix t = orthonormal_coefficients(g);
  parallel_chunks(n_, kRows, threads, [&](Index, Index begin, Index end) {
    const RowMatrix rows = space_.block(begin, 0, end - begin, block_) * t;
    space_.block(begin, 0, end - begin, block_) = rows;
  });
  refresh();
}

void RitzSpace::refresh() {
  n_previous_ = n_new_ = 0;
  op_.apply(space_.data(), stride_, image_.data(), stride_, block_);
  products_ += block_;
  grams(gram_, projected_);
  const Ritz ritz(gram_, projected_);
  if (ritz.values.size() < block_) throw std::runtime_error("leading_eigenpairs: the block became dependent");
  values_ = ritz.values;
  combine(ritz.coefficients);
}

void RitzSpace::grams(RowMatrix& g, RowMatrix& h) const {
  const Index w = width();
  std::vector<RowMatrix> totals(2, RowMatrix::Zero(w, w));
  sum_chunks(n_, op_.threads(), totals, [&](Index begin, Index end, std::vector<RowMatrix>& mine) {
    const auto z = space_.block(begin, 0, end - begin, w);
    mine[0].noalias() = z.transpose() * z;
    mine[1].noalias() = z.transpose() * image_.block(begin, 0, end - begin, w);
  });
  g = totals[0];
  h = totals[1];
}

/// Completes gram_ and projected_, known for X and P, by the rows and columns of W.
void RitzSpace::border_grams() {
  const Index w = width(), known = w - n_new_;
  std::vector<RowMatrix> totals(2, RowMatrix::Zero(w, n_new_));
  sum_chunks(n_, op_.threads(), totals, [&](Index begin, Index end, std::vector<RowMatrix>& mine) {
    const auto z = space_.block(begin, 0, end - begin, w).transpose();
    mine[0].noalias() = z * space_.block(begin, known, end - begin, n_new_);
    mine[1].noalias() = z * image_.block(begin, known, end - begin, n_new_);
  });
  const auto border = [&](RowMatrix& matrix, const RowMatrix& columns) {
    matrix.conservativeResize(w, w);
    matrix.rightCols(n_new_) = columns;
    matrix.bottomLeftCorner(n_new_, known) = columns.topRows(known).transpose();
  };
  border(gram_, totals[0]);
  border(projected_, totals[1]);
}

/// The leading columns of space and image become the combinations given by the columns of the coefficients
/// (width, block + n_previous); also finds the norms of the residuals.
void RitzSpace::combine(const RowMatrix& coefficients) {
  const Index w = coefficients.rows(), columns = coefficients.cols();
  std::vector<RowMatrix> totals(1, RowMatrix::Zero(1, block_));
  sum_chunks(n_, op_.threads(), totals, [&](Index begin, Index end, std::vector<RowMatrix>& mine) {
    const Index rows = end - begin;
    RowMatrix z(rows, columns), image(rows, columns);
    z.noalias() = space_.block(begin, 0, rows, w) * coefficients;
    image.noalias() = image_.block(begin, 0, rows, w) * coefficients;
    space_.block(begin, 0, rows, columns) = z;
    image_.block(begin, 0, rows, columns) = image;
    for (Index i = 0; i < rows; ++i) {
      for (Index k = 0; k < block_; ++k) {
        const double r = image(i, k) - values_[k] * z(i, k);
        mine[0](0, k) += r * r;
      }
    }
  });
  norms_ = totals[0].row(0).cwiseSqrt().transpose();
  gram_ = (coefficients.transpose() * gram_ * coefficients).eval();
  projected_ = (coefficients.transpose() * projected_ * coefficients).eval();
}

void RitzSpace::residuals(const std::vector<Index>& columns, SingleBlock& r) const {
  const Index count = static_cast<Index>(columns.size());
  const Index padded = (count + kSingleColumns - 1) / kSingleColumns * kSingleColumns;
  r.resize(n_, padded);
  parallel_chunks(n_, kRows, op_.threads(), [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      float* row = r.data() + i * padded;
      for (Index c = 0; c < count; ++c) {
        const Index k = columns[static_cast<std::size_t>(c)];
        row[c] = static_cast<float>((image_(i, k) - values_[k] * space_(i, k)) / norms_[k]);
      }
      std::fill(row + count, row + padded, 0.0f);
    }
  });
}

void RitzSpace::append(const SingleBlock& w, Index count) {
  const Index known = block_ + n_previous_, padded = w.cols();
  std::vector<RowMatrix> totals{RowMatrix::Zero(known, count), RowMatrix::Zero(1, count)};
  const auto rows_of = [&](Index begin, Index end) {
    return RowMatrix(
        Eigen::Map<const SingleBlock>(w.data() + begin * padded, end - begin, padded).leftCols(count).cast<double>());
  };
  sum_chunks(n_, op_.threads(), totals, [&](Index begin, Index end, std::vector<RowMatrix>& mine) {
    const RowMatrix rows = rows_of(begin, end);
    mine[0].noalias() = space_.block(begin, 0, end - begin, known).transpose() * rows;
    mine[1] = rows.colwise().squaredNorm();
  });
  const RowMatrix overlap = totals[0];
  // X and P are orthonormal: what remains of w has the rest of its norm.
  const Eigen::RowVectorXd rest =
      (totals[1].row(0) - overlap.colwise().squaredNorm()).cwiseMax(1e-12 * totals[1].row(0)).cwiseMax(1e-300);
  const Eigen::RowVectorXd unit = rest.cwiseSqrt().cwiseInverse();
  fresh_.resize(n_, count);
  parallel_chunks(n_, kRows, op_.threads(), [&](Index, Index begin, Index end) {
    RowMatrix rows = rows_of(begin, end);
    rows.noalias() -= space_.block(begin, 0, end - begin, known) * overlap;
    fresh_.middleRows(begin, end - begin) = rows * unit.asDiagonal();
    space_.block(begin, known, end - begin, count) = fresh_.middleRows(begin, end - begin);
  });
  n_new_ = count;
  op_.apply(fresh_.data(), count, image_.data() + known, stride_, count);
  products_ += count;
}

void RitzSpace::extend(const SingleBlock& w, const std::vector<Index>& columns) {
  append(w, static_cast<Index>(columns.size()));
  border_grams();
  const Ritz ritz(gram_, projected_);
  if (ritz.values.size() < block_) throw std::runtime_error("leading_eigenpairs: the block became dependent");
  values_ = ritz.values.head(block_);
  const RowMatrix x = ritz.coefficients.leftCols(block_);
  // The step of X without its share of the old X, made orthonormal to the new X and within itself.
  RowMatrix step(width(), static_cast<Index>(columns.size()));
  for (Index c = 0; c < step.cols(); ++c) step.col(c) = x.col(columns[static_cast<std::size_t>(c)]);
  step.topRows(block_).setZero();
  step -= x * (x.transpose() * (gram_ * step));
  const RowMatrix p = step * orthonormal_coefficients(step.transpose() * gram_ * step);
  RowMatrix coefficients(width(), block_ + p.cols());
  coefficients << x, p;
  n_previous_ = p.cols();
  n_new_ = 0;
  combine(coefficients);
}

RowMatrix RitzSpace::vectors(Index count) const { return space_.leftCols(count); }

}  // namespace diffeo
