// The block eigensolver: nested iteration, its preconditioner, and the small cases it leaves to a dense solve.
#include "diffeo/eigenpairs.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

#include "diffeo/components.hpp"
#include "diffeo/kernel_multigrid.hpp"
#include "diffeo/linear_algebra.hpp"
#include "diffeo/parallel.hpp"
#include "diffeo/ritz_space.hpp"
#include "diffeo/row_checks.hpp"

namespace diffeo {
namespace {

// Below this size a dense solve takes less than the block iteration.
constexpr Index kDense = 400;

// The block must be small beside n for its Rayleigh-Ritz problems to be small beside the products.
constexpr Index kBlockShare = 6;

// The Chebyshev iteration reduces an error by about this factor; more saves little per product.
constexpr double kReduction = 12.0;
constexpr int kMinDegree = 3;
constexpr int kMaxDegree = 60;

// Nested iteration: coarse levels need no more than their difference from the next finer one.
constexpr Index kNestedIterations = 3;
constexpr double kNestedTolerance = 3e-4;

// Interpolation by averages flattens what it carries, so that corrections come out too small by about this much: the
// measured growth (see KernelMultigrid) is lowered by it. 0.9 and 1 take one iteration in ten more.
constexpr double kFlattening = 0.95;

// Multigrid that reduces the residual by less than this factor in so many iterations gives way to Chebyshev iteration.
constexpr Index kPatience = 4;
constexpr double kWorthwhile = 3.0;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Vectors beyond the wanted ones: they keep a multiple eigenvalue whole at the border and widen the gap. The block is
/// filled up to a multiple of 8 columns, which the products take in groups of 16 and 8.
Index guard_vectors(Index n_wanted) {
  const Index least = n_wanted + std::max<Index>(6, n_wanted / 2);
  return (least + 7) / 8 * 8 - n_wanted;
}

/// Eigenvectors of the eigenvalue 1, which are known: sqrt(D) on one connected piece, 0 on the others; (n, count) for
/// the largest pieces. With more pieces than `n_wanted` the last column is sqrt(D) on all the rest.
RowMatrix null_vectors(const SparseView& kernel, const double* trivial, Index n_wanted) {
  std::vector<Row> labels;
  const Index n_pieces = connected_components(kernel, labels);
  std::vector<Index> sizes(static_cast<std::size_t>(n_pieces), 0), order(sizes.size());
  for (const Row label : labels) ++sizes[at(label)];
  std::iota(order.begin(), order.end(), Index{0});
  // By number where they are of one size: a stable sort asks Clang for what it calls deprecated.
  std::sort(order.begin(), order.end(),
            [&](Index a, Index b) { return sizes[at(a)] != sizes[at(b)] ? sizes[at(a)] > sizes[at(b)] : a < b; });
  const Index count = std::min(n_pieces, n_wanted);
  std::vector<Index> column(sizes.size(), count - 1);
  for (Index k = 0; k < count; ++k) column[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])] = k;
  RowMatrix vectors = RowMatrix::zero(kernel.n, count);
  for (Index i = 0; i < kernel.n; ++i) {
    vectors(i, column[static_cast<std::size_t>(labels[static_cast<std::size_t>(i)])]) = trivial[i];
  }
  for (Index k = 0; k < count; ++k) {
    double square = 0.0;
    for (Index i = 0; i < kernel.n; ++i) square += vectors(i, k) * vectors(i, k);
    const double norm = std::sqrt(square);
    for (Index i = 0; i < kernel.n && norm > 0.0; ++i) vectors(i, k) /= norm;
  }
  return vectors;
}

/// Progress of an iteration by the digits of the residual that it has gained, in hundredths.
void report_decades(double first, double now, double tolerance) {
  const double all = std::log10(std::max(first / tolerance, 10.0));
  const double done = std::log10(std::max(first / std::max(now, tolerance), 1.0));
  report_progress(static_cast<Index>(100.0 * std::min(done / all, 1.0)), 100);
}

