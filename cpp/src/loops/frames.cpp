// Frames by Procrustes, layouts completed outwards, and lengths by Hermite quadrature.
#include "diffeo/frames.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "diffeo/parallel.hpp"
#include "diffeo/small/decomposition.hpp"

namespace diffeo {
namespace {

constexpr Index kSamples = 1024;
constexpr Index kEdges = 4096;

// Enough to keep directions without slopes or steps from dividing by zero, relative to the trace: what it makes of them
// is not believed, or multiplied by the squared step in that direction.
constexpr double kRidge = 1e-14;

constexpr double kTiny = std::numeric_limits<double>::min();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Small matrices are row-major arrays. D fixes the dimension at compile time; -1 leaves it open.
template <int D>
constexpr Index fixed(Index d) {
  return D > 0 ? D : d;
}

/// use(other, signed edge): the samples at the other ends of the edges around one, and 1 where the edge points there.
template <class Use>
void for_each_neighbor(const LaidEdges& edges, Index sample, Use&& use) {
  edges.incident->around(sample, [&](Index e, double sign) { use(sign > 0.0 ? edges.i[e] : edges.j[e], e, -sign); });
}

/// out (d) += factor w^T (to - from), w (m, d).
template <int D>
void add_displacement(const double* w, const double* from, const double* to, Index m, Index dim, double factor,
                      double* out) {
  const Index d = fixed<D>(dim);
  for (Index a = 0; a < m; ++a) {
    const double delta = factor * (to[a] - from[a]);
    for (Index k = 0; k < d; ++k) out[k] += w[a * d + k] * delta;
  }
}

/// out (rows, d) = a (rows, d) b (d, d).
template <int D>
void multiply(const double* a, const double* b, Index rows, Index dim, double* out) {
  const Index d = fixed<D>(dim);
  for (Index r = 0; r < rows; ++r) {
    for (Index k = 0; k < d; ++k) {
      double sum = 0.0;
      for (Index l = 0; l < d; ++l) sum += a[r * d + l] * b[l * d + k];
      out[r * d + k] = sum;
    }
  }
}

/// out (d) += factor q^T x, q (d, d).
template <int D>
void add_turned(const double* q, const double* x, Index dim, double factor, double* out) {
  const Index d = fixed<D>(dim);
  for (Index l = 0; l < d; ++l) {
    for (Index k = 0; k < d; ++k) out[k] += factor * q[l * d + k] * x[l];
  }
}

/// Replaces a positive semidefinite matrix (d, d) by its inverse after a small ridge (Gauss and Jordan).
template <int D>
void invert(double* a, Index dim) {
  const Index d = fixed<D>(dim);
  double trace = 0.0;
  for (Index k = 0; k < d; ++k) trace += a[k * d + k];
  for (Index k = 0; k < d; ++k) a[k * d + k] += kRidge * trace + kTiny;
  for (Index k = 0; k < d; ++k) {
    const double pivot = 1.0 / a[k * d + k];
    a[k * d + k] = 1.0;
    for (Index l = 0; l < d; ++l) a[k * d + l] *= pivot;
    for (Index r = 0; r < d; ++r) {
      if (r == k) continue;
      const double factor = a[r * d + k];
      a[r * d + k] = 0.0;
      for (Index l = 0; l < d; ++l) a[r * d + l] -= factor * a[k * d + l];
    }
  }
}

/// The orthogonal matrices nearest to those of up to eight samples (d, d), in place; scratch holds 3 d^2 numbers.
void make_orthogonal(double* matrices, Index d, Index valid, std::vector<Lanes>& scratch) {
  Lanes* lanes = scratch.data();
  interleave(LaneRows(matrices, d * d, valid), 0, d * d, lanes);
  orthogonal_factor(lanes, d, lanes + d * d);
  deinterleave(lanes, d * d, matrices, d * d, valid);
}

/// One round: frames from displacements by `slopes` (n, m, d), W at first, then W Q of the round before.
template <int D>
void frame_round(const LaidEdges& edges, const double* points, const double* slopes, Index m, bool first,
                 double* frames, int threads) {
  const Index n = edges.incident->size(), d = fixed<D>(edges.d);
  parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
    std::vector<Lanes> scratch(at(3 * d * d));
    std::vector<double> total(at(d * d)), turned(at(d * d)), found(at(d));
    for (Index s = begin; s < end; ++s) {
      const double* here = points + s * m;
      const double* own = slopes + s * m * d;
      std::fill(total.begin(), total.end(), 0.0);
      for_each_neighbor(edges, s, [&](Index other, Index e, double sign) {
        std::fill(found.begin(), found.end(), 0.0);
        add_displacement<D>(own, here, points + other * m, m, d, first ? 1.0 : 0.5, found.data());
        if (!first) add_displacement<D>(slopes + other * m * d, here, points + other * m, m, d, 0.5, found.data());
        const double* step = edges.steps + e * d;
        double squared = 0.0;
        for (Index k = 0; k < d; ++k) squared += step[k] * step[k];
        const double weight = sign / std::max(squared, kTiny);
        for (Index k = 0; k < d; ++k) {
          for (Index l = 0; l < d; ++l) total[at(k * d + l)] += found[at(k)] * step[l] * weight;
        }
      });
      double* frame = frames + s * d * d;
      if (first) {
        std::copy(total.begin(), total.end(), frame);
      } else {
        multiply<D>(frame, total.data(), d, d, turned.data());
        std::copy(turned.begin(), turned.end(), frame);
      }
    }
    for (Index s = begin; s < end; s += kLanes) {
      make_orthogonal(frames + s * d * d, d, std::min(kLanes, end - s), scratch);
    }
  });
}

