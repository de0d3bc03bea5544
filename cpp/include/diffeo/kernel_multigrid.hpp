// Approximate solution of (I - S - sigma) w = r for blocks of vectors, each column with its own shift.
//
// The block eigensolver turns residuals into corrections by it (Olsen's and Davidson's equation). Multigrid V-cycle on
// the levels of kernel_levels.hpp, in single precision: a correction needs no more. Chebyshev iteration on the upper
// part of the spectrum smooths; the coarsest level is solved in its eigenvectors.
#pragma once

#include <vector>

#include "diffeo/kernel_levels.hpp"
#include "diffeo/single.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Holds working space: one object a thread of control.
class KernelMultigrid {
 public:
  /// `levels` must outlive the object. The coarsest one is decomposed here when it is small enough.
  KernelMultigrid(const std::vector<KernelLevel>& levels, int threads)
      : levels_(levels), threads_(threads), workspaces_(levels.size()) {
    for (std::size_t l = 0; l < levels.size(); ++l) workspaces_[l].growth = levels[l].growth;
    decompose_coarsest();
  }

  /// Whether the coarsest level is solved exactly, so that there is a preconditioner for every level.
  bool complete() const { return coarsest_vectors_.size() > 0; }

  /// Leading eigenvectors (n_coarsest, count) of the coarsest S, and the eigenvalues of its I - S.
  RowMatrix coarsest_vectors(Index count) const { return columns(coarsest_vectors_, 0, count); }
  const std::vector<double>& coarsest_values() const { return coarsest_values_; }

  /// P x (n, b) from a block x (n_coarse, b) on the level below, b a multiple of kSingleColumns.
  RowMatrix prolong(Index level, const RowMatrix& x) const;

  /// Where the coarsest level was not decomposed: its smallest eigenvalue of I - S beyond the block, from which on
  /// Chebyshev iteration solves it.
  void set_coarsest_gap(double gap) { coarsest_gap_ = gap; }

  /// The measured ratio of the spectra of `level` and the one below it, in place of the ratio of their epsilons.
  void set_growth(Index level, double growth) { workspaces_[static_cast<std::size_t>(level)].growth = growth; }

  /// One V-cycle from `level` downwards: w (n, b) from r (n, b) and `shifts` (b). `block` is the number of leading
  /// eigenvectors that the caller holds already: the coarsest level leaves them out.
  void cycle(Index level, const SingleBlock& r, const std::vector<float>& shifts, Index block, SingleBlock& w);

  /// Chebyshev iteration of `degree` steps for eigenvalues of I - S from `low` upwards, on one level alone.
  void chebyshev(Index level, const SingleBlock& r, const std::vector<float>& shifts, double low, int degree,
                 SingleBlock& w);

  /// Products with the finest S so far, in columns, coarser levels counted by their share of the entries.
  double products() const { return products_; }

 private:
  struct Workspace {
    SingleBlock solution, other, direction, residual;
    double growth = 0.0;
  };

  friend struct Loops;
  void decompose_coarsest();
  void smooth(Index level, const SingleBlock& r, const std::vector<float>& shifts, double low, int degree,
              bool from_zero, Workspace& work);
  void solve_coarsest(const SingleBlock& r, const std::vector<float>& shifts, Index block, SingleBlock& w);
  void descend(Index level, const SingleBlock& r, const std::vector<float>& shifts, Index block);
  void count(Index level, Index columns);

  const std::vector<KernelLevel>& levels_;
  int threads_;
  std::vector<Workspace> workspaces_;
  RowMatrix coarsest_vectors_;
  std::vector<double> coarsest_values_;
  double coarsest_gap_ = 0.0;
  double products_ = 0.0;
};

}  // namespace diffeo
