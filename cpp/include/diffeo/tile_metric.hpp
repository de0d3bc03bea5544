// All pairs between two short runs of samples at once, by matrix products.
//
// The squared distances and gates are those that PairMetric evaluates pair by pair.
//
// With points taken from a centre near both runs, the products of [y_i; W_i] with [y_j; W_j] hold everything: |D|^2 =
// |y_i|^2 + |y_j|^2 - 2 y_i.y_j, W_i^T D = W_i^T y_j - W_i^T y_i, and W_i^T W_j of the transport. These differences
// cancel where a pair is close beside its distance from the centre. Every decision is therefore made with a margin for
// rounding, and pairs within the margin, or whose value would lose digits, are computed again by PairMetric.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "diffeo/pair_metric.hpp"
#include "diffeo/panel_product.hpp"
#include "diffeo/simd.hpp"
#include "diffeo/tile_side.hpp"
#include "diffeo/tree.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// What is known of the pairs of a tile: bit j of word i.
struct TilePairs {
  std::uint64_t kept[kTile];
  std::uint64_t gated[kTile];
  double values[kTile * kTile];  ///< exp(-q / (4 epsilon)) where kept
  bool any;                      ///< whether any bit is set
};

/// Evaluates tiles. Holds scratch space: one object a thread.
class TileMetric {
 public:
  /// Pairs whose exponent q / (4 epsilon) rounding would change by more than `exponent_error` are computed again.
  TileMetric(const MetricTree& tree, double epsilon, double squared_radius, double exponent_error);

  /// Fills `pairs` with the pairs (i, j) of rows and columns for which bit j of candidates[i] is set.
  void operator()(TileSide& rows, TileSide& columns, const std::uint64_t* candidates, TilePairs& pairs);

 private:
  void choose_blocks(const TileSide& rows, const TileSide& columns, const std::uint64_t* candidates);
  void multiply(const TileSide& rows, Index row_plane, const TileSide& columns, Index column_plane);
  void reach(const TileSide& rows, const TileSide& columns);
  template <int D>
  void distances(const TileSide& rows, const TileSide& columns);
  template <int D>
  void transports(const TileSide& rows, const TileSide& columns);
  void recompute(const TileSide& rows, const TileSide& columns, const std::uint64_t* candidates);
  void collect(const std::uint64_t* candidates, TilePairs& pairs) const;
  template <class Work>
  void each_live_block(Index n_rows, Work&& work);
  void settle(Index i, Index j, SimdMask outside, SimdMask kept, SimdMask gated);
  static SimdMask lost(const Simd& norms, const Simd& squared, const Simd& error);
  double* products(Index row_plane, Index column_plane) {
    return products_.data() + (row_plane * (1 + dim_) + column_plane) * kTile * kTile;
  }
  const double* products(Index row_plane, Index column_plane) const {
    return products_.data() + (row_plane * (1 + dim_) + column_plane) * kTile * kTile;
  }

  const MetricTree& tree_;
  Index m_, dim_;
  double scale_, squared_radius_, squared_reach_;
  double rounding_;  // of |D|^2, relative to |y_i|^2 + |y_j|^2, and of an inner product to the product of its norms
  double square_margin_;  // of u^2 for u = w.D, relative to |w|^2 (|y_i|^2 + |y_j|^2)
  double digits_;  // (variance of u) / exponent_error^2, relative to the same
  PairMetric<-1, -1> metric_;
  LiveBlocks live_;
  std::vector<double> products_;  // ((1 + dim)^2, kTile, kTile): planes of rows times planes of columns
  std::vector<double> squared_distances_;  // q, (kTile, kTile)
  std::array<std::uint64_t, kTile> kept_, gated_, doubtful_;  // as TilePairs; doubtful ones are left to PairMetric
  Buffer<double> scratch_;  // four (dim, dim) matrices of vectors
};

}  // namespace diffeo
