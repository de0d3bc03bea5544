// The levels for the eigenproblem: subsamples, their kernels, interpolation between them.
#include "diffeo/kernel_levels.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "diffeo/gram.hpp"
#include "diffeo/linear_algebra.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// At this size a level is solved by a dense eigendecomposition, which takes some 30 ms.
constexpr Index kCoarsest = 400;

// Radius of the kernel in units of the spacing of the coarse samples that interpolate well, and of those that make a
// good coarse kernel: in two dimensions 15 and 40 of them in the ball. Fewer cost more iterations than they save work;
// more were measured to gain nothing. On a line random samples leave wider gaps: at least kInnerLeast in the ball.
constexpr double kInnerRadius = 2.19;
constexpr double kCoarseRadius = 3.57;
constexpr double kInnerLeast = 10.0;
constexpr double kCoarseLeast = 20.0;

// Coarsening by less than this does not pay, and by more loses too much at once.
constexpr double kLeastRatio = 2.0;
constexpr double kMostRatio = 16.0;

// Interpolation takes the coarse samples whose kernel value exceeds this, most of those in the ball: half as many
// (0.01) cost one iteration in eight, a quarter (0.05) four.
constexpr double kInterpolationCut = 1e-3;

// A coarse level is refused when its rows have less than this share of the entries aimed at, or when its gates drop
// more than this share of the pairs.
constexpr double kLeastEntries = 0.4;
constexpr double kMostGated = 0.35;

// Steps of the Lanczos process that bounds the spectrum.
constexpr Index kLanczosSteps = 12;

// Levels above this size take the end of their spectrum over from the next one, with this margin.
constexpr Index kMeasured = 30'000;
constexpr double kMargin = 0.02;

constexpr Index kRows = 1024;
constexpr Index kProbes = 256;

double ball_volume(double d) { return std::pow(M_PI, 0.5 * d) / std::tgamma(0.5 * d + 1.0); }

/// Dimension that the kernel sees: entries a row grow like r^d.
double kernel_dimension(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  if (tree.dim() > 0) return static_cast<double>(tree.dim());
  const Index count = std::min(tree.size(), kProbes);
  std::vector<Row> rows(static_cast<std::size_t>(count));
  for (Index s = 0; s < count; ++s) rows[static_cast<std::size_t>(s)] = static_cast<Row>(s * tree.size() / count);
  std::array<double, 2> total{};
  for (int half = 0; half < 2; ++half) {
    std::vector<double> sums(rows.size());
    std::vector<Index> entries(rows.size()), gated(rows.size());
    row_statistics(tree, {half == 0 ? bandwidth.epsilon : 0.5 * bandwidth.epsilon, bandwidth.truncation}, rows.data(),
                   count, sums.data(), entries.data(), gated.data(), threads);
    for (const Index e : entries) total[static_cast<std::size_t>(half)] += static_cast<double>(e);
  }
  return std::clamp(2.0 * std::log2(total[0] / total[1]), 1.0, 6.0);
}

/// One sample of each of `count` stretches of consecutive tree positions, which are near in space.
std::vector<Index> subsample(Index n, Index count) {
  std::mt19937_64 generator(0);
  std::vector<Index> chosen(static_cast<std::size_t>(count));
  for (Index c = 0; c < count; ++c) {
    const Index begin = c * n / count, end = (c + 1) * n / count;
    chosen[static_cast<std::size_t>(c)] =
        begin + static_cast<Index>(generator() % static_cast<std::uint64_t>(std::max<Index>(1, end - begin)));
  }
  return chosen;
}

std::unique_ptr<MetricTree> tree_of(const MetricTree& tree, const std::vector<Index>& chosen, int threads) {
  const Index m = tree.n_measurements(), dim = tree.dim(), count = static_cast<Index>(chosen.size());
  std::vector<double> points(static_cast<std::size_t>(count * m)), whitening(static_cast<std::size_t>(count * m * dim));
  parallel_chunks(count, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index c = begin; c < end; ++c) {
      const Index t = chosen[static_cast<std::size_t>(c)];
      std::copy_n(tree.point(t), m, points.data() + c * m);
      if (dim == 0) continue;
      const double* transposed = tree.whitening(t);
      for (Index k = 0; k < dim; ++k) {
        for (Index a = 0; a < m; ++a)
          whitening[static_cast<std::size_t>((c * m + a) * dim + k)] = transposed[k * m + a];
      }
    }
  });
  return std::make_unique<MetricTree>(points.data(), dim == 0 ? nullptr : whitening.data(), count, m, dim, threads);
}

void fill_single(KernelLevel& level, int threads) {
  const SparseView& k = level.kernel;
  level.single.n_rows = k.n;
  level.single.indptr = k.indptr;
  level.single.indices = k.indices;
  level.single.values = Buffer<float>(k.indptr[k.n]);
  const double* s = level.scaling.data();
  parallel_chunks(k.n, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      for (Index e = k.indptr[i]; e < k.indptr[i + 1]; ++e) {
        level.single.values[e] = static_cast<float>(k.values[e] * s[i] * s[k.indices[e]]);
      }
    }
  });
}

