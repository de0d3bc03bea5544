// Leading eigenpairs of the diffusion operator, every copy of a multiple eigenvalue included.
//
// A block method: single-vector Krylov methods see one direction of each eigenspace, a block sees them all.
// Locally optimal block iteration (Knyazev 2001) on span[X, P, T R], where T solves (I - S - sigma) W = R
// approximately: by multigrid where the geometry of the kernel is known (see kernel_multigrid.hpp), so that the number
// of iterations does not grow with n; by Chebyshev iteration where it is not, or where multigrid does not pay.
#pragma once

#include <vector>

#include "diffeo/kernel_levels.hpp"
#include "diffeo/operator.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

struct EigenOptions {
  Index n_wanted;               ///< number of leading eigenpairs, the trivial one included
  double tolerance = 1e-8;      ///< bound on the residual norm(S v - lambda v) of each
  Index max_iterations = 300;
  std::uint64_t seed = 0;       ///< of the random start block
};

/// Eigenvalues descending, orthonormal vectors (n, n_wanted), and the residual of each, computed from S itself
/// at the end. `converged` is false when some residual is above the tolerance: callers must look.
struct Eigenpairs {
  std::vector<double> values;
  RowMatrix vectors;
  std::vector<double> residuals;
  Index iterations = 0;
  Index products = 0;    ///< columns multiplied by S, those of coarser levels by their share of the entries
  std::vector<Index> levels;    ///< samples of each level of the multigrid, the finest first; n alone without one
  bool converged = false;
};

/// Leading eigenpairs of S. Small problems are solved densely (LAPACK-style tridiagonal QR).
///
/// `trivial` (n) is the known eigenvector sqrt(D) of the eigenvalue 1, not necessarily normalised. `geometry` may be
/// null: then there is no multigrid. Throws std::invalid_argument unless 1 <= n_wanted <= n, the kernel's rows are
/// sound (row_checks.hpp) and the geometry, where there is one, is complete; Interrupted on Ctrl-C. Thread-safe; the
/// same bits for any number of threads.
Eigenpairs leading_eigenpairs(const DiffusionOperator& op, const double* trivial, const EigenOptions& options,
                              const KernelGeometry* geometry);

}  // namespace diffeo
