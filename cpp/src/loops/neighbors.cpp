// Nearest neighbours of all samples of a leaf, in rounds of growing radius.
#include "diffeo/neighbors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "diffeo/pair_block.hpp"
#include "diffeo/pair_metric.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Leaves a task: a leaf starts from the radius that its predecessor in the task needed. Few, because Ctrl-C waits for
// the task, and where nothing can be pruned a leaf takes a good part of a second.
constexpr Index kLeaves = 4;

// Within the reach, the tangent disc holds about (kReach)^d times the wanted samples; far beyond that the rest fails
// the gates and a larger radius only adds strangers.
constexpr Index kCrowd = 40;

// A pair that passes the other gates has (1 - kOffTangent) |D|^2 <= sigma_1^2 min(a, b) at the smaller stretch, and
// max(a, b) <= kAsymmetry min(a, b) bounds a by this multiple of q = (a + b)/2. So a pair whose q is at most r^2 /
// kSettled is within reach as well, and the neighbours do not depend on the radius that found them.
constexpr double kSettled =
    2.0 * Gates::kAsymmetry / (1.0 + Gates::kAsymmetry) / ((1.0 - Gates::kOffTangent) * Gates::kReach * Gates::kReach);

// Leaves differ: with this excess over the median of the last one's radii most samples find all their neighbours at
// once.
constexpr double kExcess = 1.25;

struct Found {
  double q;
  Row row;
  bool operator<(const Found& other) const { return q < other.q || (q == other.q && row < other.row); }
};

/// Squared radius within which the leaf's first sample has, by its own metric, most of the leaf.
double first_squared_radius(const MetricTree& tree, const MetricTree::Node& leaf) {
  std::vector<double> squared;
  const SampleView here = tree.sample(leaf.begin);
  PairMetric<-1, -1> metric(tree.n_measurements(), tree.dim(), std::numeric_limits<double>::max() / 16.0);
  for (Index j = leaf.begin + 1; j < leaf.end; ++j) {
    double q = 0.0;
    if (metric.from_sample(tree.sample(j), here, q) != PairState::outside && q > 0.0) squared.push_back(q);
  }
  if (squared.empty()) return 0.0;
  const auto middle = squared.begin() + static_cast<std::ptrdiff_t>(squared.size() / 2);
  std::nth_element(squared.begin(), middle, squared.end());
  return *middle;
}

/// How many samples were within the reach of one, and how many of them within the radius in q.
struct Crowd {
  Index reached = 0, within = 0;
};

/// In many dimensions the transports of a pair cost ten times its distance, and a radius holds many more pairs than are
/// wanted: only the nearest are tried, by `tame`.
template <int D>
constexpr bool kTriesNearest = D < 0;

/// Evaluates one sample against a block: calls visit(j, state, q) for the lanes within the radius. One object a thread.
template <int M, int D>
class BlockPairs {
 public:
  static constexpr bool kDecides = !kTriesNearest<D>;  ///< whether `visit` knows all gates of a pair

  BlockPairs(const MetricTree& tree, double squared_radius, double transport)
      : tree_(tree), metric_(tree.n_measurements(), tree.dim(), squared_radius, kDecides, transport),
        pair_(tree.n_measurements(), tree.dim(), squared_radius, true, transport) {}

  void measure_from(Index i) { metric_.measure_from(tree_.sample(i)); }

  /// The gate that `visit` left out.
  bool tame(Index i, Index j) { return pair_.transports_tame(tree_.sample(i), tree_.sample(j)); }

  template <class Visit>
  void operator()(Index block, Visit&& visit) {
    if (metric_.near(tree_.block(block)) == 0) return;
    alignas(64) double q[kBlock];
    const LaneStates states = metric_.evaluate(tree_.block(block), q);
    for (unsigned rest = states.kept | states.gated; rest != 0; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      visit(block * kBlock + lane, ((states.kept >> lane) & 1U) != 0, q[lane]);
    }
  }

 private:
  const MetricTree& tree_;
  BlockMetric<M, D> metric_;
  PairMetric<-1, D> pair_;
};

/// The same where blocks hold search coordinates alone.
template <int M, int D>
class SinglePairs {
 public:
  static constexpr bool kDecides = !kTriesNearest<D>;

