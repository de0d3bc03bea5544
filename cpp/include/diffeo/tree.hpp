// A k-d tree over samples that carry their own metric; samples are stored in tree order, so that samples
// near in space are near in memory.
#pragma once

#include <algorithm>
#include <vector>

#include "diffeo/types.hpp"

namespace diffeo {

/// Samples y_i with whitenings W_i, sorted by a balanced k-d tree.
///
/// dim = 0 means the Euclidean metric (W_i = identity, nothing stored); every stretch is then 1.
/// Searches use `search` coordinates whose distances never exceed those of the points: the points themselves
/// up to 16 measurements, an orthonormal projection to their leading directions beyond.
/// Immutable after construction, so that any number of threads may read it.
class MetricTree {
 public:
  struct Node {
    Index begin, end;     ///< samples [begin, end) in tree order
    Index left, right;    ///< children, or -1 for a leaf
    double max_stretch;   ///< largest sigma_1 among the samples
  };

  /// `points` (n, m); `whitening` (n, m, dim) or null when dim = 0. Throws std::invalid_argument on n >= 2^31.
  MetricTree(const double* points, const double* whitening, Index n, Index m, Index dim, int threads);

  Index size() const { return n_; }
  Index n_measurements() const { return m_; }
  Index dim() const { return dim_; }
  Index search_dim() const { return search_dim_; }

  /// order()[t] is the caller's row of the sample at tree position t; position() is the inverse.
  const std::vector<Row>& order() const { return order_; }
  const std::vector<Row>& position() const { return position_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Index>& leaves() const { return leaves_; }

  const double* point(Index t) const { return points_.data() + t * m_; }
  /// W_t^T, (dim, m): its rows are contiguous.
  const double* whitening(Index t) const { return whitening_.data() + t * dim_ * m_; }
  /// Squared stretches sigma_k^2 = 1 / norm(column k of W_t)^2, (dim).
  const double* squared_stretches(Index t) const { return squared_stretches_.data() + t * dim_; }
  double stretch(Index t) const { return stretch_[static_cast<std::size_t>(t)]; }
  const double* search_point(Index t) const { return search_data() + t * search_dim_; }

  /// Maps `count` new points (count, m) to search coordinates (count, search_dim).
  RowMatrix search_coordinates(const double* points, Index count) const;

  /// Squared distance in search coordinates from a point to the bounding box of a node.
  double squared_distance_to_box(const double* search_point, Index node) const;
  /// Squared distance in search coordinates between the bounding boxes of two nodes.
  double squared_distance_of_boxes(Index a, Index b) const;

  /// Calls visit(leaf node) for every leaf that may hold samples s with
  /// distance(query, s) <= factor * min(query_stretch, stretch of s), in tree order.
  template <class Visit>
  void visit_leaves_near_point(const double* query, double query_stretch, double factor, Visit&& visit) const {
    visit_if(
        [&](Index node) {
          const double reach = factor * std::min(query_stretch, nodes_[static_cast<std::size_t>(node)].max_stretch);
          return squared_distance_to_box(query, node) <= reach * reach;
        },
        visit);
  }

  /// The same for all samples of the node `query`.
  template <class Visit>
  void visit_leaves_near_node(Index query, double factor, Visit&& visit) const {
    const double stretch = nodes_[static_cast<std::size_t>(query)].max_stretch;
    visit_if(
        [&](Index node) {
          const double reach = factor * std::min(stretch, nodes_[static_cast<std::size_t>(node)].max_stretch);
          return squared_distance_of_boxes(query, node) <= reach * reach;
        },
        visit);
  }

 private:
  const double* search_data() const { return search_.empty() ? points_.data() : search_.data(); }
  void choose_search_coordinates(const double* points);
  void build(const double* search);
  void store_in_tree_order(const double* points, const double* whitening, int threads);
  void summarise_nodes();

  template <class Keep, class Visit>
  void visit_if(Keep&& keep, Visit&& visit) const {
    // Depth of a balanced tree over 2^31 samples is below 32, and each level leaves one sibling waiting.
    Index stack[64];
    int top = 0;
    stack[top++] = 0;
    while (top > 0) {
      const Index node = stack[--top];
      if (!keep(node)) continue;
      const Node& here = nodes_[static_cast<std::size_t>(node)];
      if (here.left < 0) {
        visit(node);
      } else {
        stack[top++] = here.right;
        stack[top++] = here.left;
      }
    }
  }

  Index n_, m_, dim_, search_dim_;
  std::vector<Row> order_, position_;
  std::vector<Node> nodes_;
  std::vector<Index> leaves_;
  std::vector<double> boxes_;  // per node: lower corner, then upper corner
  std::vector<double> points_, whitening_, squared_stretches_, stretch_, search_;
  Eigen::RowVectorXd projection_centre_;
  RowMatrix projection_;  // (m, search_dim) with orthonormal columns; empty when the points search for themselves
};

}  // namespace diffeo
