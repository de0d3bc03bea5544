// The multigrid cycle for the eigenproblem.
#include "diffeo/kernel_multigrid.hpp"

#include <algorithm>
#include <cmath>

#include "diffeo/linear_algebra.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

// A coarsest level above this size is not decomposed: it would take longer than the rest.
constexpr Index kDecomposed = 800;

// Smoothing steps before and after the coarse correction, and the part of the spectrum of I - S that they damp. The
// next level still sees what lies below it. (2 steps took a third more iterations, 4 saved one in eight.)
constexpr int kSmoothing = 3;
constexpr double kSmoothed = 0.15;

// Most Chebyshev steps on a coarsest level that is not decomposed.
constexpr int kCoarsestDegree = 40;

// A shifted eigenvalue of the coarsest level is kept away from zero by this share of its size: it stands for a pair
// just beyond the block, whose place is known to a few percent only.
constexpr double kNearest = 0.3;

}  // namespace

void KernelMultigrid::decompose_coarsest() {
  const KernelLevel& last = levels_.back();
  if (levels_.size() < 2 || last.size() > kDecomposed) return;
  const DiffusionOperator op(last.kernel, last.scaling.data(), threads_);
  const SymmetricEigen eigen = symmetric_eigen(op.dense(), "KernelMultigrid");
  coarsest_values_.assign(eigen.values.rbegin(), eigen.values.rend());
  for (double& value : coarsest_values_) value = 1.0 - value;
  coarsest_vectors_ = reversed_columns(eigen.vectors);
}

RowMatrix KernelMultigrid::prolong(Index level, const RowMatrix& x) const {
  const KernelLevel& here = levels_[static_cast<std::size_t>(level)];
  SingleBlock coarse(x.rows(), x.cols());
  std::copy_n(x.data(), x.size(), coarse.data());
  RowMatrix fine(here.size(), x.cols());
  for_each_product(here.prolongation.rows, coarse, threads_, [&](Index i, Index first, auto width, const float* sum) {
    std::copy_n(sum, decltype(width)::value, fine.row(i) + first);
  });
  return fine;
}

void KernelMultigrid::count(Index level, Index columns) {
  const auto entries = [&](Index l) {
    const SparseView& k = levels_[static_cast<std::size_t>(l)].kernel;
    return static_cast<double>(k.indptr[k.n]);
  };
  products_ += static_cast<double>(columns) * entries(level) / entries(0);
}

/// Chebyshev steps for (I - S - sigma) u = r on eigenvalues between `low` and the highest; the result is in
/// work.solution, which is also the start unless from_zero.
void KernelMultigrid::smooth(Index level, const SingleBlock& r, const std::vector<float>& shifts, double low,
                             int degree, bool from_zero, Workspace& work) {
  const KernelLevel& here = levels_[static_cast<std::size_t>(level)];
  const Index n = here.size(), b = r.cols();
  const double high = std::max(here.highest, 2.0 * low);
  const double centre = 0.5 * (high + low), radius = 0.5 * (high - low), sigma = centre / radius;
  work.direction.resize(n, b);
  work.other.resize(n, b);
  double rho = 1.0 / sigma;
  int done = 0;
  if (from_zero) {
    work.solution.resize(n, b);
    const float inverse = static_cast<float>(1.0 / centre);
    parallel_chunks(n, detail::kSingleRows, threads_, [&](Index, Index begin, Index end) {
      for (Index e = begin * b; e < end * b; ++e) {
        work.direction.data()[e] = work.solution.data()[e] = inverse * r.data()[e];
      }
    });
    done = 1;
  }
  for (int k = done; k < degree; ++k) {
    // The first step has no direction to keep.
    const double next = 1.0 / (2.0 * sigma - rho);
    const auto keep = static_cast<float>(k == 0 ? 0.0 : next * rho);
    const auto gain = static_cast<float>(k == 0 ? 1.0 / centre : 2.0 * next / radius);
    if (k > 0) rho = next;
    const float* u = work.solution.data();
    const float* right = r.data();
    float* direction = work.direction.data();
    float* out = work.other.data();
    const bool fresh = k == 0;
    for_each_product(here.single, work.solution, threads_,
                     [=, &shifts](Index i, Index first, auto width, const float* sum) {
                       const Index at = i * b + first;
                       const float* shift = shifts.data() + first;
                       for (int c = 0; c < decltype(width)::value; ++c) {
                         const float value = u[at + c];
                         const float residual = right[at + c] - value + sum[c] + shift[c] * value;
                         const float move = (fresh ? 0.0f : keep * direction[at + c]) + gain * residual;
                         direction[at + c] = move;
                         out[at + c] = value + move;
                       }
                     });
    count(level, b);
    work.solution.swap(work.other);
  }
}

