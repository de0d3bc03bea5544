// Which tiles of a dense assembly can hold pairs at all: bounding boxes around runs of samples in tree order.
#pragma once

#include <cstddef>
#include <vector>

#include "diffeo/tree.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Boxes around runs of samples in search coordinates: level 0 has one for every kTile consecutive samples, each
/// further level joins two. Const members may be called from any number of threads.
class TileBoxes {
 public:
  explicit TileBoxes(const MetricTree& tree);

  Index n_tiles() const { return levels_[0].count; }

  /// Whether some samples of the two tiles may be within factor * min(their stretches).
  bool near(Index a, Index b, double factor) const;

  /// Calls visit(tile) in ascending order for the tiles that may be near any of these samples.
  template <class Visit>
  void visit_near(const MetricTree& tree, const Row* samples, Index count, double factor, Visit&& visit) const {
    const Level box = box_around(tree, samples, count);
    descend(levels_.size() - 1, 0, box, factor, visit);
  }

 private:
  struct Level {
    Index count;
    std::vector<double> corners, stretch;  // per box: lower corner, then upper corner
    const double* lower(Index b, Index dim) const { return corners.data() + 2 * b * dim; }
    const double* upper(Index b, Index dim) const { return corners.data() + (2 * b + 1) * dim; }
  };

  Level empty(Index count) const;
  Level box_around(const MetricTree& tree, const Row* samples, Index count) const;
  void extend(Level& level, Index b, const double* lower, const double* upper, double stretch) const;
  bool near(const Level& level, Index b, const Level& others, Index other, double factor) const;

  template <class Visit>
  void descend(std::size_t level, Index b, const Level& box, double factor, Visit& visit) const {
    if (!near(levels_[level], b, box, 0, factor)) return;
    if (level == 0) {
      visit(b);
      return;
    }
    descend(level - 1, 2 * b, box, factor, visit);
    if (2 * b + 1 < levels_[level - 1].count) descend(level - 1, 2 * b + 1, box, factor, visit);
  }

  Index dim_;
  std::vector<Level> levels_;
};

}  // namespace diffeo
