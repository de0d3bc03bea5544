// Moving least squares on values, and on values with gradients.
#include "diffeo/interpolation.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "diffeo/linear_algebra.hpp"
#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"
#include "diffeo/small/powers.hpp"

namespace diffeo {
namespace {

constexpr Index kQueries = 64;

// Directions of the design below this share of the widest count as left open by the nodes.
constexpr double kOpen = 1e-6;

/// Offsets of the neighbours of one query in units of half the neighbourhood, and their weights.
struct Neighborhood {
  RowMatrix offsets;
  std::vector<double> weights;
  double unit = 0.0;  ///< scaled offset = offset * unit

  Neighborhood(Index k, Index d) : offsets(k, d), weights(static_cast<std::size_t>(k)) {}

  void place(const double* query, const double* nodes, const Index* neighbors) {
    const Index k = offsets.rows(), d = offsets.cols();
    double farthest = 0.0;
    for (Index a = 0; a < k; ++a) {
      double square = 0.0;
      for (Index b = 0; b < d; ++b) {
        offsets(a, b) = nodes[neighbors[a] * d + b] - query[b];
        square += offsets(a, b) * offsets(a, b);
      }
      farthest = std::max(farthest, std::sqrt(square));
    }
    unit = farthest > 0.0 ? 2.0 / farthest : 0.0;
    for (Index a = 0; a < k; ++a) {
      double square = 0.0;
      for (Index b = 0; b < d; ++b) {
        offsets(a, b) *= unit;
        square += offsets(a, b) * offsets(a, b);
      }
      weights[static_cast<std::size_t>(a)] = std::exp(-0.5 * square);
    }
  }
};

void scale(double* row, Index count, double factor) {
  for (Index t = 0; t < count; ++t) row[t] *= factor;
}

}  // namespace

void local_polynomial_fit(const double* queries, Index n_queries, Index d, const double* nodes, Index n_nodes,
                          const double* values, Index v, const Index* neighbors, Index k, int degree, double* result,
                          int threads) {
  if (degree < 1 || degree > 2) throw std::invalid_argument("local_polynomial_fit: degree must be 1 or 2");
  check_rows<Index>("local_polynomial_fit", {"neighbors", neighbors, n_queries * k, k}, "n_nodes", n_nodes, threads);
  const Powers monomials(d, degree, Powers::Order::constant_first);
  parallel_chunks(n_queries, kQueries, threads, [&](Index, Index begin, Index end) {
    Neighborhood around(k, d);
    RowMatrix design(k, monomials.size()), targets(k, v);
    LeastNormFit fit(k, monomials.size(), kOpen);
    for (Index i = begin; i < end; ++i) {
      around.place(queries + i * d, nodes, neighbors + i * k);
      for (Index a = 0; a < k; ++a) {
        const double weight = around.weights[static_cast<std::size_t>(a)];
        monomials.values(around.offsets.row(a), design.row(a));
        scale(design.row(a), design.cols(), weight);
        std::copy_n(values + neighbors[i * k + a] * v, v, targets.row(a));
        scale(targets.row(a), v, weight);
      }
      std::copy_n(fit.solve(design, targets).data(), v, result + i * v);
    }
  });
}

void local_hermite_fit(const double* queries, Index n_queries, Index d, const double* nodes, Index n_nodes,
                       const double* values, const double* gradients, Index v, const Index* neighbors, Index k,
                       int degree, double* result, double* slopes, int threads) {
  if (degree < 1 || degree > 3) throw std::invalid_argument("local_hermite_fit: degree must lie between 1 and 3");
  check_rows<Index>("local_hermite_fit", {"neighbors", neighbors, n_queries * k, k}, "n_nodes", n_nodes, threads);
  const Powers monomials(d, degree, Powers::Order::constant_first);
  parallel_chunks(n_queries, kQueries, threads, [&](Index, Index begin, Index end) {
    Neighborhood around(k, d);
    RowMatrix design(k * (1 + d), monomials.size()), targets(k * (1 + d), v);
    LeastNormFit fit(design.rows(), design.cols(), kOpen);
    for (Index i = begin; i < end; ++i) {
      around.place(queries + i * d, nodes, neighbors + i * k);
      const double unit = around.unit > 0.0 ? around.unit : 1.0;
      for (Index a = 0; a < k; ++a) {
        const Index node = neighbors[i * k + a], first = a * (1 + d);
        const double* gradient = gradients + node * v * d;
        const double weight = around.weights[static_cast<std::size_t>(a)];
        const double* offset = around.offsets.row(a);
        monomials.values(offset, design.row(first));
        std::copy_n(values + node * v, v, targets.row(first));
        scale(targets.row(first), v, weight);
        for (Index b = 0; b < d; ++b) {
          // In scaled coordinates a derivative is the gradient over the unit: of the size of a difference of values.
          monomials.derivatives(design.row(first), b, design.row(first + 1 + b));
          scale(design.row(first + 1 + b), design.cols(), weight);
          for (Index c = 0; c < v; ++c) targets(first + 1 + b, c) = (weight / unit) * gradient[c * d + b];
        }
        // Only now, since derivatives come from the values.
        scale(design.row(first), design.cols(), weight);
      }
      const RowMatrix& coefficients = fit.solve(design, targets);
      std::copy_n(coefficients.data(), v, result + i * v);
      if (slopes == nullptr) continue;
      // Monomials of degree one follow the constant in the order of the axes.
      for (Index b = 0; b < d; ++b) {
        for (Index c = 0; c < v; ++c) slopes[(i * v + c) * d + b] = unit * coefficients(1 + b, c);
      }
    }
  });
}

}  // namespace diffeo
