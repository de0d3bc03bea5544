// Moving least squares on values, and on values with gradients.
#include "diffeo/interpolation.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"

namespace diffeo {
namespace {

constexpr Index kQueries = 64;

// Directions of the design below this share of the widest count as left open by the nodes.
constexpr double kOpen = 1e-6;

/// Exponents of all monomials of d variables up to a total degree: the constant first, then by degree.
class Monomials {
 public:
  Monomials(Index d, int degree) : d_(d) {
    std::vector<int> exponents(static_cast<std::size_t>(d), 0);
    for (int total = 0; total <= degree; ++total) list(0, total, exponents);
  }

  Index size() const { return static_cast<Index>(exponents_.size()); }

  /// All monomials at x (d) into row (size).
  template <class Row>
  void values(const Eigen::RowVectorXd& x, Row&& row) const {
    for (Index t = 0; t < size(); ++t) row[t] = product(x, t, -1);
  }

  /// Derivatives of all monomials along axis a.
  template <class Row>
  void derivatives(const Eigen::RowVectorXd& x, Index a, Row&& row) const {
    for (Index t = 0; t < size(); ++t) {
      const int power = exponents_[static_cast<std::size_t>(t)][static_cast<std::size_t>(a)];
      row[t] = power == 0 ? 0.0 : power * product(x, t, a);
    }
  }

 private:
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

  /// Monomial t at x, with the power of one axis lowered by one (lowered = -1: none).
  double product(const Eigen::RowVectorXd& x, Index t, Index lowered) const {
    double value = 1.0;
    for (Index a = 0; a < d_; ++a) {
      const int power = exponents_[static_cast<std::size_t>(t)][static_cast<std::size_t>(a)] - (a == lowered ? 1 : 0);
      for (int p = 0; p < power; ++p) value *= x[a];
    }
    return value;
  }

  Index d_;
  std::vector<std::vector<int>> exponents_;
};

/// Offsets of the neighbours of one query in units of half the neighbourhood, and their weights.
struct Neighborhood {
  RowMatrix offsets;
  Eigen::VectorXd weights;
  double unit = 0.0;  ///< scaled offset = offset * unit

  Neighborhood(Index k, Index d) : offsets(k, d), weights(k) {}

  void place(const double* query, const double* nodes, const Index* neighbors) {
    const Index k = offsets.rows(), d = offsets.cols();
    const Eigen::Map<const Eigen::RowVectorXd> x(query, d);
    for (Index a = 0; a < k; ++a)
      offsets.row(a) = Eigen::Map<const Eigen::RowVectorXd>(nodes + neighbors[a] * d, d) - x;
    const double farthest = offsets.rowwise().norm().maxCoeff();
    unit = farthest > 0.0 ? 2.0 / farthest : 0.0;
    offsets *= unit;
    weights = (-0.5 * offsets.rowwise().squaredNorm()).array().exp();
  }
};

}  // namespace

void local_polynomial_fit(const double* queries, Index n_queries, Index d, const double* nodes, Index n_nodes,
                          const double* values, Index v, const Index* neighbors, Index k, int degree, double* result,
                          int threads) {
  if (degree < 1 || degree > 2) throw std::invalid_argument("local_polynomial_fit: degree must be 1 or 2");
  check_rows<Index>("local_polynomial_fit", {"neighbors", neighbors, n_queries * k, k}, "n_nodes", n_nodes, threads);
  const Monomials monomials(d, degree);
  parallel_chunks(n_queries, kQueries, threads, [&](Index, Index begin, Index end) {
    Neighborhood around(k, d);
    RowMatrix design(k, monomials.size()), targets(k, v);
    // A complete orthogonal decomposition gives the solution of least norm when the nodes leave terms open.
    Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd> solver(k, monomials.size());
    solver.setThreshold(kOpen);
    for (Index i = begin; i < end; ++i) {
      around.place(queries + i * d, nodes, neighbors + i * k);
      for (Index a = 0; a < k; ++a) {
        monomials.values(around.offsets.row(a), design.row(a));
        targets.row(a) = Eigen::Map<const Eigen::RowVectorXd>(values + neighbors[i * k + a] * v, v);
      }
      design.array().colwise() *= around.weights.array();
      targets.array().colwise() *= around.weights.array();
      solver.compute(design);
      Eigen::Map<Eigen::RowVectorXd>(result + i * v, v) = solver.solve(targets).row(0);
    }
  });
}

void local_hermite_fit(const double* queries, Index n_queries, Index d, const double* nodes, Index n_nodes,
                       const double* values, const double* gradients, Index v, const Index* neighbors, Index k,
                       int degree, double* result, double* slopes, int threads) {
  if (degree < 1 || degree > 3) throw std::invalid_argument("local_hermite_fit: degree must lie between 1 and 3");
  check_rows<Index>("local_hermite_fit", {"neighbors", neighbors, n_queries * k, k}, "n_nodes", n_nodes, threads);
  const Monomials monomials(d, degree);
  parallel_chunks(n_queries, kQueries, threads, [&](Index, Index begin, Index end) {
    Neighborhood around(k, d);
    RowMatrix design(k * (1 + d), monomials.size()), targets(k * (1 + d), v);
    Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd> solver(design.rows(), design.cols());
    solver.setThreshold(kOpen);
    for (Index i = begin; i < end; ++i) {
      around.place(queries + i * d, nodes, neighbors + i * k);
      const double unit = around.unit > 0.0 ? around.unit : 1.0;
      for (Index a = 0; a < k; ++a) {
        const Index node = neighbors[i * k + a];
        const Eigen::Map<const RowMatrix> gradient(gradients + node * v * d, v, d);
        const double weight = around.weights[a];
        const Eigen::RowVectorXd offset = around.offsets.row(a);
        monomials.values(offset, design.row(a * (1 + d)));
        design.row(a * (1 + d)) *= weight;
        targets.row(a * (1 + d)) = weight * Eigen::Map<const Eigen::RowVectorXd>(values + node * v, v);
        for (Index b = 0; b < d; ++b) {
          // In scaled coordinates a derivative is the gradient over the unit: of the size of a difference of values.
          monomials.derivatives(offset, b, design.row(a * (1 + d) + 1 + b));
          design.row(a * (1 + d) + 1 + b) *= weight;
          targets.row(a * (1 + d) + 1 + b) = (weight / unit) * gradient.col(b).transpose();
        }
      }
      solver.compute(design);
      const Eigen::MatrixXd coefficients = solver.solve(targets);
      Eigen::Map<Eigen::RowVectorXd>(result + i * v, v) = coefficients.row(0);
      // Monomials of degree one follow the constant in the order of the axes.
      if (slopes != nullptr) {
        Eigen::Map<RowMatrix>(slopes + i * v * d, v, d) = unit * coefficients.middleRows(1, d).transpose();
      }
    }
  });
}

}  // namespace diffeo
