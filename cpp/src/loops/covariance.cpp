// Whitening of all samples, eight at a time, from each source of local covariances.
#include "diffeo/covariance.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"
#include "diffeo/small/burst_decomposition.hpp"
#include "diffeo/small/decomposition.hpp"
#include "diffeo/small/eigen.hpp"
#include "diffeo/small/local_fit.hpp"

namespace diffeo {
namespace {

// Samples per task: small enough to balance, large enough to hide the cost of scheduling.
constexpr Index kSamples = 64;

/// Samples a task: at least 64, more of small ones, so that scheduling and scratch space cost little.
Index samples_per_task(Index numbers_per_sample) {
  constexpr Index kNumbers = 16384;
  return std::max(kSamples, kNumbers / numbers_per_sample / kLanes * kLanes);
}

/// Bursts of the listed samples without squaring: for singular values that span more than a Gram matrix resolves.
void decompose_bursts(const double* bursts, const std::vector<Index>& samples, Index burst_size, Index m, double unit,
                      double gain, const WhiteningOutput& out) {
  if (samples.empty()) return;
  SmallDecomposition decomposition(m, burst_size);
  const Index r = std::min(m, burst_size), count = static_cast<Index>(samples.size());
  for (Index first = 0; first < count; first += kLanes) {
    const Index valid = std::min(kLanes, count - first);
    LaneRows rows(bursts, 0, 1);
    for (Index l = 0; l < kLanes; ++l) {
      rows.row[l] = bursts + samples[static_cast<std::size_t>(first + std::min(l, valid - 1))] * burst_size * m;
    }
    decomposition.load_transposed(rows);
    for (Index a = 0; a < m; ++a) {
      Lanes sum = 0.0;
      for (Index k = 0; k < burst_size; ++k) sum += decomposition.entry(a, k);
      const Lanes mean = sum * (1.0 / static_cast<double>(burst_size));
      for (Index k = 0; k < burst_size; ++k) decomposition.entry(a, k) = (decomposition.entry(a, k) - mean) * unit;
    }
    decomposition.compute(out.dim, gain);
    for (Index l = 0; l < valid; ++l) {
      const Index i = samples[static_cast<std::size_t>(first + l)];
      extract(decomposition.singular_values(), r, l, out.singular_values + i * r);
      extract(decomposition.whitening(), m * out.dim, l, out.whitening + i * m * out.dim);
    }
  }
}

void check_dim(const WhiteningOutput& out, Index r) {
  if (out.whitening != nullptr && (out.dim < 1 || out.dim > r)) {
    throw std::invalid_argument("whitening: dim must lie between 1 and the number of singular values");
  }
}

}  // namespace

void whitening_from_jacobians(const double* jacobians, Index n, Index m, Index p, WhiteningOutput out, int threads) {
  const Index r = std::min(m, p);
  check_dim(out, r);
  const Index dim = out.whitening == nullptr ? 0 : out.dim;
  parallel_chunks(n, samples_per_task(m * p), threads, [&](Index, Index begin, Index end) {
    SmallDecomposition decomposition(m, p);
    for (Index i = begin; i < end; i += kLanes) {
      const Index valid = std::min(kLanes, end - i);
      decomposition.load({jacobians + i * m * p, m * p, valid});
      decomposition.compute(dim, 1.0);
      deinterleave(decomposition.singular_values(), r, out.singular_values + i * r, r, valid);
      if (dim > 0) deinterleave(decomposition.whitening(), m * dim, out.whitening + i * m * dim, m * dim, valid);
    }
  });
}

void whitening_from_bursts(const double* bursts, Index n, Index burst_size, Index m, double scale, WhiteningOutput out,
                           int threads) {
  const Index r = std::min(m, burst_size);
  check_dim(out, r);
  if (out.whitening != nullptr && burst_size < out.dim + 3) {
    throw std::invalid_argument("whitening_from_bursts: needs at least dim + 3 members a burst");
  }
  const double members = static_cast<double>(burst_size);
  const double gain =
      out.whitening == nullptr ? 1.0 : std::sqrt((members - static_cast<double>(out.dim) - 2.0) / (members - 1.0));
  const double unit = 1.0 / (scale * std::sqrt(members - 1.0));
  const Index dim = out.whitening == nullptr ? 0 : out.dim;
  parallel_chunks(n, samples_per_task(burst_size * m), threads, [&](Index, Index begin, Index end) {
    BurstDecomposition decomposition(burst_size, m, dim, unit, gain);
    std::vector<Index> unresolved;
    for (Index i = begin; i < end; i += kLanes) {
      const Index valid = std::min(kLanes, end - i);
      const LaneRows rows(bursts + i * burst_size * m, burst_size * m, valid);
      const LaneMask poor = decomposition.compute(rows, valid, out.singular_values + i * r,
                                                  dim > 0 ? out.whitening + i * m * dim : nullptr);
      for (Index l = 0; l < valid; ++l) {
        if (poor[l]) unresolved.push_back(i + l);
      }
    }
    decompose_bursts(bursts, unresolved, burst_size, m, unit, gain, out);
  });
}

void whitening_from_covariances(const double* covariances, Index n, Index m, WhiteningOutput out, int threads) {
  check_dim(out, m);
  const Index dim = out.whitening == nullptr ? 0 : out.dim;
  parallel_chunks(n, samples_per_task(m * m), threads, [&](Index, Index begin, Index end) {
    SmallEigen eigen(m);
    std::vector<Lanes> values(static_cast<std::size_t>(m)), whitening(static_cast<std::size_t>(m * dim));
    for (Index i = begin; i < end; i += kLanes) {
      const Index valid = std::min(kLanes, end - i);
      interleave({covariances + i * m * m, m * m, valid}, 0, m * m, eigen.matrix());
      eigen.compute(dim);
      for (Index k = 0; k < m; ++k) {
        const Lanes value = eigen.eigenvalues()[k];
        values[static_cast<std::size_t>(k)] = copysign(sqrt(abs(value)), value);
      }
      deinterleave(values.data(), m, out.singular_values + i * m, m, valid);
      if (dim == 0) continue;
      for (Index k = 0; k < dim; ++k) {
        const Lanes value = values[static_cast<std::size_t>(k)], inverse = 1.0 / value;
        for (Index a = 0; a < m; ++a) {
          whitening[static_cast<std::size_t>(a * dim + k)] =
              select(value > 0.0, eigen.eigenvectors()[a * dim + k] * inverse, 0.0);
        }
      }
      deinterleave(whitening.data(), m * dim, out.whitening + i * m * dim, m * dim, valid);
    }
  });
}

void jacobians_from_neighbors(const double* points, Index n, Index m, const double* reference, Index p,
                              const Index* neighbors, Index k, double* jacobians, double* conditions, int threads) {
  if (k < p + 1) throw std::invalid_argument("jacobians_from_neighbors: needs at least p + 1 neighbours");
  check_rows<Index>("jacobians_from_neighbors", {"neighbors", neighbors, n * k, k}, "n", n, threads);
  parallel_chunks(n, samples_per_task(k * (m + p)), threads, [&](Index, Index begin, Index end) {
    LocalFit fit(k, p);
    const auto members = static_cast<std::size_t>(k);
    std::vector<double> coefficients(static_cast<std::size_t>(kLanes * k * p)), column(static_cast<std::size_t>(m));
    std::vector<const double*> rows(members);
    for (Index i = begin; i < end; i += kLanes) {
      const Index valid = std::min(kLanes, end - i);
      for (Index l = 0; l < kLanes; ++l) {
        const Index* near = neighbors + (i + std::min(l, valid - 1)) * k;
        for (Index a = 0; a < k; ++a) {
          for (Index c = 0; c < p; ++c) fit.position(a, c).set(l, reference[near[a] * p + c]);
        }
      }
      fit.compute();
      deinterleave(fit.pseudo_inverse(), k * p, coefficients.data(), k * p, valid);
      deinterleave(&fit.condition(), 1, conditions + i, 1, valid);
      for (Index l = 0; l < valid; ++l) {
        for (std::size_t a = 0; a < members; ++a) rows[a] = points + neighbors[(i + l) * k + static_cast<Index>(a)] * m;
        for (Index c = 0; c < p; ++c) {
          combine_rows(rows.data(), k, m, coefficients.data() + (l * p + c) * k, column.data());
          for (Index j = 0; j < m; ++j) jacobians[((i + l) * m + j) * p + c] = column[static_cast<std::size_t>(j)];
        }
      }
    }
  });
}

}  // namespace diffeo
