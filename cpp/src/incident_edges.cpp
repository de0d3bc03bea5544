// Edges around each sample.
#include <limits>
#include <stdexcept>

#include "diffeo/row_checks.hpp"
#include "diffeo/stress.hpp"

namespace diffeo {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

IncidentEdges::IncidentEdges(Index n, const Index* i, const Index* j, Index e) {
  if (n < 0) throw std::invalid_argument("IncidentEdges: n must not be negative");
  if (e >= std::numeric_limits<Row>::max()) throw std::invalid_argument("IncidentEdges: too many edges");
  check_edges("IncidentEdges", i, j, e, n, 1);
  indptr_.assign(at(n) + 1, 0);
  edges_ = Buffer<Row>(2 * e);
  for (Index k = 0; k < e; ++k) {
    ++indptr_[at(i[k]) + 1];
    ++indptr_[at(j[k]) + 1];
  }
  for (Index s = 0; s < n; ++s) indptr_[at(s) + 1] += indptr_[at(s)];
  std::vector<Index> next(indptr_.begin(), indptr_.end() - 1);
  for (Index k = 0; k < e; ++k) {
    edges_[next[at(i[k])]++] = static_cast<Row>(-k - 1);
    edges_[next[at(j[k])]++] = static_cast<Row>(k + 1);
  }
}

}  // namespace diffeo
