#include "diffeo/eigenpairs.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

#include "diffeo/block.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

using SymmetricSolver = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>;

// Below this size a dense solve takes less than the block iteration.
constexpr Index kDense = 500;

// The block must be small beside n for its Rayleigh-Ritz problems to be small beside the products.
constexpr Index kBlockShare = 6;

// Directions that carry less than this share of the largest, squared, are rounding noise.
constexpr double kDependent = 1e-13;

// The Chebyshev iteration reduces an error by about this factor; more saves little per product.
constexpr double kReduction = 12.0;
constexpr int kMinDegree = 3;
constexpr int kMaxDegree = 60;

// Steps of the Lanczos process that bounds the lower end of the spectrum.
constexpr Index kLanczosSteps = 12;

/// Vectors beyond the wanted ones: they keep a multiple eigenvalue whole at the border and widen the gap. The block is
/// filled up to a multiple of 8 columns, which the products take in groups of 16 and 8.
Index guard_vectors(Index n_wanted) {
  const Index least = n_wanted + std::max<Index>(6, n_wanted / 2);
  return (least + 7) / 8 * 8 - n_wanted;
}

/// Largest columns first: eigenvectors of a symmetric matrix, eigenvalues descending.
struct Ritz {
  Eigen::VectorXd values;
  RowMatrix coefficients;

  explicit Ritz(const RowMatrix& h) {
    const SymmetricSolver solver(Eigen::MatrixXd(0.5 * (h + h.transpose())));
    if (solver.info() != Eigen::Success) throw std::runtime_error("leading_eigenpairs: Rayleigh-Ritz failed");
    values = solver.eigenvalues().reverse();
    coefficients = solver.eigenvectors().rowwise().reverse();
  }
};

RowMatrix times(const RowMatrix& x, const RowMatrix& coefficients, int threads) {
  RowMatrix y;
  multiply(x, coefficients, y, false, threads);
  return y;
}

/// Replaces z by an orthonormal basis of its column space (symmetric orthogonalisation of unit columns),
/// without the directions that depend on the others.
void orthonormalise(RowMatrix& z, int threads) {
  for (int pass = 0; pass < 2 && z.cols() > 0; ++pass) {
    const RowMatrix g = gram(z, z, threads);
    Eigen::VectorXd unit = g.diagonal();
    const double largest = unit.maxCoeff();
    for (Index k = 0; k < unit.size(); ++k)
      unit[k] = unit[k] > 1e-300 && unit[k] > 1e-40 * largest ? 1.0 / std::sqrt(unit[k]) : 0.0;
    const SymmetricSolver solver(Eigen::MatrixXd(unit.asDiagonal() * g * unit.asDiagonal()));
    const Eigen::VectorXd& values = solver.eigenvalues();
    const double floor = kDependent * values[values.size() - 1];
    Index first = 0;
    while (first < values.size() && !(values[first] > floor)) ++first;
    const Index kept = values.size() - first;
    const RowMatrix coefficients = unit.asDiagonal() * solver.eigenvectors().rightCols(kept) *
                                   values.tail(kept).cwiseSqrt().cwiseInverse().asDiagonal();
    z = times(z, coefficients, threads);
  }
}

/// Removes from z its components along the orthonormal columns of x.
void project_out(const RowMatrix& x, RowMatrix& z, int threads) {
  const RowMatrix overlap = -gram(x, z, threads);
  multiply(x, overlap, z, true, threads);
}

/// Columns of `block` whose flag is set.
RowMatrix select(const RowMatrix& block, const std::vector<Index>& columns) {
  RowMatrix chosen(block.rows(), static_cast<Index>(columns.size()));
  for (Index c = 0; c < chosen.cols(); ++c) chosen.col(c) = block.col(columns[static_cast<std::size_t>(c)]);
  return chosen;
}

class BlockIteration {
 public:
  BlockIteration(const DiffusionOperator& op, const double* trivial, const EigenOptions& options)
      : op_(op), options_(options), threads_(op.threads()), block_(options.n_wanted + guard_vectors(options.n_wanted)) {
    start(trivial);
    lowest_ = lower_end_of_spectrum();
  }

