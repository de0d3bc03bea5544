// Calls of the hot loops, passed on to the level in use; the first lines of loops.hpp say why.
#include <stdexcept>
#include <string>

#include "diffeo/loops.hpp"

namespace diffeo {
namespace {

const Loops* table = nullptr;
const char* name = "";

const Loops& loops() {
  if (table == nullptr) throw std::runtime_error("diffeo's compiled core has no loops: import diffeo._support.core");
  return *table;
}

}  // namespace

void use_loops(const LoopsModule& module) {
  if (module.size != sizeof(Loops)) {
    throw std::runtime_error(std::string("the loops of the level ") + module.level +
                             " are not of the same build as diffeo's compiled core: install diffeo again");
  }
  table = &module.connect({&detail::run_tasks});
  name = module.level;
}

const char* level_in_use() { return name; }

void MetricTree::build(const double* points, const double* whitening, int threads) {
  (this->*loops().build_tree)(points, whitening, threads);
}

void nearest_neighbors(const MetricTree& tree, Index k, double transport, Row* neighbors, double* squared_distances,
                       int threads) {
  loops().find_nearest_neighbors(tree, k, transport, neighbors, squared_distances, threads);
}

Kernel assemble_kernel(const MetricTree& tree, Bandwidth bandwidth, int threads) {
  return loops().assemble_kernel_of(tree, bandwidth, threads);
}

void row_statistics(const MetricTree& tree, Bandwidth bandwidth, const Row* rows, Index count, double* sums,
                    Index* entries, Index* gated, int threads) {
  loops().find_row_statistics(tree, bandwidth, rows, count, sums, entries, gated, threads);
}

SparseRows cross_kernel(const MetricTree& tree, Bandwidth bandwidth, const double* points, const double* whitening,
                        Index count, int threads) {
  return loops().assemble_cross_kernel(tree, bandwidth, points, whitening, count, threads);
}

void normalise(const SparseView& kernel, double alpha, double* density, double* degree, double* scaling, int threads) {
  loops().normalise_kernel(kernel, alpha, density, degree, scaling, threads);
}

void power_sums(const SparseView& kernel, double least, double* sums, int threads) {
  loops().find_power_sums(kernel, least, sums, threads);
}

void tangent_frames(const SparseView& kernel, const double* points, Index m, Index d, double* frames, int threads) {
  loops().find_tangent_frames(kernel, points, m, d, frames, threads);
}

void local_steps(const SparseView& kernel, const LocalFrames& at, double unit, float* steps, int threads) {
  loops().find_local_steps(kernel, at, unit, steps, threads);
}

void local_moments(const SparseView& kernel, const KernelPower& power, const LocalGeometry& geometry, double ridge,
                   const LocalMoments& out, int threads) {
  loops().find_local_moments(kernel, power, geometry, ridge, out, threads);
}

void local_slopes(const SparseView& kernel, const KernelPower& power, const LocalGeometry& geometry,
                  const LocalMoments& moments, const double* f, Index k, double* smoothed, double* slopes,
                  int threads) {
  loops().find_local_slopes(kernel, power, geometry, moments, f, k, smoothed, slopes, threads);
}

void DiffusionOperator::apply(const double* x, Index x_stride, double* y, Index y_stride, Index columns) const {
  (this->*loops().apply)(x, x_stride, y, y_stride, columns);
}

RowMatrix DiffusionOperator::dense() const { return (this->*loops().dense)(); }

void RitzSpace::start(const RowMatrix& x, std::uint64_t seed) { (this->*loops().start_space)(x, seed); }

void RitzSpace::refresh() { (this->*loops().refresh_space)(); }

void RitzSpace::residuals(const std::vector<Index>& columns, SingleBlock& r) const {
  (this->*loops().residuals_of_space)(columns, r);
}

void RitzSpace::extend(const SingleBlock& w, const std::vector<Index>& columns) {
  (this->*loops().extend_space)(w, columns);
}

void KernelMultigrid::decompose_coarsest() { (this->*loops().decompose_coarsest)(); }

RowMatrix KernelMultigrid::prolong(Index level, const RowMatrix& x) const { return (this->*loops().prolong)(level, x); }

void KernelMultigrid::cycle(Index level, const SingleBlock& r, const std::vector<float>& shifts, Index block,
                            SingleBlock& w) {
  (this->*loops().kernel_cycle)(level, r, shifts, block, w);
}

void KernelMultigrid::chebyshev(Index level, const SingleBlock& r, const std::vector<float>& shifts, double low,
                                int degree, SingleBlock& w) {
  (this->*loops().chebyshev)(level, r, shifts, low, degree, w);
}

void LaplacianSolver::cycle(const double* r, Index b, double* w) const { (this->*loops().laplacian_cycle)(r, b, w); }

Index LaplacianSolver::solve(const double* right, Index b, double tolerance, Index max_iterations, double* x,
                             double* reduction) const {
  return (this->*loops().solve_laplacian)(right, b, tolerance, max_iterations, x, reduction);
}

double stress_gradient(const EdgeView& edges, const IncidentEdges& incident, const double* layout, Index d,
                       double* gradient, int threads) {
  return loops().find_stress_gradient(edges, incident, layout, d, gradient, threads);
}

void stress_stiffness(const EdgeView& edges, const IncidentEdges& incident, const double* unit, double damping,
                      const double* move, Index d, double* product, int threads) {
  loops().apply_stress_stiffness(edges, incident, unit, damping, move, d, product, threads);
}

void edge_lengths(const double* points, const double* whitening, Index n, Index m, Index d, const Index* i,
                  const Index* j, Index e, double* lengths, double* off_tangent, int threads) {
  loops().find_edge_lengths(points, whitening, n, m, d, i, j, e, lengths, off_tangent, threads);
}

void local_frames(const LaidEdges& edges, const double* points, const double* whitening, Index m, int rounds,
                  double* frames, int threads) {
  loops().find_local_frames(edges, points, whitening, m, rounds, frames, threads);
}

void extend_layout(const LaidEdges& edges, const double* points, const double* whitening, Index m,
                   const std::uint8_t* known, double* layout, double* frames, int threads) {
  loops().extend_layout_of(edges, points, whitening, m, known, layout, frames, threads);
}

void corrected_lengths(const LaidEdges& edges, const double* points, const double* gradients, Index m,
                       const double* lengths, double believable, double* corrected, int threads) {
  loops().correct_lengths(edges, points, gradients, m, lengths, believable, corrected, threads);
}

void local_polynomial_fit(const double* queries, Index n_queries, Index d, const double* nodes, Index n_nodes,
                          const double* values, Index v, const Index* neighbors, Index k, int degree, double* result,
                          int threads) {
  loops().fit_polynomials(queries, n_queries, d, nodes, n_nodes, values, v, neighbors, k, degree, result, threads);
}

void local_hermite_fit(const double* queries, Index n_queries, Index d, const double* nodes, Index n_nodes,
                       const double* values, const double* gradients, Index v, const Index* neighbors, Index k,
                       int degree, double* result, double* slopes, int threads) {
  loops().fit_hermite(queries, n_queries, d, nodes, n_nodes, values, gradients, v, neighbors, k, degree, result, slopes,
                      threads);
}

Index pairs_of_fit(Index d, int degree, bool with_slopes) { return loops().count_pairs_of_fit(d, degree, with_slopes); }

void pair_fits(const PairedSamples& samples, const double* queries, Index n_queries, const Index* neighbors, Index k,
               const Index* degrees, Index n_degrees, double* result, double* doubt, int threads) {
  loops().fit_pairs(samples, queries, n_queries, neighbors, k, degrees, n_degrees, result, doubt, threads);
}

void whitening_from_jacobians(const double* jacobians, Index n, Index m, Index p, WhiteningOutput out, int threads) {
  loops().whiten_jacobians(jacobians, n, m, p, out, threads);
}

void whitening_from_bursts(const double* bursts, Index n, Index burst_size, Index m, double scale, WhiteningOutput out,
                           int threads) {
  loops().whiten_bursts(bursts, n, burst_size, m, scale, out, threads);
}

void whitening_from_covariances(const double* covariances, Index n, Index m, WhiteningOutput out, int threads) {
  loops().whiten_covariances(covariances, n, m, out, threads);
}

void jacobians_from_neighbors(const double* points, Index n, Index m, const double* reference, Index p,
                              const Index* neighbors, Index k, double* jacobians, double* conditions, int threads) {
  loops().differentiate_neighbors(points, n, m, reference, p, neighbors, k, jacobians, conditions, threads);
}

RowMatrix product(const MatrixView& a, const MatrixView& b) { return loops().matrix_product(a, b); }

SymmetricEigen symmetric_eigen(const RowMatrix& matrix, const char* caller) {
  return loops().decompose_symmetric(matrix, caller);
}

}  // namespace diffeo
