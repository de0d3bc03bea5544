// Smoothed aggregation: strong edges, aggregates, interpolation and Galerkin products.
#include "diffeo/graph_levels.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "diffeo/linear_algebra.hpp"
#include "diffeo/parallel.hpp"
#include "diffeo/spares.hpp"

namespace diffeo {
namespace {

// At this size a level is solved by a dense eigendecomposition, which takes some 10 ms.
constexpr Index kCoarsest = 250;

// A level that is not this much smaller than the one above does not pay.
constexpr double kLeastRatio = 1.5;

// An edge is strong if its squared weight is at least this share (squared) of the product of the largest weights at
// both its ends. Weak edges neither join aggregates nor interpolate.
constexpr double kStrong = 0.1;

// Steps of the Lanczos process that bounds the spectrum, and the margin on its result.
constexpr Index kLanczosSteps = 8;
constexpr double kMargin = 1.02;

// The smoothing of interpolation, in units of the reciprocal of the spectrum's end: the choice of the source above.
constexpr double kProlongationDamping = 4.0 / 3.0;

constexpr Index kRows = 2048;
constexpr Index kProductRows = 8192;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

std::vector<double> diagonal_of(const SparseRows& a) {
  std::vector<double> diagonal(at(a.n_rows), 0.0);
  for (Index i = 0; i < a.n_rows; ++i) {
    for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
      if (a.indices[e] == i) diagonal[at(i)] = a.values[e];
    }
  }
  return diagonal;
}

/// y = a x for one column.
void apply(const SparseRows& a, const std::vector<double>& x, std::vector<double>& y, int threads) {
  parallel_chunks(a.n_rows, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      double sum = 0.0;
      for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) sum += a.values[e] * x[at(a.indices[e])];
      y[at(i)] = sum;
    }
  });
}

double dot(const std::vector<double>& x, const std::vector<double>& y) {
  double sum = 0.0;
  for (std::size_t k = 0; k < x.size(); ++k) sum += x[k] * y[k];
  return sum;
}

/// Upper bound of the spectrum of diag(a)^-1 a: the largest Ritz value of a short Lanczos process and its residual.
double highest_of(const SparseRows& a, const std::vector<double>& diagonal, int threads) {
  const Index n = a.n_rows, steps = std::min(kLanczosSteps, n);
  std::mt19937_64 generator(1);
  std::normal_distribution<double> normal;
  std::vector<double> root(at(n)), v(at(n)), before(at(n), 0.0), scaled(at(n)), next(at(n));
  for (Index i = 0; i < n; ++i) {
    root[at(i)] = diagonal[at(i)] > 0.0 ? 1.0 / std::sqrt(diagonal[at(i)]) : 0.0;
    v[at(i)] = diagonal[at(i)] > 0.0 ? normal(generator) : 0.0;
  }
  double beta = std::sqrt(dot(v, v));
  if (!(beta > 0.0)) return 1.0;
  for (double& x : v) x /= beta;
  beta = 0.0;
  RowMatrix t = RowMatrix::zero(steps, steps);
  for (Index k = 0; k < steps; ++k) {
    for (Index i = 0; i < n; ++i) scaled[at(i)] = root[at(i)] * v[at(i)];
    apply(a, scaled, next, threads);
    for (Index i = 0; i < n; ++i) next[at(i)] = root[at(i)] * next[at(i)] - beta * before[at(i)];
    t(k, k) = dot(v, next);
    for (Index i = 0; i < n; ++i) next[at(i)] -= t(k, k) * v[at(i)];
    beta = std::sqrt(dot(next, next));
    if (k + 1 < steps) t(k, k + 1) = t(k + 1, k) = beta;
    if (!(beta > 1e-14)) break;
    before.swap(v);
    for (Index i = 0; i < n; ++i) v[at(i)] = next[at(i)] / beta;
  }
  const auto [values, vectors] = symmetric_eigen(t, "build_graph_levels");
  return kMargin * (values.back() + beta * std::abs(vectors(steps - 1, steps - 1)));
}

/// Largest weight at each sample; the weight of an entry (i, j) is -a_ij.
std::vector<double> largest_weights(const SparseRows& a, int threads) {
  std::vector<double> largest(at(a.n_rows), 0.0);
  parallel_chunks(a.n_rows, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
        if (a.indices[e] != i) largest[at(i)] = std::max(largest[at(i)], -a.values[e]);
      }
    }
  });
  return largest;
}

/// Which off-diagonal entries are strong.
class Strength {
 public:
  Strength(const SparseRows& a, int threads) : a_(a), largest_(largest_weights(a, threads)) {}

  bool operator()(Index i, Index e) const {
    const Index j = a_.indices[e];
    const double weight = -a_.values[e];
    return j != i && weight > 0.0 && weight * weight >= kStrong * kStrong * largest_[at(i)] * largest_[at(j)];
  }