class Solver {
 public:
  Solver(const DiffusionOperator& op, const double* trivial, const EigenOptions& options,
         const KernelGeometry* geometry, RowMatrix&& known)
      : options_(options), known_(std::move(known)), threads_(op.threads()),
        block_(options.n_wanted + guard_vectors(options.n_wanted)),
        levels_(build_kernel_levels(op.kernel(), op.scaling(), trivial, geometry, op.threads())),
        multigrid_(levels_, op.threads()) {
    // A level must hold the block and more; the coarsest would be all block otherwise.
    if (levels_.back().size() < 2 * block_) use_multigrid_ = false;
    if (levels_.size() == 1) use_multigrid_ = false;
  }

  Eigenpairs run() {
    RowMatrix x;
    std::vector<double> values;
    if (use_multigrid_) {
      const Index last = static_cast<Index>(levels_.size()) - 1;
      if (multigrid_.complete()) {
        x = multigrid_.coarsest_vectors(block_);
        values.assign(multigrid_.coarsest_values().begin(), multigrid_.coarsest_values().begin() + block_);
      } else {
        random_block(last, x);
        iterate_coarse(last, x, values, options_.max_iterations);
        multigrid_.set_coarsest_gap(values[at(block_ - 1)]);
      }
      for (Index level = last - 1; level >= 0; --level) {
        x = prolong(level, x);
        if (level > 0) iterate_coarse(level, x, values, kNestedIterations);
      }
    } else {
      random_block(0, x);
    }
    for (Index i = 0; i < x.rows(); ++i) std::copy_n(known_.row(i), known_.cols(), x.row(i));
    known_.resize(0, 0);
    const DiffusionOperator op = operator_of(0);
    RitzSpace space(op, block_);
    space.start(x, options_.seed);
    if (use_multigrid_) calibrate(0, values, space.values());
    x.resize(0, 0);
    return finish(space, iterate(0, space, options_.tolerance, options_.max_iterations));
  }

 private:
  DiffusionOperator operator_of(Index level) const {
    const KernelLevel& here = levels_[at(level)];
    return {here.kernel, here.scaling.data(), threads_};
  }

  void random_block(Index level, RowMatrix& x) const {
    std::mt19937_64 generator(options_.seed);
    std::normal_distribution<double> normal;
    x.resize(levels_[at(level)].size(), block_);
    for (Index k = 0; k < x.size(); ++k) x.data()[k] = normal(generator);
  }

  /// P x, freed of what interpolation adds by two products with S.
  RowMatrix prolong(Index level, const RowMatrix& x) {
    RowMatrix fine = multigrid_.prolong(level, x), other;
    const DiffusionOperator op = operator_of(level);
    op.apply(fine, other);
    op.apply(other, fine);
    return fine;
  }

  /// Sets the growth of a level to the median ratio of its Ritz values to those of the coarser one.
  void calibrate(Index level, const std::vector<double>& coarse, const std::vector<double>& fine_ritz) {
    std::vector<double> ratios;
    for (Index k = 1; k < options_.n_wanted; ++k) {
      const double below = coarse[at(k)], above = 1.0 - fine_ritz[at(k)];
      if (below > 1e-9 && above > 1e-12) ratios.push_back(above / below);
    }
    if (ratios.empty()) return;
    const auto middle = ratios.begin() + static_cast<std::ptrdiff_t>(ratios.size() / 2);
    std::nth_element(ratios.begin(), middle, ratios.end());
    // Far from the ratio of the epsilons the coarse level does not stand for this one, whatever its spectrum.
    const double expected = levels_[at(level)].growth;
    multigrid_.set_growth(level, kFlattening * std::clamp(*middle, 0.5 * expected, 3.0 * expected));
  }

