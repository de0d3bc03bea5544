// Levels of the multigrid for the eigenproblem: the same kernel, assembled again on ever smaller subsamples.
//
// Epsilon grows so that every level has about as many entries a row; between levels there is a transfer.
//
// On functions that are smooth at the scale of the kernel, I - S acts like -epsilon times the Laplacian of the input
// domain (Coifman and Lafon 2006), on every level: so a coarse level stands for the fine one up to the factor `growth`.
// What is not smooth at that scale, products with S itself remove.
#pragma once

#include <memory>
#include <vector>

#include "diffeo/mahalanobis.hpp"
#include "diffeo/operator.hpp"
#include "diffeo/single.hpp"
#include "diffeo/tree.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// What the finest kernel was made from.
struct KernelGeometry {
  const MetricTree* tree;
  Bandwidth bandwidth;
  double alpha;  ///< density exponent of the operator
};

/// One level: its operator in double and single precision, and the transfer to the next coarser one.
struct KernelLevel {
  SparseView kernel{};
  std::vector<double> scaling;  ///< s (n), S = diag(s) K diag(s)
  std::vector<double> trivial;  ///< sqrt(D) (n), of unit norm
  double epsilon = 0.0;
  double highest = 0.0;  ///< an upper bound of the spectrum of I - S
  SingleRows single;  ///< S

  // Towards the next level; empty on the last.
  OwnedSingleRows prolongation;  ///< (n, n_coarse)
  OwnedSingleRows restriction;  ///< its transpose
  double growth = 0.0;  ///< spectrum of I - S here over that of the next level, near zero

  Index size() const { return kernel.n; }

  // Owned on coarse levels; the finest level borrows its kernel and tree.
  SparseRows own_kernel;
  std::unique_ptr<MetricTree> own_tree;
};

/// Builds the levels below the given finest operator; the first entry is the finest level itself.
///
/// Coarsening ends at `kCoarsest` samples, or before a level whose graph no longer stands for the domain: too few
/// entries a row, or too many pairs dropped by the gates (the measurements bend too much at that bandwidth).
/// `geometry` null gives the finest level alone. Throws Interrupted on Ctrl-C. The same bits for any number of threads.
std::vector<KernelLevel> build_kernel_levels(const SparseView& kernel, const double* scaling, const double* trivial,
                                             const KernelGeometry* geometry, int threads);

}  // namespace diffeo
