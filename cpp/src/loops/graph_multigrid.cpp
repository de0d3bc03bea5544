// The multigrid cycle for Laplacians, and conjugate gradients around it; laplacian_solver.cpp prepares them.
#include "diffeo/graph_multigrid.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "diffeo/parallel.hpp"
#include "diffeo/simd.hpp"

namespace diffeo {
namespace {

// Columns that a cycle treats at once: layouts have two or three, and four floats are the smallest vector register.
constexpr Index kColumns = 4;
static_assert(kColumns * sizeof(float) == sizeof(Quad));

// Chebyshev steps before and after the coarse correction, and the part of the spectrum of D^-1 A that they damp.
constexpr int kSmoothing = 3;
constexpr double kSmoothed = 0.1;

constexpr Index kRows = 2048;

/// Calls use(i, sum) for every row i with sum = (a x)_i, four columns at once.
template <class Use>
void for_each_row(const SingleRows& a, const float* x, int threads, Use&& use) {
  parallel_chunks(a.n_rows, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      // Four sums in turn: one alone would wait for the latency of its own additions.
      Quad sum[4] = {};
      Index e = a.indptr[i];
      const Index stop = a.indptr[i + 1];
      for (; e + 4 <= stop; e += 4) {
        for (Index s = 0; s < 4; ++s) sum[s] += a.values[e + s] * load(x + kColumns * a.indices[e + s]);
      }
      for (; e < stop; ++e) sum[0] += a.values[e] * load(x + kColumns * a.indices[e]);
      use(i, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  });
}

}  // namespace

/// Blocks (n, kColumns) of every level.
struct LaplacianSolver::Work {
  struct Blocks {
    Buffer<float> right, solution, other, direction;
  };
  std::vector<Blocks> levels;

  explicit Work(const std::vector<GraphLevel>& all) {
    for (const GraphLevel& level : all) {
      const Index size = kColumns * level.size();
      levels.push_back({Buffer<float>(size), Buffer<float>(size), Buffer<float>(size), Buffer<float>(size)});
    }
  }
};

/// Chebyshev iteration for D^-1 A on the upper part of its spectrum (Saad 2003, algorithm 12.1).
void LaplacianSolver::smooth(std::size_t level, bool from_zero, Work& work) const {
  const GraphLevel& here = levels_[level];
  Work::Blocks& blocks = work.levels[level];
  const double low = kSmoothed * here.highest, middle = 0.5 * (here.highest + low), half = 0.5 * (here.highest - low);
  double rho = half / middle, momentum = 0.0, weight = 1.0 / middle;
  const float* inverse = here.inverse_diagonal.data();
  const float* right = blocks.right.data();
  float* direction = blocks.direction.data();
  for (int step = 0; step < kSmoothing; ++step) {
    if (step > 0) {
      const double next = 1.0 / (2.0 * middle / half - rho);
      momentum = next * rho;
      weight = 2.0 * next / half;
      rho = next;
    }
    const auto keep = static_cast<float>(momentum), gain = static_cast<float>(weight);
    float* x = blocks.solution.data();
    if (from_zero && step == 0) {
      parallel_chunks(here.size(), kRows, threads_, [&](Index, Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
          const Quad d = gain * inverse[i] * load(right + kColumns * i);
          store(direction + kColumns * i, d);
          store(x + kColumns * i, d);
        }
      });
      continue;
    }
    float* other = blocks.other.data();
    const bool first = step == 0;
    for_each_row(here.matrix.rows, x, threads_, [&](Index i, const Quad& sum) {
      Quad d = gain * inverse[i] * (load(right + kColumns * i) - sum);
      if (!first) d += keep * load(direction + kColumns * i);
      store(direction + kColumns * i, d);
      store(other + kColumns * i, load(x + kColumns * i) + d);
    });
    std::swap(blocks.solution, blocks.other);
  }
}

void LaplacianSolver::descend(std::size_t level, Work& work) const {
  Work::Blocks& blocks = work.levels[level];
  const Index n = levels_[level].size();
  if (level + 1 == levels_.size()) {
    if (coarsest_inverse_.size() == 0) {
      smooth(level, true, work);
      return;
    }
    const float* right = blocks.right.data();
    for (Index i = 0; i < n; ++i) {
      // Four sums in turn, as above.
      const float* row = coarsest_inverse_.row(i);
      Quad sum[4] = {};
      for (Index k = 0; k < n; ++k) sum[k % 4] += row[k] * load(right + kColumns * k);
      store(blocks.solution.data() + kColumns * i, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    return;
  }
  const GraphLevel& here = levels_[level];
  smooth(level, true, work);
  const float* right = blocks.right.data();
  float* residual = blocks.other.data();
  for_each_row(here.matrix.rows, blocks.solution.data(), threads_,
               [&](Index i, const Quad& sum) { store(residual + kColumns * i, load(right + kColumns * i) - sum); });
  Work::Blocks& below = work.levels[level + 1];
  for_each_row(here.restriction.rows, residual, threads_,
               [&](Index i, const Quad& sum) { store(below.right.data() + kColumns * i, sum); });
  descend(level + 1, work);
  float* x = blocks.solution.data();
  for_each_row(here.prolongation.rows, below.solution.data(), threads_,
               [&](Index i, const Quad& sum) { store(x + kColumns * i, load(x + kColumns * i) + sum); });
  smooth(level, false, work);
}

void LaplacianSolver::cycle(const double* r, Index b, double* w) const {
  const Index n = size();
  if (n == 0) return;
  Work work(levels_);
  for (Index first = 0; first < b; first += kColumns) {
    const Index columns = std::min(kColumns, b - first);
    // Residuals of any size become numbers near one: single precision has little range.
    double scale[kColumns] = {};
    for (Index c = 0; c < columns; ++c) {
      for (Index i = 0; i < n; ++i) scale[c] = std::max(scale[c], std::abs(r[i * b + first + c]));
    }
    float* right = work.levels[0].right.data();
    parallel_chunks(n, kRows, threads_, [&](Index, Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        for (Index c = 0; c < kColumns; ++c) {
          right[kColumns * i + c] = scale[c] > 0.0 ? static_cast<float>(r[i * b + first + c] / scale[c]) : 0.0f;
        }
      }
    });
    descend(0, work);
    const float* solution = work.levels[0].solution.data();
    double mean[kColumns] = {};
    for (Index i = 0; i < n && !anchored_; ++i) {
      for (Index c = 0; c < kColumns; ++c) mean[c] += solution[kColumns * i + c];
    }
    for (double& m : mean) m /= static_cast<double>(n);
    parallel_chunks(n, kRows, threads_, [&](Index, Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        for (Index c = 0; c < columns; ++c) {
          w[i * b + first + c] = scale[c] * (static_cast<double>(solution[kColumns * i + c]) - mean[c]);
        }
      }
    });
  }
}

