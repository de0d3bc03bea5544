// The kernel by tiles: pairs found tile by tile, then rows written from them.
#include "diffeo/dense.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "diffeo/parallel.hpp"
#include "diffeo/tile_boxes.hpp"
#include "diffeo/tile_metric.hpp"

namespace diffeo {
namespace {

// Runs of rows that share each packed run of columns: packing then costs a few percent of the products.
constexpr Index kGroup = 4;

// Probed rows a task: enough to share the packing of columns, few enough to keep every thread at work.
constexpr Index kProbes = 24;

// Digits of the exponents q / (4 epsilon) of kernel values: PairMetric itself rounds them by some 1e-14 ...
constexpr double kExponent = 1e-13;

// ... and of probed rows, whose sums are only compared with each other.
constexpr double kProbeExponent = 1e-10;

// Up to this many measurements the search on the tree is faster, unless rows hold a larger share of all samples: it
// then was up to three times slower (measured at two measurements and 1,000 samples that all pair), at most equal
// where no more than a twelfth does.
constexpr Index kFewMeasurements = 8;
constexpr double kWideShare = 1.0 / 8.0;

// The products of a tile take (d + 1)^2 times 18 KiB.
constexpr Index kMostDimensions = 8;

// Values are kept in pieces of this many until their rows are known.
constexpr Index kPiece = Index{1} << 16;

constexpr std::uint64_t kAll = kTile == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (kTile % 64)) - 1;

void add(Row& counter, Index value) {
  std::atomic_ref<Row>(counter).fetch_add(static_cast<Row>(value), std::memory_order_relaxed);
}

Index samples_of_tile(const MetricTree& tree, Index tile, Row* samples) {
  const Index begin = tile * kTile, count = std::min(kTile, tree.size() - begin);
  for (Index s = 0; s < count; ++s) samples[s] = static_cast<Row>(begin + s);
  return count;
}

std::vector<double> centre_of(const MetricTree& tree, const Row* samples, Index count) {
  std::vector<double> centre(static_cast<std::size_t>(tree.n_measurements()), 0.0);
  for (Index s = 0; s < count; ++s) {
    const double* y = tree.point(samples[s]);
    // Shares of a mean instead of a sum: no overflow.
    for (std::size_t a = 0; a < centre.size(); ++a) centre[a] += y[a] / static_cast<double>(count);
  }
  return centre;
}

/// The kept pairs of two tiles, row <= column; on the diagonal those above it.
struct Block {
  Index row_tile, column_tile;
  std::uint64_t kept[kTile];
  const double* values;  // one for each bit, row by row
  bool full;
};

/// What one task has found, in order of the column tiles.
struct Found {
  std::vector<Block> blocks;
  std::vector<std::unique_ptr<double[]>> pieces;
  Index used = kPiece;
  Index ones = 0;  // values that equal 1
  bool is_finite = true;

  /// Moves the kept values together.
  void add_block(Index row_tile, Index column_tile, const TilePairs& pairs) {
    if (used + kTile * kTile > kPiece) {
      pieces.push_back(std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(kPiece)));
      used = 0;
    }
    Block block{row_tile, column_tile, {}, pieces.back().get() + used, true};
    double* to = pieces.back().get() + used;
    for (Index i = 0; i < kTile; ++i) {
      const std::uint64_t kept = block.kept[i] = pairs.kept[i];
      const double* from = pairs.values + i * kTile;
      if (kept == kAll) {
        to = std::copy_n(from, kTile, to);
        continue;
      }
      block.full = false;
      for (std::uint64_t rest = kept; rest != 0; rest &= rest - 1) *to++ = from[std::countr_zero(rest)];
    }
    for (const double* value = block.values; value != to; ++value) {
      ones += *value == 1.0 ? 1 : 0;
      is_finite = is_finite && *value <= 1.0;
    }
    used = to - pieces.back().get();
    blocks.push_back(block);
  }
};

/// Adds the pairs of a block to the counts of its rows and its columns.
void count_pairs(const std::uint64_t* bits, Index row_begin, Index column_begin, Row* counts) {
  Index columns[kTile] = {};
  for (Index i = 0; i < kTile; ++i) {
    if (bits[i] == 0) continue;
    add(counts[row_begin + i], std::popcount(bits[i]));
    for (std::uint64_t rest = bits[i]; rest != 0; rest &= rest - 1) ++columns[std::countr_zero(rest)];
  }
  for (Index j = 0; j < kTile; ++j) {
    if (columns[j] != 0) add(counts[column_begin + j], columns[j]);
  }
}

