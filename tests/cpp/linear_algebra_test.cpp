// Eigen's algorithms behind plain functions, on blocks of any stride.
#include "diffeo/linear_algebra.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <limits>

#include "samples.hpp"
#include "tests.hpp"

namespace testing {
namespace {

/// Products of blocks that lie inside larger ones.
void test_products(Index rows, Index inner, Index cols) {
  const RowMatrix a = random_matrix(rows, inner + 3, 1), b = random_matrix(inner, cols + 2, 2);
  const RowMatrix c = random_matrix(rows, cols + 2, 3);
  const diffeo::MatrixView left(a.data() + 1, rows, inner, inner + 3), right(b.data(), inner, cols, cols + 2);
  RowMatrix out = RowMatrix::Constant(rows, cols + 1, 7.0), transposed = RowMatrix::Constant(inner, cols, 7.0);
  diffeo::multiply(left, right, out.data(), cols + 1);
  CHECK((out.leftCols(cols) - a.middleCols(1, inner) * b.leftCols(cols)).norm() < 1e-12 * (1.0 + out.norm()));
  CHECK((out.rightCols(1).array() == 7.0).all());
  diffeo::multiply_transposed(left, {c.data(), rows, cols, cols + 2}, transposed.data(), cols);
  CHECK((transposed - a.middleCols(1, inner).transpose() * c.leftCols(cols)).norm() <
        1e-12 * (1.0 + transposed.norm()));
  CHECK((eigen(diffeo::product(left, right)) - out.leftCols(cols)).norm() < 1e-12 * (1.0 + out.norm()));
}

void test_symmetric(Index n) {
  const RowMatrix half = random_matrix(n, n, 4);
  const RowMatrix symmetric = half + half.transpose();
  const auto [values, vectors] = diffeo::symmetric_eigen(block(symmetric), "test");
  const RowMatrix v = eigen(vectors);
  CHECK((v.transpose() * v - RowMatrix::Identity(n, n)).norm() < 1e-12);
  for (Index k = 0; k < n; ++k) {
    const auto at = static_cast<std::size_t>(k);
    CHECK(k == 0 || values[at] >= values[at - 1]);
    CHECK((symmetric * v.col(k) - values[at] * v.col(k)).norm() < 1e-12 * symmetric.norm());
  }
  RowMatrix broken = symmetric;
  broken(0, 0) = std::numeric_limits<double>::quiet_NaN();
  if (n > 1) CHECK(throws<std::runtime_error>([&] { diffeo::symmetric_eigen(block(broken), "test"); }));
}

/// The solution of least norm where the design leaves a direction open.
void test_least_norm() {
  RowMatrix design = random_matrix(12, 5, 6);
  design.col(4) = design.col(1) - 2.0 * design.col(2);
  const RowMatrix targets = random_matrix(12, 3, 7);
  diffeo::LeastNormFit fit(12, 5, 1e-6);
  const RowMatrix found = eigen(fit.solve(block(design), block(targets)));
  const RowMatrix expected = Eigen::CompleteOrthogonalDecomposition<RowMatrix>(design).pseudoInverse() * targets;
  CHECK((found - expected).norm() < 1e-12);
}

void test_copies() {
  const diffeo::RowMatrix a = block(random_matrix(3, 4, 8));
  diffeo::RowMatrix b = a, c;
  b(1, 2) = 5.0;
  CHECK(a(1, 2) != 5.0 && b(1, 3) == a(1, 3));
  c = std::move(b);
  CHECK(c(1, 2) == 5.0 && b.size() == 0);  // NOLINT(bugprone-use-after-move): a moved block is empty
  CHECK(diffeo::columns(a, 1, 2)(2, 1) == a(2, 2));
  CHECK(diffeo::reversed_columns(a)(2, 0) == a(2, 3));
}

}  // namespace

void test_linear_algebra() {
  test_products(1, 1, 1);
  test_products(5, 3, 4);
  test_products(130, 48, 16);
  test_symmetric(1);
  test_symmetric(2);
  test_symmetric(40);
  test_least_norm();
  test_copies();
}

}  // namespace testing
