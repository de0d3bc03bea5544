// A pyramid of bounding boxes, and the descent in it.
#include "diffeo/tile_boxes.hpp"

#include <algorithm>
#include <limits>

#include "diffeo/panel_product.hpp"

namespace diffeo {
namespace {

// Shrinks bounds by more than rounding can have enlarged them, as in the tree.
constexpr double kBoxSlack = 1.0 - 1e-12;

}  // namespace

TileBoxes::TileBoxes(const MetricTree& tree) : dim_(tree.search_dim()) {
  const Index n_tiles = (tree.size() + kTile - 1) / kTile;
  for (Index count = n_tiles;; count = (count + 1) / 2) {
    levels_.push_back(empty(count));
    if (count == 1) break;
  }
  for (Index t = 0; t < tree.size(); ++t) {
    const double* y = tree.search_point(t);
    extend(levels_[0], t / kTile, y, y, tree.stretch(t));
  }
  for (std::size_t level = 1; level < levels_.size(); ++level) {
    const Level& below = levels_[level - 1];
    for (Index b = 0; b < below.count; ++b) {
      extend(levels_[level], b / 2, below.lower(b, dim_), below.upper(b, dim_),
             below.stretch[static_cast<std::size_t>(b)]);
    }
  }
}

bool TileBoxes::near(Index a, Index b, double factor) const { return near(levels_[0], a, levels_[0], b, factor); }

TileBoxes::Level TileBoxes::empty(Index count) const {
  Level level{count, {}, std::vector<double>(static_cast<std::size_t>(count), 0.0)};
  level.corners.resize(static_cast<std::size_t>(2 * count * dim_));
  for (Index b = 0; b < count; ++b) {
    std::fill_n(level.corners.data() + 2 * b * dim_, dim_, std::numeric_limits<double>::infinity());
    std::fill_n(level.corners.data() + (2 * b + 1) * dim_, dim_, -std::numeric_limits<double>::infinity());
  }
  return level;
}

TileBoxes::Level TileBoxes::box_around(const MetricTree& tree, const Row* samples, Index count) const {
  Level box = empty(1);
  for (Index s = 0; s < count; ++s) {
    const double* y = tree.search_point(samples[s]);
    extend(box, 0, y, y, tree.stretch(samples[s]));
  }
  return box;
}

void TileBoxes::extend(Level& level, Index b, const double* lower, const double* upper, double stretch) const {
  double* corners = level.corners.data() + 2 * b * dim_;
  for (Index a = 0; a < dim_; ++a) {
    corners[a] = std::min(corners[a], lower[a]);
    corners[dim_ + a] = std::max(corners[dim_ + a], upper[a]);
  }
  double& largest = level.stretch[static_cast<std::size_t>(b)];
  largest = std::max(largest, stretch);
}

bool TileBoxes::near(const Level& level, Index b, const Level& others, Index other, double factor) const {
  const double *low = level.lower(b, dim_), *high = level.upper(b, dim_);
  const double *lower = others.lower(other, dim_), *upper = others.upper(other, dim_);
  double sum = 0.0;
  for (Index a = 0; a < dim_; ++a) {
    const double gap = std::max(0.0, std::max(low[a] - upper[a], lower[a] - high[a]));
    sum += gap * gap;
  }
  const double reach =
      factor * std::min(level.stretch[static_cast<std::size_t>(b)], others.stretch[static_cast<std::size_t>(other)]);
  return sum * kBoxSlack <= reach * reach;
}

}  // namespace diffeo
