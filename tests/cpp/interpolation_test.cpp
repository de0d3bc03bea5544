// Local fits of polynomials, which they reproduce.
#include "diffeo/interpolation.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests.hpp"

namespace testing {
namespace {

void test_local_polynomial_fit() {
  const Index n = 80, q = 130, d = 2, v = 2, k = 14;
  const RowMatrix nodes = random_matrix(n, d, 5), queries = 0.5 * random_matrix(q, d, 6);
  const auto quadratic = [](double s, double t) { return 1.0 + 2.0 * s - t + 0.5 * s * s - 3.0 * s * t + t * t; };
  RowMatrix values(n, v), affine(n, v);
  for (Index i = 0; i < n; ++i) {
    values.row(i) << quadratic(nodes(i, 0), nodes(i, 1)), -quadratic(nodes(i, 1), nodes(i, 0));
    affine.row(i) << 3.0 - nodes(i, 0), nodes(i, 0) + 2.0 * nodes(i, 1);
  }
  std::vector<Index> neighbors;
  for (Index i = 0; i < q; ++i) {
    std::vector<std::pair<double, Index>> near;
    for (Index j = 0; j < n; ++j) near.emplace_back((nodes.row(j) - queries.row(i)).norm(), j);
    std::sort(near.begin(), near.end());
    for (Index a = 0; a < k; ++a) neighbors.push_back(near[static_cast<std::size_t>(a)].second);
  }
  RowMatrix second(q, v), first(q, v), again(q, v);
  const auto fit = [&](const RowMatrix& data, int degree, RowMatrix& result, int threads) {
    diffeo::local_polynomial_fit(queries.data(), q, d, nodes.data(), nodes.rows(), data.data(), v, neighbors.data(), k,
                                 degree, result.data(), threads);
  };
  fit(values, 2, second, 2);
  fit(affine, 1, first, 1);
  double worst = 0.0;
  for (Index i = 0; i < q; ++i) {
    const double s = queries(i, 0), t = queries(i, 1);
    worst = std::max({worst, std::abs(second(i, 0) - quadratic(s, t)), std::abs(second(i, 1) + quadratic(t, s)),
                      std::abs(first(i, 0) - 3.0 + s), std::abs(first(i, 1) - s - 2.0 * t)});
  }
  CHECK(worst < 1e-9);
  fit(values, 2, again, 3);
  CHECK(same_bits(again.data(), second.data(), second.size()));
  fit(values, 1, again, 1);
  CHECK((again - second).norm() > 1e-3);  // degree 1 cannot follow a quadratic
  CHECK(throws<std::invalid_argument>([&] { fit(values, 3, again, 1); }));
}

}  // namespace

void test_interpolation() { test_local_polynomial_fit(); }

}  // namespace testing
