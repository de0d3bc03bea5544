// Normalisation of the kernel, and products with the operator.
#include "diffeo/operator.hpp"

#include <cmath>
#include <vector>

#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"

namespace diffeo {
namespace {

// Rows per task: at 100 entries a row and 12 columns some 2 Mflop.
constexpr Index kRows = 1024;

/// Rows [begin, end) of diag(s) K diag(s) x for B columns starting at `first`, with the sums in registers.
template <int B>
void multiply_columns(const SparseView& k, const double* s, const double* x, Index x_stride, double* y, Index y_stride,
                      Index first, Index begin, Index end) {
  for (Index i = begin; i < end; ++i) {
    // Two sums in turn: one alone would wait for the latency of its own additions.
    double sum[B] = {}, second[B] = {};
    Index e = k.indptr[i];
    const Index stop = k.indptr[i + 1];
    for (; e + 2 <= stop; e += 2) {
      const Index j0 = k.indices[e], j1 = k.indices[e + 1];
      const double w0 = k.values[e] * s[j0], w1 = k.values[e + 1] * s[j1];
      const double* r0 = x + j0 * x_stride + first;
      const double* r1 = x + j1 * x_stride + first;
      for (int c = 0; c < B; ++c) sum[c] += w0 * r0[c];
      for (int c = 0; c < B; ++c) second[c] += w1 * r1[c];
    }
    if (e < stop) {
      const double weight = k.values[e] * s[k.indices[e]];
      const double* row = x + k.indices[e] * x_stride + first;
      for (int c = 0; c < B; ++c) sum[c] += weight * row[c];
    }
    for (int c = 0; c < B; ++c) sum[c] += second[c];
    double* out = y + i * y_stride + first;
    for (int c = 0; c < B; ++c) out[c] = s[i] * sum[c];
  }
}

/// The same for all columns: the rows of one task stay in cache while the columns go by in groups of 16, 8, 4 and 1.
void multiply_rows(const SparseView& k, const double* s, const double* x, Index x_stride, double* y, Index y_stride,
                   Index columns, Index begin, Index end) {
  Index first = 0;
  for (; first + 16 <= columns; first += 16) multiply_columns<16>(k, s, x, x_stride, y, y_stride, first, begin, end);
  for (; first + 8 <= columns; first += 8) multiply_columns<8>(k, s, x, x_stride, y, y_stride, first, begin, end);
  for (; first + 4 <= columns; first += 4) multiply_columns<4>(k, s, x, x_stride, y, y_stride, first, begin, end);
  for (; first < columns; ++first) multiply_columns<1>(k, s, x, x_stride, y, y_stride, first, begin, end);
}

}  // namespace

void normalise(const SparseView& kernel, double alpha, double* density, double* degree, double* scaling, int threads) {
  check_compressed("normalise", kernel, threads);
  const Index n = kernel.n;
  std::vector<double> weight(static_cast<std::size_t>(n));
  parallel_chunks(n, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      double sum = 0.0;
      for (Index e = kernel.indptr[i]; e < kernel.indptr[i + 1]; ++e) sum += kernel.values[e];
      density[i] = sum;
      weight[static_cast<std::size_t>(i)] = std::pow(sum, -alpha);
    }
  });
  parallel_chunks(n, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const double own = weight[static_cast<std::size_t>(i)];
      double sum = 0.0;
      for (Index e = kernel.indptr[i]; e < kernel.indptr[i + 1]; ++e) {
        sum += kernel.values[e] * weight[static_cast<std::size_t>(kernel.indices[e])];
      }
      degree[i] = own * sum;
      scaling[i] = own / std::sqrt(degree[i]);
    }
  });
}

void DiffusionOperator::apply(const double* x, Index x_stride, double* y, Index y_stride, Index columns) const {
  parallel_chunks(kernel_.n, kRows, threads_, [&](Index, Index begin, Index end) {
    multiply_rows(kernel_, scaling_, x, x_stride, y, y_stride, columns, begin, end);
  });
}

RowMatrix DiffusionOperator::dense() const {
  RowMatrix s = RowMatrix::zero(kernel_.n, kernel_.n);
  for (Index i = 0; i < kernel_.n; ++i) {
    for (Index e = kernel_.indptr[i]; e < kernel_.indptr[i + 1]; ++e) {
      const Index j = kernel_.indices[e];
      // The same order of factors at (i, j) and (j, i), so that the matrix is symmetric to the last bit.
      s(i, j) = kernel_.values[e] * (scaling_[i] * scaling_[j]);
    }
  }
  return s;
}

}  // namespace diffeo
