#include "diffeo/tree.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Samples per leaf: a compromise between tests of boxes and tests of samples (16 to 48 measured alike).
constexpr Index kLeafSize = 24;

// Beyond this many measurements boxes in all of them prune nothing more than those of the leading directions.
constexpr Index kMaxSearchDim = 16;
constexpr Index kProjectedDim = 8;
constexpr Index kProjectionSample = 2048;

constexpr Index kSamples = 4096;

// Shrinks bounds by more than rounding can have enlarged them (in the projection above all), so that no pair
// at the very edge of a gate is lost.
constexpr double kBoxSlack = 1.0 - 1e-12;

}  // namespace

MetricTree::MetricTree(const double* points, const double* whitening, Index n, Index m, Index dim, int threads)
    : n_(n), m_(m), dim_(dim), search_dim_(m) {
  if (n < 1 || m < 1 || dim < 0 || dim > m) throw std::invalid_argument("MetricTree: needs samples and 0 <= dim <= m");
  if (n >= std::numeric_limits<Row>::max()) throw std::invalid_argument("MetricTree: needs fewer than 2^31 samples");
  if ((whitening == nullptr) != (dim == 0)) throw std::invalid_argument("MetricTree: whitening and dim disagree");
  choose_search_coordinates(points);
  if (projection_.size() > 0) {
    const RowMatrix projected = search_coordinates(points, n);
    build(projected.data());
    search_.resize(static_cast<std::size_t>(n * search_dim_));
    for (Index t = 0; t < n; ++t) {
      std::copy_n(projected.data() + order_[static_cast<std::size_t>(t)] * search_dim_, search_dim_,
                  search_.data() + t * search_dim_);
    }
  } else {
    build(points);
  }
  store_in_tree_order(points, whitening, threads);
  summarise_nodes();
}

void MetricTree::choose_search_coordinates(const double* points) {
  if (m_ <= kMaxSearchDim) return;
  // Leading directions of an evenly spaced subsample by subspace iteration: any orthonormal directions bound
  // distances from below, so accuracy only affects speed.
  const Index sample = std::min(n_, kProjectionSample);
  search_dim_ = std::min(kProjectedDim, std::min(m_, sample));
  RowMatrix rows(sample, m_);
  for (Index s = 0; s < sample; ++s) {
    rows.row(s) = Eigen::Map<const Eigen::RowVectorXd>(points + (s * n_ / sample) * m_, m_);
  }
  projection_centre_ = rows.colwise().mean();
  rows.rowwise() -= projection_centre_;
  std::mt19937_64 generator(0);
  std::normal_distribution<double> normal;
  Eigen::MatrixXd basis(m_, search_dim_);
  for (Index k = 0; k < search_dim_; ++k) {
    for (Index a = 0; a < m_; ++a) basis(a, k) = normal(generator);
  }
  for (int sweep = 0; sweep < 4; ++sweep) {
    const Eigen::MatrixXd image = rows.transpose() * (rows * basis);
    basis = Eigen::HouseholderQR<Eigen::MatrixXd>(image).householderQ() * Eigen::MatrixXd::Identity(m_, search_dim_);
  }
  projection_ = basis;
}

RowMatrix MetricTree::search_coordinates(const double* points, Index count) const {
  const Eigen::Map<const RowMatrix> rows(points, count, m_);
  if (projection_.size() == 0) return rows;
  RowMatrix projected(count, search_dim_);
  for (Index i = 0; i < count; ++i) projected.row(i).noalias() = (rows.row(i) - projection_centre_) * projection_;
  return projected;
}

