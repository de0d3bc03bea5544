#include "diffeo/neighbors.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "diffeo/pair_metric.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// A leaf's samples start from one estimate of the radius, so leaves are the unit of work. One a task: where nothing can
// be pruned a leaf takes a good part of a second, and Ctrl-C waits for the task.
constexpr Index kLeaves = 1;

// Within the reach, the tangent disc holds about (kReach)^d times the wanted samples; far beyond that the rest fails
// the gates and a larger radius only adds strangers.
constexpr Index kCrowd = 40;

struct Found {
  double q;
  Row row;
  bool operator<(const Found& other) const { return q < other.q || (q == other.q && row < other.row); }
};

SampleView view(const MetricTree& tree, Index t) {
  return {tree.point(t), tree.whitening(t), tree.squared_stretches(t), tree.stretch(t)};
}

/// Squared radius within which the leaf's first sample has, by its own metric, most of the leaf.
double first_squared_radius(const MetricTree& tree, const MetricTree::Node& leaf) {
  std::vector<double> squared;
  const SampleView here = view(tree, leaf.begin);
  PairMetric<-1, -1> metric(tree.n_measurements(), tree.dim(), std::numeric_limits<double>::max() / 16.0);
  for (Index j = leaf.begin + 1; j < leaf.end; ++j) {
    double q = 0.0;
    if (metric.from_sample(view(tree, j), here, q) != PairState::outside && q > 0.0) squared.push_back(q);
  }
  if (squared.empty()) return 0.0;
  const auto middle = squared.begin() + static_cast<std::ptrdiff_t>(squared.size() / 2);
  std::nth_element(squared.begin(), middle, squared.end());
  return *middle;
}

/// How many samples were within the reach of one, and how many of them lay beyond the radius in q.
struct Crowd {
  Index within = 0, beyond = 0;
};

/// Collects the pairs of sample i within the radius that pass the gates, coincident ones aside.
template <class Metric>
Crowd collect(const MetricTree& tree, Index i, double squared_radius, Metric& metric, std::vector<Found>& found) {
  found.clear();
  Crowd crowd;
  const SampleView here = view(tree, i);
  const double reach = Gates::kReach * std::sqrt(squared_radius);
  tree.visit_leaves_near_point(tree.search_point(i), here.stretch, reach, [&](Index node) {
    const MetricTree::Node& leaf = tree.nodes()[static_cast<std::size_t>(node)];
    for (Index j = leaf.begin; j < leaf.end; ++j) {
      if (j == i) continue;
      double q = std::numeric_limits<double>::quiet_NaN();
      const PairState state = metric(here, view(tree, j), q);
      if (std::isnan(q)) continue;
      ++crowd.within;
      if (state == PairState::outside) ++crowd.beyond;
      if (state == PairState::kept && q > 0.0) found.push_back({q, static_cast<Row>(j)});
    }
  });
  return crowd;
}

}  // namespace

void nearest_neighbors(const MetricTree& tree, Index k, Row* neighbors, double* squared_distances, int threads) {
  if (k < 1 || k >= tree.size()) throw std::invalid_argument("nearest_neighbors: k must lie between 1 and n - 1");
  const auto& leaves = tree.leaves();
  parallel_chunks(static_cast<Index>(leaves.size()), kLeaves, threads, [&](Index, Index begin, Index end) {
    std::vector<Found> found;
    for (Index l = begin; l < end; ++l) {
      const MetricTree::Node& leaf = tree.nodes()[static_cast<std::size_t>(leaves[static_cast<std::size_t>(l)])];
      const double start = first_squared_radius(tree, leaf);
      for (Index i = leaf.begin; i < leaf.end; ++i) {
        // All coincident: any radius will do to find them.
        double squared_radius = start > 0.0 ? start : std::numeric_limits<double>::min() * 1e20;
        for (;;) {
          const Crowd crowd = with_pair_metric(tree.n_measurements(), tree.dim(), squared_radius, [&](auto metric) {
            return collect(tree, i, squared_radius, metric, found);
          });
          if (static_cast<Index>(found.size()) >= k || crowd.within > kCrowd * k) break;
          if (crowd.within == tree.size() - 1 && crowd.beyond == 0) break;
          squared_radius *= crowd.within == 0 ? 16.0 : 2.0;
          if (!std::isfinite(squared_radius)) break;
        }
        const auto kept = std::min<std::size_t>(found.size(), static_cast<std::size_t>(k));
        std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(kept), found.end());
        for (Index a = 0; a < k; ++a) {
          const bool have = static_cast<std::size_t>(a) < kept;
          neighbors[i * k + a] = have ? found[static_cast<std::size_t>(a)].row : Row{-1};
          squared_distances[i * k + a] =
              have ? found[static_cast<std::size_t>(a)].q : std::numeric_limits<double>::infinity();
        }
      }
    }
  });
}

}  // namespace diffeo
