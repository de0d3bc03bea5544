// Whitening against exact decompositions, and the independence of the samples.
#include "diffeo/covariance.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <limits>
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

/// Values and whitening of bursts as one contiguous array, so that runs can be compared by their bits.
std::vector<double> decomposed_bursts(const std::vector<double>& bursts, Index n, Index size, Index m, Index d,
                                      int threads) {
  const Index r = std::min(size, m);
  std::vector<double> result(static_cast<std::size_t>(n * (r + m * d)));
  diffeo::whitening_from_bursts(bursts.data(), n, size, m, 0.5, {result.data(), result.data() + n * r, d}, threads);
  return result;
}

/// The Gram matrix against a two-sided Jacobi decomposition of the centred burst.
void test_bursts_equal_an_exact_decomposition() {
  const std::pair<Index, Index> shapes[] = {{5, 1}, {8, 3}, {9, 16}, {32, 64}, {40, 12}, {6, 6}, {7, 70}};
  for (const auto& [size, m] : shapes) {
    const Index n = 21, d = std::min<Index>({m, size - 3, 2}), r = std::min(size, m);
    // The second ratio is below what the Gram matrix resolves, so that those rows take the finer way.
    for (const double small : {0.3, 1e-5}) {
      std::vector<double> bursts;
      for (Index i = 0; i < n; ++i) {
        const auto seed = static_cast<std::uint64_t>(1000 * size + 10 * m + i);
        RowMatrix inputs = random_matrix(size, d, seed), burst = RowMatrix::Constant(size, m, 3.0);
        if (d > 1) inputs.col(1) *= i % 3 == 0 ? small : 0.3;
        burst += inputs * random_matrix(d, m, seed + 7);
        bursts.insert(bursts.end(), burst.data(), burst.data() + burst.size());
      }
      const std::vector<double> result = decomposed_bursts(bursts, n, size, m, d, 2);
      const double gain = std::sqrt(static_cast<double>(size - d - 2) / static_cast<double>(size - 1));
      for (Index i = 0; i < n; ++i) {
        MatrixXd y = Eigen::Map<const RowMatrix>(bursts.data() + i * size * m, size, m);
        y.rowwise() -= Eigen::RowVectorXd(y.colwise().mean());
        const MatrixXd factor = y.transpose() / (0.5 * std::sqrt(static_cast<double>(size - 1)));
        const Eigen::JacobiSVD<MatrixXd> svd(factor, Eigen::ComputeThinU);
        const Eigen::Map<const Eigen::VectorXd> values(result.data() + i * r, r);
        const Eigen::Map<const RowMatrix> w(result.data() + n * r + i * m * d, m, d);
        const double first = svd.singularValues()[0];
        CHECK((values - svd.singularValues()).cwiseAbs().maxCoeff() < 1e-7 * first);
        for (Index k = 0; k < d; ++k) CHECK(std::abs(values[k] / svd.singularValues()[k] - 1.0) < 1e-9);
        for (Index k = 1; k < r; ++k) CHECK(values[k] <= values[k - 1]);
        const MatrixXd whitened = w.transpose() * factor * factor.transpose() * w / (gain * gain);
        CHECK((whitened - MatrixXd::Identity(d, d)).norm() < 1e-8);
        const MatrixXd u = svd.matrixU().leftCols(d);
        CHECK((w - u * (u.transpose() * w)).norm() < 1e-8 * w.norm());
      }
    }
  }
}

