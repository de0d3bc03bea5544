// Lengths of edges.
#include "diffeo/edge_lengths.hpp"

#include <algorithm>
#include <stdexcept>

#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"
#include "diffeo/small/trapezoid.hpp"

namespace diffeo {
namespace {

constexpr Index kEdges = 1024;

template <int D>
void run(const double* points, const double* whitening, Index m, Index d, const Index* i, const Index* j, Index e,
         double* lengths, double* off_tangent, int threads) {
  parallel_chunks(e, kEdges, threads, [&](Index, Index begin, Index end) {
    Trapezoid<D> rule(m, d);
    for (Index k = begin; k < end; k += kLanes) {
      const Index valid = std::min(kLanes, end - k);
      Index from[kLanes], to[kLanes];
      for (Index l = 0; l < kLanes; ++l) {
        from[l] = i[k + std::min(l, valid - 1)];
        to[l] = j[k + std::min(l, valid - 1)];
      }
      Lanes off;
      const Lanes length = rule(points, whitening, from, to, off);
      deinterleave(&length, 1, lengths + k, 1, valid);
      deinterleave(&off, 1, off_tangent + k, 1, valid);
    }
  });
}

}  // namespace

void edge_lengths(const double* points, const double* whitening, Index n, Index m, Index d, const Index* i,
                  const Index* j, Index e, double* lengths, double* off_tangent, int threads) {
  if (d < 1 || m < d) throw std::invalid_argument("edge_lengths: need 1 <= d <= m");
  check_edges("edge_lengths", i, j, e, n, threads);
  switch (d) {
    case 1:
      return run<1>(points, whitening, m, d, i, j, e, lengths, off_tangent, threads);
    case 2:
      return run<2>(points, whitening, m, d, i, j, e, lengths, off_tangent, threads);
    case 3:
      return run<3>(points, whitening, m, d, i, j, e, lengths, off_tangent, threads);
    default:
      return run<-1>(points, whitening, m, d, i, j, e, lengths, off_tangent, threads);
  }
}

}  // namespace diffeo
