// The kernel by search on the tree: rows of leaves, statistics of rows, and kernels to new points.
#include "diffeo/mahalanobis.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "diffeo/dense.hpp"
#include "diffeo/exponential.hpp"
#include "diffeo/pair_block.hpp"
#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"

namespace diffeo {
namespace {

// Leaves per task, a power of two so that a task is a node of the tree: 256 samples, some 100 microseconds of work and
// some 100 KiB of rows, which stay in cache until they are copied into place.
constexpr Index kLeaves = 16;

// Rows per task where rows are handled one by one.
constexpr Index kRows = 256;

// Rows from which the size of the result is estimated, and the excess allocated for it (untouched pages cost nothing).
constexpr Index kProbes = 64;
constexpr double kExcess = 1.5;

/// Pairs of a sample with blocks of a tree whose blocks hold all that the metric needs.
template <class Metric>
class CompleteBlocks {
 public:
  CompleteBlocks(const MetricTree& tree, Metric metric) : tree_(tree), metric_(std::move(metric)) {}

  void measure_from(const SampleView& own, const double*, Index) { metric_.measure_from(own); }
  unsigned near(Index block) const { return metric_.near(tree_.block(block)); }
  LaneStates evaluate(Index block, double* q) { return metric_.evaluate(tree_.block(block), q); }

 private:
  const MetricTree& tree_;
  Metric metric_;
};

/// The same where blocks hold search coordinates alone: what is near in those is evaluated pair by pair.
template <class Metric>
class SearchBlocks {
 public:
  SearchBlocks(const MetricTree& tree, Metric metric, double squared_radius)
      : tree_(tree), search_(tree.search_dim(), 0, squared_radius), metric_(std::move(metric)) {}

  /// `position` is the tree position of the sample, or -1 for a point of its own.
  void measure_from(const SampleView& own, const double* search_point, Index position) {
    own_ = own;
    position_ = position;
    search_.measure_from({search_point, nullptr, nullptr, own.stretch});
  }
  unsigned near(Index block) const { return search_.near(tree_.block(block)); }

  LaneStates evaluate(Index block, double* q) {
    LaneStates states;
    for (unsigned rest = near(block); rest != 0; rest &= rest - 1) {
      const int lane = std::countr_zero(rest);
      const Index j = block * kBlock + lane;
      const SampleView other = tree_.sample(j);
      // In the order of the tree, so that both ends of a pair see the same operations.
      const PairState state = position_ > j ? metric_(other, own_, q[lane]) : metric_(own_, other, q[lane]);
      if (state == PairState::kept) states.kept |= 1U << lane;
      if (state == PairState::gated) states.gated |= 1U << lane;
    }
    return states;
  }