  /// A few iterations on a coarse level: x becomes its Ritz vectors, `values` the eigenvalues of I - S.
  void iterate_coarse(Index level, RowMatrix& x, std::vector<double>& values, Index max_iterations) {
    const DiffusionOperator op = operator_of(level);
    RitzSpace space(op, block_);
    space.start(x, options_.seed);
    if (!values.empty()) calibrate(level, values, space.values());
    iterate(level, space, kNestedTolerance, max_iterations);
    x = space.vectors(block_);
    values = space.values();
    for (double& value : values) value = 1.0 - value;
  }

  /// Block iteration until the wanted residuals are below the tolerance; returns the number of iterations.
  Index iterate(Index level, RitzSpace& space, double tolerance, Index max_iterations) {
    const auto worst = [&] { return worst_of(space); };
    const bool coarsest = level + 1 == static_cast<Index>(levels_.size());
    bool multigrid = use_multigrid_ && !coarsest;
    const double first = worst();
    double before = first;
    Index since = 0;
    SingleBlock residual, correction;
    std::vector<Index> active;
    for (Index iteration = 0;; ++iteration) {
      if (worst() <= tolerance) {
        // The images were updated, not recomputed: trust only fresh ones.
        space.refresh();
        if (worst() <= tolerance) return iteration;
      }
      if (iteration == max_iterations) {
        space.refresh();
        return iteration;
      }
      // How many iterations there will be is unknown: the decades of the residual that are done stand for them.
      if (level == 0) report_decades(first, worst(), tolerance);
      if (multigrid && ++since > kPatience) {
        if (worst() * kWorthwhile > before) multigrid = false;
        before = worst();
        since = 1;
      }
      active.clear();
      for (Index k = 0; k < block_; ++k) {
        if (space.residual_norms()[at(k)] > 0.5 * tolerance) active.push_back(k);
      }
      space.residuals(active, residual);
      precondition(level, space, active, multigrid, residual, correction);
      space.extend(correction, active);
    }
  }

  void precondition(Index level, const RitzSpace& space, const std::vector<Index>& active, bool multigrid,
                    const SingleBlock& residual, SingleBlock& correction) {
    std::vector<float> shifts(static_cast<std::size_t>(residual.cols()), 0.0f);
    if (multigrid) {
      for (std::size_t c = 0; c < active.size(); ++c)
        shifts[c] = static_cast<float>(1.0 - space.values()[at(active[c])]);
      multigrid_.cycle(level, residual, shifts, block_, correction);
      return;
    }
    // The part of the spectrum that the block does not hold: from its last Ritz value upwards.
    const double high = levels_[at(level)].highest;
    const double low = std::clamp(1.0 - space.values()[at(block_ - 1)], 1e-7 * high, 0.5 * high);
    const double steps = 0.5 * std::sqrt(high / low) * std::log(kReduction);
    const int degree = static_cast<int>(std::clamp(std::ceil(steps), double{kMinDegree}, double{kMaxDegree}));
    multigrid_.chebyshev(level, residual, shifts, low, degree, correction);
  }

  /// The wanted pairs as they stand. No further rotation: where the border cuts a multiple eigenvalue it would mix the
  /// last wanted vector with a less converged guard.
  Eigenpairs finish(const RitzSpace& space, Index iterations) const {
    Eigenpairs pairs;
    const Index k = options_.n_wanted;
    pairs.values.assign(space.values().begin(), space.values().begin() + k);
    pairs.residuals.assign(space.residual_norms().begin(), space.residual_norms().begin() + k);
    pairs.vectors = space.vectors(k);
    pairs.iterations = iterations;
    pairs.products = space.products() + static_cast<Index>(multigrid_.products());
    for (const KernelLevel& level : levels_) pairs.levels.push_back(level.size());
    pairs.converged = worst_of(space) <= options_.tolerance;
    return pairs;
  }

  /// The largest residual of the wanted pairs.
  double worst_of(const RitzSpace& space) const {
    return *std::max_element(space.residual_norms().begin(), space.residual_norms().begin() + options_.n_wanted);
  }

