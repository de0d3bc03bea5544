// One pass over the numbers that only tells whether any is wrong; what is wrong is looked up afterwards.
#include "diffeo/row_checks.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Numbers a task: some 10 microseconds.
constexpr Index kNumbers = Index{1} << 16;

/// The largest of `count` numbers taken as unsigned, where negative ones are larger than any row: one comparison for
/// both ends, and a reduction that compilers turn into vectors.
template <class Int>
std::make_unsigned_t<Int> largest(const Int* numbers, Index count, int threads) {
  using Unsigned = std::make_unsigned_t<Int>;
  std::atomic<Unsigned> result{0};
  parallel_chunks(count, kNumbers, threads, [&](Index, Index begin, Index end) {
    Unsigned most = 0;
    for (Index k = begin; k < end; ++k) most = std::max(most, static_cast<Unsigned>(numbers[k]));
    Unsigned before = result.load();
    while (before < most && !result.compare_exchange_weak(before, most)) {
    }
  });
  return result;
}

std::string place(const char* name, Index k, Index width) {
  const std::string inside =
      width == 1 ? std::to_string(k) : std::to_string(k / width) + ", " + std::to_string(k % width);
  return std::string(name) + "[" + inside + "]";
}

}  // namespace

template <class Int>
void check_rows(const char* caller, const RowNumbers<Int>& numbers, const char* bound, Index n, int threads) {
  // Where n is larger than any number of the type, the negative ones still must not pass.
  const auto limit = std::min(static_cast<std::uint64_t>(std::max(n, Index{0})),
                              static_cast<std::uint64_t>(std::numeric_limits<Int>::max()) + 1);
  if (numbers.count == 0 || largest(numbers.rows, numbers.count, threads) < limit) return;
  const auto wrong = [&](Index k) { return numbers.rows[k] < 0 || numbers.rows[k] >= n; };
  Index k = 0;
  while (!wrong(k)) ++k;
  throw std::invalid_argument(std::string(caller) + ": no such row: " + place(numbers.name, k, numbers.width) + " = " +
                              std::to_string(numbers.rows[k]) + " does not exist; rows are at least 0 and below " +
                              bound + " = " + std::to_string(n));
}

template void check_rows(const char*, const RowNumbers<Row>&, const char*, Index, int);
template void check_rows(const char*, const RowNumbers<Index>&, const char*, Index, int);

void check_edges(const char* caller, const Index* i, const Index* j, Index e, Index n, int threads) {
  check_rows<Index>(caller, {"i", i, e}, "n", n, threads);
  check_rows<Index>(caller, {"j", j, e}, "n", n, threads);
}

void check_compressed(const char* caller, const SparseView& matrix, int threads) {
  const auto falls = [&](Index k) { return matrix.indptr[k + 1] < matrix.indptr[k]; };
  if (matrix.indptr[0] != 0) {
    throw std::invalid_argument(std::string(caller) + ": indptr[0] = " + std::to_string(matrix.indptr[0]) +
                                ", but rows start at 0");
  }
  Index k = 0;
  while (k < matrix.n && !falls(k)) ++k;
  if (k < matrix.n) {
    throw std::invalid_argument(std::string(caller) + ": " + place("indptr", k + 1, 1) + " = " +
                                std::to_string(matrix.indptr[k + 1]) + " is below the " +
                                std::to_string(matrix.indptr[k]) + " before it");
  }
  check_rows<Row>(caller, {"indices", matrix.indices, matrix.indptr[matrix.n]}, "n", matrix.n, threads);
}

}  // namespace diffeo
