// Leading eigenpairs of rings, whose spectrum is known, and products with the operator.
#include "diffeo/eigenpairs.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "diffeo/gram.hpp"
#include "diffeo/operator.hpp"
#include "tests.hpp"

namespace testing {
namespace {

using Eigen::MatrixXd;

void test_eigenpairs(Index n, Index n_wanted, double tolerance) {
  const Ring ring(n);
  const auto size = static_cast<std::size_t>(n);
  std::vector<double> density(size), degree(size), scaling(size), trivial(size);
  diffeo::normalise(ring.view(), 1.0, density.data(), degree.data(), scaling.data(), 2);
  CHECK(std::abs(density[0] - 3.0) < 1e-14);
  CHECK(std::abs(degree[n > 3 ? 3 : 0] - 1.0 / 3.0) < 1e-14);
  for (std::size_t i = 0; i < size; ++i) trivial[i] = std::sqrt(degree[i]);
  std::vector<diffeo::Eigenpairs> runs;
  for (const int threads : {1, 2, 3}) {
    const diffeo::DiffusionOperator op(ring.view(), scaling.data(), threads);
    runs.push_back(
        diffeo::leading_eigenpairs(op, trivial.data(), {.n_wanted = n_wanted, .tolerance = tolerance}, nullptr));
  }
  const diffeo::Eigenpairs& first = runs[0];
  CHECK(first.converged);
  CHECK(static_cast<Index>(first.values.size()) == n_wanted && first.vectors.cols() == n_wanted);
  // Every frequency but 0 comes twice.
  for (Index k = 0; k < n_wanted; ++k) {
    CHECK(std::abs(first.values[static_cast<std::size_t>(k)] - ring.eigenvalue((k + 1) / 2)) < 1e-10);
    CHECK(first.residuals[static_cast<std::size_t>(k)] <= tolerance);
  }
  const RowMatrix vectors = eigen(first.vectors);
  CHECK((vectors.transpose() * vectors - MatrixXd::Identity(n_wanted, n_wanted)).norm() < 1e-10);
  const diffeo::DiffusionOperator op(ring.view(), scaling.data(), 1);
  diffeo::RowMatrix image;
  op.apply(first.vectors, image);
  const RowMatrix theta = RowMatrix(Eigen::Map<const Eigen::VectorXd>(first.values.data(), n_wanted).asDiagonal());
  CHECK((eigen(image) - vectors * theta).colwise().norm().maxCoeff() <= 1.01 * tolerance + 1e-14);
  for (const diffeo::Eigenpairs& other : runs) {
    CHECK(same_bits(other.values.data(), first.values.data(), n_wanted));
    CHECK(same_bits(other.vectors.data(), first.vectors.data(), first.vectors.size()));
    CHECK(other.iterations == first.iterations);
  }
  CHECK(throws<std::invalid_argument>(
      [&] { diffeo::leading_eigenpairs(op, trivial.data(), {.n_wanted = n + 1}, nullptr); }));
  CHECK(
      throws<std::invalid_argument>([&] { diffeo::leading_eigenpairs(op, trivial.data(), {.n_wanted = 0}, nullptr); }));
}

/// A block that converged must stay converged, also where the last wanted pair has a twin beyond the border.
void test_border_of_the_block(std::uint64_t seed) {
  const Ring ring(900);
  std::vector<double> density(900), degree(900), scaling(900);
  diffeo::normalise(ring.view(), 1.0, density.data(), degree.data(), scaling.data(), 1);
  const diffeo::DiffusionOperator op(ring.view(), scaling.data(), 1);
  for (const Index n_wanted : {4, 8, 10}) {
    const diffeo::Eigenpairs pairs =
        diffeo::leading_eigenpairs(op, degree.data(), {.n_wanted = n_wanted, .tolerance = 1e-8, .seed = seed}, nullptr);
    CHECK(pairs.converged);
    for (const double residual : pairs.residuals) CHECK(residual <= 1e-8);
  }
}

void test_unfinished_iteration_says_so() {
  const Ring ring(600);
  std::vector<double> density(600), degree(600), scaling(600);
  diffeo::normalise(ring.view(), 1.0, density.data(), degree.data(), scaling.data(), 1);
  const diffeo::DiffusionOperator op(ring.view(), scaling.data(), 1);
  const diffeo::Eigenpairs pairs =
      diffeo::leading_eigenpairs(op, degree.data(), {.n_wanted = 9, .tolerance = 1e-10, .max_iterations = 1}, nullptr);
  CHECK(!pairs.converged);
  CHECK(*std::max_element(pairs.residuals.begin(), pairs.residuals.end()) > 1e-10);
}

void test_operator_products() {
  const Ring ring(50);
  std::vector<double> density(50), degree(50), scaling(50);
  diffeo::normalise(ring.view(), 0.5, density.data(), degree.data(), scaling.data(), 2);
  const diffeo::DiffusionOperator op(ring.view(), scaling.data(), 2);
  const MatrixXd dense = eigen(op.dense());
  CHECK((dense - dense.transpose()).norm() == 0.0);
  for (const Index columns : {1, 3, 4, 7, 8, 13}) {
    const RowMatrix x = random_matrix(50, columns, 4);
    diffeo::RowMatrix y;
    op.apply(block(x), y);
    CHECK((eigen(y) - dense * x).norm() < 1e-13 * x.norm());
  }
}

}  // namespace

void test_eigenpairs() {
  test_eigenpairs(60, 7, 1e-10);     // dense solver
  test_eigenpairs(700, 7, 1e-9);     // block solver
  test_eigenpairs(700, 8, 1e-8);     // the border cuts a double eigenvalue
  for (std::uint64_t seed = 0; seed < 8; ++seed) test_border_of_the_block(seed);
  test_unfinished_iteration_says_so();
  test_operator_products();
}

}  // namespace testing