/// Upper bound of the spectrum of I - S: one less the smallest Ritz value of a short Lanczos process and its residual.
double highest_of(const KernelLevel& level, int threads) {
  const DiffusionOperator op(level.kernel, level.scaling.data(), threads);
  const Index n = level.size(), steps = std::min(kLanczosSteps, n - 1);
  std::mt19937_64 generator(1);
  std::normal_distribution<double> normal;
  RowMatrix v(n, 1), next;
  const auto each = [n](auto&& set) {
    for (Index i = 0; i < n; ++i) set(i);
  };
  each([&](Index i) { v(i, 0) = normal(generator); });
  const double size = std::sqrt(gram(v, v, threads)(0, 0));
  each([&](Index i) { v(i, 0) /= size; });
  RowMatrix before = RowMatrix::zero(n, 1);
  RowMatrix t = RowMatrix::zero(steps, steps);
  double beta = 0.0;
  for (Index k = 0; k < steps; ++k) {
    op.apply(v, next);
    each([&](Index i) { next(i, 0) -= beta * before(i, 0); });
    t(k, k) = gram(v, next, threads)(0, 0);
    each([&](Index i) { next(i, 0) -= t(k, k) * v(i, 0); });
    beta = std::sqrt(gram(next, next, threads)(0, 0));
    if (k + 1 < steps) t(k, k + 1) = t(k + 1, k) = beta;
    if (!(beta > 1e-14)) break;
    before.swap(v);
    v.resize(n, 1);
    each([&](Index i) { v(i, 0) = next(i, 0) / beta; });
  }
  const auto [values, vectors] = symmetric_eigen(t, "build_kernel_levels");
  const double lowest = values[0] - beta * std::abs(vectors(steps - 1, 0));
  return 1.0 - std::max(-1.0, lowest);
}

/// Weights (i, c) = k_ic sqrt(D_i) / sqrt(D_c), rows of K over the coarse samples c made to sum to one: functions
/// phi = v / sqrt(D) are averaged, constants exactly. `place` is the coarse row of a fine sample, or -1.
OwnedSingleRows interpolation(const KernelLevel& fine, const KernelLevel& coarse, const std::vector<Row>& place,
                              int threads) {
  const SparseView& k = fine.kernel;
  OwnedSingleRows result;
  result.indptr = Buffer<Index>(k.n + 1);
  result.indptr[0] = 0;
  const auto taken = [&](Index e) {
    return k.values[e] >= kInterpolationCut && place[static_cast<std::size_t>(k.indices[e])] >= 0;
  };
  parallel_chunks(k.n, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      Index count = 0;
      for (Index e = k.indptr[i]; e < k.indptr[i + 1]; ++e) count += taken(e);
      result.indptr[i + 1] = count;
    }
  });
  for (Index i = 0; i < k.n; ++i) result.indptr[i + 1] += result.indptr[i];
  result.indices = Buffer<Row>(result.indptr[k.n]);
  result.rows.values = Buffer<float>(result.indptr[k.n]);
  parallel_chunks(k.n, kRows, threads, [&](Index, Index begin, Index end) {
    std::vector<std::pair<Row, double>> row;
    for (Index i = begin; i < end; ++i) {
      row.clear();
      double sum = 0.0;
      for (Index e = k.indptr[i]; e < k.indptr[i + 1]; ++e) {
        if (!taken(e)) continue;
        row.emplace_back(place[static_cast<std::size_t>(k.indices[e])], k.values[e]);
        sum += k.values[e];
      }
      std::sort(row.begin(), row.end());
      Index at = result.indptr[i];
      for (const auto& [column, value] : row) {
        result.indices[at] = column;
        result.rows.values[at++] = static_cast<float>(value / sum * fine.trivial[static_cast<std::size_t>(i)] /
                                                      coarse.trivial[static_cast<std::size_t>(column)]);
      }
    }
  });
  result.rows.n_rows = k.n;
  result.rows.indptr = result.indptr.data();
  result.rows.indices = result.indices.data();
  return result;
}

OwnedSingleRows transpose(const OwnedSingleRows& a, Index n_columns) {
  OwnedSingleRows result;
  const Index nnz = a.indptr[a.rows.n_rows];
  result.indptr = Buffer<Index>(n_columns + 1);
  result.indices = Buffer<Row>(nnz);
  result.rows.values = Buffer<float>(nnz);
  std::vector<Index> next(static_cast<std::size_t>(n_columns) + 1, 0);
  for (Index e = 0; e < nnz; ++e) ++next[static_cast<std::size_t>(a.indices[e]) + 1];
  for (Index c = 0; c < n_columns; ++c) next[static_cast<std::size_t>(c) + 1] += next[static_cast<std::size_t>(c)];
  std::copy(next.begin(), next.end(), result.indptr.data());
  for (Index i = 0; i < a.rows.n_rows; ++i) {
    for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
      const Index at = next[static_cast<std::size_t>(a.indices[e])]++;
      result.indices[at] = static_cast<Row>(i);
      result.rows.values[at] = a.rows.values[e];
    }
  }
  result.rows.n_rows = n_columns;
  result.rows.indptr = result.indptr.data();
  result.rows.indices = result.indices.data();
  return result;
}