 private:
  const MetricTree& tree_;
  BlockMetric<-1, 0> search_;
  Metric metric_;
  SampleView own_{nullptr, nullptr, nullptr, 0.0};
  Index position_ = -1;
};

/// Calls work(blocks) with the evaluation of pairs that fits the tree; one object a thread.
template <class Work>
void with_blocks(const MetricTree& tree, double squared_radius, Work&& work) {
  const Index m = tree.n_measurements(), dim = tree.dim();
  if (tree.blocks_are_complete()) {
    with_block_metric(m, dim, squared_radius,
                      [&](auto metric) { work(CompleteBlocks<decltype(metric)>(tree, std::move(metric))); });
  } else {
    with_wide_pair_metric(m, dim, squared_radius, [&](auto metric) {
      work(SearchBlocks<decltype(metric)>(tree, std::move(metric), squared_radius));
    });
  }
}

/// Appends the blocks of a leaf.
void add_blocks(const MetricTree::Node& leaf, std::vector<Row>& blocks) {
  for (Index block = leaf.begin / kBlock; block * kBlock < leaf.end; ++block) blocks.push_back(static_cast<Row>(block));
}

/// Calls visit(block, states, q) for the blocks that hold kept or gated lanes, in their order. `own` is the tree
/// position of the sample (-1: none), which is kept whatever the metric says. `blocks` is left as the blocks that
/// hold something near.
template <class Blocks, class Visit>
void visit_lanes(Blocks& pairs, Index own, std::vector<Row>& blocks, Visit&& visit) {
  std::size_t n_near = 0;
  for (const Row block : blocks) {
    blocks[n_near] = block;
    n_near += pairs.near(block) != 0 ? 1 : 0;
  }
  alignas(64) double q[kBlock];
  for (std::size_t k = 0; k < n_near; ++k) {
    const Index block = blocks[k];
    LaneStates states = pairs.evaluate(block, q);
    if (own >= 0 && block == own / kBlock) {
      const Index lane = own % kBlock;
      states.kept |= 1U << lane;
      states.gated &= ~(1U << lane);
      q[lane] = 0.0;
    }
    visit(block, states, q);
  }
}

/// Appends the kept lanes: columns and, for the time being, q.
void add_lanes(Index block, unsigned kept, const double* q, RowChunk& out) {
  Index count = out.count;
  Row* columns = out.columns.data();
  double* values = out.values.data();
  // Without branches: every lane is written, and the next one overwrites those that are not kept.
  for (Index lane = 0; lane < kBlock; ++lane) {
    columns[count] = static_cast<Row>(block * kBlock + lane);
    values[count] = q[lane];
    count += (kept >> lane) & 1U;
  }
  out.count = count;
}

/// Turns q into kernel values; returns how many of them are 1, and whether all are numbers.
struct Outcome {
  Index ones = 0;
  bool is_finite = true;
};
Outcome to_kernel_values(double* values, Index count, double scale) {
  for (Index e = 0; e < count; ++e) values[e] *= -scale;
  exponentials(values, count);
  Outcome outcome;
  for (Index e = 0; e < count; ++e) {
    outcome.ones += values[e] == 1.0 ? 1 : 0;
    outcome.is_finite = outcome.is_finite && values[e] <= 1.0;
  }
  return outcome;
}

/// The row of sample i from the blocks that hold what it may be paired with, which are changed; how many pairs the
/// gates dropped. The entries are q. Not inlined: what calls it would be compiled once more for every metric.
template <class Blocks>
[[gnu::noinline]] Index add_row(const MetricTree& tree, Index i, Blocks& pairs, std::vector<Row>& blocks,
                                RowChunk& out) {
  pairs.measure_from(tree.sample(i), tree.search_point(i), i);
  out.make_room(static_cast<Index>(blocks.size()) * kBlock);
  Index dropped = 0;
  visit_lanes(pairs, i, blocks, [&](Index block, LaneStates states, const double* q) {
    dropped += std::popcount(states.gated);
    add_lanes(block, states.kept, q, out);
  });
  return dropped;
}

/// The rows of one leaf; `nearby` are leaves that hold all that its samples may be paired with.
template <class Blocks>
void rows_of_leaf(const MetricTree& tree, Index leaf, const std::vector<Index>& nearby, double reach, Blocks& pairs,
                  RowChunk& out, Row* gated) {
  std::vector<Row> all, blocks;
  for (const Index node : nearby) {
    if (tree.nodes_are_near(leaf, node, reach)) add_blocks(tree.nodes()[static_cast<std::size_t>(node)], all);
  }
  const MetricTree::Node& own = tree.nodes()[static_cast<std::size_t>(leaf)];
  for (Index i = own.begin; i < own.end; ++i) {
    blocks = all;
    const Index before = out.count;
    gated[i] = static_cast<Row>(add_row(tree, i, pairs, blocks, out));
    out.lengths.push_back(static_cast<Row>(out.count - before));
  }
}

/// About how many entries the kernel has.
double expected_entries(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  const Index n = tree.size(), count = std::min(n, kProbes);
  Row rows[kProbes] = {};
  double sums[kProbes];
  Index entries[kProbes], gated[kProbes], total = 0;
  for (Index p = 0; p < count; ++p) rows[p] = static_cast<Row>(p * n / count);
  row_statistics(tree, bandwidth, rows, count, sums, entries, gated, threads);
  for (Index p = 0; p < count; ++p) total += entries[p];
  return static_cast<double>(total) / static_cast<double>(count) * static_cast<double>(n);
}

/// Visits every sample near the point `search` with the outcome of the metric, one by one.
template <class Evaluate, class Visit>
void visit_pairs(const MetricTree& tree, const double* search, double stretch, double reach, Evaluate&& evaluate,
                 Visit&& visit) {
  tree.visit_leaves_near_point(search, stretch, reach, [&](Index node) {
    const MetricTree::Node& leaf = tree.nodes()[static_cast<std::size_t>(node)];
    for (Index j = leaf.begin; j < leaf.end; ++j) {
      double q = 0.0;
      if (evaluate(tree.sample(j), q) == PairState::kept) visit(j, q);
    }
  });
}

/// Whitening (count, m, dim) of new points turned into the layout of the tree.
struct Transposed {
  std::vector<double> whitening, squared_stretches, stretch;

