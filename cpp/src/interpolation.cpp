#include "diffeo/interpolation.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

constexpr Index kQueries = 64;

Index n_terms(Index d, int degree) { return degree == 1 ? 1 + d : 1 + d + d * (d + 1) / 2; }

/// Monomials of the offset from the query in units of the neighbourhood: constant first.
void monomials(const Eigen::RowVectorXd& offset, int degree, Eigen::Ref<Eigen::RowVectorXd> row) {
  const Index d = offset.size();
  row[0] = 1.0;
  row.segment(1, d) = offset;
  if (degree < 2) return;
  Index at = 1 + d;
  for (Index a = 0; a < d; ++a) {
    for (Index b = a; b < d; ++b) row[at++] = offset[a] * offset[b];
  }
}

}  // namespace

void local_polynomial_fit(const double* queries, Index n_queries, Index d, const double* nodes, const double* values,
                          Index v, const Index* neighbors, Index k, int degree, double* result, int threads) {
  if (degree < 1 || degree > 2) throw std::invalid_argument("local_polynomial_fit: degree must be 1 or 2");
  const Index terms = n_terms(d, degree);
  parallel_chunks(n_queries, kQueries, threads, [&](Index, Index begin, Index end) {
    RowMatrix offsets(k, d), design(k, terms), targets(k, v);
    Eigen::RowVectorXd row(terms);
    // A complete orthogonal decomposition gives the solution of least norm when the nodes leave terms open.
    Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd> solver(k, terms);
    solver.setThreshold(1e-6);
    for (Index i = begin; i < end; ++i) {
      const Eigen::Map<const Eigen::RowVectorXd> x(queries + i * d, d);
      double farthest = 0.0;
      for (Index a = 0; a < k; ++a) {
        const Index node = neighbors[i * k + a];
        offsets.row(a) = Eigen::Map<const Eigen::RowVectorXd>(nodes + node * d, d) - x;
        targets.row(a) = Eigen::Map<const Eigen::RowVectorXd>(values + node * v, v);
        farthest = std::max(farthest, offsets.row(a).norm());
      }
      const double unit = farthest > 0 ? 2.0 / farthest : 0.0;
      for (Index a = 0; a < k; ++a) {
        const Eigen::RowVectorXd offset = offsets.row(a) * unit;
        const double weight = std::exp(-0.5 * offset.squaredNorm());
        monomials(offset, degree, row);
        design.row(a) = weight * row;
        targets.row(a) *= weight;
      }
      solver.compute(design);
      Eigen::Map<Eigen::RowVectorXd>(result + i * v, v) = solver.solve(targets).row(0);
    }
  });
}

}  // namespace diffeo