/// The level below `fine`, joined to it; false when its graph does not stand for the domain.
bool coarsen(KernelLevel& fine, const MetricTree& tree, const KernelGeometry& geometry, double dimension, int threads,
             KernelLevel& coarse) {
  const Index n = fine.size();
  const double volume = ball_volume(dimension);
  const double entries = static_cast<double>(fine.kernel.indptr[n]) / static_cast<double>(n);
  const double inner = std::max(kInnerLeast, volume * std::pow(kInnerRadius, dimension));
  const double aim = std::max(kCoarseLeast, volume * std::pow(kCoarseRadius, dimension));
  const double ratio = std::clamp(entries / inner, kLeastRatio, kMostRatio);
  const Index count = std::max(static_cast<Index>(static_cast<double>(n) / ratio), kCoarsest / 2);
  const std::vector<Index> chosen = subsample(n, count);
  coarse.own_tree = tree_of(tree, chosen, threads);
  // Entries a row grow like (number of samples) epsilon^(d/2).
  const double real_ratio = static_cast<double>(n) / static_cast<double>(count);
  coarse.epsilon = fine.epsilon * std::pow(real_ratio * aim / entries, 2.0 / dimension);
  Kernel kernel = assemble_kernel(*coarse.own_tree, {coarse.epsilon, geometry.bandwidth.truncation}, threads);
  const double nnz = static_cast<double>(kernel.rows.indptr[count]);
  const double pairs = 0.5 * (nnz - static_cast<double>(count)), gated = static_cast<double>(kernel.n_gated);
  if (nnz < kLeastEntries * std::min(aim, static_cast<double>(count)) * static_cast<double>(count)) return false;
  if (gated > kMostGated * (pairs + gated)) return false;
  coarse.own_kernel = std::move(kernel.rows);
  coarse.kernel = {count, coarse.own_kernel.indptr.data(), coarse.own_kernel.indices.data(),
                   coarse.own_kernel.values.data()};
  std::vector<double> density(static_cast<std::size_t>(count));
  coarse.trivial.resize(static_cast<std::size_t>(count));
  coarse.scaling.resize(static_cast<std::size_t>(count));
  normalise(coarse.kernel, geometry.alpha, density.data(), coarse.trivial.data(), coarse.scaling.data(), threads);
  double total = 0.0;
  for (const double degree : coarse.trivial) total += degree;
  for (double& degree : coarse.trivial) degree = std::sqrt(degree / total);
  fill_single(coarse, threads);
  std::vector<Row> place(static_cast<std::size_t>(n), -1);
  for (Index c = 0; c < count; ++c) {
    place[static_cast<std::size_t>(chosen[static_cast<std::size_t>(c)])] =
        coarse.own_tree->position()[static_cast<std::size_t>(c)];
  }
  fine.prolongation = interpolation(fine, coarse, place, threads);
  fine.restriction = transpose(fine.prolongation, count);
  fine.growth = fine.epsilon / coarse.epsilon;
  return true;
}

}  // namespace

std::vector<KernelLevel> build_kernel_levels(const SparseView& kernel, const double* scaling, const double* trivial,
                                             const KernelGeometry* geometry, int threads) {
  std::vector<KernelLevel> levels(1);
  KernelLevel& finest = levels[0];
  finest.kernel = kernel;
  finest.scaling.assign(scaling, scaling + kernel.n);
  finest.trivial.assign(trivial, trivial + kernel.n);
  double total = 0.0;
  for (const double v : finest.trivial) total += v * v;
  for (double& v : finest.trivial) v /= std::sqrt(total);
  fill_single(finest, threads);
  if (geometry == nullptr) {
    finest.highest = highest_of(finest, threads);
    return levels;
  }
  finest.epsilon = geometry->bandwidth.epsilon;
  const double dimension = kernel_dimension(*geometry->tree, geometry->bandwidth, threads);
  const MetricTree* tree = geometry->tree;
  while (levels.back().size() > kCoarsest) {
    KernelLevel coarse;
    if (!coarsen(levels.back(), *tree, *geometry, dimension, threads, coarse)) break;
    levels.push_back(std::move(coarse));
    tree = levels.back().own_tree.get();
  }
  // The upper end of the spectrum is a matter of the kernel's shape, which all levels share: large ones take it over.
  for (std::size_t l = levels.size(); l-- > 0;) {
    const bool inherit = l + 1 < levels.size() && levels[l].size() > kMeasured;
    levels[l].highest = inherit ? levels[l + 1].highest + kMargin : highest_of(levels[l], threads);
  }
  return levels;
}

}  // namespace diffeo