  EigenOptions options_;
  RowMatrix known_;
  int threads_;
  Index block_;
  std::vector<KernelLevel> levels_;
  KernelMultigrid multigrid_;
  bool use_multigrid_ = true;
};

/// Norms of S v - lambda v, where `image` is S v.
std::vector<double> residuals_of(const RowMatrix& image, const RowMatrix& vectors, const std::vector<double>& values) {
  std::vector<double> squares(values.size(), 0.0);
  for (Index i = 0; i < vectors.rows(); ++i) {
    for (Index k = 0; k < vectors.cols(); ++k) {
      const double defect = image(i, k) - values[at(k)] * vectors(i, k);
      squares[at(k)] += defect * defect;
    }
  }
  for (double& square : squares) square = std::sqrt(square);
  return squares;
}

Eigenpairs dense_eigenpairs(const DiffusionOperator& op, const EigenOptions& options) {
  const RowMatrix s = op.dense();
  const SymmetricEigen eigen = symmetric_eigen(s, "leading_eigenpairs");
  const Index n = op.size(), k = options.n_wanted;
  Eigenpairs pairs;
  pairs.values.assign(eigen.values.rbegin(), eigen.values.rbegin() + k);
  pairs.vectors = reversed_columns(columns(eigen.vectors, n - k, k));
  const RowMatrix image = product(s, pairs.vectors);
  pairs.residuals = residuals_of(image, pairs.vectors, pairs.values);
  pairs.levels.push_back(op.size());
  pairs.converged = *std::max_element(pairs.residuals.begin(), pairs.residuals.end()) <= options.tolerance;
  return pairs;
}

/// Pairs of the eigenvalue 1, with the residuals that they have.
Eigenpairs known_eigenpairs(const DiffusionOperator& op, RowMatrix&& vectors, const EigenOptions& options) {
  Eigenpairs pairs;
  RowMatrix image;
  op.apply(vectors, image);
  pairs.values.assign(at(vectors.cols()), 1.0);
  pairs.residuals = residuals_of(image, vectors, pairs.values);
  pairs.vectors = std::move(vectors);
  pairs.products = image.cols();
  pairs.levels.push_back(op.size());
  pairs.converged = *std::max_element(pairs.residuals.begin(), pairs.residuals.end()) <= options.tolerance;
  return pairs;
}

/// A kernel that was made from something else than it is said to be would still be solved, but badly.
void check_geometry(const KernelGeometry& geometry, Index n) {
  const auto& [epsilon, truncation] = geometry.bandwidth;
  if (geometry.tree == nullptr || geometry.tree->size() != n) {
    throw std::invalid_argument("leading_eigenpairs: the tree must hold the samples of the kernel");
  }
  if (!(epsilon > 0.0) || !std::isfinite(epsilon) || !(truncation > 0.0 && truncation < 1.0) ||
      !std::isfinite(geometry.alpha)) {
    throw std::invalid_argument("leading_eigenpairs: a tree needs epsilon > 0, truncation between 0 and 1, and alpha");
  }
}

}  // namespace

Eigenpairs leading_eigenpairs(const DiffusionOperator& op, const double* trivial, const EigenOptions& options,
                              const KernelGeometry* geometry) {
  const Index n = op.size();
  if (options.n_wanted < 1 || options.n_wanted > n) {
    throw std::invalid_argument("leading_eigenpairs: n_wanted must lie between 1 and n");
  }
  if (geometry != nullptr) check_geometry(*geometry, n);
  check_compressed("leading_eigenpairs", op.kernel(), op.threads());
  const Index block = options.n_wanted + guard_vectors(options.n_wanted);
  if (n <= kDense || kBlockShare * block > n) return dense_eigenpairs(op, options);
  RowMatrix known = null_vectors(op.kernel(), trivial, options.n_wanted);
  if (known.cols() == options.n_wanted) return known_eigenpairs(op, std::move(known), options);
  return Solver(op, trivial, options, geometry, std::move(known)).run();
}

}  // namespace diffeo
