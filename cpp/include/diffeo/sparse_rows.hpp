// Compressed rows, and their collection from tasks that finish in any order.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <vector>

#include "diffeo/types.hpp"

namespace diffeo {

/// Compressed rows. Square kernels are in tree order, with sorted columns and unit diagonal.
struct SparseRows {
  Index n_rows = 0;
  Index n_columns = 0;
  Buffer<Index> indptr;     ///< (n_rows + 1)
  Buffer<Row> indices;      ///< column of each entry
  Buffer<double> values;    ///< kernel value of each entry
};

/// Entries of some consecutive rows, in row order; the arrays are longer than what they hold.
struct RowChunk {
  std::vector<Row> columns;
  std::vector<double> values;
  std::vector<Row> lengths;   ///< entries of each row
  Index count = 0;            ///< entries of all rows

  void clear() {
    lengths.clear();
    count = 0;
  }
  /// Makes room for `extra` entries behind the `count` there are.
  void make_room(Index extra) {
    const auto needed = static_cast<std::size_t>(count + extra);
    if (needed <= columns.size()) return;
    columns.resize(2 * needed);
    values.resize(2 * needed);
  }
};

/// Writes chunks of rows into one result as they come. A chunk whose predecessors are all there is copied into its
/// final place at once, which touches every page of the result once; others wait.
///
/// Thread safety: `spare` and `add` may be called from any number of threads.
class RowCollector {
 public:
  /// `expected` entries are allocated; the arrays grow where that is too few.
  RowCollector(Index n_rows, Index n_columns, Index expected);

  /// An empty chunk, with the memory of an earlier one where there is one.
  RowChunk spare();
  /// Chunk number k = 0, 1, ... holds the rows that follow those of chunk k - 1.
  void add(Index chunk, RowChunk&& rows);
  /// The result, once every chunk was added.
  SparseRows take();

 private:
  void copy(const RowChunk& rows, Index first_row, Index first_entry);

  SparseRows result_;
  std::mutex guard_;
  std::condition_variable idle_;
  std::map<Index, RowChunk> waiting_;
  std::vector<RowChunk> spares_;
  Index next_chunk_ = 0, next_row_ = 0, next_entry_ = 0, copying_ = 0;
};

/// Symmetric rows in another order of the samples: row and column k become rows[k]. The result has n_rows rows with
/// sorted columns; those that no k maps to hold a unit diagonal alone. Template over the index type of the result.
/// Thread-safe; the same bits for any number of threads; throws Interrupted on Ctrl-C.
template <class Int>
struct PermutedRows {
  Buffer<Int> indptr, indices;
  Buffer<double> values;
};
template <class Int>
PermutedRows<Int> permute_rows(const Index* indptr, const Row* indices, const double* values, const Index* rows,
                               Index count, Index n_rows, int threads);

}  // namespace diffeo
