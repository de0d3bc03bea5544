// Edge lengths of linear and bent maps.
#include "diffeo/edge_lengths.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests.hpp"

namespace testing {
namespace {

/// Signed directions and either order of the ends change nothing; nor do threads, to the last bit.
void test_edge_lengths(const Sample& sample) {
  const Index n = sample.n, m = sample.m, d = sample.d, e = 5 * n;
  std::vector<Index> i, j;
  for (Index k = 0; k < e; ++k) {
    i.push_back(k % n);
    j.push_back((k + 1 + k / n) % n);
  }
  const auto size = static_cast<std::size_t>(e);
  const auto measure = [&](const RowMatrix& whitening, const std::vector<Index>& from, const std::vector<Index>& to,
                           std::vector<double>& lengths, std::vector<double>& off_tangent, int threads) {
    lengths.assign(size, -1.0);
    off_tangent.assign(size, -1.0);
    diffeo::edge_lengths(sample.points.data(), whitening.data(), n, m, d, from.data(), to.data(), e, lengths.data(),
                         off_tangent.data(), threads);
  };
  std::vector<double> lengths, off_tangent, other, other_off;
  measure(sample.whitening, i, j, lengths, off_tangent, 1);
  for (const int threads : {2, 3}) {
    measure(sample.whitening, i, j, other, other_off, threads);
    CHECK(same_bits(other.data(), lengths.data(), e) && same_bits(other_off.data(), off_tangent.data(), e));
  }
  RowMatrix turned = sample.whitening;
  for (Index row = 0; row < n; row += 2) turned.row(row) *= -1.0;
  double worst = 0.0;
  for (const bool back : {false, true}) {
    measure(turned, back ? j : i, back ? i : j, other, other_off, 2);
    for (std::size_t k = 0; k < size; ++k) {
      worst = std::max({worst, std::abs(other[k] / lengths[k] - 1.0), std::abs(other_off[k] - off_tangent[k])});
    }
  }
  CHECK(worst < 1e-9);
  for (std::size_t k = 0; k < size; ++k) {
    CHECK(lengths[k] > 0.0 && off_tangent[k] >= 0.0 && off_tangent[k] <= 1.0 + 1e-12);
    if (m == d) CHECK(off_tangent[k] < 1e-9);
  }
  const std::vector<Index> outside(size, n), same(size, 0);
  CHECK(throws<std::invalid_argument>([&] { measure(sample.whitening, outside, j, other, other_off, 1); }));
  CHECK(throws<std::invalid_argument>([&] { measure(sample.whitening, i, outside, other, other_off, 1); }));
  measure(sample.whitening, same, same, other, other_off, 2);
  CHECK(*std::max_element(other.begin(), other.end()) == 0.0);
  CHECK(*std::max_element(other_off.begin(), other_off.end()) == 0.0);
}

void test_edge_lengths_of_a_flat_map() {
  // The length of an edge is that of its input, whatever the linear map.
  const Index n = 40, m = 5, d = 3;
  const RowMatrix inputs = random_matrix(n, d, 8), linear = random_matrix(m, d, 9);
  const RowMatrix points = inputs * linear.transpose();
  RowMatrix jacobians(n, m * d), values(n, d), whitening(n, m * d);
  for (Index k = 0; k < n; ++k) jacobians.row(k) = Eigen::Map<const Eigen::RowVectorXd>(linear.data(), m * d);
  diffeo::whitening_from_jacobians(jacobians.data(), n, m, d, {values.data(), whitening.data(), d}, 1);
  std::vector<Index> i, j;
  for (Index k = 0; k < n; ++k) {
    i.push_back(k);
    j.push_back((7 * k + 1) % n);
  }
  std::vector<double> lengths(static_cast<std::size_t>(n)), off_tangent(static_cast<std::size_t>(n));
  diffeo::edge_lengths(points.data(), whitening.data(), n, m, d, i.data(), j.data(), n, lengths.data(),
                       off_tangent.data(), 2);
  double worst = 0.0;
  for (std::size_t k = 0; k < static_cast<std::size_t>(n); ++k) {
    worst = std::max({worst, std::abs(lengths[k] - (inputs.row(i[k]) - inputs.row(j[k])).norm()), off_tangent[k]});
  }
  CHECK(worst < 1e-10);
}

}  // namespace

void test_edge_lengths() {
  const std::pair<Index, Index> shapes[] = {{1, 1}, {3, 1}, {2, 2}, {5, 2}, {7, 2}, {20, 2}, {6, 3}, {7, 4}};
  for (const auto& [m, d] : shapes) test_edge_lengths(Sample(400, m, d, 0.2));
  test_edge_lengths_of_a_flat_map();
}

}  // namespace testing