  SinglePairs(const MetricTree& tree, double squared_radius, double transport)
      : tree_(tree), search_(tree.search_dim(), 0, squared_radius),
        metric_(tree.n_measurements(), tree.dim(), squared_radius, kDecides, transport) {}

  bool tame(Index i, Index j) { return metric_.transports_tame(tree_.sample(i), tree_.sample(j)); }

  void measure_from(Index i) {
    own_ = tree_.sample(i);
    search_.measure_from({tree_.search_point(i), nullptr, nullptr, own_.stretch});
  }

  template <class Visit>
  void operator()(Index block, Visit&& visit) {
    for (unsigned rest = search_.near(tree_.block(block)); rest != 0; rest &= rest - 1) {
      const Index j = block * kBlock + std::countr_zero(rest);
      double q = 0.0;
      const PairState state = metric_(own_, tree_.sample(j), q);
      if (state != PairState::outside) visit(j, state == PairState::kept, q);
    }
  }

 private:
  const MetricTree& tree_;
  BlockMetric<-1, 0> search_;
  PairMetric<M, D> metric_;
  SampleView own_{nullptr, nullptr, nullptr, 0.0};
};

template <class Work>
void with_pairs(const MetricTree& tree, double squared_radius, double transport, Work&& work) {
  const auto fixed = [&]<int M, int D>() {
    if (tree.blocks_are_complete()) {
      work(BlockPairs<M, D>(tree, squared_radius, transport));
    } else {
      work(SinglePairs<-1, D>(tree, squared_radius, transport));
    }
  };
  const Index m = tree.n_measurements();
  switch (tree.dim()) {
    case 0:
      return fixed.template operator()<-1, 0>();
    case 1:
      return fixed.template operator()<-1, 1>();
    case 2:
      return m == 5 ? fixed.template operator()<5, 2>() : fixed.template operator()<-1, 2>();
    case 3:
      return fixed.template operator()<-1, 3>();
    default:
      return fixed.template operator()<-1, -1>();
  }
}

/// The search for all samples of one leaf at once, in rounds of growing radius.
class LeafSearch {
 public:
  LeafSearch(const MetricTree& tree, Index k, double transport, Row* neighbors, double* squared_distances)
      : tree_(tree), k_(k), transport_(transport), neighbors_(neighbors), squared_distances_(squared_distances) {}

  void operator()(Index node) {
    const MetricTree::Node& leaf = tree_.nodes()[static_cast<std::size_t>(node)];
    double squared_radius = next_squared_radius_;
    if (!(squared_radius > 0.0)) squared_radius = first_squared_radius(tree_, leaf);
    // All coincident: any radius will do to find them.
    if (!(squared_radius > 0.0)) squared_radius = std::numeric_limits<double>::min() * 1e20;
    open_.clear();
    for (Index i = leaf.begin; i < leaf.end; ++i) open_.push_back(i);
    needed_.clear();
    while (!open_.empty()) {
      const bool lonely = round(node, squared_radius);
      const double larger = squared_radius * (lonely ? 16.0 : 2.0);
      if (!std::isfinite(larger)) break;
      squared_radius = larger;
    }
    next_squared_radius_ = 0.0;
    if (needed_.empty()) return;
    const auto middle = needed_.begin() + static_cast<std::ptrdiff_t>(needed_.size() / 2);
    std::nth_element(needed_.begin(), middle, needed_.end());
    next_squared_radius_ = kExcess * *middle;
  }

 private:
  /// Tries all open samples; whether none of them has anything within reach.
  bool round(Index node, double squared_radius) {
    const double reach = Gates::kReach * std::sqrt(squared_radius);
    blocks_.clear();
    tree_.visit_leaves_near_node(node, reach, [&](Index other) {
      const MetricTree::Node& leaf = tree_.nodes()[static_cast<std::size_t>(other)];
      for (Index block = leaf.begin / kBlock; block * kBlock < leaf.end; ++block) blocks_.push_back(block);
    });
    bool lonely = true;
    const bool last = !std::isfinite(16.0 * squared_radius);
    with_pairs(tree_, squared_radius, transport_, [&](auto pairs) {
      std::size_t left = 0;
      for (const Index i : open_) {
        const Index within = collect(i, pairs);
        const std::size_t kept = keep_nearest(i, pairs);
        const bool enough = static_cast<Index>(kept) >= k_;
        bool done = last;
        if (enough) {
          const double needed = kSettled * found_[kept - 1].q;
          done = done || needed <= squared_radius;
          if (done) needed_.push_back(needed);
        } else if (!done) {
          const Index reached = count_reached(i, reach * reach);
          lonely = lonely && reached == 0;
          done = reached > kCrowd * k_ || (reached == tree_.size() - 1 && within == reached);
        }
        if (enough) lonely = false;
        if (done) {
          write(i, kept);
        } else {
          open_[left++] = i;
        }
      }
      open_.resize(left);
    });
    return lonely;
  }

