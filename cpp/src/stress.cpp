// Edges around each sample, and the gradient of the stress.
#include "diffeo/stress.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"

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

IncidentEdges::IncidentEdges(Index n, const Index* i, const Index* j, Index e) {
  if (n < 0) throw std::invalid_argument("IncidentEdges: n must not be negative");
  if (e >= std::numeric_limits<Row>::max()) throw std::invalid_argument("IncidentEdges: too many edges");
  check_edges("IncidentEdges", i, j, e, n, 1);
  indptr_.assign(at(n) + 1, 0);
  edges_ = Buffer<Row>(2 * e);
  for (Index k = 0; k < e; ++k) {
    ++indptr_[at(i[k]) + 1];
    ++indptr_[at(j[k]) + 1];
  }
  for (Index s = 0; s < n; ++s) indptr_[at(s) + 1] += indptr_[at(s)];
  std::vector<Index> next(indptr_.begin(), indptr_.end() - 1);
  for (Index k = 0; k < e; ++k) {
    edges_[next[at(i[k])]++] = static_cast<Row>(-k - 1);
    edges_[next[at(j[k])]++] = static_cast<Row>(k + 1);
  }
}

double stress_gradient(const EdgeView& edges, const IncidentEdges& incident, const double* layout, Index d,
                       double* gradient, int threads) {
  Buffer<double> pulls(edges.e * d);
  const Index width = 1 + edges.k * d, chunks = (edges.e + kEdges - 1) / kEdges;
  RowMatrix sums = RowMatrix::Zero(chunks, width);
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
  const Eigen::RowVectorXd total = sums.colwise().sum();
  std::copy_n(total.data() + 1, width - 1, gradient + edges.n * d);
  return total[0];
}

}  // namespace diffeo
