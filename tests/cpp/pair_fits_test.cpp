// Local fits to pairs: polynomials reproduced, the same bits for any threads, and what is refused.
#include "diffeo/pair_fits.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests.hpp"

namespace testing {
namespace {

/// A plane in three measurements, y = L x with orthonormal columns times 2 and 1/2, and a cubic of x with its slopes.
struct Plane {
  static constexpr Index n = 120, m = 3, d = 2, v = 1, p = 2;
  RowMatrix inputs = random_matrix(n, d, 3), linear{m, d};
  RowMatrix points, whitening{n, m * d}, stretches{n, d}, values{n, v}, jacobians{n, m * p}, slopes{n, v * p};

  static double cubic(double s, double t) { return 1.0 + s - 2.0 * t + s * t + s * s * s - s * t * t; }

  Plane() {
    linear << 2.0, 0.0, 0.0, 0.3, 0.0, 0.4;
    points = inputs * linear.transpose();
    for (Index i = 0; i < n; ++i) {
      const double s = inputs(i, 0), t = inputs(i, 1);
      values(i, 0) = cubic(s, t);
      slopes.row(i) << 1.0 + t + 3.0 * s * s - t * t, -2.0 + s - 2.0 * s * t;
      stretches.row(i) << 2.0, 0.5;
      for (Index k = 0; k < m; ++k) {
        for (Index a = 0; a < d; ++a) {
          jacobians(i, a * m + k) = linear(k, a);
          whitening(i, a * m + k) = linear(k, a) / (stretches(i, a) * stretches(i, a));
        }
      }
    }
  }

  diffeo::PairedSamples samples(bool with_slopes) const {
    return {points.data(),
            whitening.data(),
            stretches.data(),
            values.data(),
            with_slopes ? jacobians.data() : nullptr,
            with_slopes ? slopes.data() : nullptr,
            n,
            m,
            d,
            v,
            with_slopes ? p : 0,
            v,
            0};
  }
};

void test_pair_fits() {
  const Plane plane;
  const Index q = 50, k = 60;
  const RowMatrix at = 0.5 * random_matrix(q, 2, 6), queries = at * plane.linear.transpose();
  std::vector<Index> neighbors;
  for (Index i = 0; i < q; ++i) {
    std::vector<std::pair<double, Index>> near;
    for (Index j = 0; j < Plane::n; ++j) near.emplace_back((plane.points.row(j) - queries.row(i)).norm(), j);
    std::sort(near.begin(), near.end());
    for (Index a = 0; a < k; ++a) neighbors.push_back(near[static_cast<std::size_t>(a)].second);
  }
  const std::vector<Index> degrees{1, 3};
  for (const bool with_slopes : {true, false}) {
    RowMatrix result(q, 2), doubt(q, 2), again(q, 2), other(q, 2);
    const auto fit = [&](RowMatrix& values, RowMatrix& errors, int threads) {
      diffeo::pair_fits(plane.samples(with_slopes), queries.data(), q, neighbors.data(), k, degrees.data(), 2,
                        values.data(), errors.data(), threads);
    };
    fit(result, doubt, 1);
    double cubic = 0.0, affine = 0.0;
    for (Index i = 0; i < q; ++i) {
      const double truth = Plane::cubic(at(i, 0), at(i, 1));
      affine = std::max(affine, std::abs(result(i, 0) - truth));
      cubic = std::max(cubic, std::abs(result(i, 1) - truth));
    }
    CHECK(cubic < 1e-10);
    CHECK(affine > 1e-4);
    CHECK(doubt.col(1).maxCoeff() < 1e-10);
    CHECK(doubt.col(0).minCoeff() > 1e-6);
    fit(again, other, 3);
    CHECK(same_bits(again.data(), result.data(), result.size()));
    CHECK(same_bits(other.data(), doubt.data(), doubt.size()));
  }
  CHECK(diffeo::pairs_of_fit(2, 3, true) < diffeo::pairs_of_fit(2, 3, false));
}

void test_open_fits_and_refusals() {
  Plane plane;
  const Index k = 40;
  std::vector<Index> neighbors(static_cast<std::size_t>(k), 7), degrees{2};
  RowMatrix result(1, 1), doubt(1, 1);
  const auto fit = [&](Index count) {
    diffeo::pair_fits(plane.samples(false), plane.points.row(3).eval().data(), 1, neighbors.data(), count,
                      degrees.data(), 1, result.data(), doubt.data(), 1);
  };
  fit(k);  // one pair, again and again: its value is all that is known
  CHECK(std::abs(result(0, 0) - plane.values(7, 0)) < 1e-12 || doubt(0, 0) == std::numeric_limits<double>::infinity());
  CHECK(throws<std::invalid_argument>([&] { fit(3); }));
  neighbors[5] = Plane::n;
  CHECK(throws<std::invalid_argument>([&] { fit(k); }));
  neighbors[5] = 0;
  degrees[0] = 9;
  CHECK(throws<std::invalid_argument>([&] { fit(k); }));
}

}  // namespace

void test_local_fits_to_pairs() {
  test_pair_fits();
  test_open_fits_and_refusals();
}

}  // namespace testing
