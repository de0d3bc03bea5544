// The Laplacian of a graph, row by row from its edges.
#include "diffeo/graph_laplacian.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "diffeo/row_checks.hpp"

namespace diffeo {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

SparseRows graph_laplacian(Index n, const Index* i, const Index* j, const double* weights, Index e,
                           const double* anchors) {
  check_edges("graph_laplacian", i, j, e, n, 1);
  SparseRows result;
  result.n_rows = result.n_columns = n;
  result.indptr = Buffer<Index>(n + 1);
  std::vector<Index> next(at(n) + 1, 0);
  for (Index k = 0; k < e; ++k) {
    if (i[k] == j[k]) continue;
    ++next[at(i[k]) + 1];
    ++next[at(j[k]) + 1];
  }
  for (Index k = 0; k < n; ++k) next[at(k) + 1] += next[at(k)] + 1;
  std::copy(next.begin(), next.end(), result.indptr.data());
  result.indices = Buffer<Row>(next[at(n)]);
  result.values = Buffer<double>(next[at(n)]);
  for (Index k = 0; k < n; ++k) {
    result.indices[next[at(k)]] = static_cast<Row>(k);
    result.values[next[at(k)]++] = anchors == nullptr ? 0.0 : anchors[k];
  }
  for (Index k = 0; k < e; ++k) {
    if (i[k] == j[k]) continue;
    for (const auto& [from, to] : {std::pair(i[k], j[k]), std::pair(j[k], i[k])}) {
      result.values[result.indptr[from]] += weights[k];
      result.indices[next[at(from)]] = static_cast<Row>(to);
      result.values[next[at(from)]++] = -weights[k];
    }
  }
  return result;
}

}  // namespace diffeo
