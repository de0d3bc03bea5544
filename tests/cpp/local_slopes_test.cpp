// Local fits: on a linear map they are exact, whatever the frames of the samples; threads change no bit.
#include "diffeo/local_slopes.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "tests.hpp"

namespace testing {
namespace {

/// A sample, its kernel, and what is fitted on it.
struct Fits {
  Index n, d, entries;
  std::vector<double> sums, shift, mean, noise, self, precision, smoothed, slopes;
  std::vector<float> steps;

  Fits(const diffeo::SparseView& kernel, const diffeo::LocalFrames& at, const RowMatrix& f, double unit, int threads)
      : n(kernel.n), d(at.d), entries(kernel.indptr[kernel.n]) {
    const auto rows = static_cast<std::size_t>(n), dim = static_cast<std::size_t>(d);
    std::vector<double> powers(rows * 3);
    diffeo::power_sums(kernel, 1e-4, powers.data(), threads);
    for (std::size_t i = 0; i < rows; ++i) sums.push_back(powers[3 * i]);
    shift.resize(rows * dim);
    mean.resize(rows * dim);
    noise.resize(rows);
    self.resize(rows);
    precision.resize(rows * dim * dim);
    smoothed.resize(static_cast<std::size_t>(f.size()));
    slopes.resize(smoothed.size() * dim);
    steps.resize(static_cast<std::size_t>(entries * d));
    diffeo::local_steps(kernel, at, unit, steps.data(), threads);
    const diffeo::LocalGeometry geometry{at.points, steps.data(), unit, d};
    const diffeo::KernelPower power{1, 1e-4, sums.data()};
    const diffeo::LocalMoments moments{shift.data(), mean.data(), noise.data(), self.data(), precision.data()};
    diffeo::local_moments(kernel, power, geometry, 1e-12, moments, threads);
    diffeo::local_slopes(kernel, power, geometry, moments, f.data(), f.cols(), smoothed.data(), slopes.data(), threads);
  }

  bool same(const Fits& o) const {
    return same_bits(steps.data(), o.steps.data(), entries * d) && same_bits(mean.data(), o.mean.data(), n * d) &&
           same_bits(precision.data(), o.precision.data(), n * d * d) &&
           same_bits(smoothed.data(), o.smoothed.data(), static_cast<Index>(smoothed.size())) &&
           same_bits(slopes.data(), o.slopes.data(), static_cast<Index>(slopes.size()));
  }
};

/// Every sample is a neighbour of every other, with weights that differ.
struct Everyone {
  std::vector<Index> indptr{0};
  std::vector<Row> indices;
  std::vector<double> values;

  explicit Everyone(Index n) {
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < n; ++j) {
        indices.push_back(static_cast<Row>(j));
        values.push_back(i == j ? 1.0 : 0.3 + 0.5 / static_cast<double>(1 + i + j));
      }
      indptr.push_back(static_cast<Index>(indices.size()));
    }
  }
  diffeo::SparseView view() const {
    return {static_cast<Index>(indptr.size()) - 1, indptr.data(), indices.data(), values.data()};
  }
};

