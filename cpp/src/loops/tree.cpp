// The k-d tree: where nodes are cut, and how samples are stored.
#include "diffeo/tree.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

#include "diffeo/linear_algebra.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Beyond this many measurements boxes in all of them prune nothing more than those of the leading directions.
constexpr Index kMaxSearchDim = 16;
constexpr Index kProjectedDim = 8;
constexpr Index kProjectionSample = 2048;

// Up to this many measurements eight lanes of whole samples are faster than sums along the measurements of one pair.
constexpr Index kMaxBlockDim = 32;

// A direction of which orthogonalisation leaves less than this share of its square is rounding noise.
constexpr double kDependent = 1e-20;

// Leaves stored by one task.
constexpr Index kStoredLeaves = 128;

// Nodes up to this many samples are sorted by one task each, on a copy of their coordinates that stays in cache.
constexpr Index kTaskSize = 8192;

// Samples whose extents choose the axis along which a node is cut.
constexpr Index kExtentSample = 128;

// Shrinks bounds by more than rounding can have enlarged them (in the projection above all), so that no pair
// at the very edge of a gate is lost.
constexpr double kBoxSlack = 1.0 - 1e-12;

/// A sample on its way down the tree: 32 bits of its coordinate along the axis of the cut, then its number, so that
/// keys of different samples differ and the cut is the same on every run. Coordinates that 32 bits cannot tell apart
/// may land on either side: boxes are drawn afterwards, around what lies where.
using Key = std::uint64_t;

Key key_of(std::uint32_t coordinate, std::uint32_t number) { return (Key{coordinate} << 32) | number; }
std::uint32_t number_of(Key key) { return static_cast<std::uint32_t>(key); }

/// Leaves that the left child of a node over `count` leaves takes: the largest power of two below.
Index left_leaves(Index count) { return static_cast<Index>(std::bit_floor(static_cast<std::uint64_t>(count - 1))); }

/// The widest axis of evenly spaced samples of [begin, end), and where it starts and how long it is.
struct Cut {
  Index axis = 0;
  double low = 0.0, extent = -1.0;

  Cut(const double* search, Index s, const Key* keys, Index count) {
    const Index sample = std::min(count, kExtentSample);
    for (Index a = 0; a < s; ++a) {
      double lower = std::numeric_limits<double>::infinity(), upper = -lower;
      for (Index k = 0; k < sample; ++k) {
        const double y = search[static_cast<Index>(number_of(keys[k * count / sample])) * s + a];
        lower = std::min(lower, y);
        upper = std::max(upper, y);
      }
      if (upper - lower > extent) {
        axis = a;
        low = lower;
        extent = upper - lower;
      }
    }
  }
};

/// Moves the `left` lowest of `count` samples along the widest axis to the front.
void cut_node(const double* search, Index s, Key* keys, Index count, Index left) {
  const Cut cut(search, s, keys, count);
  constexpr double kLargest = 4294967295.0;
  const double unit = kLargest / cut.extent;
  for (Index k = 0; k < count; ++k) {
    const std::uint32_t number = number_of(keys[k]);
    const double place = (search[static_cast<Index>(number) * s + cut.axis] - cut.low) * unit;
    // Samples outside of the sampled extent keep their side; what is not a number (no extent) goes to the front.
    keys[k] = key_of(place > 0.0 ? static_cast<std::uint32_t>(std::min(place, kLargest)) : 0U, number);
  }
  std::nth_element(keys, keys + left, keys + count);
}

/// Sorts the samples of `keys` into leaves, recursively.
void sort_node(const double* search, Index s, Key* keys, Index count) {
  const Index n_leaves = (count + MetricTree::kLeafSize - 1) / MetricTree::kLeafSize;
  if (n_leaves <= 1) return;
  const Index left = left_leaves(n_leaves) * MetricTree::kLeafSize;
  cut_node(search, s, keys, count, left);
  sort_node(search, s, keys, left);
  sort_node(search, s, keys + left, count - left);
}