 private:
  const SparseRows& a_;
  std::vector<double> largest_;
};

/// Aggregate of each sample, or -1 for those without edges or anchors; returns their number.
///
/// In the order of the rows, which is that of a spatial tree: samples whose strong neighbours are all free take them
/// along; the others join the aggregate that they are tied to most; what is left takes its free neighbours.
Index aggregate(const SparseRows& a, const std::vector<double>& diagonal, const Strength& strong,
                std::vector<Row>& label) {
  const Index n = a.n_rows;
  Index count = 0;
  label.assign(at(n), -1);
  const auto found = [&](Index i) {
    label[at(i)] = static_cast<Row>(count);
    for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
      if (strong(i, e) && label[at(a.indices[e])] < 0) label[at(a.indices[e])] = static_cast<Row>(count);
    }
    ++count;
  };
  for (Index i = 0; i < n; ++i) {
    if (label[at(i)] >= 0) continue;
    bool free = true, alone = true;
    for (Index e = a.indptr[i]; e < a.indptr[i + 1] && free; ++e) {
      if (!strong(i, e)) continue;
      alone = false;
      free = label[at(a.indices[e])] < 0;
    }
    if (free && !alone) found(i);
  }
  const std::vector<Row> first = label;
  for (Index i = 0; i < n; ++i) {
    if (first[at(i)] >= 0) continue;
    double most = 0.0;
    for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
      const Row other = first[at(a.indices[e])];
      if (other < 0 || !strong(i, e) || -a.values[e] <= most) continue;
      most = -a.values[e];
      label[at(i)] = other;
    }
  }
  for (Index i = 0; i < n; ++i) {
    if (label[at(i)] < 0 && diagonal[at(i)] > 0.0) found(i);
  }
  return count;
}

/// Rows of a sparse product under construction: terms of the row at hand are added up by column.
class RowSums {
 public:
  explicit RowSums(Index n_columns) : place_(at(n_columns), -1) {}

  /// Starts a row behind those that `rows` holds.
  void begin_row(const RowChunk& rows) { start_ = rows.count; }
  /// Adds to the row; `rows` must have room.
  void add(RowChunk& rows, Row column, double value) {
    Index& to = place_[at(column)];
    if (to < start_) {
      to = rows.count++;
      rows.columns[at(to)] = column;
      rows.values[at(to)] = 0.0;
    }
    rows.values[at(to)] += value;
  }
  void end_row(RowChunk& rows) const { rows.lengths.push_back(static_cast<Row>(rows.count - start_)); }

  /// Undoes what the rows of a chunk left behind: other columns were never touched.
  void clear(const RowChunk& rows) {
    for (Index e = 0; e < rows.count; ++e) place_[at(rows.columns[at(e)])] = -1;
  }

 private:
  std::vector<Index> place_;  // of a column in the chunk; below start_ where the row at hand does not have it
  Index start_ = 0;
};

/// P = (I - damping D_F^-1 A_F) T, T the membership of aggregates and A_F the matrix whose weak entries are added to
/// its diagonal: rows that sum to zero in A sum to one in P.
SparseRows smoothed_interpolation(const SparseRows& a, const std::vector<double>& diagonal, const Strength& strong,
                                  const std::vector<Row>& label, Index n_coarse, double highest, int threads) {
  RowCollector collector(a.n_rows, n_coarse, 4 * a.n_rows);
  Spares<RowSums> spares;
  const double damping = kProlongationDamping / highest;
  parallel_chunks(a.n_rows, kProductRows, threads, [&](Index chunk, Index begin, Index end) {
    RowChunk rows = collector.spare();
    RowSums sums = spares.take([&] { return RowSums(n_coarse); });
    for (Index i = begin; i < end; ++i) {
      rows.make_room(a.indptr[i + 1] - a.indptr[i] + 1);
      sums.begin_row(rows);
      const auto add = [&](Row column, double value) {
        if (column >= 0) sums.add(rows, column, value);
      };
      double filtered = diagonal[at(i)];
      for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
        if (a.indices[e] != i && !strong(i, e)) filtered += a.values[e];
      }
      // Positive off-diagonal entries of coarse levels can leave little of it.
      filtered = std::max(filtered, 0.1 * diagonal[at(i)]);
      add(label[at(i)], 1.0 - damping);
      for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
        if (strong(i, e)) add(label[at(a.indices[e])], -damping * a.values[e] / filtered);
      }
      sums.end_row(rows);
    }
    sums.clear(rows);
    spares.give_back(std::move(sums));
    collector.add(chunk, std::move(rows));
  });
  return collector.take();
}

