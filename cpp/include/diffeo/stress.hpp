// The stress of a layout, sum_e w_e (norm(s_e) - l_e)^2 over the edges of a neighbour graph, and its derivatives.
#pragma once

#include <vector>

#include "diffeo/types.hpp"

namespace diffeo {

/// Edges that somebody else owns: rows `i` and `j` (e) in [0, n), `lengths` and `weights` (e), and how often an edge
/// passes around each of k periods, `windings` (e, k). A layout has n + k rows, the last of which are the periods, and
/// steps s_e = x_j - x_i + windings_e periods.
struct EdgeView {
  Index n, e, k;
  const Index* i;
  const Index* j;
  const double* lengths;
  const double* weights;
  const double* windings;
};

/// Edges around each sample, so that sums over them need no order of the threads: entry (edge + 1) where the sample is
/// the edge's end j, -(edge + 1) where it is i.
class IncidentEdges {
 public:
  /// Throws std::invalid_argument for rows outside of [0, n) and for 2^31 edges or more.
  IncidentEdges(Index n, const Index* i, const Index* j, Index e);

  Index size() const { return static_cast<Index>(indptr_.size()) - 1; }

  /// use(edge, sign) for each edge around a sample, in the order of the edges.
  template <class Use>
  void around(Index sample, Use&& use) const {
    const auto row = static_cast<std::size_t>(sample);
    for (Index at = indptr_[row]; at < indptr_[row + 1]; ++at) {
      const Index signed_edge = edges_[at];
      if (signed_edge > 0) {
        use(signed_edge - 1, 1.0);
      } else {
        use(-signed_edge - 1, -1.0);
      }
    }
  }

 private:
  std::vector<Index> indptr_;
  Buffer<Row> edges_;
};

/// Half the gradient of the stress of a layout (n + k, d) into `gradient` (n + k, d), and the stress.
///
/// Where an edge has no direction its pull is zero. Thread-safe; the same bits for any number of threads; throws
/// Interrupted on Ctrl-C.
double stress_gradient(const EdgeView& edges, const IncidentEdges& incident, const double* layout, Index d,
                       double* gradient, int threads);

/// (G + damping K) move into `product`, both (n + k, d): the Gauss-Newton matrix G = B^T diag(w u u^T) B of the stress,
/// with `unit` vectors u (e, d) along the edges, and the Laplacian K = B^T diag(w) B; B makes steps from a layout.
///
/// Thread-safe; the same bits for any number of threads; throws Interrupted on Ctrl-C.
void stress_stiffness(const EdgeView& edges, const IncidentEdges& incident, const double* unit, double damping,
                      const double* move, Index d, double* product, int threads);

}  // namespace diffeo