/// The columns made orthonormal by Gram and Schmidt, twice: the second time removes what rounding left. A column that
/// depends on those before it becomes zero, which bounds nothing and breaks nothing.
void orthonormalise(RowMatrix& basis) {
  for (Index k = 0; k < basis.cols(); ++k) {
    double before = 0.0, square = 0.0;
    for (Index a = 0; a < basis.rows(); ++a) before += basis(a, k) * basis(a, k);
    for (int pass = 0; pass < 2; ++pass) {
      for (Index l = 0; l < k; ++l) {
        double share = 0.0;
        for (Index a = 0; a < basis.rows(); ++a) share += basis(a, l) * basis(a, k);
        for (Index a = 0; a < basis.rows(); ++a) basis(a, k) -= share * basis(a, l);
      }
    }
    for (Index a = 0; a < basis.rows(); ++a) square += basis(a, k) * basis(a, k);
    const double inverse = square > kDependent * before ? 1.0 / std::sqrt(square) : 0.0;
    for (Index a = 0; a < basis.rows(); ++a) basis(a, k) *= inverse;
  }
}

}  // namespace

void MetricTree::build(const double* points, const double* whitening, int threads) {
  if (n_ < 1 || m_ < 1 || dim_ < 0 || dim_ > m_) {
    throw std::invalid_argument("MetricTree: needs samples and 0 <= dim <= m");
  }
  if (n_ >= std::numeric_limits<Row>::max()) throw std::invalid_argument("MetricTree: needs fewer than 2^31 samples");
  if ((whitening == nullptr) != (dim_ == 0)) throw std::invalid_argument("MetricTree: whitening and dim disagree");
  blocks_are_complete_ = m_ <= kMaxBlockDim;
  choose_search_coordinates(points);
  lay_out_nodes();
  if (projection_.size() > 0) {
    const RowMatrix projected = search_coordinates(points, n_);
    sort_samples(projected.data(), threads);
    store_in_tree_order(points, whitening, projected.data(), threads);
  } else {
    sort_samples(points, threads);
    store_in_tree_order(points, whitening, points, threads);
  }
  summarise_nodes();
}

void MetricTree::choose_search_coordinates(const double* points) {
  if (m_ <= kMaxSearchDim) return;
  // Leading directions of an evenly spaced subsample by subspace iteration: any orthonormal directions bound
  // distances from below, so accuracy only affects speed.
  const Index sample = std::min(n_, kProjectionSample);
  search_dim_ = std::min(kProjectedDim, std::min(m_, sample));
  RowMatrix rows(sample, m_);
  projection_centre_.assign(static_cast<std::size_t>(m_), 0.0);
  for (Index s = 0; s < sample; ++s) {
    std::copy_n(points + (s * n_ / sample) * m_, m_, rows.row(s));
    for (Index a = 0; a < m_; ++a) projection_centre_[static_cast<std::size_t>(a)] += rows(s, a);
  }
  for (double& centre : projection_centre_) centre /= static_cast<double>(sample);
  for (Index s = 0; s < sample; ++s) {
    for (Index a = 0; a < m_; ++a) rows(s, a) -= projection_centre_[static_cast<std::size_t>(a)];
  }
  std::mt19937_64 generator(0);
  std::normal_distribution<double> normal;
  RowMatrix basis(m_, search_dim_);
  for (Index k = 0; k < search_dim_; ++k) {
    for (Index a = 0; a < m_; ++a) basis(a, k) = normal(generator);
  }
  for (int sweep = 0; sweep < 4; ++sweep) {
    basis = transposed_product(rows, product(rows, basis));
    orthonormalise(basis);
  }
  projection_ = std::move(basis);
}

RowMatrix MetricTree::search_coordinates(const double* points, Index count) const {
  if (projection_.size() == 0) {
    RowMatrix own(count, m_);
    std::copy_n(points, count * m_, own.data());
    return own;
  }
  RowMatrix projected = RowMatrix::zero(count, search_dim_);
  for (Index i = 0; i < count; ++i) {
    double sums[kProjectedDim] = {};
    for (Index a = 0; a < m_; ++a) {
      const double offset = points[i * m_ + a] - projection_centre_[static_cast<std::size_t>(a)];
      const double* row = projection_.row(a);
      for (Index k = 0; k < search_dim_; ++k) sums[k] += offset * row[k];
    }
    std::copy_n(sums, search_dim_, projected.row(i));
  }
  return projected;
}

