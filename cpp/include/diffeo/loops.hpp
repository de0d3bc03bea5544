// The hot loops: what is compiled once per instruction-set level, as one table of functions.
//
// Everything that takes time lives in src/loops, which is compiled for every level into an extension module of its own;
// the rest of the core is compiled once, without any flag, and calls the loops of the level that this process uses
// through this table (src/loop_calls.cpp). Shared objects keep levels apart: they export nothing, so that no inline
// function of Eigen, of the standard library or of ours that was compiled for one level can stand in for that of
// another. What passes between the two sides are numbers, pointers, and types without Eigen (matrix.hpp).
#pragma once

#include <cstddef>

#include "diffeo/covariance.hpp"
#include "diffeo/edge_lengths.hpp"
#include "diffeo/frames.hpp"
#include "diffeo/graph_multigrid.hpp"
#include "diffeo/interpolation.hpp"
#include "diffeo/kernel_multigrid.hpp"
#include "diffeo/linear_algebra.hpp"
#include "diffeo/local_slopes.hpp"
#include "diffeo/mahalanobis.hpp"
#include "diffeo/neighbors.hpp"
#include "diffeo/operator.hpp"
#include "diffeo/pair_fits.hpp"
#include "diffeo/parallel.hpp"
#include "diffeo/ritz_space.hpp"
#include "diffeo/stress.hpp"
#include "diffeo/tree.hpp"

namespace diffeo {

/// What the loops of a level call of the core that uses them: threads, and with them Ctrl-C and progress.
struct LoopServices {
  decltype(&detail::run_tasks) run_tasks;
};

/// The entry points of one level.
struct Loops {
  decltype(&MetricTree::build) build_tree;
  decltype(&nearest_neighbors) find_nearest_neighbors;
  decltype(&assemble_kernel) assemble_kernel_of;
  decltype(&row_statistics) find_row_statistics;
  decltype(&cross_kernel) assemble_cross_kernel;

  decltype(&normalise) normalise_kernel;
  decltype(&power_sums) find_power_sums;
  decltype(&tangent_frames) find_tangent_frames;
  decltype(&local_steps) find_local_steps;
  decltype(&local_moments) find_local_moments;
  decltype(&local_slopes) find_local_slopes;
  void (DiffusionOperator::*apply)(const double*, Index, double*, Index, Index) const;
  decltype(&DiffusionOperator::dense) dense;
  decltype(&RitzSpace::start) start_space;
  decltype(&RitzSpace::refresh) refresh_space;
  decltype(&RitzSpace::residuals) residuals_of_space;
  decltype(&RitzSpace::extend) extend_space;
  decltype(&KernelMultigrid::decompose_coarsest) decompose_coarsest;
  decltype(&KernelMultigrid::prolong) prolong;
  decltype(&KernelMultigrid::cycle) kernel_cycle;
  decltype(&KernelMultigrid::chebyshev) chebyshev;

  decltype(&LaplacianSolver::cycle) laplacian_cycle;
  decltype(&LaplacianSolver::solve) solve_laplacian;
  decltype(&stress_gradient) find_stress_gradient;
  decltype(&stress_stiffness) apply_stress_stiffness;
  decltype(&edge_lengths) find_edge_lengths;
  decltype(&local_frames) find_local_frames;
  decltype(&extend_layout) extend_layout_of;
  decltype(&corrected_lengths) correct_lengths;
  decltype(&local_polynomial_fit) fit_polynomials;
  decltype(&local_hermite_fit) fit_hermite;
  decltype(&pairs_of_fit) count_pairs_of_fit;
  decltype(&pair_fits) fit_pairs;

  decltype(&whitening_from_jacobians) whiten_jacobians;
  decltype(&whitening_from_bursts) whiten_bursts;
  decltype(&whitening_from_covariances) whiten_covariances;
  decltype(&jacobians_from_neighbors) differentiate_neighbors;

  decltype(&product) matrix_product;
  decltype(&symmetric_eigen) decompose_symmetric;

  /// The table of the level that the calling file is compiled for.
  static const Loops& here();
};

/// What the extension module of a level hands out.
struct LoopsModule {
  const char* level;  ///< its name
  std::size_t size;  ///< of the table, which differs between revisions that do not fit
  const Loops& (*connect)(const LoopServices&);  ///< called once, before any of the functions
};

/// Has this process use the loops of a level. Throws std::runtime_error where they are of another revision.
void use_loops(const LoopsModule& module);

/// The name of that level; empty before `use_loops`.
const char* level_in_use();

}  // namespace diffeo
