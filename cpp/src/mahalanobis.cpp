#include "diffeo/mahalanobis.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "diffeo/dense.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// Leaves per task: some 400 samples, a few hundred microseconds of work.
constexpr Index kLeaves = 16;

// Rows per task where rows are handled one by one.
constexpr Index kRows = 256;

/// Entries of some consecutive rows, in row order.
struct Entries {
  std::vector<Row> columns;
  std::vector<double> values;
};

SampleView view(const MetricTree& tree, Index t) {
  return {tree.point(t), tree.whitening(t), tree.squared_stretches(t), tree.stretch(t)};
}

void add_one(Row& counter) { std::atomic_ref<Row>(counter).fetch_add(1, std::memory_order_relaxed); }

/// The pairs (i, j) with j > i of all samples i of one leaf, in order of i, then of j.
template <class Metric>
void upper_entries_of_leaf(const MetricTree& tree, Index leaf, Metric& metric, double reach, double scale,
                           std::vector<Index>& nearby, Entries& out, Row* upper, Row* lower, Row* gated) {
  const MetricTree::Node& own = tree.nodes()[static_cast<std::size_t>(leaf)];
  nearby.clear();
  tree.visit_leaves_near_node(leaf, reach, [&](Index node) {
    if (tree.nodes()[static_cast<std::size_t>(node)].end > own.begin) nearby.push_back(node);
  });
  for (Index i = own.begin; i < own.end; ++i) {
    const SampleView here = view(tree, i);
    const std::size_t before = out.columns.size();
    for (const Index node : nearby) {
      const MetricTree::Node& other = tree.nodes()[static_cast<std::size_t>(node)];
      const double limit = reach * std::min(here.stretch, other.max_stretch);
      if (tree.squared_distance_to_box(tree.search_point(i), node) > limit * limit) continue;
      for (Index j = std::max(i + 1, other.begin); j < other.end; ++j) {
        double q = 0.0;
        const PairState state = metric(here, view(tree, j), q);
        if (state == PairState::kept) {
          out.columns.push_back(static_cast<Row>(j));
          out.values.push_back(std::exp(-q * scale));
          add_one(lower[j]);
        } else if (state == PairState::gated) {
          add_one(gated[i]);
          add_one(gated[j]);
        }
      }
    }
    upper[i] = static_cast<Row>(out.columns.size() - before);
  }
}

/// Copies the upper entries of a chunk of rows into place and mirrors each below the diagonal.
void scatter(const Entries& entries, Index begin, Index end, const Row* upper, Row* filled, SparseRows& rows) {
  std::size_t at = 0;
  for (Index i = begin; i < end; ++i) {
    Index place = rows.indptr[i + 1] - upper[i];
    rows.indices[place - 1] = static_cast<Row>(i);
    rows.values[place - 1] = 1.0;
    for (Row e = 0; e < upper[i]; ++e, ++at, ++place) {
      const Row j = entries.columns[at];
      rows.indices[place] = j;
      rows.values[place] = entries.values[at];
      const Index mirror = rows.indptr[j] + std::atomic_ref<Row>(filled[j]).fetch_add(1, std::memory_order_relaxed);
      rows.indices[mirror] = static_cast<Row>(i);
      rows.values[mirror] = entries.values[at];
    }
  }
}