void MetricTree::lay_out_nodes() {
  // Preorder, left first: leaves come in the order of their samples, and parents before their children.
  const Index n_leaves = (n_ + kLeafSize - 1) / kLeafSize;
  nodes_.reserve(static_cast<std::size_t>(2 * n_leaves - 1));
  leaves_.reserve(static_cast<std::size_t>(n_leaves));
  struct Pending {
    Index first, count;  // leaves
  };
  std::vector<Pending> stack{{0, n_leaves}};
  while (!stack.empty()) {
    const auto [first, count] = stack.back();
    stack.pop_back();
    const Index node = static_cast<Index>(nodes_.size());
    nodes_.push_back({first * kLeafSize, std::min(n_, (first + count) * kLeafSize), -1, -1, 0.0});
    if (count == 1) {
      leaves_.push_back(node);
      continue;
    }
    const Index left = left_leaves(count);
    // A subtree over k leaves has 2 k - 1 nodes.
    nodes_.back().left = node + 1;
    nodes_.back().right = node + 2 * left;
    stack.push_back({first + left, count - left});
    stack.push_back({first, left});
  }
}

Index MetricTree::node_of_leaves(Index first, Index count) const {
  const Index begin = first * kLeafSize, end = std::min(n_, (first + count) * kLeafSize);
  Index node = 0;
  for (;;) {
    const Node& here = nodes_[static_cast<std::size_t>(node)];
    if (here.begin == begin && here.end == end) return node;
    node = begin < nodes_[static_cast<std::size_t>(here.right)].begin ? here.left : here.right;
  }
}

void MetricTree::sort_samples(const double* search, int threads) {
  const Index s = search_dim_;
  Buffer<Key> keys(n_);
  for (Index i = 0; i < n_; ++i) keys[i] = static_cast<Key>(i);
  // Large nodes level by level, all nodes of a level at once.
  std::vector<std::pair<Index, Index>> level{{0, n_}}, tasks;
  while (!level.empty()) {
    std::vector<std::pair<Index, Index>> next;
    for (const auto& [begin, end] : level) {
      if (end - begin <= kTaskSize) {
        tasks.emplace_back(begin, end);
      } else {
        const Index middle = begin + left_leaves((end - begin + kLeafSize - 1) / kLeafSize) * kLeafSize;
        next.emplace_back(begin, middle);
        next.emplace_back(middle, end);
      }
    }
    parallel_chunks(static_cast<Index>(next.size()) / 2, 1, threads, [&](Index pair, Index, Index) {
      const auto& left = next[static_cast<std::size_t>(2 * pair)];
      const auto& right = next[static_cast<std::size_t>(2 * pair + 1)];
      cut_node(search, s, keys.data() + left.first, right.second - left.first, left.second - left.first);
    });
    level = std::move(next);
  }
  order_.resize(static_cast<std::size_t>(n_));
  parallel_chunks(static_cast<Index>(tasks.size()), 1, threads, [&](Index task, Index, Index) {
    const auto [begin, end] = tasks[static_cast<std::size_t>(task)];
    const Index count = end - begin;
    std::vector<double> local(static_cast<std::size_t>(count * s));
    std::vector<Row> rows(static_cast<std::size_t>(count));
    for (Index k = 0; k < count; ++k) {
      const auto row = static_cast<Row>(number_of(keys[begin + k]));
      rows[static_cast<std::size_t>(k)] = row;
      std::copy_n(search + row * s, s, local.data() + k * s);
      keys[begin + k] = static_cast<Key>(k);
    }
    sort_node(local.data(), s, keys.data() + begin, count);
    for (Index k = 0; k < count; ++k) {
      order_[static_cast<std::size_t>(begin + k)] = rows[static_cast<std::size_t>(number_of(keys[begin + k]))];
    }
  });
}

void MetricTree::store_in_tree_order(const double* points, const double* whitening, const double* search, int threads) {
  points_ = Buffer<double>(n_ * m_);
  whitening_ = Buffer<double>(n_ * dim_ * m_);
  squared_stretches_ = Buffer<double>(n_ * dim_);
  stretch_ = Buffer<double>(n_);
  if (projection_.size() > 0) search_ = Buffer<double>(n_ * search_dim_);
  const bool projected = search_.size() > 0, complete = blocks_are_complete_;
  const Index block_m = complete ? m_ : search_dim_, block_dim = complete ? dim_ : 0;
  block_size_ = block_fields(block_m, block_dim) * kBlock;
  blocks_ = Buffer<double>((n_ + kBlock - 1) / kBlock * block_size_);
  boxes_.resize(nodes_.size() * static_cast<std::size_t>(2 * search_dim_));
  position_.resize(static_cast<std::size_t>(n_));
  parallel_chunks(static_cast<Index>(leaves_.size()), kStoredLeaves, threads, [&](Index, Index first, Index last) {
    const Index end = std::min(n_, last * kLeafSize);
    for (Index t = first * kLeafSize; t < end; ++t) {
      const Index i = order_[static_cast<std::size_t>(t)];
      position_[static_cast<std::size_t>(i)] = static_cast<Row>(t);
      store_sample(t, points + i * m_, whitening + i * m_ * dim_);
      if (projected) std::copy_n(search + i * search_dim_, search_dim_, search_.data() + t * search_dim_);
    }
    for (Index begin = first * kLeafSize; begin < end; begin += kBlock) {
      double* block = blocks_.data() + begin / kBlock * block_size_;
      for (Index lane = 0; lane < kBlock; ++lane) {
        const Index t = begin + lane;
        SampleView view{nullptr, nullptr, nullptr, 0.0};
        if (t < end) view = complete ? sample(t) : SampleView{search_point(t), nullptr, nullptr, stretch(t)};
        store_in_block(view, block_m, block_dim, lane, block);
      }
    }
    for (Index leaf = first; leaf < last; ++leaf) summarise_leaf(leaf);
  });
}

