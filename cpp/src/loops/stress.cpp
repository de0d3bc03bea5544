// The gradient of the stress.
#include "diffeo/stress.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

constexpr Index kEdges = 8192;
constexpr Index kSamples = 4096;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// Pulls (e, d) of the edges; what a chunk adds to the stress and to the gradient of the periods (k, d) goes to its row
/// of `sums` (1 + k d).
template <int D>
void edge_pulls(const EdgeView& edges, const double* layout, Index dim, Index begin, Index end, double* pulls,
                double* sums) {
  const Index d = D > 0 ? D : dim;
  const double* periods = layout + edges.n * d;
  for (Index e = begin; e < end; ++e) {
    const double* from = layout + edges.i[e] * d;
    const double* to = layout + edges.j[e] * d;
    double* pull = pulls + e * d;
    double squared = 0.0;
    for (Index a = 0; a < d; ++a) {
      double step = to[a] - from[a];
      for (Index p = 0; p < edges.k; ++p) step += edges.windings[e * edges.k + p] * periods[p * d + a];
      pull[a] = step;
      squared += step * step;
    }
    const double norm = std::sqrt(squared), miss = norm - edges.lengths[e];
    const double factor = edges.weights[e] * miss / std::max(norm, std::numeric_limits<double>::min());
    sums[0] += edges.weights[e] * miss * miss;
    for (Index a = 0; a < d; ++a) pull[a] *= factor;
    for (Index p = 0; p < edges.k; ++p) {
      for (Index a = 0; a < d; ++a) sums[1 + p * d + a] += edges.windings[e * edges.k + p] * pull[a];
    }
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
    switch (d) {
      case 1:
        return edge_pulls<1>(edges, layout, d, begin, end, pulls.data(), row);
      case 2:
        return edge_pulls<2>(edges, layout, d, begin, end, pulls.data(), row);
      case 3:
        return edge_pulls<3>(edges, layout, d, begin, end, pulls.data(), row);
      default:
        return edge_pulls<-1>(edges, layout, d, begin, end, pulls.data(), row);
    }
  });
  parallel_chunks(edges.n, kSamples, threads, [&](Index, Index begin, Index end) {
    std::fill(gradient + begin * d, gradient + end * d, 0.0);
    for (Index s = begin; s < end; ++s) {
      double* row = gradient + s * d;
      incident.around(s, [&](Index e, double sign) {
        for (Index a = 0; a < d; ++a) row[a] += sign * pulls[e * d + a];
      });
    }
  });
  std::vector<double> total(at(width), 0.0);
  for (Index chunk = 0; chunk < chunks; ++chunk) {
    for (Index k = 0; k < width; ++k) total[at(k)] += sums(chunk, k);
  }
  std::copy_n(total.data() + 1, width - 1, gradient + edges.n * d);
  return total[0];
}

}  // namespace diffeo
