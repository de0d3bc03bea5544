// Compressed rows put together from chunks.
#include "diffeo/sparse_rows.hpp"

#include <algorithm>
#include <utility>

namespace diffeo {

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

}  // namespace diffeo