/// y = A x, and f = G x + 1: slopes are G in the frame of each sample, smoothed values f itself.
void test_linear_map(Index m, Index d, Index k) {
  const Index n = 60;
  const double unit = 0.7;
  const RowMatrix inputs = random_matrix(n, d, 3), linear = random_matrix(m, d, 4), gradient = random_matrix(k, d, 5);
  const RowMatrix points = inputs * linear.transpose();
  const RowMatrix f = (inputs * gradient.transpose()).array() + 1.0;
  RowMatrix jacobians(n, m * d), values(n, d), whitening(n, m * d);
  for (Index i = 0; i < n; ++i) jacobians.row(i) = Eigen::Map<const Eigen::RowVectorXd>(linear.data(), m * d);
  diffeo::whitening_from_jacobians(jacobians.data(), n, m, d, {values.data(), whitening.data(), d}, 1);
  for (Index i = 0; i < n; i += 2) whitening.row(i) *= -1.0;
  const Everyone kernel(n);
  const diffeo::LocalFrames at{points.data(), whitening.data(), m, d, false};
  const Fits fits(kernel.view(), at, f, unit, 1);
  for (const int threads : {2, 3}) CHECK(fits.same(Fits(kernel.view(), at, f, unit, threads)));
  double worst = 0.0;
  for (Index i = 0; i < n; ++i) {
    const Eigen::Map<const RowMatrix> frame(whitening.row(i).data(), m, d);
    const RowMatrix turn = frame.transpose() * linear;  // of inputs into the frame
    for (Index j = 0; j < n; ++j) {
      const Eigen::VectorXd expected = turn * (inputs.row(j) - inputs.row(i)).transpose();
      for (Index a = 0; a < d; ++a) {
        const double found = unit * static_cast<double>(fits.steps[static_cast<std::size_t>((i * n + j) * d + a)]);
        worst = std::max(worst, std::abs(found - expected[a]));
      }
    }
    const RowMatrix expected = turn * gradient.transpose();  // turn is orthogonal
    for (Index c = 0; c < k; ++c) {
      worst = std::max(worst, std::abs(fits.smoothed[static_cast<std::size_t>(i * k + c)] - f(i, c)));
      for (Index a = 0; a < d; ++a) {
        worst = std::max(worst, std::abs(fits.slopes[static_cast<std::size_t>((i * d + a) * k + c)] - expected(a, c)));
      }
    }
  }
  CHECK(worst < 2e-5);
}

/// On a parabola the trapezoid is exact in the input; the frame of one end alone is wrong by half of the bend.
void test_bent_map() {
  const Index n = 30;
  RowMatrix points(n, 1), whitening(n, 1);
  std::vector<double> x;
  for (Index i = 0; i < n; ++i) {
    x.push_back(1.0 + static_cast<double>(i) / n);
    points(i, 0) = x.back() * x.back();
    whitening(i, 0) = 0.5 / x.back();
  }
  const Everyone kernel(n);
  std::vector<float> steps(static_cast<std::size_t>(n * n));
  diffeo::local_steps(kernel.view(), {points.data(), whitening.data(), 1, 1, false}, 1.0, steps.data(), 2);
  double worst = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < x.size(); ++j) {
      worst = std::max(worst, std::abs(static_cast<double>(steps[i * x.size() + j]) - (x[j] - x[i])));
    }
  }
  CHECK(worst < 1e-6);
}

/// On a circle, tangents and chords give the length of the arc to the fourth order.
void test_surface() {
  const Index n = 40;
  RowMatrix points(n, 2), frames(n, 2);
  for (Index i = 0; i < n; ++i) {
    const double angle = 0.01 * static_cast<double>(i);
    points.row(i) << std::cos(angle), std::sin(angle);
    frames.row(i) << -std::sin(angle), std::cos(angle);
  }
  const Everyone kernel(n);
  std::vector<float> steps(static_cast<std::size_t>(n * n));
  diffeo::local_steps(kernel.view(), {points.data(), frames.data(), 2, 1, true}, 1.0, steps.data(), 2);
  double worst = 0.0;
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) {
      const double arc = 0.01 * static_cast<double>(j - i);
      const double off = std::abs(static_cast<double>(steps[static_cast<std::size_t>(i * n + j)]) - arc);
      worst = std::max(worst, off - 0.1 * std::pow(std::abs(arc), 5));
    }
  }
  CHECK(worst < 1e-7);
}

}  // namespace

void test_local_slopes() {
  test_linear_map(2, 2, 3);
  test_linear_map(5, 2, 13);
  test_linear_map(4, 1, 8);
  test_linear_map(7, 3, 5);
  test_linear_map(6, 4, 4);
  test_bent_map();
  test_surface();
  Everyone broken(5);
  broken.indices[7] = 5;
  const RowMatrix points = random_matrix(5, 1, 1);
  std::vector<float> steps(25);
  CHECK(throws<std::invalid_argument>(
      [&] { diffeo::local_steps(broken.view(), {points.data(), points.data(), 1, 1, false}, 1.0, steps.data(), 1); }));
}

}  // namespace testing
