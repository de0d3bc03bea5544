#include "diffeo/parallel.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "diffeo/block.hpp"
#include "tests.hpp"

namespace testing {
namespace {

void test_parallel_chunks() {
  std::vector<int> seen(1003, 0);
  diffeo::parallel_chunks(1003, 10, 3, [&](Index chunk, Index begin, Index end) {
    CHECK(begin == 10 * chunk && end == std::min<Index>(1003, begin + 10));
    for (Index i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
  });
  CHECK(std::all_of(seen.begin(), seen.end(), [](int count) { return count == 1; }));
  diffeo::parallel_chunks(0, 10, 3, [&](Index, Index, Index) { CHECK(false); });
  CHECK(throws<std::runtime_error>([] {
    diffeo::parallel_chunks(100, 1, 3, [](Index chunk, Index, Index) {
      if (chunk == 7) throw std::runtime_error("seven");
    });
  }));
  const RowMatrix x = random_matrix(5000, 3, 1), y = random_matrix(5000, 4, 2);
  const RowMatrix one = diffeo::gram(x, y, 1), three = diffeo::gram(x, y, 3);
  CHECK(same_bits(one.data(), three.data(), one.size()));
  CHECK((one - x.transpose() * y).norm() < 1e-11);
}

}  // namespace

void test_parallel() { test_parallel_chunks(); }

}  // namespace testing
