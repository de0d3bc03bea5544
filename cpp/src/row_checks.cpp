// One pass over the numbers that only tells whether any is wrong; what is wrong is looked up afterwards.
#include "diffeo/row_checks.hpp"

#include <atomic>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Numbers a task: some 20 microseconds.
constexpr Index kNumbers = Index{1} << 16;

/// Whether wrong(k) for some k in [0, count).
template <class Wrong>
bool any_wrong(Index count, int threads, Wrong&& wrong) {
  std::atomic<bool> found{false};
  parallel_chunks(count, kNumbers, threads, [&](Index, Index begin, Index end) {
    bool some = false;
    for (Index k = begin; k < end; ++k) some |= wrong(k);
    if (some) found = true;
  });
  return found;
}

std::string place(const char* name, Index k, Index width) {
  const std::string inside =
      width == 1 ? std::to_string(k) : std::to_string(k / width) + ", " + std::to_string(k % width);
  return std::string(name) + "[" + inside + "]";
}

}  // namespace

template <class Int>
void check_rows(const char* caller, const RowNumbers<Int>& numbers, const char* bound, Index n, int threads) {
  // As unsigned numbers negative ones are large: one comparison for both ends.
  using Unsigned = std::make_unsigned_t<Index>;
  const auto wrong = [&](Index k) { return static_cast<Unsigned>(Index{numbers.rows[k]}) >= static_cast<Unsigned>(n); };
  if (!any_wrong(numbers.count, threads, wrong)) return;
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
  if (any_wrong(matrix.n, threads, falls)) {
    Index k = 0;
    while (!falls(k)) ++k;
    throw std::invalid_argument(std::string(caller) + ": " + place("indptr", k + 1, 1) + " = " +
                                std::to_string(matrix.indptr[k + 1]) + " is below the " +
                                std::to_string(matrix.indptr[k]) + " before it");
  }
  check_rows<Row>(caller, {"indices", matrix.indices, matrix.indptr[matrix.n]}, "n", matrix.n, threads);
}

}  // namespace diffeo
