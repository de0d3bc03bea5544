// Compressed rows put together from chunks, and put in another order.
#include "diffeo/sparse_rows.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"

namespace diffeo {
namespace {

// Rows a task.
constexpr Index kRows = 512;

}  // namespace

RowCollector::RowCollector(Index n_rows, Index n_columns, Index expected) {
  result_.n_rows = n_rows;
  result_.n_columns = n_columns;
  result_.indptr = Buffer<Index>(n_rows + 1);
  result_.indptr[0] = 0;
  result_.indices = Buffer<Row>(expected);
  result_.values = Buffer<double>(expected);
}

RowChunk RowCollector::spare() {
  const std::lock_guard<std::mutex> lock(guard_);
  if (spares_.empty()) return {};
  RowChunk chunk = std::move(spares_.back());
  spares_.pop_back();
  chunk.clear();
  return chunk;
}

void RowCollector::add(Index chunk, RowChunk&& rows) {
  std::unique_lock<std::mutex> lock(guard_);
  if (chunk != next_chunk_) {
    waiting_.emplace(chunk, std::move(rows));
    return;
  }
  RowChunk current = std::move(rows);
  for (;;) {
    const Index row = next_row_, entry = next_entry_;
    ++next_chunk_;
    next_row_ += static_cast<Index>(current.lengths.size());
    next_entry_ += current.count;
    const auto fits = [&] { return next_entry_ <= result_.indices.size(); };
    idle_.wait(lock, [&] { return fits() || copying_ == 0; });
    if (!fits()) {
      const Index before = result_.indices.size(), size = std::max(next_entry_, 2 * before);
      result_.indices.grow(size, before);
      result_.values.grow(size, before);
      idle_.notify_all();
    }
    ++copying_;
    lock.unlock();
    copy(current, row, entry);
    lock.lock();
    if (--copying_ == 0) idle_.notify_all();
    spares_.push_back(std::move(current));
    const auto follower = waiting_.find(next_chunk_);
    if (follower == waiting_.end()) return;
    current = std::move(follower->second);
    waiting_.erase(follower);
  }
}

void RowCollector::copy(const RowChunk& rows, Index first_row, Index first_entry) {
  Index entry = first_entry;
  Index* indptr = result_.indptr.data() + first_row + 1;
  for (const Row length : rows.lengths) *indptr++ = entry += length;
  std::copy_n(rows.columns.data(), rows.count, result_.indices.data() + first_entry);
  std::copy_n(rows.values.data(), rows.count, result_.values.data() + first_entry);
}

SparseRows RowCollector::take() {
  result_.indices.shrink(next_entry_);
  result_.values.shrink(next_entry_);
  return std::move(result_);
}

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