void MetricTree::store_sample(Index t, const double* point, const double* whitening) {
  std::copy_n(point, m_, points_.data() + t * m_);
  double largest = dim_ > 0 ? 0.0 : 1.0;
  for (Index k = 0; k < dim_; ++k) {
    double norm2 = 0.0;
    double* row = whitening_.data() + (t * dim_ + k) * m_;
    for (Index a = 0; a < m_; ++a) {
      row[a] = whitening[a * dim_ + k];
      norm2 += row[a] * row[a];
    }
    const double squared = 1.0 / norm2;
    squared_stretches_[t * dim_ + k] = squared;
    largest = std::max(largest, squared);
  }
  stretch_[t] = std::sqrt(largest);
}

void MetricTree::summarise_leaf(Index leaf) {
  const Index id = leaves_[static_cast<std::size_t>(leaf)];
  Node& node = nodes_[static_cast<std::size_t>(id)];
  double* lower = boxes_.data() + id * 2 * search_dim_;
  double* upper = lower + search_dim_;
  std::fill_n(lower, search_dim_, std::numeric_limits<double>::infinity());
  std::fill_n(upper, search_dim_, -std::numeric_limits<double>::infinity());
  for (Index t = node.begin; t < node.end; ++t) {
    const double* y = search_point(t);
    for (Index a = 0; a < search_dim_; ++a) {
      lower[a] = std::min(lower[a], y[a]);
      upper[a] = std::max(upper[a], y[a]);
    }
    node.max_stretch = std::max(node.max_stretch, stretch(t));
  }
}

void MetricTree::summarise_nodes() {
  // Children are numbered after their parent, so a backward pass sees them first.
  for (Index id = static_cast<Index>(nodes_.size()) - 1; id >= 0; --id) {
    Node& node = nodes_[static_cast<std::size_t>(id)];
    if (node.left < 0) continue;
    node.max_stretch = std::max(nodes_[static_cast<std::size_t>(node.left)].max_stretch,
                                nodes_[static_cast<std::size_t>(node.right)].max_stretch);
    double* box = boxes_.data() + id * 2 * search_dim_;
    const double* left = boxes_.data() + node.left * 2 * search_dim_;
    const double* right = boxes_.data() + node.right * 2 * search_dim_;
    for (Index a = 0; a < search_dim_; ++a) {
      box[a] = std::min(left[a], right[a]);
      box[search_dim_ + a] = std::max(left[search_dim_ + a], right[search_dim_ + a]);
    }
  }
}

double MetricTree::squared_distance_to_box(const double* search_point, Index node) const {
  const double* lower = boxes_.data() + node * 2 * search_dim_;
  const double* upper = lower + search_dim_;
  double sum = 0.0;
  for (Index a = 0; a < search_dim_; ++a) {
    const double gap = std::max(0.0, std::max(lower[a] - search_point[a], search_point[a] - upper[a]));
    sum += gap * gap;
  }
  return sum * kBoxSlack;
}

double MetricTree::squared_distance_of_boxes(Index a, Index b) const {
  const double* lower_a = boxes_.data() + a * 2 * search_dim_;
  const double* lower_b = boxes_.data() + b * 2 * search_dim_;
  double sum = 0.0;
  for (Index k = 0; k < search_dim_; ++k) {
    const double gap =
        std::max(0.0, std::max(lower_a[k] - lower_b[search_dim_ + k], lower_b[k] - lower_a[search_dim_ + k]));
    sum += gap * gap;
  }
  return sum * kBoxSlack;
}

}  // namespace diffeo
