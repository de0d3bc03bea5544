// Sparse rows and blocks of vectors in single precision: for preconditioning only, where they halve the bytes.
//
// All functions are thread-safe and give the same bits for any number of threads.
#pragma once

#include "diffeo/parallel.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Blocks (n, b) of single precision, one row a sample; b is a multiple of kSingleColumns.
using SingleBlock = Matrix<float>;

/// Columns of a block are padded to a multiple of this: half a cache line.
constexpr Index kSingleColumns = 8;

/// Compressed rows whose pattern somebody else may own.
struct SingleRows {
  Index n_rows = 0;
  const Index* indptr = nullptr;
  const Row* indices = nullptr;
  Buffer<float> values;
};

/// Compressed rows that own their pattern.
struct OwnedSingleRows {
  Buffer<Index> indptr;
  Buffer<Row> indices;
  SingleRows rows;
};

namespace detail {

// Rows per task: at 60 entries a row and 16 columns some 2 Mflop.
constexpr Index kSingleRows = 1024;

template <int B, class Use>
void multiply_single_columns(const SingleRows& a, const float* x, Index stride, Index first, Index begin, Index end,
                             Use& use) {
  for (Index i = begin; i < end; ++i) {
    // Four sums in turn: one alone would wait for the latency of its own additions.
    float sum[B] = {}, second[B] = {}, third[B] = {}, fourth[B] = {};
    Index e = a.indptr[i];
    const Index stop = a.indptr[i + 1];
    for (; e + 4 <= stop; e += 4) {
      const float* r0 = x + a.indices[e] * stride + first;
      const float* r1 = x + a.indices[e + 1] * stride + first;
      const float* r2 = x + a.indices[e + 2] * stride + first;
      const float* r3 = x + a.indices[e + 3] * stride + first;
      for (int c = 0; c < B; ++c) sum[c] += a.values[e] * r0[c];
      for (int c = 0; c < B; ++c) second[c] += a.values[e + 1] * r1[c];
      for (int c = 0; c < B; ++c) third[c] += a.values[e + 2] * r2[c];
      for (int c = 0; c < B; ++c) fourth[c] += a.values[e + 3] * r3[c];
    }
    for (; e < stop; ++e) {
      const float* row = x + a.indices[e] * stride + first;
      for (int c = 0; c < B; ++c) sum[c] += a.values[e] * row[c];
    }
    for (int c = 0; c < B; ++c) sum[c] = (sum[c] + second[c]) + (third[c] + fourth[c]);
    use(i, first, std::integral_constant<int, B>(), sum);
  }
}

}  // namespace detail

/// Calls use(i, first, width, sum) for every row i of a and every group of `width` columns from `first`, where
/// sum[c] = (a x)(i, first + c): what follows the product is done while the sums are in registers.
template <class Use>
void for_each_product(const SingleRows& a, const SingleBlock& x, int threads, Use&& use) {
  const Index columns = x.cols();
  parallel_chunks(a.n_rows, detail::kSingleRows, threads, [&](Index, Index begin, Index end) {
    Index first = 0;
    for (; first + 16 <= columns; first += 16) {
      detail::multiply_single_columns<16>(a, x.data(), columns, first, begin, end, use);
    }
    if (first < columns) detail::multiply_single_columns<8>(a, x.data(), columns, first, begin, end, use);
  });
}

}  // namespace diffeo
