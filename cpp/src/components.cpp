// Connected pieces by breadth-first search.
#include "diffeo/components.hpp"

#include "diffeo/row_checks.hpp"

namespace diffeo {

Index connected_components(const SparseView& matrix, std::vector<Row>& labels) {
  check_compressed("connected_components", matrix, 1);
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  labels.assign(at(matrix.n), Row{-1});
  std::vector<Row> queue;
  queue.reserve(at(matrix.n));
  Row count = 0;
  for (Index first = 0; first < matrix.n; ++first) {
    if (labels[at(first)] >= 0) continue;
    labels[at(first)] = count;
    queue.assign(1, static_cast<Row>(first));
    for (std::size_t head = 0; head < queue.size(); ++head) {
      const Index i = queue[head];
      for (Index e = matrix.indptr[i]; e < matrix.indptr[i + 1]; ++e) {
        Row& label = labels[at(matrix.indices[e])];
        if (label >= 0) continue;
        label = count;
        queue.push_back(matrix.indices[e]);
      }
    }
    ++count;
  }
  return count;
}

}  // namespace diffeo
