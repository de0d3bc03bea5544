// Gram matrices of tall blocks, chunk by chunk.
#include "diffeo/gram.hpp"

#include <algorithm>
#include <vector>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Rows of a block that one task handles: 2,048 rows of 16 doubles are 256 KiB, which stay in a second-level cache.
constexpr Index kRows = 2048;

/// g (p, q) += x^T y over `rows` rows; g stays in the first-level cache.
void gram_rows(const double* x, Index p, const double* y, Index q, Index rows, double* g) {
  for (Index i = 0; i < rows; ++i) {
    const double* xi = x + i * p;
    const double* yi = y + i * q;
    for (Index a = 0; a < p; ++a) {
      const double factor = xi[a];
      double* ga = g + a * q;
      for (Index b = 0; b < q; ++b) ga[b] += factor * yi[b];
    }
  }
}

}  // namespace

RowMatrix gram(const RowMatrix& x, const RowMatrix& y, int threads) {
  const Index n = x.rows(), p = x.cols(), q = y.cols();
  const Index chunks = (n + kRows - 1) / kRows;
  std::vector<RowMatrix> partial(static_cast<std::size_t>(chunks));
  parallel_chunks(n, kRows, threads, [&](Index chunk, Index begin, Index end) {
    RowMatrix& part = partial[static_cast<std::size_t>(chunk)];
    part = RowMatrix::zero(p, q);
    gram_rows(x.data() + begin * p, p, y.data() + begin * q, q, end - begin, part.data());
  });
  RowMatrix total = RowMatrix::zero(p, q);
  for (const RowMatrix& part : partial) {
    for (Index e = 0; e < total.size(); ++e) total.data()[e] += part.data()[e];
  }
  return total;
}

}  // namespace diffeo