  /// The pairs of sample i within the radius that pass the gates, coincident ones aside; how many are within it.
  template <class Pairs>
  Index collect(Index i, Pairs& pairs) {
    found_.clear();
    Index within = 0;
    pairs.measure_from(i);
    for (const Index block : blocks_) {
      pairs(block, [&](Index j, bool kept, double q) {
        if (j == i) return;
        ++within;
        if (kept && q > 0.0) found_.push_back({q, static_cast<Row>(j)});
      });
    }
    return within;
  }

  /// Moves the nearest k that pass all gates to the front of those found, in order; how many there are.
  template <class Pairs>
  std::size_t keep_nearest(Index i, Pairs& pairs) {
    const auto wanted = static_cast<std::size_t>(k_);
    std::size_t kept = 0;
    for (std::size_t seen = 0; kept < wanted && seen < found_.size();) {
      const std::size_t count = std::min(found_.size() - seen, (Pairs::kDecides ? 1 : 2) * (wanted - kept));
      const auto begin = found_.begin() + static_cast<std::ptrdiff_t>(seen);
      const auto end = begin + static_cast<std::ptrdiff_t>(count);
      if (end != found_.end()) std::nth_element(begin, end, found_.end());
      std::sort(begin, end);
      for (auto next = begin; next != end && kept < wanted; ++next) {
        if (Pairs::kDecides || pairs.tame(i, static_cast<Index>(next->row))) found_[kept++] = *next;
      }
      seen += count;
    }
    return kept;
  }

  /// Number of other samples within reach of sample i, whatever their q.
  Index count_reached(Index i, double squared_reach) const {
    const Index m = tree_.n_measurements();
    const double* here = tree_.point(i);
    Index count = -1;
    for (const Index block : blocks_) {
      for (Index j = block * kBlock; j < std::min(tree_.size(), (block + 1) * kBlock); ++j) {
        const double* there = tree_.point(j);
        const double stretch = std::min(tree_.stretch(i), tree_.stretch(j));
        double squared = 0.0;
        for (Index a = 0; a < m; ++a) squared += (there[a] - here[a]) * (there[a] - here[a]);
        count += squared <= squared_reach * stretch * stretch ? 1 : 0;
      }
    }
    return count;
  }

  void write(Index i, std::size_t kept) {
    for (Index a = 0; a < k_; ++a) {
      const auto at = static_cast<std::size_t>(a);
      neighbors_[i * k_ + a] = at < kept ? found_[at].row : Row{-1};
      squared_distances_[i * k_ + a] = at < kept ? found_[at].q : std::numeric_limits<double>::infinity();
    }
  }

  const MetricTree& tree_;
  Index k_;
  double transport_;
  Row* neighbors_;
  double* squared_distances_;
  double next_squared_radius_ = 0.0;
  std::vector<double> needed_;  // squared radii that would have settled the samples of this leaf
  std::vector<Index> open_, blocks_;
  std::vector<Found> found_;
};

}  // namespace

void nearest_neighbors(const MetricTree& tree, Index k, double transport, Row* neighbors, double* squared_distances,
                       int threads) {
  if (k < 1 || k >= tree.size()) throw std::invalid_argument("nearest_neighbors: k must lie between 1 and n - 1");
  const auto& leaves = tree.leaves();
  parallel_chunks(static_cast<Index>(leaves.size()), kLeaves, threads, [&](Index, Index begin, Index end) {
    LeafSearch search(tree, k, transport, neighbors, squared_distances);
    for (Index l = begin; l < end; ++l) search(leaves[static_cast<std::size_t>(l)]);
  });
}

}  // namespace diffeo
