// Packing of panels, and their products block by block.
#include "diffeo/panel_product.hpp"

#include <algorithm>

namespace diffeo {
namespace {

// Elements of a panel of columns that stay in the first-level cache while all panels of rows pass by (24 to 36 KiB).
constexpr Index kDepth = 192;

// Elements packed at a time: the part of a panel they fill stays in the first-level cache.
constexpr Index kPackDepth = 16;

/// Adds (or, at first, stores) the products of one block over `depth` elements.
template <bool First>
void block_product(Index depth, const double* rows, const double* columns, double* products) {
  Simd sums[kPanelRows][kPanelLanes] = {};
  for (Index k = 0; k < depth; ++k) {
    Simd column[kPanelLanes];
#pragma GCC unroll 8
    for (Index v = 0; v < kPanelLanes; ++v) column[v] = load(columns + v * kSimd);
#pragma GCC unroll 8
    for (Index i = 0; i < kPanelRows; ++i) {
#pragma GCC unroll 8
      for (Index v = 0; v < kPanelLanes; ++v) sums[i][v] += rows[i] * column[v];
    }
    rows += kPanelRows;
    columns += kPanelColumns;
  }
#pragma GCC unroll 8
  for (Index i = 0; i < kPanelRows; ++i) {
#pragma GCC unroll 8
    for (Index v = 0; v < kPanelLanes; ++v) {
      double* to = products + i * kTile + v * kSimd;
      store(to, First ? sums[i][v] : load(to) + sums[i][v]);
    }
  }
}

}  // namespace

void pack_panels(const double* const* vectors, Index count, Index m, const double* centre, Index width,
                 double* panels) {
  for (Index first = 0; first < kTile; first += width, panels += width * m) {
    for (Index k0 = 0; k0 < m; k0 += kPackDepth) {
      const Index k1 = std::min(m, k0 + kPackDepth);
      for (Index s = 0; s < width; ++s) {
        double* to = panels + s;
        if (first + s >= count) {
          for (Index k = k0; k < k1; ++k) to[k * width] = 0.0;
          continue;
        }
        const double* from = vectors[first + s];
        if (centre == nullptr) {
          for (Index k = k0; k < k1; ++k) to[k * width] = from[k];
        } else {
          for (Index k = k0; k < k1; ++k) to[k * width] = from[k] - centre[k];
        }
      }
    }
  }
}

void paired_products(const double* a, const double* b, Index m, Index width, double* products) {
  constexpr Index kMost = std::max(kPanelRows, kPanelColumns) / kSimd;
  const Index n_lanes = width / kSimd;
  for (Index first = 0; first < kTile; first += width) {
    Simd sums[kMost] = {};
    for (Index k = 0; k < m; ++k, a += width, b += width) {
      for (Index v = 0; v < n_lanes; ++v) sums[v] += load(a + v * kSimd) * load(b + v * kSimd);
    }
    for (Index v = 0; v < n_lanes; ++v) store(products + first + v * kSimd, sums[v]);
  }
}

void panel_product(const double* rows, const double* columns, Index m, const LiveBlocks& live, double* products) {
  const Index n_parts = (m + kDepth - 1) / kDepth;
  for (Index part = 0; part < n_parts; ++part) {
    const Index begin = part * m / n_parts, depth = (part + 1) * m / n_parts - begin;
    for (Index c = 0; c < kColumnPanels; ++c) {
      const double* column_panel = columns + (c * m + begin) * kPanelColumns;
      for (Index r = 0; r < kRowPanels; ++r) {
        if (!live.at[r][c]) continue;
        const double* row_panel = rows + (r * m + begin) * kPanelRows;
        double* to = products + r * kPanelRows * kTile + c * kPanelColumns;
        if (part == 0) {
          block_product<true>(depth, row_panel, column_panel, to);
        } else {
          block_product<false>(depth, row_panel, column_panel, to);
        }
      }
    }
  }
}

}  // namespace diffeo