  Transposed(const double* source, Index count, Index m, Index dim)
      : whitening(static_cast<std::size_t>(count * m * dim)), squared_stretches(static_cast<std::size_t>(count * dim)),
        stretch(static_cast<std::size_t>(count), dim > 0 ? 0.0 : 1.0) {
    for (Index i = 0; i < count; ++i) {
      for (Index k = 0; k < dim; ++k) {
        double norm2 = 0.0;
        for (Index a = 0; a < m; ++a) {
          const double w = source[(i * m + a) * dim + k];
          whitening[static_cast<std::size_t>((i * dim + k) * m + a)] = w;
          norm2 += w * w;
        }
        squared_stretches[static_cast<std::size_t>(i * dim + k)] = 1.0 / norm2;
        double& largest = stretch[static_cast<std::size_t>(i)];
        largest = std::max(largest, std::sqrt(1.0 / norm2));
      }
    }
  }
};

/// The kernel by the search on the tree, row by row.
Kernel sparse_kernel(const MetricTree& tree, Bandwidth bandwidth, double expected, int threads) {
  const Index n = tree.size(), n_leaves = static_cast<Index>(tree.leaves().size());
  const double reach = Gates::kReach * std::sqrt(bandwidth.squared_radius());
  const double scale = 1.0 / (4.0 * bandwidth.epsilon);
  Kernel kernel;
  kernel.gated = Buffer<Row>(n);
  RowCollector collector(n, n, static_cast<Index>(kExcess * expected));
  std::atomic<Index> n_gated{0}, n_ones{0};
  std::atomic<bool> is_finite{true};
  parallel_chunks(n_leaves, kLeaves, threads, [&](Index chunk, Index begin, Index end) {
    RowChunk rows = collector.spare();
    std::vector<Index> nearby;
    tree.visit_leaves_near_node(tree.node_of_leaves(begin, kLeaves), reach,
                                [&](Index node) { nearby.push_back(node); });
    with_blocks(tree, bandwidth.squared_radius(), [&](auto pairs) {
      for (Index leaf = begin; leaf < end; ++leaf) {
        rows_of_leaf(tree, tree.leaves()[static_cast<std::size_t>(leaf)], nearby, reach, pairs, rows,
                     kernel.gated.data());
      }
    });
    const Outcome outcome = to_kernel_values(rows.values.data(), rows.count, scale);
    n_ones += outcome.ones - static_cast<Index>(rows.lengths.size());
    if (!outcome.is_finite) is_finite = false;
    Index dropped = 0;
    for (Index i = begin * MetricTree::kLeafSize; i < std::min(n, end * MetricTree::kLeafSize); ++i)
      dropped += kernel.gated[i];
    n_gated += dropped;
    collector.add(chunk, std::move(rows));
  });
  kernel.rows = collector.take();
  kernel.n_gated = n_gated / 2;
  kernel.n_ones = n_ones;
  kernel.is_finite = is_finite;
  return kernel;
}

}  // namespace

double Bandwidth::squared_radius() const { return 4.0 * epsilon * std::log(1.0 / truncation); }

Kernel assemble_kernel(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  if (tiles_are_cheaper(tree, 0.0)) return assemble_dense(tree, bandwidth, threads);
  const double expected = expected_entries(tree, bandwidth, threads);
  if (tiles_are_cheaper(tree, expected / static_cast<double>(tree.size())))
    return assemble_dense(tree, bandwidth, threads);
  return sparse_kernel(tree, bandwidth, expected, threads);
}

Kernel assemble_sparse(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  return sparse_kernel(tree, bandwidth, expected_entries(tree, bandwidth, threads), threads);
}

void row_statistics(const MetricTree& tree, Bandwidth bandwidth, const Row* rows, Index count, double* sums,
                    Index* entries, Index* gated, int threads) {
  check_rows<Row>("row_statistics", {"rows", rows, count}, "n", tree.size(), threads);
  if (tiles_are_cheaper(tree, 0.0)) {
    dense_row_statistics(tree, bandwidth, rows, count, sums, entries, gated, threads);
    return;
  }
  const double reach = Gates::kReach * std::sqrt(bandwidth.squared_radius());
  const double scale = 1.0 / (4.0 * bandwidth.epsilon);
  // Few rows with much work each: one row a task.
  parallel_chunks(count, 1, threads, [&](Index, Index begin, Index end) {
    with_blocks(tree, bandwidth.squared_radius(), [&](auto pairs) {
      std::vector<Row> blocks;
      RowChunk row;
      for (Index s = begin; s < end; ++s) {
        const Index i = rows[s];
        blocks.clear();
        tree.visit_leaves_near_point(tree.search_point(i), tree.stretch(i), reach, [&](Index node) {
          add_blocks(tree.nodes()[static_cast<std::size_t>(node)], blocks);
        });
        row.clear();
        gated[s] = add_row(tree, i, pairs, blocks, row);
        to_kernel_values(row.values.data(), row.count, scale);
        entries[s] = row.count;
        sums[s] = 0.0;
        for (Index e = 0; e < row.count; ++e) sums[s] += row.values[static_cast<std::size_t>(e)];
      }
    });
  });
}

SparseRows cross_kernel(const MetricTree& tree, Bandwidth bandwidth, const double* points, const double* whitening,
                        Index count, int threads) {
  const Index m = tree.n_measurements(), dim = tree.dim();
  const double reach = Gates::kReach * std::sqrt(bandwidth.squared_radius());
  const double scale = 1.0 / (4.0 * bandwidth.epsilon);
  const bool two_sided = whitening != nullptr || dim == 0;
  const Transposed own(whitening, whitening == nullptr ? 0 : count, m, dim);
  const RowMatrix search = tree.search_coordinates(points, count);
  RowCollector collector(count, tree.size(), 0);
  parallel_chunks(count, kRows, threads, [&](Index chunk, Index begin, Index end) {
    RowChunk out = collector.spare();
    with_pair_metric(m, dim, bandwidth.squared_radius(), [&](auto metric) {
      for (Index i = begin; i < end; ++i) {
        // A bare point has no stretch of its own: only that of the samples limits the reach.
        SampleView here{points + i * m, nullptr, nullptr, std::numeric_limits<double>::infinity()};
        if (whitening != nullptr) {
          here.whitening = own.whitening.data() + i * dim * m;
          here.squared_stretches = own.squared_stretches.data() + i * dim;
          here.stretch = own.stretch[static_cast<std::size_t>(i)];
        }
        const Index before = out.count;
        visit_pairs(
            tree, search.data() + i * search.cols(), here.stretch, reach,
            [&](const SampleView& other, double& q) {
              return two_sided ? metric(here, other, q) : metric.from_sample(here, other, q);
            },
            [&](Index j, double q) {
              out.make_room(1);
              out.columns[static_cast<std::size_t>(out.count)] = tree.order()[static_cast<std::size_t>(j)];
              out.values[static_cast<std::size_t>(out.count++)] = q;
            });
        out.lengths.push_back(static_cast<Row>(out.count - before));
      }
    });
    to_kernel_values(out.values.data(), out.count, scale);
    collector.add(chunk, std::move(out));
  });
  return collector.take();
}

}  // namespace diffeo