/// A sample has the same bits wherever it stands and whatever stands beside it, and exact powers of two as units.
void test_samples_do_not_depend_on_one_another() {
  const Index n = 19, size = 12, m = 5, d = 2, length = size * m;
  const RowMatrix random = random_matrix(n, length, 77);
  std::vector<double> bursts(random.data(), random.data() + random.size());
  // Neighbours in the registers that take another path: a vanishing burst, small second values, what is not finite.
  std::fill_n(bursts.begin() + 3 * length, length, 0.0);
  for (Index k = 0; k < size; ++k) {
    for (Index a = 0; a < m; ++a) bursts[static_cast<std::size_t>(4 * length + k * m + a)] *= a == 0 ? 1.0 : 1e-9;
  }
  bursts[static_cast<std::size_t>(6 * length)] = std::numeric_limits<double>::infinity();
  const std::vector<double> all = decomposed_bursts(bursts, n, size, m, d, 1);
  CHECK(same_bits(decomposed_bursts(bursts, n, size, m, d, 3).data(), all.data(), static_cast<Index>(all.size())));
  RowMatrix values(n, m), whitening(n, m * d);
  diffeo::whitening_from_jacobians(bursts.data(), n, m, size, {values.data(), whitening.data(), d}, 2);
  CHECK(std::isnan(values(6, 0)) && whitening.row(6).cwiseAbs().maxCoeff() == 0.0);
  CHECK(std::isnan(all[6 * m]));
  for (Index k = 0; k < m; ++k) CHECK(all[static_cast<std::size_t>(3 * m + k)] == 0.0 && values(3, k) == 0.0);
  for (Index i = 0; i < n; ++i) {
    const std::vector<double> alone(bursts.begin() + i * length, bursts.begin() + (i + 1) * length);
    const std::vector<double> single = decomposed_bursts(alone, 1, size, m, d, 1);
    if (i != 6) {
      CHECK(same_bits(single.data(), all.data() + i * m, m));
      CHECK(same_bits(single.data() + m, all.data() + n * m + i * m * d, m * d));
    }
    double value[5], w[10];
    diffeo::whitening_from_jacobians(alone.data(), 1, m, size, {value, w, d}, 1);
    if (i != 6) CHECK(same_bits(value, values.row(i).data(), m) && same_bits(w, whitening.row(i).data(), m * d));
  }
  for (const int exponent : {-420, -40, 40, 420}) {
    std::vector<double> scaled = bursts;
    for (double& x : scaled) x = std::ldexp(x, exponent);
    const std::vector<double> other = decomposed_bursts(scaled, n, size, m, d, 1);
    for (Index i = 0; i < n; ++i) {
      for (Index k = 0; k < m && i != 6; ++k) {
        const auto e = static_cast<std::size_t>(i * m + k);
        CHECK(other[e] == std::ldexp(all[e], exponent));
      }
      for (Index k = 0; k < m * d && i != 6; ++k) {
        const auto e = static_cast<std::size_t>(n * m + i * m * d + k);
        CHECK(other[e] == std::ldexp(all[e], -exponent));
      }
    }
  }
}

/// Repeated eigenvalues, signs, zero and sizes around the width of a register, by what eigenpairs have to satisfy.
void test_whitening_from_covariances() {
  for (const Index m : {1, 2, 3, 8, 33, 64}) {
    const Index n = 9;
    RowMatrix covariances(n, m * m), values(n, m), whitening(n, m * m);
    for (Index i = 0; i < n; ++i) {
      const RowMatrix a = random_matrix(m, m, static_cast<std::uint64_t>(m + 100 * i));
      RowMatrix c = a * a.transpose() + RowMatrix::Identity(m, m);
      if (i == 1) c = 2.0 * RowMatrix::Identity(m, m);
      if (i == 2) c.setZero();
      if (i == 3) c = RowMatrix::Ones(m, m) + RowMatrix::Identity(m, m);
      if (i == 4) c *= -1.0;
      Eigen::Map<RowMatrix>(covariances.data() + i * m * m, m, m) = c;
    }
    diffeo::whitening_from_covariances(covariances.data(), n, m, {values.data(), whitening.data(), m}, 1);
    for (Index i = 0; i < n; ++i) {
      const Eigen::Map<const RowMatrix> c(covariances.data() + i * m * m, m, m), w(whitening.data() + i * m * m, m, m);
      const Eigen::VectorXd expected = Eigen::SelfAdjointEigenSolver<MatrixXd>(c).eigenvalues().reverse();
      const Eigen::VectorXd signed_squares =
          values.row(i).transpose().cwiseAbs().cwiseProduct(values.row(i).transpose());
      CHECK((signed_squares - expected).norm() <= 1e-13 * std::sqrt(static_cast<double>(m)) * expected.norm());
      if (i == 2 || i == 4) {
        CHECK(w.norm() == 0.0);
      } else {
        CHECK((w.transpose() * c * w - MatrixXd::Identity(m, m)).norm() < 1e-10);
      }
    }
  }
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
  test_bursts_equal_an_exact_decomposition();
  test_samples_do_not_depend_on_one_another();
  test_whitening_from_covariances();
  test_jacobians_from_neighbors();
}

}  // namespace testing