  Eigenpairs run() {
    Index iteration = 0;
    for (; iteration < options_.max_iterations; ++iteration) {
      RowMatrix residual = residuals();
      if (worst_residual() <= options_.tolerance) {
        // The images were updated, not recomputed: trust only fresh ones.
        image_ = product(x_);
        residual = residuals();
        if (worst_residual() <= options_.tolerance) return finish(iteration);
        rotate_to_ritz();
        residual = residuals();
      }
      step(residual);
    }
    image_ = product(x_);
    residuals();
    return finish(iteration);
  }

 private:
  RowMatrix product(const RowMatrix& x) {
    RowMatrix y;
    op_.apply(x, y);
    products_ += x.cols();
    return y;
  }

  void start(const double* trivial) {
    const Index n = op_.size();
    x_.resize(n, block_);
    std::mt19937_64 generator(options_.seed);
    std::normal_distribution<double> normal;
    for (Index i = 0; i < n; ++i) {
      x_(i, 0) = trivial[i];
      for (Index k = 1; k < block_; ++k) x_(i, k) = normal(generator);
    }
    orthonormalise(x_, threads_);
    image_ = product(x_);
    rotate_to_ritz();
  }

  void rotate_to_ritz() {
    const Ritz ritz(gram(x_, image_, threads_));
    x_ = times(x_, ritz.coefficients, threads_);
    image_ = times(image_, ritz.coefficients, threads_);
    ritz_ = ritz.values;
  }

  /// R = S X - X Theta, and its column norms in norms_.
  RowMatrix residuals() {
    RowMatrix r = image_;
    const RowMatrix theta = RowMatrix((-ritz_).asDiagonal());
    multiply(x_, theta, r, true, threads_);
    norms_ = gram_diagonal(r).cwiseSqrt();
    return r;
  }

  Eigen::VectorXd gram_diagonal(const RowMatrix& r) const { return gram(r, r, threads_).diagonal(); }

  double worst_residual() const { return norms_.head(options_.n_wanted).maxCoeff(); }

  void step(const RowMatrix& residual) {
    std::vector<Index> active;
    for (Index k = 0; k < x_.cols(); ++k) {
      if (norms_[k] > 0.5 * options_.tolerance) active.push_back(k);
    }
    RowMatrix directions = precondition(select(residual, active));
    const Index n_new = directions.cols(), n_previous = previous_.cols();
    directions.conservativeResize(Eigen::NoChange, n_new + n_previous);
    if (n_previous > 0) directions.rightCols(n_previous) = previous_;
    for (int pass = 0; pass < 2; ++pass) {
      project_out(x_, directions, threads_);
      orthonormalise(directions, threads_);
    }
    const RowMatrix image = product(directions);
    const Index b = x_.cols(), c = directions.cols();
    RowMatrix h(b + c, b + c);
    h.topLeftCorner(b, b) = RowMatrix(ritz_.asDiagonal());
    h.topRightCorner(b, c) = gram(x_, image, threads_);
    h.bottomLeftCorner(c, b) = h.topRightCorner(b, c).transpose();
    h.bottomRightCorner(c, c) = gram(directions, image, threads_);
    const Ritz ritz(h);
    const RowMatrix keep = ritz.coefficients.topLeftCorner(b, b);
    const RowMatrix move = ritz.coefficients.bottomLeftCorner(c, b);
    previous_ = times(directions, select(move, active), threads_);
    x_ = times(x_, keep, threads_);
    multiply(directions, move, x_, true, threads_);
    image_ = times(image_, keep, threads_);
    multiply(image, move, image_, true, threads_);
    ritz_ = ritz.values.head(b);
  }

  /// Chebyshev iteration for (I - S) W = R on the part of the spectrum that the block does not hold:
  /// 1 - S has it between 1 - (lowest Ritz value of the block) and 1 - (lowest eigenvalue).
  RowMatrix precondition(const RowMatrix& r) {
    const double high = 1.0 - lowest_;
    const double low = std::clamp(1.0 - ritz_[ritz_.size() - 1], 1e-7 * high, 0.5 * high);
    const double centre = 0.5 * (high + low), radius = 0.5 * (high - low);
    const double root = std::sqrt(high / low);
    const int degree =
        std::clamp(static_cast<int>(std::ceil(0.5 * root * std::log(kReduction))), kMinDegree, kMaxDegree);
    // Three-term recurrence for the error polynomial T_k((centre - t)/radius) / T_k(centre/radius).
    const double sigma = centre / radius;
    double rho = 1.0 / sigma;
    RowMatrix update = r / centre;
    RowMatrix w = update;
    for (int k = 1; k < degree; ++k) {
      const double next = 1.0 / (2.0 * sigma - rho);
      chebyshev_step(r, product(w), next * rho, 2.0 * next / radius, update, w, threads_);
      rho = next;
    }
    return w;
  }