/// All pairs of the row tiles [begin, end) with later samples.
void find_pairs(const MetricTree& tree, const TileBoxes& boxes, double factor, Index begin, Index end,
                TileMetric& metric, Found& found, Row* entries, Row* gated) {
  std::vector<TileSide> rows(static_cast<std::size_t>(end - begin), TileSide(tree, kPanelRows));
  TileSide columns(tree, kPanelColumns);
  std::vector<Row> samples(static_cast<std::size_t>((end - begin) * kTile));
  Index count = 0;
  for (Index t = begin; t < end; ++t) count += samples_of_tile(tree, t, samples.data() + (t - begin) * kTile);
  const std::vector<double> centre = centre_of(tree, samples.data(), count);
  for (Index t = begin; t < end; ++t) {
    const Index start = (t - begin) * kTile;
    rows[static_cast<std::size_t>(t - begin)].set_points(samples.data() + start, std::min(kTile, count - start),
                                                         centre.data());
  }
  auto pairs = std::make_unique<TilePairs>();
  Row others[kTile];
  boxes.visit_near(tree, samples.data(), count, factor, [&](Index c) {
    bool packed = false;
    for (Index t = begin; t < std::min(end, c + 1); ++t) {
      if (!boxes.near(t, c, factor)) continue;
      if (!packed) {
        columns.set_points(others, samples_of_tile(tree, c, others), centre.data());
        packed = true;
      }
      TileSide& row = rows[static_cast<std::size_t>(t - begin)];
      std::uint64_t candidates[kTile] = {};
      const std::uint64_t all = kAll >> (kTile - columns.count());
      for (Index i = 0; i < row.count(); ++i) candidates[i] = t == c ? all & ~((std::uint64_t{2} << i) - 1) : all;
      metric(row, columns, candidates, *pairs);
      if (!pairs->any) continue;
      count_pairs(pairs->kept, t * kTile, c * kTile, entries);
      count_pairs(pairs->gated, t * kTile, c * kTile, gated);
      found.add_block(t, c, *pairs);
    }
  });
}

/// Writes the rows of one tile from the blocks left of the diagonal (mirrored), then those right of it.
class RowWriter {
 public:
  RowWriter(SparseRows& rows, Index tile) : rows_(rows), begin_(tile * kTile) {
    const Index count = std::min(kTile, rows.n_rows - begin_);
    for (Index i = 0; i < count; ++i) place_[i] = rows.indptr[begin_ + i];
  }

  void mirrored(const Block& block) {
    const Row first = static_cast<Row>(block.row_tile * kTile);
    const double* value = block.values;
    if (block.full) {
      for (Index i = 0; i < kTile; ++i) {
        Row* columns = rows_.indices.data() + place_[i];
        double* values = rows_.values.data() + place_[i];
        for (Index k = 0; k < kTile; ++k) columns[k] = first + static_cast<Row>(k);
        for (Index k = 0; k < kTile; ++k) values[k] = value[k * kTile + i];
        place_[i] += kTile;
      }
      return;
    }
    for (Index k = 0; k < kTile; ++k) {
      for (std::uint64_t rest = block.kept[k]; rest != 0; rest &= rest - 1) {
        put(std::countr_zero(rest), first + static_cast<Row>(k), *value++);
      }
    }
  }

  void diagonal() {
    for (Index i = 0; i < std::min(kTile, rows_.n_rows - begin_); ++i) put(i, static_cast<Row>(begin_ + i), 1.0);
  }

  void own(const Block& block) {
    const Row first = static_cast<Row>(block.column_tile * kTile);
    const double* value = block.values;
    for (Index i = 0; i < kTile; ++i) {
      if (block.kept[i] == kAll) {
        Row* columns = rows_.indices.data() + place_[i];
        for (Index j = 0; j < kTile; ++j) columns[j] = first + static_cast<Row>(j);
        std::copy_n(value, kTile, rows_.values.data() + place_[i]);
        value += kTile;
        place_[i] += kTile;
        continue;
      }
      for (std::uint64_t rest = block.kept[i]; rest != 0; rest &= rest - 1) {
        put(i, first + static_cast<Row>(std::countr_zero(rest)), *value++);
      }
    }
  }

 private:
  void put(Index i, Row column, double value) {
    rows_.indices[place_[i]] = column;
    rows_.values[place_[i]++] = value;
  }

  SparseRows& rows_;
  Index begin_;
  Index place_[kTile] = {};
};

void write_rows(const std::vector<Found>& found, Index n_tiles, SparseRows& rows, int threads) {
  std::vector<std::vector<const Block*>> own(static_cast<std::size_t>(n_tiles)), mirrored(own.size());
  for (const Found& task : found) {
    for (const Block& block : task.blocks) {
      own[static_cast<std::size_t>(block.row_tile)].push_back(&block);
      mirrored[static_cast<std::size_t>(block.column_tile)].push_back(&block);
    }
  }
  parallel_chunks(n_tiles, 1, threads, [&](Index tile, Index, Index) {
    RowWriter writer(rows, tile);
    for (const Block* block : mirrored[static_cast<std::size_t>(tile)]) writer.mirrored(*block);
    writer.diagonal();
    for (const Block* block : own[static_cast<std::size_t>(tile)]) writer.own(*block);
  });
}

