// The gradient of the stress, and its second derivative times a move.
#include "diffeo/stress.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

constexpr Index kEdges = 8192;
constexpr Index kSamples = 4096;
constexpr Index kBlock = 64;

/// Step (d) of edge e of a layout (n + k, d).
inline void edge_step(const EdgeView& edges, const double* layout, Index d, Index e, double* step) {
  const double* from = layout + edges.i[e] * d;
  const double* to = layout + edges.j[e] * d;
  const double* periods = layout + edges.n * d;
  for (Index a = 0; a < d; ++a) {
    step[a] = to[a] - from[a];
    for (Index p = 0; p < edges.k; ++p) step[a] += edges.windings[e * edges.k + p] * periods[p * d + a];
  }
}

/// What the pull (d) of edge e adds to the sums (k, d) of the periods.
inline void add_to_periods(const EdgeView& edges, Index d, Index e, const double* pull, double* sums) {
  for (Index p = 0; p < edges.k; ++p) {
    for (Index a = 0; a < d; ++a) sums[p * d + a] += edges.windings[e * edges.k + p] * pull[a];
  }
}

/// Pulls (e, d) of the edges; what a chunk adds to the stress and to the gradient of the periods (k, d) goes to its row
/// of `sums` (1 + k d).
template <int D>
void edge_pulls(const EdgeView& edges, const double* layout, Index dim, Index begin, Index end, double* pulls,
                double* sums) {
  const Index d = D > 0 ? D : dim;
  // Roots and quotients of a block at a time, in whole vectors; its sums of squares in lanes, added up in the end.
  double factor[kBlock], square[kBlock], lanes[kBlock] = {};
  for (Index first = begin; first < end; first += kBlock) {
    const Index count = std::min(kBlock, end - first);
    for (Index b = 0; b < count; ++b) {
      double* pull = pulls + (first + b) * d;
      edge_step(edges, layout, d, first + b, pull);
      square[b] = 0.0;
      for (Index a = 0; a < d; ++a) square[b] += pull[a] * pull[a];
    }
    const double* length = edges.lengths + first;
    const double* weight = edges.weights + first;
    for (Index b = 0; b < count; ++b) {
      const double norm = std::sqrt(square[b]), miss = norm - length[b];
      lanes[b] += weight[b] * miss * miss;
      factor[b] = weight[b] * miss / std::max(norm, std::numeric_limits<double>::min());
    }
    for (Index b = 0; b < count; ++b) {
      double* pull = pulls + (first + b) * d;
      for (Index a = 0; a < d; ++a) pull[a] *= factor[b];
      add_to_periods(edges, d, first + b, pull, sums + 1);
    }
  }
  for (const double lane : lanes) sums[0] += lane;
}

/// Pulls w (u u^T + damping) step of the edges of a move, u their unit vectors; `sums` (1 + k d) as above, its first
/// unused.
template <int D>
void edge_resistances(const EdgeView& edges, const double* unit, double damping, const double* move, Index dim,
                      Index begin, Index end, double* pulls, double* sums) {
  const Index d = D > 0 ? D : dim;
  for (Index e = begin; e < end; ++e) {
    double* pull = pulls + e * d;
    const double* along = unit + e * d;
    edge_step(edges, move, d, e, pull);
    double stretch = 0.0;
    for (Index a = 0; a < d; ++a) stretch += along[a] * pull[a];
    for (Index a = 0; a < d; ++a) pull[a] = edges.weights[e] * (stretch * along[a] + damping * pull[a]);
    add_to_periods(edges, d, e, pull, sums + 1);
  }
}

/// Sums of the pulls (e, d) around the samples from `begin` to `end` into `result` (n + k, d).
template <int D>
void sums_around(const IncidentEdges& incident, const double* pulls, Index dim, Index begin, Index end,
                 double* result) {
  if constexpr (D > 0) {
    // In registers: nothing that is stored could be one of the pulls.
    for (Index s = begin; s < end; ++s) {
      double sum[D] = {};
      incident.around(s, [&](Index e, double sign) {
        for (Index a = 0; a < D; ++a) sum[a] += sign * pulls[e * D + a];
      });
      std::copy_n(sum, D, result + s * D);
    }
  } else {
    std::fill(result + begin * dim, result + end * dim, 0.0);
    for (Index s = begin; s < end; ++s) {
      double* row = result + s * dim;
      incident.around(s, [&](Index e, double sign) {
        for (Index a = 0; a < dim; ++a) row[a] += sign * pulls[e * dim + a];
      });
    }
  }
}

/// work(constant) of d where d <= 3, else of -1: loops over so few are unrolled.
template <class Work>
void with_dimension(Index d, Work&& work) {
  switch (d) {
    case 1:
      return work(std::integral_constant<int, 1>{});
    case 2:
      return work(std::integral_constant<int, 2>{});
    case 3:
      return work(std::integral_constant<int, 3>{});
    default:
      return work(std::integral_constant<int, -1>{});
  }
}

/// Sums of the pulls (e, d) around each sample, and those of the periods, into `result` (n + k, d).
void gather(const EdgeView& edges, const IncidentEdges& incident, const double* pulls, const RowMatrix& sums,
            Index chunks, Index d, double* result, int threads) {
  parallel_chunks(edges.n, kSamples, threads, [&](Index, Index begin, Index end) {
    with_dimension(d, [&](auto dim) { sums_around<dim>(incident, pulls, d, begin, end, result); });
  });
  std::fill(result + edges.n * d, result + (edges.n + edges.k) * d, 0.0);
  for (Index chunk = 0; chunk < chunks; ++chunk) {
    for (Index k = 0; k < edges.k * d; ++k) result[edges.n * d + k] += sums(chunk, 1 + k);
  }
}

}  // namespace

double stress_gradient(const EdgeView& edges, const IncidentEdges& incident, const double* layout, Index d,
                       double* gradient, int threads) {
  Buffer<double> pulls(edges.e * d);
  const Index width = 1 + edges.k * d, chunks = (edges.e + kEdges - 1) / kEdges;
  RowMatrix sums = RowMatrix::zero(chunks, width);
  parallel_chunks(edges.e, kEdges, threads, [&](Index chunk, Index begin, Index end) {
    double* row = sums.data() + chunk * width;
    with_dimension(d, [&](auto dim) { edge_pulls<dim>(edges, layout, d, begin, end, pulls.data(), row); });
  });
  gather(edges, incident, pulls.data(), sums, chunks, d, gradient, threads);
  double stress = 0.0;
  for (Index chunk = 0; chunk < chunks; ++chunk) stress += sums(chunk, 0);
  return stress;
}

void stress_stiffness(const EdgeView& edges, const IncidentEdges& incident, const double* unit, double damping,
                      const double* move, Index d, double* product, int threads) {
  Buffer<double> pulls(edges.e * d);
  const Index width = 1 + edges.k * d, chunks = (edges.e + kEdges - 1) / kEdges;
  RowMatrix sums = RowMatrix::zero(chunks, width);
  parallel_chunks(edges.e, kEdges, threads, [&](Index chunk, Index begin, Index end) {
    double* row = sums.data() + chunk * width;
    with_dimension(
        d, [&](auto dim) { edge_resistances<dim>(edges, unit, damping, move, d, begin, end, pulls.data(), row); });
  });
  gather(edges, incident, pulls.data(), sums, chunks, d, product, threads);
}

}  // namespace diffeo