/// a b, by rows.
SparseRows product(const SparseRows& a, const SparseRows& b, Index expected, int threads) {
  RowCollector collector(a.n_rows, b.n_columns, expected);
  Spares<RowSums> spares;
  parallel_chunks(a.n_rows, kProductRows, threads, [&](Index chunk, Index begin, Index end) {
    RowChunk rows = collector.spare();
    RowSums sums = spares.take([&] { return RowSums(b.n_columns); });
    for (Index i = begin; i < end; ++i) {
      sums.begin_row(rows);
      for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
        const Index k = a.indices[e];
        const double factor = a.values[e];
        rows.make_room(b.indptr[k + 1] - b.indptr[k]);
        for (Index f = b.indptr[k]; f < b.indptr[k + 1]; ++f) sums.add(rows, b.indices[f], factor * b.values[f]);
      }
      sums.end_row(rows);
    }
    sums.clear(rows);
    spares.give_back(std::move(sums));
    collector.add(chunk, std::move(rows));
  });
  return collector.take();
}

SparseRows transpose(const SparseRows& a) {
  SparseRows result;
  const Index nnz = a.indptr[a.n_rows];
  result.n_rows = a.n_columns;
  result.n_columns = a.n_rows;
  result.indptr = Buffer<Index>(a.n_columns + 1);
  result.indices = Buffer<Row>(nnz);
  result.values = Buffer<double>(nnz);
  std::vector<Index> next(at(a.n_columns) + 1, 0);
  for (Index e = 0; e < nnz; ++e) ++next[at(a.indices[e]) + 1];
  for (Index c = 0; c < a.n_columns; ++c) next[at(c) + 1] += next[at(c)];
  std::copy(next.begin(), next.end(), result.indptr.data());
  for (Index i = 0; i < a.n_rows; ++i) {
    for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
      const Index to = next[at(a.indices[e])]++;
      result.indices[to] = static_cast<Row>(i);
      result.values[to] = a.values[e];
    }
  }
  return result;
}

/// A copy in single precision.
OwnedSingleRows single_of(const SparseRows& a) {
  OwnedSingleRows result;
  const Index nnz = a.indptr[a.n_rows];
  result.indptr = Buffer<Index>(a.n_rows + 1);
  result.indices = Buffer<Row>(nnz);
  result.rows.values = Buffer<float>(nnz);
  std::copy_n(a.indptr.data(), a.n_rows + 1, result.indptr.data());
  std::copy_n(a.indices.data(), nnz, result.indices.data());
  for (Index e = 0; e < nnz; ++e) result.rows.values[e] = static_cast<float>(a.values[e]);
  result.rows.n_rows = a.n_rows;
  result.rows.indptr = result.indptr.data();
  result.rows.indices = result.indices.data();
  return result;
}

}  // namespace

GraphLevels build_graph_levels(const SparseRows& matrix, int threads) {
  GraphLevels result;
  const SparseRows* fine = &matrix;
  for (;;) {
    GraphLevel level;
    const Index n = fine->n_rows;
    const std::vector<double> diagonal = diagonal_of(*fine);
    level.matrix = single_of(*fine);
    level.inverse_diagonal.resize(at(n));
    for (Index i = 0; i < n; ++i) {
      level.inverse_diagonal[at(i)] = diagonal[at(i)] > 0.0 ? static_cast<float>(1.0 / diagonal[at(i)]) : 0.0f;
    }
    level.highest = highest_of(*fine, diagonal, threads);
    result.levels.push_back(std::move(level));
    GraphLevel& here = result.levels.back();
    if (n <= kCoarsest) break;
    const Strength strong(*fine, threads);
    std::vector<Row> label;
    const Index count = aggregate(*fine, diagonal, strong, label);
    if (static_cast<double>(count) * kLeastRatio > static_cast<double>(n)) break;
    SparseRows p = smoothed_interpolation(*fine, diagonal, strong, label, count, here.highest, threads);
    SparseRows coarse;
    {
      const SparseRows ap = product(*fine, p, 2 * p.indptr[n], threads);
      const SparseRows transposed = transpose(p);
      coarse = product(transposed, ap, 16 * count, threads);
      here.prolongation = single_of(p);
      here.restriction = single_of(transposed);
    }
    result.coarsest = std::move(coarse);
    fine = &result.coarsest;
  }
  if (result.levels.size() == 1) {  // the last matrix is the first
    result.coarsest.n_rows = result.coarsest.n_columns = matrix.n_rows;
    result.coarsest.indptr = Buffer<Index>(matrix.n_rows + 1);
    result.coarsest.indices = Buffer<Row>(matrix.indptr[matrix.n_rows]);
    result.coarsest.values = Buffer<double>(matrix.indptr[matrix.n_rows]);
    std::copy_n(matrix.indptr.data(), matrix.n_rows + 1, result.coarsest.indptr.data());
    std::copy_n(matrix.indices.data(), matrix.indptr[matrix.n_rows], result.coarsest.indices.data());
    std::copy_n(matrix.values.data(), matrix.indptr[matrix.n_rows], result.coarsest.values.data());
  }
  return result;
}

}  // namespace diffeo