template <int D>
void frames_of(const LaidEdges& edges, const double* points, const double* whitening, Index m, int rounds,
               double* frames, int threads) {
  const Index n = edges.incident->size(), d = fixed<D>(edges.d);
  frame_round<D>(edges, points, whitening, m, true, frames, threads);
  Buffer<double> turned(rounds > 0 ? n * m * d : 0);
  for (int round = 0; round < rounds; ++round) {
    parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
      for (Index s = begin; s < end; ++s) {
        multiply<D>(whitening + s * m * d, frames + s * d * d, m, d, turned.data() + s * m * d);
      }
    });
    frame_round<D>(edges, points, turned.data(), m, false, frames, threads);
  }
}

/// Places one layer of `extend_layout`: samples beside those placed already.
template <int D>
void place_layer(const LaidEdges& edges, const double* points, const double* whitening, Index m,
                 const std::vector<Index>& layer, const std::vector<std::uint8_t>& placed, double* layout,
                 double* frames, int threads) {
  const Index d = fixed<D>(edges.d);
  parallel_chunks(static_cast<Index>(layer.size()), kSamples, threads, [&](Index, Index begin, Index end) {
    std::vector<Lanes> scratch(at(3 * d * d));
    std::vector<double> turn(at(d * d)), product(at(d * d)), squared(at(d)), mean(at(d)), seen(at(d));
    std::vector<Index> around;
    for (Index next = begin; next < end; ++next) {
      const Index s = layer[at(next)];
      around.clear();
      for_each_neighbor(edges, s, [&](Index other, Index, double) {
        if (placed[at(other)] != 0) around.push_back(other);
      });
      const double* own = whitening + s * m * d;
      double* frame = frames + s * d * d;
      std::fill(frame, frame + d * d, 0.0);
      for (const Index t : around) {
        // J = W Sigma^2, and the columns of W have lengths 1 / sigma.
        const double* theirs = whitening + t * m * d;
        std::fill(turn.begin(), turn.end(), 0.0);
        std::fill(squared.begin(), squared.end(), 0.0);
        for (Index a = 0; a < m; ++a) {
          for (Index l = 0; l < d; ++l) {
            squared[at(l)] += theirs[a * d + l] * theirs[a * d + l];
            for (Index k = 0; k < d; ++k) turn[at(k * d + l)] += own[a * d + k] * theirs[a * d + l];
          }
        }
        for (Index k = 0; k < d; ++k) {
          for (Index l = 0; l < d; ++l) turn[at(k * d + l)] /= squared[at(l)];
        }
        multiply<D>(turn.data(), frames + t * d * d, d, d, product.data());
        for (Index k = 0; k < d * d; ++k) frame[k] += product[at(k)];
      }
      make_orthogonal(frame, d, 1, scratch);
      std::fill(mean.begin(), mean.end(), 0.0);
      for (const Index t : around) {
        for (Index k = 0; k < d; ++k) mean[at(k)] += layout[t * d + k];
        for (const Index end_of_step : {t, s}) {
          std::fill(seen.begin(), seen.end(), 0.0);
          add_displacement<D>(whitening + end_of_step * m * d, points + t * m, points + s * m, m, d, 0.5, seen.data());
          add_turned<D>(frames + end_of_step * d * d, seen.data(), d, 1.0, mean.data());
        }
      }
      for (Index k = 0; k < d; ++k) layout[s * d + k] = mean[at(k)] / static_cast<double>(around.size());
    }
  });
}

