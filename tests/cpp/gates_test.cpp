// The gates on numbers and on vectors of numbers, and the transports against singular values.
#include "diffeo/gates.hpp"

#include <Eigen/SVD>
#include <cmath>
#include <limits>
#include <vector>

#include "diffeo/simd.hpp"
#include "tests.hpp"

namespace testing {
namespace {

using diffeo::kSimd;
using diffeo::Simd;
using diffeo::SimdMask;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Every operation on a register against the same on each of its numbers.
void test_registers() {
  const double numbers[] = {-2.0, -0.0, 0.0, 1.0, 3.5, std::numeric_limits<double>::infinity(), kNan, 1e-310};
  for (const double x : numbers) {
    for (const double y : numbers) {
      Simd a = diffeo::splat(0.5), b = diffeo::splat(1.5);
      a[kSimd - 1] = x;
      b[kSimd - 1] = y;
      constexpr unsigned others = (1U << (kSimd - 1)) - 1U;
      const auto last = [&](const SimdMask& mask) { return diffeo::bits(mask) >> (kSimd - 1) != 0; };
      CHECK(last(diffeo::less(a, b)) == (x < y) && last(diffeo::at_most(a, b)) == (x <= y));
      CHECK(last(diffeo::equal(a, b)) == (x == y) && last(~diffeo::less(a, b)) == !(x < y));
      CHECK((diffeo::bits(diffeo::less(a, b)) & others) == others);
      CHECK(diffeo::any(diffeo::equal(a, b)) == (x == y));
      CHECK(last(diffeo::less(a, b) | diffeo::equal(a, b)) == (x <= y));
      CHECK(!last(diffeo::less(a, b) & diffeo::less(b, a)));
      const auto same = [](double one, double other) { return same_bits(&one, &other, 1); };
      CHECK(same(diffeo::select(diffeo::less(a, b), a, b)[kSimd - 1], x < y ? x : y));
      CHECK(same(diffeo::min(a, b)[kSimd - 1], diffeo::min(x, y)) && same(diffeo::max(a, b)[0], 1.5));
      CHECK(same(diffeo::max(a, b)[kSimd - 1], diffeo::max(x, y)));
      CHECK(same(diffeo::copysign(a, b)[kSimd - 1], std::copysign(x, y)));
      CHECK(same(diffeo::abs(a)[kSimd - 1], std::abs(x)));
    }
  }
  const std::vector<double> x(100, 2.0), y(100, 0.5);
  for (const Index count : {0, 1, 7, 33, 100})
    CHECK(diffeo::dot(x.data(), y.data(), count) == static_cast<double>(count));
}

/// What is not a number neither passes nor fails; borders belong to the kept pairs.
void test_decisions() {
  CHECK(diffeo::passes(diffeo::symmetric(4.0, 1.0)) && !diffeo::fails(diffeo::symmetric(4.0, 1.0)));
  CHECK(diffeo::fails(diffeo::symmetric(std::nextafter(4.0, 5.0), 1.0)));
  CHECK(diffeo::passes(diffeo::along_tangent(0.5, 1.0)) && diffeo::fails(diffeo::along_tangent(0.49, 1.0)));
  const double reach = diffeo::squared_reach(1.0);
  CHECK(diffeo::passes(diffeo::within_reach(9.0, reach, 2.0)) && diffeo::fails(diffeo::within_reach(9.1, reach, 2.0)));
  for (const auto& gate :
       {diffeo::symmetric(kNan, 1.0), diffeo::along_tangent(kNan, 1.0), diffeo::within_reach(1.0, reach, kNan)}) {
    CHECK(!diffeo::passes(gate) && !diffeo::fails(gate));
  }
}

/// A transport (D, D) with the given singular values, in some lane of a register and as numbers.
template <int D>
void test_transport(const std::vector<double>& singular_values, std::uint64_t seed) {
  Eigen::MatrixXd left = random_matrix(D, D, seed), right = random_matrix(D, D, seed + 1);
  left = Eigen::JacobiSVD<Eigen::MatrixXd>(left, Eigen::ComputeFullU).matrixU();
  right = Eigen::JacobiSVD<Eigen::MatrixXd>(right, Eigen::ComputeFullU).matrixU();
  const Eigen::Map<const Eigen::VectorXd> s(singular_values.data(), D);
  const RowMatrix t = left * s.asDiagonal() * right.transpose();
  bool tame = true;
  for (const double value : singular_values) tame = tame && value > 0.5 && value < 2.0;
  double scratch[2 * D * D];
  CHECK(diffeo::transport_is_tame<D>(t.data(), D, diffeo::Gates::kTransport, scratch) == tame);
  CHECK(diffeo::transport_is_tame<-1>(t.data(), D, diffeo::Gates::kTransport, scratch) == tame);
  Simd lanes[D * D], vectors[2 * D * D];
  for (int k = 0; k < D * D; ++k) {
    lanes[k] = diffeo::splat(k % (D + 1) == 0 ? 1.0 : 0.0);
    lanes[k][kSimd / 2] = t.data()[k];
  }
  const unsigned all = (1U << kSimd) - 1U, wild = tame ? 0U : 1U << (kSimd / 2);
  CHECK(diffeo::bits(diffeo::transport_is_tame<D>(lanes, D, diffeo::Gates::kTransport, vectors)) == (all & ~wild));
  lanes[0][kSimd / 2] = kNan;
  CHECK(diffeo::bits(diffeo::transport_is_tame<D>(lanes, D, diffeo::Gates::kTransport, vectors)) ==
        (all & ~(1U << (kSimd / 2))));
}

}  // namespace

void test_gates() {
  test_registers();
  test_decisions();
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    for (const double value : {0.1, 0.4999, 0.5001, 1.0, 1.9999, 2.0001, 30.0}) {
      test_transport<1>({value}, seed);
      test_transport<2>({1.3, value}, seed);
      test_transport<2>({value, value}, seed);
      test_transport<3>({0.7, value, 1.6}, seed);
      test_transport<5>({1.0, 0.6, value, 1.2, 1.9}, seed);
    }
  }
}

}  // namespace testing
