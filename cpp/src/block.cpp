#include "diffeo/block.hpp"

#include <algorithm>
#include <vector>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Rows of a block that one task handles: 2,048 rows of 16 doubles are 256 KiB, which stay in a second-level cache.
constexpr Index kBlockRows = 2048;

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

/// t (rows, q) += x (rows, p) c (p, q).
void multiply_rows(const double* x, Index p, const double* c, Index q, Index rows, double* t) {
  for (Index i = 0; i < rows; ++i) {
    const double* xi = x + i * p;
    double* ti = t + i * q;
    for (Index a = 0; a < p; ++a) {
      const double factor = xi[a];
      const double* ca = c + a * q;
      for (Index b = 0; b < q; ++b) ti[b] += factor * ca[b];
    }
  }
}

void chebyshev_entries(const double* r, const double* image, double keep, double gain, Index count, double* update,
                       double* w) {
  for (Index e = 0; e < count; ++e) {
    update[e] = keep * update[e] + gain * (r[e] - w[e] + image[e]);
    w[e] += update[e];
  }
}

}  // namespace

RowMatrix gram(const RowMatrix& x, const RowMatrix& y, int threads) {
  const Index n = x.rows(), p = x.cols(), q = y.cols();
  const Index chunks = (n + kBlockRows - 1) / kBlockRows;
  std::vector<RowMatrix> partial(static_cast<std::size_t>(chunks));
  parallel_chunks(n, kBlockRows, threads, [&](Index chunk, Index begin, Index end) {
    RowMatrix& part = partial[static_cast<std::size_t>(chunk)];
    part.setZero(p, q);
    gram_rows(x.data() + begin * p, p, y.data() + begin * q, q, end - begin, part.data());
  });
  RowMatrix total = RowMatrix::Zero(p, q);
  for (const RowMatrix& part : partial) total += part;
  return total;
}

void multiply(const RowMatrix& x, const RowMatrix& coefficients, RowMatrix& target, bool accumulate, int threads) {
  const Index p = coefficients.rows(), q = coefficients.cols();
  if (!accumulate) target.resize(x.rows(), q);
  parallel_chunks(x.rows(), kBlockRows, threads, [&](Index, Index begin, Index end) {
    double* rows = target.data() + begin * q;
    if (!accumulate) std::fill_n(rows, (end - begin) * q, 0.0);
    multiply_rows(x.data() + begin * p, p, coefficients.data(), q, end - begin, rows);
  });
}

void chebyshev_step(const RowMatrix& r, const RowMatrix& image, double keep, double gain, RowMatrix& update,
                    RowMatrix& w, int threads) {
  const Index b = r.cols();
  parallel_chunks(r.rows(), kBlockRows, threads, [&](Index, Index begin, Index end) {
    const Index at = begin * b;
    chebyshev_entries(r.data() + at, image.data() + at, keep, gain, (end - begin) * b, update.data() + at,
                      w.data() + at);
  });
}

}  // namespace diffeo