  /// A lower bound of the spectrum of S: smallest Ritz value of a short Lanczos process less its residual.
  double lower_end_of_spectrum() {
    const Index n = op_.size(), steps = std::min(kLanczosSteps, n - 1);
    std::mt19937_64 generator(options_.seed + 1);
    std::normal_distribution<double> normal;
    RowMatrix v(n, 1);
    for (Index i = 0; i < n; ++i) v(i, 0) = normal(generator);
    v /= std::sqrt(gram_diagonal(v)[0]);
    RowMatrix before = RowMatrix::Zero(n, 1);
    Eigen::MatrixXd t = Eigen::MatrixXd::Zero(steps, steps);
    double beta = 0.0;
    for (Index k = 0; k < steps; ++k) {
      RowMatrix next = product(v) - beta * before;
      t(k, k) = gram(v, next, threads_)(0, 0);
      next -= t(k, k) * v;
      beta = std::sqrt(gram_diagonal(next)[0]);
      if (k + 1 < steps) t(k, k + 1) = t(k + 1, k) = beta;
      if (!(beta > 1e-14)) break;
      before.swap(v);
      v = next / beta;
    }
    const SymmetricSolver solver(t);
    return std::max(-1.0, solver.eigenvalues()[0] - beta * std::abs(solver.eigenvectors()(steps - 1, 0)));
  }

  /// The wanted pairs as they stand, with residuals from a fresh product. No further rotation: where the border cuts
  /// a multiple eigenvalue it would mix the last wanted vector with a less converged guard.
  Eigenpairs finish(Index iterations) {
    Eigenpairs pairs;
    const Index k = options_.n_wanted;
    pairs.values.assign(ritz_.data(), ritz_.data() + k);
    pairs.residuals.assign(norms_.data(), norms_.data() + k);
    pairs.vectors = x_.leftCols(k);
    pairs.iterations = iterations;
    pairs.products = products_;
    pairs.converged = worst_residual() <= options_.tolerance;
    return pairs;
  }

  const DiffusionOperator& op_;
  EigenOptions options_;
  int threads_;
  Index block_, products_ = 0;
  double lowest_ = -1.0;
  RowMatrix x_, image_, previous_;
  Eigen::VectorXd ritz_, norms_;
};

Eigenpairs dense_eigenpairs(const DiffusionOperator& op, const EigenOptions& options) {
  const Eigen::MatrixXd s = op.dense();
  const SymmetricSolver solver(s);
  if (solver.info() != Eigen::Success) throw std::runtime_error("leading_eigenpairs: dense solve failed");
  const Index k = options.n_wanted;
  const Eigen::VectorXd values = solver.eigenvalues().reverse().head(k);
  Eigenpairs pairs;
  pairs.vectors = solver.eigenvectors().rightCols(k).rowwise().reverse();
  pairs.values.assign(values.data(), values.data() + k);
  const Eigen::MatrixXd defect = s * pairs.vectors - pairs.vectors * values.asDiagonal();
  for (Index c = 0; c < k; ++c) pairs.residuals.push_back(defect.col(c).norm());
  pairs.converged = *std::max_element(pairs.residuals.begin(), pairs.residuals.end()) <= options.tolerance;
  return pairs;
}

}  // namespace

Eigenpairs leading_eigenpairs(const DiffusionOperator& op, const double* trivial, const EigenOptions& options) {
  const Index n = op.size();
  if (options.n_wanted < 1 || options.n_wanted > n) {
    throw std::invalid_argument("leading_eigenpairs: n_wanted must lie between 1 and n");
  }
  const Index block = options.n_wanted + guard_vectors(options.n_wanted);
  if (n <= kDense || kBlockShare * block > n) return dense_eigenpairs(op, options);
  return BlockIteration(op, trivial, options).run();
}

}  // namespace diffeo
