// Products of two small blocks of long rows, the inner loop of the dense kernel.
//
// Register-blocked, over panels packed so that it reads memory in order (the scheme of Goto and van de Geijn, Anatomy
// of high-performance matrix multiplication, ACM TOMS 34, 2008).
#pragma once

#include "diffeo/simd.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Samples of one side of a tile: divisible by every panel width below, and one bit each in a word.
inline constexpr Index kTile = 48;

// Sums kept in registers: kPanelRows x kPanelLanes vectors, the most that leave room for the operands.
#if defined(__AVX512F__)
inline constexpr Index kPanelRows = 8, kPanelLanes = 3;
#elif defined(__AVX__) || defined(__aarch64__)
inline constexpr Index kPanelRows = 4, kPanelLanes = 3;
#else
inline constexpr Index kPanelRows = 4, kPanelLanes = 2;
#endif
inline constexpr Index kPanelColumns = kPanelLanes * kSimd;
inline constexpr Index kRowPanels = kTile / kPanelRows, kColumnPanels = kTile / kPanelColumns;
static_assert(kTile % kPanelRows == 0 && kTile % kPanelColumns == 0 && kTile <= 64);

/// The blocks (kPanelRows x kPanelColumns) of a tile that are still of interest.
struct LiveBlocks {
  bool at[kRowPanels][kColumnPanels] = {};
  bool any = false;
  void set(Index row_panel, Index column_panel) { at[row_panel][column_panel] = any = true; }
};

/// Packs `count` <= kTile vectors of length m, minus `centre` (null: none), into panels of `width`: panel p holds
/// element 0 of its `width` vectors, then element 1, ... Missing vectors are zero. Thread-safe.
void pack_panels(const double* const* vectors, Index count, Index m, const double* centre, Index width, double* panels);

/// products[s] = <vector s of a, vector s of b> for the kTile vectors of two packed blocks. Thread-safe.
void paired_products(const double* a, const double* b, Index m, Index width, double* products);

/// products[i * kTile + j] = <row i, column j> of packed rows (width kPanelRows) and columns (width kPanelColumns) for
/// the live blocks. Thread-safe.
void panel_product(const double* rows, const double* columns, Index m, const LiveBlocks& live, double* products);

}  // namespace diffeo
