// All pairs between two short runs of samples at once, by matrix products: the same squared distances and gates as
// PairMetric states pair by pair.
//
// With points taken from a centre near both runs, the products of [y_i; W_i] with [y_j; W_j] hold everything: |D|^2 =
// |y_i|^2 + |y_j|^2 - 2 y_i.y_j, W_i^T D = W_i^T y_j - W_i^T y_i, and W_i^T W_j of the transport. These differences
// cancel where a pair is close beside its distance from the centre. Every decision is therefore made with a margin for
// rounding, and pairs within the margin, or whose value would lose digits, are computed again by PairMetric.
#pragma once

#include <cstdint>
#include <vector>

#include "diffeo/pair_metric.hpp"
#include "diffeo/panel_product.hpp"
#include "diffeo/tree.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// At most kTile samples, packed as one side of a tile, relative to a centre.
class TileSide {
 public:
  /// `width`: kPanelRows or kPanelColumns.
  TileSide(const MetricTree& tree, Index width);

  /// Takes over the `count` samples at these tree positions; their whitenings follow on demand.
  void set_points(const Row* samples, Index count, const double* centre);
  void set_whitening();

  Index count() const { return count_; }
  Row sample(Index s) const { return samples_[s]; }
  /// Whether samples of the two panels, one of each side, may be within factor * min(their stretches).
  bool panel_is_near(Index panel, const TileSide& other, Index other_panel, double factor) const;
  /// Plane 0: y - centre; plane k: column k - 1 of W.
  const double* panels(Index plane) const { return panels_.data() + plane * kTile * tree_.n_measurements(); }

  // Per sample, kTile of each; zero beyond count().
  const double* squared_norm() const { return squared_norm_; }           ///< |y - centre|^2
  const double* stretch() const { return stretch_; }                     ///< sigma_1
  const double* squared_whitening() const { return squared_whitening_; } ///< |W|^2 = sum of 1 / sigma_k^2
  const double* whitening_norm() const { return whitening_norm_; }       ///< |W|
  const double* squared_stretches(Index k) const { return squared_stretches_.data() + k * kTile; }
  const double* own(Index k) const { return own_.data() + k * kTile; }   ///< column k of W times y - centre

 private:
  const MetricTree& tree_;
  Index width_, count_ = 0;
  bool has_whitening_ = false;
  Row samples_[kTile] = {};
  std::vector<double> panels_, own_, squared_stretches_;
  std::vector<double> boxes_;  // of the panels in search coordinates: lower corner, then upper corner
  double squared_norm_[kTile] = {}, stretch_[kTile] = {};
  double squared_whitening_[kTile] = {}, whitening_norm_[kTile] = {};
};

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
  void transports_one_by_one(const TileSide& rows, const TileSide& columns);
  void recompute(const TileSide& rows, const TileSide& columns, const std::uint64_t* candidates);
  void collect(const std::uint64_t* candidates, TilePairs& pairs) const;
  template <class Work>
  void each_live_block(Index n_rows, Work&& work);
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
  std::vector<std::int64_t> states_;  // (kTile, kTile)
};

}  // namespace diffeo
