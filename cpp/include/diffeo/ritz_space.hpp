// The subspace of a locally optimal block iteration (Knyazev 2001), together with its image under S.
//
// It is span[X, P, W] with X the Ritz vectors, P the last steps and W the new corrections.
#pragma once

#include <vector>

#include "diffeo/operator.hpp"
#include "diffeo/single.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Every pass over the samples goes in fixed chunks of rows, in place, so that nothing but the space and its image is
/// stored. The same bits for any number of threads.
class RitzSpace {
 public:
  RitzSpace(const DiffusionOperator& op, Index block)
      : op_(op), n_(op.size()), block_(block), stride_(3 * block), space_(n_, stride_), image_(n_, stride_) {}

  Index block() const { return block_; }
  /// Ritz values of X, descending, and norm(S x - theta x) of each, from images that were updated, not recomputed.
  const std::vector<double>& values() const { return values_; }
  const std::vector<double>& residual_norms() const { return norms_; }
  /// Columns multiplied by S so far.
  Index products() const { return products_; }

  /// X from any block (n, block): orthonormal Ritz vectors of its span, with a fresh image; forgets P.
  /// Dependent columns are replaced by random ones.
  void start(const RowMatrix& x, std::uint64_t seed);
  /// The same from the present X: after it, values and residuals hold to rounding.
  void refresh();

  /// r (n, padded count): S x - theta x of the given columns of X, each divided by its norm.
  void residuals(const std::vector<Index>& columns, SingleBlock& r) const;
  /// Adds the first `count` columns of w, made orthogonal to X and P, and replaces X by the leading Ritz vectors of
  /// the whole space; `columns` of the step become P.
  void extend(const SingleBlock& w, const std::vector<Index>& columns);

  /// Leading `count` Ritz vectors (n, count).
  RowMatrix vectors(Index count) const { return columns(space_, 0, count); }

 private:
  Index width() const { return block_ + n_previous_ + n_new_; }
  void append(const SingleBlock& w, Index count);
  void grams(RowMatrix& g, RowMatrix& h) const;
  void border_grams();
  void combine(const RowMatrix& coefficients);

  const DiffusionOperator& op_;
  Index n_, block_, stride_, n_previous_ = 0, n_new_ = 0, products_ = 0;
  RowMatrix space_, image_;     // (n, 3 block): X, then P, then W
  RowMatrix fresh_;             // W alone: the products gather from contiguous rows
  RowMatrix gram_, projected_;  // of the space with itself, and with its image
  std::vector<double> values_, norms_;
};

}  // namespace diffeo
