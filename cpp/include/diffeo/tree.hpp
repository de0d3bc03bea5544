// A k-d tree over samples that carry their own metric.
//
// Samples are stored in tree order, so that samples near in space are near in memory.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "diffeo/pair_block.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Samples y_i with whitenings W_i, sorted by a balanced k-d tree.
///
/// dim = 0 means the Euclidean metric (W_i = identity, nothing stored); every stretch is then 1.
/// Searches use `search` coordinates whose distances never exceed those of the points: the points themselves
/// up to 16 measurements, an orthonormal projection to their leading directions beyond.
/// Leaves hold kLeafSize samples each, the last one the rest: leaf l begins at l * kLeafSize, and an aligned group of
/// 2^k leaves is a node. Samples are kept twice: one by one, and in blocks of eight for vector instructions.
/// The tree does not depend on the number of threads. Immutable after construction, so that any number of threads
/// may read it.
class MetricTree {
 public:
  /// A multiple of kBlock. Two blocks: their boxes fit the disc of some 30 neighbours better than four would, and
  /// single ones cost more in tests of boxes than they save.
  static constexpr Index kLeafSize = 2 * kBlock;

  struct Node {
    Index begin, end;     ///< samples [begin, end) in tree order
    Index left, right;    ///< children, or -1 for a leaf
    double max_stretch;   ///< largest sigma_1 among the samples
  };

  /// `points` (n, m); `whitening` (n, m, dim) or null when dim = 0. Throws std::invalid_argument on n >= 2^31, and
  /// Interrupted on Ctrl-C.
  MetricTree(const double* points, const double* whitening, Index n, Index m, Index dim, int threads)
      : n_(n), m_(m), dim_(dim), search_dim_(m) {
    build(points, whitening, threads);
  }

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
  double stretch(Index t) const { return stretch_[t]; }
  SampleView sample(Index t) const { return {point(t), whitening(t), squared_stretches(t), stretch(t)}; }
  const double* search_point(Index t) const {
    return (search_.size() > 0 ? search_ : points_).data() + t * search_dim_;
  }

  /// Blocks hold the samples of [k * kBlock, (k + 1) * kBlock) with their whitening, or beyond 32 measurements their
  /// search coordinates alone (see pair_block.hpp); lanes beyond the last sample are not-a-number.
  const double* block(Index k) const { return blocks_.data() + k * block_size_; }
  bool blocks_are_complete() const { return blocks_are_complete_; }

  /// Maps `count` new points (count, m) to search coordinates (count, search_dim).
  RowMatrix search_coordinates(const double* points, Index count) const;

  /// Squared distance in search coordinates from a point to the bounding box of a node.
  double squared_distance_to_box(const double* search_point, Index node) const;
  /// Squared distance in search coordinates between the bounding boxes of two nodes.
  double squared_distance_of_boxes(Index a, Index b) const;

  /// The node that holds leaves [first, min(first + count, all)); count is a power of two that divides first.
  Index node_of_leaves(Index first, Index count) const;

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

  /// Whether samples of the two nodes may lie within factor * min(their stretches) of each other.
  bool nodes_are_near(Index a, Index b, double factor) const {
    const double reach = factor * std::min(nodes_[static_cast<std::size_t>(a)].max_stretch,
                                           nodes_[static_cast<std::size_t>(b)].max_stretch);
    return squared_distance_of_boxes(a, b) <= reach * reach;
  }

  /// The same for all samples of the node `query`.
  template <class Visit>
  void visit_leaves_near_node(Index query, double factor, Visit&& visit) const {
    visit_if([&](Index node) { return nodes_are_near(query, node, factor); }, visit);
  }

 private:
  friend struct Loops;
  void build(const double* points, const double* whitening, int threads);
  void choose_search_coordinates(const double* points);
  void lay_out_nodes();
  void sort_samples(const double* search, int threads);
  void store_in_tree_order(const double* points, const double* whitening, const double* search, int threads);
  void store_sample(Index t, const double* point, const double* whitening);
  void summarise_leaf(Index leaf);
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
  Buffer<double> points_, whitening_, squared_stretches_, stretch_, search_, blocks_;
  Index block_size_ = 0;
  bool blocks_are_complete_ = false;
  std::vector<double> projection_centre_;
  RowMatrix projection_;  // (m, search_dim) with orthonormal columns; empty when the points search for themselves
};

}  // namespace diffeo
