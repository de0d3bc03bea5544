// Compressed rows in another order.
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"
#include "diffeo/sparse_rows.hpp"

namespace diffeo {
namespace {

// Rows a task.
constexpr Index kRows = 512;

}  // namespace

template <class Int>
PermutedRows<Int> permute_rows(const Index* indptr, const Row* indices, const double* values, const Index* rows,
                               Index count, Index n_rows, int threads) {
  check_compressed("permute_rows", {count, indptr, indices, values}, threads);
  check_rows<Index>("permute_rows", {"rows", rows, count}, "n_rows", n_rows, threads);
  // source[i]: which row becomes row i.
  Buffer<Row> source(n_rows);
  std::fill_n(source.data(), n_rows, Row{-1});
  for (Index k = 0; k < count; ++k) {
    Row& from = source[rows[k]];
    if (from >= 0) {
      throw std::invalid_argument("permute_rows: rows[" + std::to_string(k) + "] = " + std::to_string(rows[k]) +
                                  " is rows[" + std::to_string(from) + "] as well");
    }
    from = static_cast<Row>(k);
  }
  PermutedRows<Int> result;
  result.indptr = Buffer<Int>(n_rows + 1);
  result.indptr[0] = 0;
  for (Index i = 0; i < n_rows; ++i) {
    const Index k = source[i];
    result.indptr[i + 1] = static_cast<Int>(result.indptr[i] + (k < 0 ? 1 : indptr[k + 1] - indptr[k]));
  }
  result.indices = Buffer<Int>(result.indptr[n_rows]);
  result.values = Buffer<double>(result.indptr[n_rows]);
  parallel_chunks(n_rows, kRows, threads, [&](Index, Index begin, Index end) {
    // Columns fit 32 bits, as does the number of entries of a row: both in one number sort faster than a pair.
    std::vector<std::uint64_t> keys;
    for (Index i = begin; i < end; ++i) {
      const Index k = source[i], to = result.indptr[i];
      if (k < 0) {
        result.indices[to] = static_cast<Int>(i);
        result.values[to] = 1.0;
        continue;
      }
      const Index from = indptr[k], length = indptr[k + 1] - from;
      keys.resize(static_cast<std::size_t>(length));
      for (Index e = 0; e < length; ++e) {
        keys[static_cast<std::size_t>(e)] =
            (static_cast<std::uint64_t>(rows[indices[from + e]]) << 32) | static_cast<std::uint64_t>(e);
      }
      std::sort(keys.begin(), keys.end());
      for (Index e = 0; e < length; ++e) {
        const std::uint64_t key = keys[static_cast<std::size_t>(e)];
        result.indices[to + e] = static_cast<Int>(key >> 32);
        result.values[to + e] = values[from + static_cast<Index>(key & 0xffffffffU)];
      }
    }
  });
  return result;
}

template PermutedRows<std::int32_t> permute_rows(const Index*, const Row*, const double*, const Index*, Index, Index,
                                                 int);
template PermutedRows<std::int64_t> permute_rows(const Index*, const Row*, const double*, const Index*, Index, Index,
                                                 int);

}  // namespace diffeo
