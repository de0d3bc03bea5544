// The table of the level that this file is compiled for.
#include "diffeo/loops.hpp"

namespace diffeo {

const Loops& Loops::here() {
  static const Loops table{
      .build_tree = &MetricTree::build,
      .find_nearest_neighbors = &nearest_neighbors,
      .assemble_kernel_of = &assemble_kernel,
      .find_row_statistics = &row_statistics,
      .assemble_cross_kernel = &cross_kernel,
      .normalise_kernel = &normalise,
      .find_power_sums = &power_sums,
      .find_tangent_frames = &tangent_frames,
      .find_local_steps = &local_steps,
      .find_local_moments = &local_moments,
      .find_local_slopes = &local_slopes,
      .apply = &DiffusionOperator::apply,
      .dense = &DiffusionOperator::dense,
      .start_space = &RitzSpace::start,
      .refresh_space = &RitzSpace::refresh,
      .residuals_of_space = &RitzSpace::residuals,
      .extend_space = &RitzSpace::extend,
      .decompose_coarsest = &KernelMultigrid::decompose_coarsest,
      .prolong = &KernelMultigrid::prolong,
      .kernel_cycle = &KernelMultigrid::cycle,
      .chebyshev = &KernelMultigrid::chebyshev,
      .laplacian_cycle = &LaplacianSolver::cycle,
      .solve_laplacian = &LaplacianSolver::solve,
      .find_stress_gradient = &stress_gradient,
      .apply_stress_stiffness = &stress_stiffness,
      .find_edge_lengths = &edge_lengths,
      .find_local_frames = &local_frames,
      .extend_layout_of = &extend_layout,
      .correct_lengths = &corrected_lengths,
      .fit_polynomials = &local_polynomial_fit,
      .fit_hermite = &local_hermite_fit,
      .count_pairs_of_fit = &pairs_of_fit,
      .fit_pairs = &pair_fits,
      .whiten_jacobians = &whitening_from_jacobians,
      .whiten_bursts = &whitening_from_bursts,
      .whiten_covariances = &whitening_from_covariances,
      .differentiate_neighbors = &jacobians_from_neighbors,
      .matrix_product = &product,
      .decompose_symmetric = &symmetric_eigen,
  };
  return table;
}

}  // namespace diffeo