/// The statistics of up to kProbes rows.
void probe_rows(const MetricTree& tree, const TileBoxes& boxes, double factor, const Row* rows, Index count,
                TileMetric& metric, double* sums, Index* entries, Index* gated) {
  std::vector<Index> near;
  for (Index first = 0; first < count; first += kPanelRows) {
    boxes.visit_near(tree, rows + first, std::min(kPanelRows, count - first), factor,
                     [&](Index tile) { near.push_back(tile); });
  }
  std::sort(near.begin(), near.end());
  near.erase(std::unique(near.begin(), near.end()), near.end());
  const std::vector<double> centre = centre_of(tree, rows, count);
  TileSide probes(tree, kPanelRows), columns(tree, kPanelColumns);
  probes.set_points(rows, count, centre.data());
  std::fill_n(sums, count, 1.0);
  std::fill_n(entries, count, Index{1});
  std::fill_n(gated, count, Index{0});
  auto pairs = std::make_unique<TilePairs>();
  Row others[kTile];
  for (const Index tile : near) {
    columns.set_points(others, samples_of_tile(tree, tile, others), centre.data());
    std::uint64_t candidates[kTile] = {};
    for (Index i = 0; i < count; ++i) {
      candidates[i] = kAll >> (kTile - columns.count());
      if (rows[i] / kTile == tile) candidates[i] &= ~(std::uint64_t{1} << (rows[i] % kTile));
    }
    metric(probes, columns, candidates, *pairs);
    for (Index i = 0; i < count && pairs->any; ++i) {
      entries[i] += std::popcount(pairs->kept[i]);
      gated[i] += std::popcount(pairs->gated[i]);
      for (std::uint64_t rest = pairs->kept[i]; rest != 0; rest &= rest - 1) {
        sums[i] += pairs->values[i * kTile + std::countr_zero(rest)];
      }
    }
  }
}

}  // namespace

bool tiles_are_cheaper(const MetricTree& tree, double entries_per_row) {
  if (tree.dim() > kMostDimensions) return false;
  return tree.n_measurements() > kFewMeasurements || entries_per_row > kWideShare * static_cast<double>(tree.size());
}

void dense_row_statistics(const MetricTree& tree, Bandwidth bandwidth, const Row* rows, Index count, double* sums,
                          Index* entries, Index* gated, int threads) {
  const double squared_radius = bandwidth.squared_radius();
  const double factor = Gates::kReach * std::sqrt(squared_radius);
  const TileBoxes boxes(tree);
  parallel_chunks(count, kProbes, threads, [&](Index, Index begin, Index end) {
    TileMetric metric(tree, bandwidth.epsilon, squared_radius, kProbeExponent);
    probe_rows(tree, boxes, factor, rows + begin, end - begin, metric, sums + begin, entries + begin, gated + begin);
  });
}

Kernel assemble_dense(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  const Index n = tree.size();
  const double squared_radius = bandwidth.squared_radius();
  const double factor = Gates::kReach * std::sqrt(squared_radius);
  const TileBoxes boxes(tree);
  const Index n_tiles = boxes.n_tiles();
  std::vector<Found> found(static_cast<std::size_t>((n_tiles + kGroup - 1) / kGroup));
  std::vector<Row> entries(static_cast<std::size_t>(n_tiles * kTile), 1), gated(entries.size(), 0);
  parallel_chunks(n_tiles, kGroup, threads, [&](Index task, Index begin, Index end) {
    TileMetric metric(tree, bandwidth.epsilon, squared_radius, kExponent);
    find_pairs(tree, boxes, factor, begin, end, metric, found[static_cast<std::size_t>(task)], entries.data(),
               gated.data());
  });
  Kernel kernel;
  SparseRows& rows = kernel.rows;
  kernel.gated = Buffer<Row>(n);
  rows.n_rows = rows.n_columns = n;
  rows.indptr = Buffer<Index>(n + 1);
  rows.indptr[0] = 0;
  for (Index i = 0; i < n; ++i) {
    rows.indptr[i + 1] = rows.indptr[i] + entries[static_cast<std::size_t>(i)];
    kernel.gated[i] = gated[static_cast<std::size_t>(i)];
    kernel.n_gated += kernel.gated[i];
  }
  kernel.n_gated /= 2;
  for (const Found& task : found) {
    kernel.n_ones += 2 * task.ones;
    kernel.is_finite = kernel.is_finite && task.is_finite;
  }
  rows.indices = Buffer<Row>(rows.indptr[n]);
  rows.values = Buffer<double>(rows.indptr[n]);
  write_rows(found, n_tiles, rows, threads);
  return kernel;
}

}  // namespace diffeo