void MetricTree::build(const double* search) {
  order_.resize(static_cast<std::size_t>(n_));
  std::iota(order_.begin(), order_.end(), Row{0});
  const Index s = search_dim_;
  // Preorder, left first: nodes are numbered so that leaves come in the order of their samples.
  struct Pending {
    Index begin, end, parent;
  };
  std::vector<Pending> stack{{0, n_, -1}};
  std::vector<double> lower(static_cast<std::size_t>(s)), upper(static_cast<std::size_t>(s));
  while (!stack.empty()) {
    const Pending task = stack.back();
    stack.pop_back();
    const Index node = static_cast<Index>(nodes_.size());
    nodes_.push_back({task.begin, task.end, -1, -1, 0.0});
    if (task.parent >= 0) {
      Node& parent = nodes_[static_cast<std::size_t>(task.parent)];
      (parent.left < 0 ? parent.left : parent.right) = node;
    }
    std::fill(lower.begin(), lower.end(), std::numeric_limits<double>::infinity());
    std::fill(upper.begin(), upper.end(), -std::numeric_limits<double>::infinity());
    for (Index t = task.begin; t < task.end; ++t) {
      const double* y = search + order_[static_cast<std::size_t>(t)] * s;
      for (Index a = 0; a < s; ++a) {
        lower[static_cast<std::size_t>(a)] = std::min(lower[static_cast<std::size_t>(a)], y[a]);
        upper[static_cast<std::size_t>(a)] = std::max(upper[static_cast<std::size_t>(a)], y[a]);
      }
    }
    boxes_.insert(boxes_.end(), lower.begin(), lower.end());
    boxes_.insert(boxes_.end(), upper.begin(), upper.end());
    if (task.end - task.begin <= kLeafSize) {
      leaves_.push_back(node);
      continue;
    }
    Index widest = 0;
    for (Index a = 1; a < s; ++a) {
      const auto i = static_cast<std::size_t>(a), w = static_cast<std::size_t>(widest);
      if (upper[i] - lower[i] > upper[w] - lower[w]) widest = a;
    }
    const Index middle = task.begin + (task.end - task.begin) / 2;
    // Ties are broken by the caller's row, so that the order is one fixed permutation.
    std::nth_element(order_.begin() + task.begin, order_.begin() + middle, order_.begin() + task.end,
                     [&](Row i, Row j) {
                       const double a = search[i * s + widest], b = search[j * s + widest];
                       return a < b || (a == b && i < j);
                     });
    stack.push_back({middle, task.end, node});
    stack.push_back({task.begin, middle, node});
  }
  position_.resize(static_cast<std::size_t>(n_));
  for (Index t = 0; t < n_; ++t)
    position_[static_cast<std::size_t>(order_[static_cast<std::size_t>(t)])] = static_cast<Row>(t);
}

void MetricTree::store_in_tree_order(const double* points, const double* whitening, int threads) {
  points_.resize(static_cast<std::size_t>(n_ * m_));
  whitening_.resize(static_cast<std::size_t>(n_ * dim_ * m_));
  squared_stretches_.resize(static_cast<std::size_t>(n_ * dim_));
  stretch_.assign(static_cast<std::size_t>(n_), 1.0);
  parallel_chunks(n_, kSamples, threads, [&](Index, Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const Index i = order_[static_cast<std::size_t>(t)];
      std::copy_n(points + i * m_, m_, points_.data() + t * m_);
      double largest = 0.0;
      for (Index k = 0; k < dim_; ++k) {
        double norm2 = 0.0;
        double* row = whitening_.data() + (t * dim_ + k) * m_;
        for (Index a = 0; a < m_; ++a) {
          row[a] = whitening[(i * m_ + a) * dim_ + k];
          norm2 += row[a] * row[a];
        }
        const double squared = 1.0 / norm2;
        squared_stretches_[static_cast<std::size_t>(t * dim_ + k)] = squared;
        largest = std::max(largest, squared);
      }
      if (dim_ > 0) stretch_[static_cast<std::size_t>(t)] = std::sqrt(largest);
    }
  });
}

void MetricTree::summarise_nodes() {
  // Children are numbered after their parent, so a backward pass sees them first.
  for (Index node = static_cast<Index>(nodes_.size()) - 1; node >= 0; --node) {
    Node& here = nodes_[static_cast<std::size_t>(node)];
    if (here.left < 0) {
      for (Index t = here.begin; t < here.end; ++t) here.max_stretch = std::max(here.max_stretch, stretch(t));
    } else {
      here.max_stretch = std::max(nodes_[static_cast<std::size_t>(here.left)].max_stretch,
                                  nodes_[static_cast<std::size_t>(here.right)].max_stretch);
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
