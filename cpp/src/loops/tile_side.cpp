// One side of a tile, packed.
#include "diffeo/tile_side.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace diffeo {
namespace {

// Shrinks distances of boxes by more than rounding can have enlarged them, as in the tree.
constexpr double kBoxSlack = 1.0 - 1e-12;

}  // namespace

TileSide::TileSide(const MetricTree& tree, Index width)
    : tree_(tree), width_(width), panels_(static_cast<std::size_t>((1 + tree.dim()) * kTile * tree.n_measurements())),
      own_(static_cast<std::size_t>(tree.dim() * kTile)), squared_stretches_(own_.size()),
      boxes_(static_cast<std::size_t>(2 * kTile / width * tree.search_dim())) {}

bool TileSide::panel_is_near(Index panel, const TileSide& other, Index other_panel, double factor) const {
  const Index d = tree_.search_dim();
  const double* low = boxes_.data() + 2 * panel * d;
  const double* other_low = other.boxes_.data() + 2 * other_panel * d;
  double sum = 0.0;
  for (Index a = 0; a < d; ++a) {
    const double gap = std::max(0.0, std::max(low[a] - other_low[d + a], other_low[a] - low[d + a]));
    sum += gap * gap;
  }
  const double* stretches = stretch_ + panel * width_;
  const double* other_stretches = other.stretch_ + other_panel * other.width_;
  const double reach = factor * std::min(*std::max_element(stretches, stretches + width_),
                                         *std::max_element(other_stretches, other_stretches + other.width_));
  return sum * kBoxSlack <= reach * reach;
}

void TileSide::set_points(const Row* samples, Index count, const double* centre) {
  count_ = count;
  has_whitening_ = false;
  const double* vectors[kTile];
  for (Index s = 0; s < kTile; ++s) {
    samples_[s] = s < count ? samples[s] : Row{0};
    stretch_[s] = s < count ? tree_.stretch(samples[s]) : 0.0;
    if (s < count) vectors[s] = tree_.point(samples[s]);
  }
  const Index m = tree_.n_measurements();
  const Index d = tree_.search_dim();
  for (Index panel = 0; panel * width_ < kTile; ++panel) {
    double* lower = boxes_.data() + 2 * panel * d;
    double* upper = lower + d;
    std::fill_n(lower, d, std::numeric_limits<double>::infinity());
    std::fill_n(upper, d, -std::numeric_limits<double>::infinity());
    for (Index s = panel * width_; s < std::min(count, (panel + 1) * width_); ++s) {
      const double* y = tree_.search_point(samples[s]);
      for (Index a = 0; a < d; ++a) {
        lower[a] = std::min(lower[a], y[a]);
        upper[a] = std::max(upper[a], y[a]);
      }
    }
  }
  pack_panels(vectors, count, m, centre, width_, panels_.data());
  paired_products(panels_.data(), panels_.data(), m, width_, squared_norm_);
}

void TileSide::set_whitening() {
  if (has_whitening_) return;
  has_whitening_ = true;
  const Index m = tree_.n_measurements();
  std::fill_n(squared_whitening_, kTile, 0.0);
  const double* vectors[kTile];
  for (Index k = 0; k < tree_.dim(); ++k) {
    for (Index s = 0; s < count_; ++s) {
      vectors[s] = tree_.whitening(samples_[s]) + k * m;
      const double squared = tree_.squared_stretches(samples_[s])[k];
      squared_stretches_[static_cast<std::size_t>(k * kTile + s)] = squared;
      squared_whitening_[s] += 1.0 / squared;
    }
    double* to = panels_.data() + (1 + k) * kTile * m;
    pack_panels(vectors, count_, m, nullptr, width_, to);
    paired_products(panels_.data(), to, m, width_, own_.data() + k * kTile);
  }
  for (Index s = 0; s < kTile; ++s) whitening_norm_[s] = std::sqrt(squared_whitening_[s]);
}

}  // namespace diffeo