namespace {

using Columns = std::vector<double>;

/// Column sums of x * y (n, b), in fixed chunks.
Columns column_dots(const double* x, const double* y, Index n, Index b, int threads) {
  const Index chunks = (n + kRows - 1) / kRows;
  RowMatrix partial = RowMatrix::zero(chunks, b);
  parallel_chunks(n, kRows, threads, [&](Index chunk, Index begin, Index end) {
    double* sums = partial.row(chunk);
    for (Index i = begin; i < end; ++i) {
      for (Index c = 0; c < b; ++c) sums[c] += x[i * b + c] * y[i * b + c];
    }
  });
  Columns total(static_cast<std::size_t>(b), 0.0);
  for (Index chunk = 0; chunk < chunks; ++chunk) {
    for (Index c = 0; c < b; ++c) total[static_cast<std::size_t>(c)] += partial(chunk, c);
  }
  return total;
}

/// The numbers of `over` divided by those of `by`, zero where `by` is not positive.
Columns quotients(const Columns& over, const Columns& by) {
  Columns result(by.size(), 0.0);
  for (std::size_t c = 0; c < by.size(); ++c) {
    if (by[c] > 0.0) result[c] = over[c] / by[c];
  }
  return result;
}

/// to = first + second * diag(factors) for blocks (n, b); `to` may be either block.
void combine(const double* first, const double* second, const Columns& factors, Index n, double sign, double* to,
             int threads) {
  const Index b = static_cast<Index>(factors.size());
  parallel_chunks(n, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      for (Index c = 0; c < b; ++c) {
        const Index e = i * b + c;
        to[e] = first[e] + sign * factors[static_cast<std::size_t>(c)] * second[e];
      }
    }
  });
}

/// y = a x for blocks (n, b).
void multiply(const SparseRows& a, const double* x, Index b, double* y, int threads) {
  parallel_chunks(a.n_rows, kRows, threads, [&](Index, Index begin, Index end) {
    std::fill(y + begin * b, y + end * b, 0.0);
    for (Index i = begin; i < end; ++i) {
      double* row = y + i * b;
      for (Index e = a.indptr[i]; e < a.indptr[i + 1]; ++e) {
        const double value = a.values[e];
        const double* from = x + a.indices[e] * b;
        for (Index c = 0; c < b; ++c) row[c] += value * from[c];
      }
    }
  });
}

}  // namespace

Index LaplacianSolver::solve(const double* right, Index b, double tolerance, Index max_iterations, double* x,
                             double* reduction) const {
  const Index n = size();
  RowMatrix residual(n, b), preconditioned(n, b), direction(n, b), image(n, b);
  const auto find_residual = [&] {
    multiply(matrix_, x, b, image.data(), threads_);
    for (Index e = 0; e < n * b; ++e) residual.data()[e] = right[e] - image.data()[e];
  };
  find_residual();
  const Columns target = column_dots(right, right, n, b, threads_);
  Columns size_before(static_cast<std::size_t>(b), 0.0);
  // The largest share of a right side that is left; where there is no solution iterations may overflow.
  const auto left = [&] {
    const Columns norms = column_dots(residual.data(), residual.data(), n, b, threads_);
    double most = 0.0;
    for (std::size_t c = 0; c < norms.size(); ++c) {
      const double share = norms[c] == 0.0 ? 0.0 : std::sqrt(norms[c]) / std::sqrt(target[c]);
      most = std::max(most, std::isfinite(share) ? share : std::numeric_limits<double>::infinity());
    }
    return most;
  };
  Index iterations = 0;
  for (;; ++iterations) {
    *reduction = left();
    if (*reduction <= tolerance || !std::isfinite(*reduction) || iterations == max_iterations) break;
    cycle(residual.data(), b, preconditioned.data());
    const Columns size_now = column_dots(residual.data(), preconditioned.data(), n, b, threads_);
    if (iterations == 0) {
      direction = preconditioned;
    } else {
      combine(preconditioned.data(), direction.data(), quotients(size_now, size_before), n, 1.0, direction.data(),
              threads_);
    }
    size_before = size_now;
    multiply(matrix_, direction.data(), b, image.data(), threads_);
    const Columns energy = column_dots(direction.data(), image.data(), n, b, threads_);
    const Columns along = quotients(size_now, energy);
    combine(x, direction.data(), along, n, 1.0, x, threads_);
    combine(residual.data(), image.data(), along, n, -1.0, residual.data(), threads_);
  }
  // Rounding parts the residual of the recursion from the true one.
  find_residual();
  *reduction = left();
  return iterations;
}

}  // namespace diffeo