void KernelMultigrid::solve_coarsest(const SingleBlock& r, const std::vector<float>& shifts, Index block,
                                     SingleBlock& w) {
  const Index b = r.cols(), n = r.rows();
  RowMatrix right(n, b);
  std::copy_n(r.data(), r.size(), right.data());
  RowMatrix c = transposed_product(coarsest_vectors_, right);
  // Copies of the eigenvalue 0 beyond the block are pieces that only this level has: bounded like its last.
  const auto value = [&](Index k) { return coarsest_values_[static_cast<std::size_t>(k)]; };
  const double floor = std::max(value(std::min(block, n - 1)), 1e-12);
  for (Index k = 0; k < n; ++k) {
    const double least = kNearest * std::max(value(k), floor);
    for (Index j = 0; j < b; ++j) {
      const double shifted = value(k) - static_cast<double>(shifts[static_cast<std::size_t>(j)]);
      c(k, j) = k < block ? 0.0 : c(k, j) / std::max(shifted, least);
    }
  }
  const RowMatrix solution = product(coarsest_vectors_, c);
  w.resize(n, b);
  for (Index e = 0; e < w.size(); ++e) w.data()[e] = static_cast<float>(solution.data()[e]);
}

void KernelMultigrid::descend(Index level, const SingleBlock& r, const std::vector<float>& shifts, Index block) {
  Workspace& work = workspaces_[static_cast<std::size_t>(level)];
  if (level + 1 == static_cast<Index>(levels_.size())) {
    if (complete()) {
      solve_coarsest(r, shifts, block, work.solution);
    } else {
      const double low = std::max(coarsest_gap_, 1e-7);
      const double steps = std::sqrt(levels_.back().highest / low);
      const std::vector<float> none(shifts.size(), 0.0f);
      smooth(level, r, none, low, static_cast<int>(std::clamp(std::ceil(steps), 4.0, double{kCoarsestDegree})), true,
             work);
    }
    return;
  }
  const KernelLevel& here = levels_[static_cast<std::size_t>(level)];
  const Index b = r.cols();
  smooth(level, r, shifts, kSmoothed, kSmoothing, true, work);
  work.residual.resize(here.size(), b);
  for_each_product(here.single, work.solution, threads_, [&](Index i, Index first, auto width, const float* sum) {
    const Index at = i * b + first;
    for (int c = 0; c < decltype(width)::value; ++c) {
      const float u = work.solution.data()[at + c];
      work.residual.data()[at + c] = r.data()[at + c] - u + sum[c] + shifts[static_cast<std::size_t>(first + c)] * u;
    }
  });
  count(level, b);
  // (I - S - sigma) here acts like growth (I - S_coarse - sigma / growth).
  const auto inverse_growth = static_cast<float>(1.0 / work.growth);
  Workspace& below = workspaces_[static_cast<std::size_t>(level) + 1];
  SingleBlock coarse(levels_[static_cast<std::size_t>(level) + 1].size(), b);
  for_each_product(here.restriction.rows, work.residual, threads_,
                   [&](Index i, Index first, auto width, const float* sum) {
                     for (int c = 0; c < decltype(width)::value; ++c)
                       coarse.data()[i * b + first + c] = inverse_growth * sum[c];
                   });
  std::vector<float> coarse_shifts(shifts);
  for (float& shift : coarse_shifts) shift *= inverse_growth;
  descend(level + 1, coarse, coarse_shifts, block);
  for_each_product(here.prolongation.rows, below.solution, threads_,
                   [&](Index i, Index first, auto width, const float* sum) {
                     for (int c = 0; c < decltype(width)::value; ++c) work.solution.data()[i * b + first + c] += sum[c];
                   });
  smooth(level, r, shifts, kSmoothed, kSmoothing, false, work);
}

void KernelMultigrid::cycle(Index level, const SingleBlock& r, const std::vector<float>& shifts, Index block,
                            SingleBlock& w) {
  descend(level, r, shifts, block);
  w.swap(workspaces_[static_cast<std::size_t>(level)].solution);
}

void KernelMultigrid::chebyshev(Index level, const SingleBlock& r, const std::vector<float>& shifts, double low,
                                int degree, SingleBlock& w) {
  Workspace& work = workspaces_[static_cast<std::size_t>(level)];
  smooth(level, r, shifts, low, degree, true, work);
  w.swap(work.solution);
}

}  // namespace diffeo
