// A short run of samples, packed for the matrix products of a tile: points relative to a centre, and whitenings.
#pragma once

#include <vector>

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

}  // namespace diffeo