/// Sorts the mirrored entries of each row, whose order of arrival depends on the threads.
void sort_lower(SparseRows& rows, const Row* lower, int threads) {
  parallel_chunks(rows.n_rows, kRows, threads, [&](Index, Index begin, Index end) {
    std::vector<std::pair<Row, double>> row;
    for (Index i = begin; i < end; ++i) {
      const Index start = rows.indptr[i];
      row.resize(static_cast<std::size_t>(lower[i]));
      for (std::size_t e = 0; e < row.size(); ++e) {
        const Index at = start + static_cast<Index>(e);
        row[e] = {rows.indices[at], rows.values[at]};
      }
      std::sort(row.begin(), row.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
      for (std::size_t e = 0; e < row.size(); ++e) {
        const Index at = start + static_cast<Index>(e);
        rows.indices[at] = row[e].first;
        rows.values[at] = row[e].second;
      }
    }
  });
}

/// Joins per-chunk entries into compressed rows.
SparseRows join(const std::vector<Entries>& chunks, const std::vector<Index>& counts, Index rows_per_chunk,
                Index n_columns, int threads) {
  SparseRows rows;
  rows.n_rows = static_cast<Index>(counts.size());
  rows.n_columns = n_columns;
  rows.indptr = Buffer<Index>(rows.n_rows + 1);
  rows.indptr[0] = 0;
  for (Index i = 0; i < rows.n_rows; ++i) rows.indptr[i + 1] = rows.indptr[i] + counts[static_cast<std::size_t>(i)];
  rows.indices = Buffer<Row>(rows.indptr[rows.n_rows]);
  rows.values = Buffer<double>(rows.indptr[rows.n_rows]);
  parallel_chunks(static_cast<Index>(chunks.size()), 1, threads, [&](Index chunk, Index, Index) {
    const Entries& entries = chunks[static_cast<std::size_t>(chunk)];
    const Index start = rows.indptr[chunk * rows_per_chunk];
    std::copy(entries.columns.begin(), entries.columns.end(), rows.indices.data() + start);
    std::copy(entries.values.begin(), entries.values.end(), rows.values.data() + start);
  });
  return rows;
}

/// Visits every sample near the sample or point `here` with the outcome of the metric.
template <class Evaluate, class Visit>
void visit_pairs(const MetricTree& tree, const double* search, double stretch, double reach, Evaluate&& evaluate,
                 Visit&& visit) {
  tree.visit_leaves_near_point(search, stretch, reach, [&](Index node) {
    const MetricTree::Node& leaf = tree.nodes()[static_cast<std::size_t>(node)];
    for (Index j = leaf.begin; j < leaf.end; ++j) {
      double q = 0.0;
      const PairState state = evaluate(view(tree, j), q);
      if (state != PairState::outside) visit(j, state, q);
    }
  });
}

/// Whitening (count, m, dim) of new points turned into the layout of the tree.
struct Transposed {
  std::vector<double> whitening, squared_stretches, stretch;

  Transposed(const double* source, Index count, Index m, Index dim)
      : whitening(static_cast<std::size_t>(count * m * dim)), squared_stretches(static_cast<std::size_t>(count * dim)),
        stretch(static_cast<std::size_t>(count), 0.0) {
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

/// Mean entries a row of some rows.
double expected_entries(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  constexpr Index kProbes = 32;
  const Index n = tree.size(), count = std::min(n, kProbes);
  Row rows[kProbes];
  double sums[kProbes];
  Index entries[kProbes], gated[kProbes], total = 0;
  if (tiles_are_cheaper(n, tree.n_measurements(), 0.0)) return 0.0;
  for (Index p = 0; p < count; ++p) rows[p] = static_cast<Row>(p * n / count);
  row_statistics(tree, bandwidth, rows, count, sums, entries, gated, threads);
  for (Index p = 0; p < count; ++p) total += entries[p];
  return static_cast<double>(total) / static_cast<double>(count);
}

}  // namespace

double Bandwidth::squared_radius() const { return 4.0 * epsilon * std::log(1.0 / truncation); }

Kernel assemble_kernel(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  if (tiles_are_cheaper(tree.size(), tree.n_measurements(), expected_entries(tree, bandwidth, threads))) {
    return assemble_dense(tree, bandwidth, threads);
  }
  return assemble_sparse(tree, bandwidth, threads);
}

Kernel assemble_sparse(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  const Index n = tree.size();
  const auto& leaves = tree.leaves();
  const double reach = Gates::kReach * std::sqrt(bandwidth.squared_radius());
  const double scale = 1.0 / (4.0 * bandwidth.epsilon);
  std::vector<Row> upper(static_cast<std::size_t>(n), 0), lower(static_cast<std::size_t>(n), 0);
  Kernel kernel;
  kernel.gated = Buffer<Row>(n);
  std::fill_n(kernel.gated.data(), n, Row{0});
  const Index n_leaves = static_cast<Index>(leaves.size());
  std::vector<Entries> chunks(static_cast<std::size_t>((n_leaves + kLeaves - 1) / kLeaves));
  parallel_chunks(n_leaves, kLeaves, threads, [&](Index chunk, Index begin, Index end) {
    with_pair_metric(tree.n_measurements(), tree.dim(), bandwidth.squared_radius(), [&](auto metric) {
      std::vector<Index> nearby;
      for (Index leaf = begin; leaf < end; ++leaf) {
        upper_entries_of_leaf(tree, leaves[static_cast<std::size_t>(leaf)], metric, reach, scale, nearby,
                              chunks[static_cast<std::size_t>(chunk)], upper.data(), lower.data(), kernel.gated.data());
      }
    });
  });
  SparseRows& rows = kernel.rows;
  rows.n_rows = rows.n_columns = n;
  rows.indptr = Buffer<Index>(n + 1);
  rows.indptr[0] = 0;
  for (Index i = 0; i < n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    rows.indptr[i + 1] = rows.indptr[i] + lower[at] + 1 + upper[at];
    kernel.n_gated += kernel.gated[i];
  }
  kernel.n_gated /= 2;
  rows.indices = Buffer<Row>(rows.indptr[n]);
  rows.values = Buffer<double>(rows.indptr[n]);
  std::vector<Row> filled(static_cast<std::size_t>(n), 0);
  parallel_chunks(n_leaves, kLeaves, threads, [&](Index chunk, Index begin, Index end) {
    Entries& entries = chunks[static_cast<std::size_t>(chunk)];
    scatter(entries, tree.nodes()[static_cast<std::size_t>(leaves[static_cast<std::size_t>(begin)])].begin,
            tree.nodes()[static_cast<std::size_t>(leaves[static_cast<std::size_t>(end - 1)])].end, upper.data(),
            filled.data(), rows);
    entries = Entries();
  });
  sort_lower(rows, lower.data(), threads);
  return kernel;
}

void row_statistics(const MetricTree& tree, Bandwidth bandwidth, const Row* rows, Index count, double* sums,
                    Index* entries, Index* gated, int threads) {
  if (tiles_are_cheaper(tree.size(), tree.n_measurements(), 0.0)) {
    dense_row_statistics(tree, bandwidth, rows, count, sums, entries, gated, threads);
    return;
  }
  const double reach = Gates::kReach * std::sqrt(bandwidth.squared_radius());
  const double scale = 1.0 / (4.0 * bandwidth.epsilon);
  // Few rows with much work each: one row a task.
  parallel_chunks(count, 1, threads, [&](Index, Index begin, Index end) {
    with_pair_metric(tree.n_measurements(), tree.dim(), bandwidth.squared_radius(), [&](auto metric) {
      for (Index s = begin; s < end; ++s) {
        const Index i = rows[s];
        const SampleView here = view(tree, i);
        sums[s] = 1.0;
        entries[s] = 1;
        gated[s] = 0;
        visit_pairs(
            tree, tree.search_point(i), here.stretch, reach,
            [&](const SampleView& other, double& q) { return metric(here, other, q); },
            [&](Index j, PairState state, double q) {
              if (j == i) return;
              if (state == PairState::gated) {
                ++gated[s];
              } else {
                ++entries[s];
                sums[s] += std::exp(-q * scale);
              }
            });
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
  std::vector<Entries> chunks(static_cast<std::size_t>((count + kRows - 1) / kRows));
  std::vector<Index> counts(static_cast<std::size_t>(count));
  parallel_chunks(count, kRows, threads, [&](Index chunk, Index begin, Index end) {
    Entries& out = chunks[static_cast<std::size_t>(chunk)];
    with_pair_metric(m, dim, bandwidth.squared_radius(), [&](auto metric) {
      for (Index i = begin; i < end; ++i) {
        // A bare point has no stretch of its own: only that of the samples limits the reach.
        SampleView here{points + i * m, nullptr, nullptr, std::numeric_limits<double>::infinity()};
        if (whitening != nullptr) {
          here.whitening = own.whitening.data() + i * dim * m;
          here.squared_stretches = own.squared_stretches.data() + i * dim;
          here.stretch = own.stretch[static_cast<std::size_t>(i)];
        }
        const std::size_t before = out.columns.size();
        visit_pairs(
            tree, search.data() + i * search.cols(), here.stretch, reach,
            [&](const SampleView& other, double& q) {
              return two_sided ? metric(here, other, q) : metric.from_sample(here, other, q);
            },
            [&](Index j, PairState state, double q) {
              if (state != PairState::kept) return;
              out.columns.push_back(tree.order()[static_cast<std::size_t>(j)]);
              out.values.push_back(std::exp(-q * scale));
            });
        counts[static_cast<std::size_t>(i)] = static_cast<Index>(out.columns.size() - before);
      }
    });
  });
  return join(chunks, counts, kRows, tree.size(), threads);
}

}  // namespace diffeo
