#include "diffeo/covariance.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests.hpp"

namespace testing {
namespace {

using Eigen::MatrixXd;

void test_whitening_from_jacobians() {
  const std::pair<Index, Index> shapes[] = {{1, 1}, {2, 2}, {5, 2}, {2, 5}, {30, 3}, {3, 30}};
  for (const auto& [m, p] : shapes) {
    const Index n = 70, r = std::min(m, p);
    const RowMatrix jacobians = random_matrix(n, m * p, static_cast<std::uint64_t>(m + 7 * p));
    RowMatrix values(n, r), whitening(n, m * r), single(n, r);
    diffeo::whitening_from_jacobians(jacobians.data(), n, m, p, {values.data(), whitening.data(), r}, 2);
    diffeo::whitening_from_jacobians(jacobians.data(), n, m, p, {single.data(), nullptr, 0}, 1);
    CHECK(same_bits(values.data(), single.data(), values.size()));
    double worst = 0.0, trace_gap = 0.0;
    for (Index i = 0; i < n; ++i) {
      const Eigen::Map<const RowMatrix> j(jacobians.data() + i * m * p, m, p), w(whitening.data() + i * m * r, m, r);
      worst = std::max(worst, (w.transpose() * j * j.transpose() * w - MatrixXd::Identity(r, r)).norm());
      trace_gap = std::max(trace_gap, std::abs(values.row(i).squaredNorm() / j.squaredNorm() - 1.0));
      for (Index k = 1; k < r; ++k) CHECK(values(i, k - 1) >= values(i, k));
    }
    CHECK(worst < 1e-8);
    CHECK(trace_gap < 1e-13);
  }
  const RowMatrix one = random_matrix(1, 6, 0);
  double values[2], whitening[9];
  CHECK(throws<std::invalid_argument>(
      [&] { diffeo::whitening_from_jacobians(one.data(), 1, 3, 2, {values, whitening, 3}, 1); }));
}

void test_whitening_of_small_singular_values() {
  // Orthogonal columns of lengths 1 and 1e-12: the second must come with all its digits.
  const double jacobian[] = {0.6, -0.8e-12, 0.8, 0.6e-12, 0.0, 0.0};
  double values[2], whitening[6];
  diffeo::whitening_from_jacobians(jacobian, 1, 3, 2, {values, whitening, 2}, 1);
  CHECK(std::abs(values[0] - 1.0) < 1e-14);
  CHECK(std::abs(values[1] / 1e-12 - 1.0) < 1e-12);
}

void test_whitening_from_bursts_and_covariances() {
  const Index n = 40, m = 4, d = 2, size = 9;
  const double scale = 0.25;
  const RowMatrix jacobian = random_matrix(m, d, 3);
  RowMatrix bursts(n, size * m), covariances(n, m * m);
  for (Index i = 0; i < n; ++i) {
    const RowMatrix inputs = scale * random_matrix(size, d, static_cast<std::uint64_t>(50 + i));
    const RowMatrix burst = (inputs * jacobian.transpose()).rowwise() + Eigen::RowVectorXd::Constant(m, 5.0);
    Eigen::Map<RowMatrix>(bursts.data() + i * size * m, size, m) = burst;
    const RowMatrix centred = burst.rowwise() - Eigen::RowVectorXd(burst.colwise().mean());
    Eigen::Map<RowMatrix>(covariances.data() + i * m * m, m, m) =
        centred.transpose() * centred / (static_cast<double>(size - 1) * scale * scale);
  }
  RowMatrix values(n, m), whitening(n, m * d), other_values(n, m), other(n, m * d);
  diffeo::whitening_from_bursts(bursts.data(), n, size, m, scale, {values.data(), whitening.data(), d}, 2);
  diffeo::whitening_from_covariances(covariances.data(), n, m, {other_values.data(), other.data(), d}, 2);
  const double gain = static_cast<double>(size - d - 2) / static_cast<double>(size - 1);
  double worst = 0.0, spread = 0.0;
  for (Index i = 0; i < n; ++i) {
    const Eigen::Map<const RowMatrix> w(whitening.data() + i * m * d, m, d), v(other.data() + i * m * d, m, d);
    const RowMatrix expected = gain * v * v.transpose();
    worst = std::max(worst, (w * w.transpose() - expected).norm() / expected.norm());
    spread = std::max(spread, (values.row(i).head(d) - other_values.row(i).head(d)).norm());
  }
  CHECK(worst < 1e-9);
  CHECK(spread < 1e-10);
  CHECK(throws<std::invalid_argument>([&] {
    diffeo::whitening_from_bursts(bursts.data(), 1, d + 2, m, scale, {values.data(), whitening.data(), d}, 1);
  }));
}

void test_jacobians_from_neighbors() {
  const Index n = 60, m = 3, p = 2, k = 8;
  const RowMatrix x = random_matrix(n, p, 8), linear = random_matrix(m, p, 9);
  const RowMatrix y = (x * linear.transpose()).rowwise() + Eigen::RowVectorXd::Constant(m, 2.0);
  std::vector<Index> neighbors;
  for (Index i = 0; i < n; ++i) {
    for (Index a = 0; a < k; ++a) neighbors.push_back((i + 7 * a) % n);
  }
  RowMatrix jacobians(n, m * p);
  std::vector<double> conditions(static_cast<std::size_t>(n));
  diffeo::jacobians_from_neighbors(y.data(), n, m, x.data(), p, neighbors.data(), k, jacobians.data(),
                                   conditions.data(), 2);
  double worst = 0.0;
  for (Index i = 0; i < n; ++i) {
    worst = std::max(worst, (Eigen::Map<const RowMatrix>(jacobians.data() + i * m * p, m, p) - linear).norm());
  }
  CHECK(worst < 1e-11);
  CHECK(*std::min_element(conditions.begin(), conditions.end()) > 1e-3);
}

}  // namespace

void test_covariance() {
  test_whitening_from_jacobians();
  test_whitening_of_small_singular_values();
  test_whitening_from_bursts_and_covariances();
  test_jacobians_from_neighbors();
}

}  // namespace testing