/// The samples beside those of `layer` that have not been `seen`, which they are from now on.
std::vector<Index> next_layer(const LaidEdges& edges, const std::vector<Index>& layer,
                              std::vector<std::uint8_t>& seen) {
  std::vector<Index> next;
  for (const Index s : layer) {
    for_each_neighbor(edges, s, [&](Index other, Index, double) {
      if (seen[at(other)] != 0) return;
      seen[at(other)] = 1;
      next.push_back(other);
    });
  }
  return next;
}

/// Entries of a symmetric matrix (d, d).
constexpr Index n_pairs(Index d) { return d * (d + 1) / 2; }

/// Second derivatives (n, m, d (d + 1) / 2) of the measurements, so that D[s, s] = sum_{k <= l} second_kl s_k s_l.
template <int D>
Buffer<double> second_derivatives(const LaidEdges& edges, const double* gradients, Index m, int threads) {
  const Index n = edges.incident->size(), d = fixed<D>(edges.d);
  Buffer<double> result(n * m * n_pairs(d));
  parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
    std::vector<double> moments(at(d * d)), slopes(at(m * d * d)), second(at(m * d * d));
    for (Index s = begin; s < end; ++s) {
      std::fill(moments.begin(), moments.end(), 0.0);
      std::fill(slopes.begin(), slopes.end(), 0.0);
      const double* here = gradients + s * m * d;
      for_each_neighbor(edges, s, [&](Index other, Index e, double sign) {
        const double* step = edges.steps + e * d;
        const double* there = gradients + other * m * d;
        double squared = 0.0;
        for (Index k = 0; k < d; ++k) squared += step[k] * step[k];
        const double weight = 1.0 / std::max(squared, kTiny);
        for (Index k = 0; k < d; ++k) {
          for (Index l = 0; l < d; ++l) moments[at(k * d + l)] += weight * step[k] * step[l];
        }
        for (Index r = 0; r < m * d; ++r) {
          const double change = sign * weight * (there[r] - here[r]);
          for (Index k = 0; k < d; ++k) slopes[at(r * d + k)] += change * step[k];
        }
      });
      invert<D>(moments.data(), d);
      multiply<D>(slopes.data(), moments.data(), m * d, d, second.data());
      double* to = result.data() + s * m * n_pairs(d);
      for (Index a = 0; a < m; ++a) {
        const double* here_second = second.data() + a * d * d;
        for (Index k = 0; k < d; ++k) {
          *to++ = here_second[k * d + k];
          for (Index l = k + 1; l < d; ++l) *to++ = here_second[k * d + l] + here_second[l * d + k];
        }
      }
    }
  });
  return result;
}

template <int D>
void lengths_of(const LaidEdges& edges, const double* points, const double* gradients, Index m, const double* lengths,
                double believable, double* corrected, int threads) {
  const Index d = fixed<D>(edges.d), pairs = n_pairs(d);
  const Buffer<double> second = second_derivatives<D>(edges, gradients, m, threads);
  parallel_chunks(edges.e, kEdges, threads, [&](Index, Index begin, Index end) {
    std::vector<double> normal(at(d * d)), right(at(d)), mean(at(d)), products(at(pairs));
    for (Index e = begin; e < end; ++e) {
      const Index i = edges.i[e], j = edges.j[e];
      const double* step = edges.steps + e * d;
      for (Index k = 0, pair = 0; k < d; ++k) {
        for (Index l = k; l < d; ++l) products[at(pair++)] = step[k] * step[l] / 12.0;
      }
      std::fill(normal.begin(), normal.end(), 0.0);
      std::fill(right.begin(), right.end(), 0.0);
      for (Index a = 0; a < m; ++a) {
        double missing = points[j * m + a] - points[i * m + a];
        for (Index k = 0; k < d; ++k) {
          mean[at(k)] = 0.5 * (gradients[(i * m + a) * d + k] + gradients[(j * m + a) * d + k]);
          missing -= mean[at(k)] * step[k];
        }
        for (Index pair = 0; pair < pairs; ++pair) {
          missing -= (second[(i * m + a) * pairs + pair] - second[(j * m + a) * pairs + pair]) * products[at(pair)];
        }
        for (Index k = 0; k < d; ++k) {
          right[at(k)] += mean[at(k)] * missing;
          for (Index l = 0; l < d; ++l) normal[at(k * d + l)] += mean[at(k)] * mean[at(l)];
        }
      }
      invert<D>(normal.data(), d);
      double squared = 0.0;
      for (Index k = 0; k < d; ++k) {
        double moved = step[k];
        for (Index l = 0; l < d; ++l) moved += normal[at(k * d + l)] * right[at(l)];
        squared += moved * moved;
      }
      const double length = std::sqrt(squared);
      corrected[e] = std::abs(length - lengths[e]) <= believable * lengths[e] ? length : lengths[e];
    }
  });
}

/// Calls run.template operator()<D>() for the dimension, fixed at compile time where it is small.
template <class Run>
auto with_dimension(Index d, Run&& run) {
  switch (d) {
    case 1:
      return run.template operator()<1>();
    case 2:
      return run.template operator()<2>();
    case 3:
      return run.template operator()<3>();
    default:
      return run.template operator()<-1>();
  }
}

}  // namespace

void local_frames(const LaidEdges& edges, const double* points, const double* whitening, Index m, int rounds,
                  double* frames, int threads) {
  with_dimension(edges.d, [&]<int D>() { frames_of<D>(edges, points, whitening, m, rounds, frames, threads); });
}

void extend_layout(const LaidEdges& edges, const double* points, const double* whitening, Index m,
                   const std::uint8_t* known, double* layout, double* frames, int threads) {
  // Layer by layer, each found from the last: passes over all samples would be as many as the graph is long.
  std::vector<std::uint8_t> placed(known, known + edges.incident->size()), seen = placed;
  std::vector<Index> layer;
  for (Index s = 0; s < edges.incident->size(); ++s) {
    if (placed[at(s)] != 0) layer.push_back(s);
  }
  while (!(layer = next_layer(edges, layer, seen)).empty()) {
    with_dimension(
        edges.d, [&]<int D>() { place_layer<D>(edges, points, whitening, m, layer, placed, layout, frames, threads); });
    for (const Index s : layer) placed[at(s)] = 1;
  }
}

void corrected_lengths(const LaidEdges& edges, const double* points, const double* gradients, Index m,
                       const double* lengths, double believable, double* corrected, int threads) {
  with_dimension(edges.d,
                 [&]<int D>() { lengths_of<D>(edges, points, gradients, m, lengths, believable, corrected, threads); });
}

}  // namespace diffeo
