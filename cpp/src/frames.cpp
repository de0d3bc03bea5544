#include "diffeo/frames.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "diffeo/parallel.hpp"
#include "diffeo/small_decomposition.hpp"

namespace diffeo {
namespace {

constexpr Index kSamples = 1024;
constexpr Index kEdges = 4096;

// Directions in which the steps of a sample spread less than this share (squared) of the widest say nothing.
constexpr double kOpen = 1e-6;

// Enough to keep a vanishing slope from dividing by zero; its result is not believed anyway.
constexpr double kRidge = 1e-14;

constexpr double kTiny = std::numeric_limits<double>::min();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// D fixes the dimension at compile time; -1 leaves it open.
template <int D>
using Vector = Eigen::Matrix<double, D, 1>;
template <int D>
using Square = Eigen::Matrix<double, D, D>;
template <int D>
using Slopes = Eigen::Matrix<double, Eigen::Dynamic, D, D == 1 ? Eigen::ColMajor : Eigen::RowMajor>;

template <int D>
Eigen::Map<const Slopes<D>> slopes_at(const double* values, Index sample, Index m, Index d) {
  return {values + sample * m * d, m, d};
}

/// use(other, step): the samples at the other ends of the edges around one, and the steps to them.
template <int D, class Use>
void for_each_neighbor(const LaidEdges& edges, Index sample, Use&& use) {
  edges.incident->around(sample, [&](Index e, double sign) {
    const Vector<D> step = -sign * Eigen::Map<const Vector<D>>(edges.steps + e * edges.d, edges.d);
    use(sign > 0.0 ? edges.i[e] : edges.j[e], step);
  });
}

/// The orthogonal matrices nearest to those of up to eight samples (d, d), in place.
void make_orthogonal(double* matrices, Index d, Index valid, std::vector<Lanes>& scratch) {
  Lanes* lanes = scratch.data();
  interleave(LaneRows(matrices, d * d, valid), 0, d * d, lanes);
  orthogonal_factor(lanes, d, lanes + d * d);
  deinterleave(lanes, d * d, matrices, d * d, valid);
}

template <int D>
void frames_of(const LaidEdges& edges, const double* points, const double* whitening, Index m, int rounds,
               double* frames, int threads) {
  const Index n = edges.incident->size(), d = edges.d;
  using RowSquare = Eigen::Matrix<double, D, D, D == 1 ? Eigen::ColMajor : Eigen::RowMajor>;
  // W Q of every sample: displacements there are its transpose times differences of the measurements.
  Buffer<double> inverse(rounds > 0 ? n * m * d : 0);
  const auto refine = [&](bool first) {
    parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
      std::vector<Lanes> scratch(at(3 * d * d));
      Eigen::VectorXd delta(m);
      Slopes<D> mean(m, d);
      for (Index s = begin; s < end; ++s) {
        const Eigen::Map<const Eigen::VectorXd> here(points + s * m, m);
        Square<D> total = Square<D>::Zero(d, d);
        for_each_neighbor<D>(edges, s, [&](Index other, const Vector<D>& step) {
          delta = Eigen::Map<const Eigen::VectorXd>(points + other * m, m) - here;
          Vector<D> found;
          if (first) {
            found.noalias() = slopes_at<D>(whitening, s, m, d).transpose() * delta;
          } else {
            mean = slopes_at<D>(inverse.data(), s, m, d) + slopes_at<D>(inverse.data(), other, m, d);
            found.noalias() = 0.5 * mean.transpose() * delta;
          }
          total.noalias() += found * (step / std::max(step.squaredNorm(), kTiny)).transpose();
        });
        Eigen::Map<RowSquare> frame(frames + s * d * d, d, d);
        const Square<D> turned = first ? total : Square<D>(frame * total);
        frame = turned;
      }
      for (Index s = begin; s < end; s += kLanes) {
        make_orthogonal(frames + s * d * d, d, std::min(kLanes, end - s), scratch);
      }
    });
  };
  refine(true);
  for (int round = 0; round < rounds; ++round) {
    parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
      for (Index s = begin; s < end; ++s) {
        Eigen::Map<Slopes<D>>(inverse.data() + s * m * d, m, d).noalias() =
            slopes_at<D>(whitening, s, m, d) * Eigen::Map<const RowSquare>(frames + s * d * d, d, d);
      }
    });
    refine(false);
  }
}

/// One layer of `extend_layout`: samples beside those placed already; returns their number.
template <int D>
Index place_layer(const LaidEdges& edges, const double* points, const double* whitening, Index m,
                  const std::vector<std::uint8_t>& placed, std::vector<std::uint8_t>& next, double* layout,
                  double* frames, int threads) {
  const Index n = edges.incident->size(), d = edges.d;
  using RowSquare = Eigen::Matrix<double, D, D, D == 1 ? Eigen::ColMajor : Eigen::RowMajor>;
  using Point = Eigen::Map<const Eigen::VectorXd>;
  std::vector<Index> found(at((n + kSamples - 1) / kSamples), 0);
  const auto frame_of = [&](Index sample) { return Eigen::Map<const RowSquare>(frames + sample * d * d, d, d); };
  parallel_chunks(n, kSamples, threads, [&](Index chunk, Index begin, Index end) {
    std::vector<Lanes> scratch(at(3 * d * d));
    std::vector<Index> around;
    for (Index s = begin; s < end; ++s) {
      if (placed[at(s)] != 0) continue;
      around.clear();
      edges.incident->around(s, [&](Index e, double sign) {
        const Index other = sign > 0.0 ? edges.i[e] : edges.j[e];
        if (placed[at(other)] != 0) around.push_back(other);
      });
      if (around.empty()) continue;
      const auto own = slopes_at<D>(whitening, s, m, d);
      Square<D> turn = Square<D>::Zero(d, d);
      for (const Index t : around) {
        // J = W Sigma^2, and the columns of W have lengths 1 / sigma.
        const auto theirs = slopes_at<D>(whitening, t, m, d);
        const Vector<D> squared = theirs.colwise().squaredNorm().cwiseInverse();
        turn.noalias() += (own.transpose() * theirs) * squared.asDiagonal() * frame_of(t);
      }
      Eigen::Map<RowSquare> frame(frames + s * d * d, d, d);
      frame = turn;
      make_orthogonal(frames + s * d * d, d, 1, scratch);
      Vector<D> mean = Vector<D>::Zero(d);
      for (const Index t : around) {
        const Eigen::VectorXd delta = Point(points + s * m, m) - Point(points + t * m, m);
        mean += Eigen::Map<const Vector<D>>(layout + t * d, d);
        mean += 0.5 * (frame_of(t).transpose() * (slopes_at<D>(whitening, t, m, d).transpose() * delta));
        mean += 0.5 * (frame.transpose() * (own.transpose() * delta));
      }
      Eigen::Map<Vector<D>>(layout + s * d, d) = mean / static_cast<double>(around.size());
      next[at(s)] = 1;
      ++found[at(chunk)];
    }
  });
  Index total = 0;
  for (const Index count : found) total += count;
  return total;
}

/// Entries of a symmetric matrix (d, d).
Index n_pairs(Index d) { return d * (d + 1) / 2; }

/// Second derivatives (n, m, d (d + 1) / 2) of the measurements, so that D[s, s] = sum_{k <= l} second_kl s_k s_l.
template <int D>
Buffer<double> second_derivatives(const LaidEdges& edges, const double* gradients, Index m, int threads) {
  const Index n = edges.incident->size(), d = edges.d, pairs = n_pairs(d);
  Buffer<double> result(n * m * pairs);
  parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
    Eigen::Matrix<double, Eigen::Dynamic, D> slopes(m * d, d), second(m * d, d);
    Eigen::SelfAdjointEigenSolver<Square<D>> solver(d);
    for (Index s = begin; s < end; ++s) {
      Square<D> moments = Square<D>::Zero(d, d);
      slopes.setZero();
      const Eigen::Map<const Eigen::VectorXd> here(gradients + s * m * d, m * d);
      for_each_neighbor<D>(edges, s, [&](Index other, const Vector<D>& step) {
        const Vector<D> scaled = step / std::max(step.squaredNorm(), kTiny);
        moments.noalias() += scaled * step.transpose();
        slopes.noalias() +=
            (Eigen::Map<const Eigen::VectorXd>(gradients + other * m * d, m * d) - here) * scaled.transpose();
      });
      solver.compute(moments);
      const Vector<D> values = solver.eigenvalues();
      const double least = kOpen * values.cwiseAbs().maxCoeff();
      const Vector<D> inverse = (values.array() > least).select(values.cwiseInverse(), 0.0);
      const Square<D> inverted = solver.eigenvectors() * inverse.asDiagonal() * solver.eigenvectors().transpose();
      second.noalias() = slopes * inverted;
      double* to = result.data() + s * m * pairs;
      for (Index a = 0; a < m; ++a) {
        for (Index k = 0; k < d; ++k) {
          *to++ = second(a * d + k, k);
          for (Index l = k + 1; l < d; ++l) *to++ = second(a * d + k, l) + second(a * d + l, k);
        }
      }
    }
  });
  return result;
}

template <int D>
void lengths_of(const LaidEdges& edges, const double* points, const double* gradients, Index m, const double* lengths,
                double believable, double* corrected, int threads) {
  const Index d = edges.d, pairs = n_pairs(d);
  const Buffer<double> second = second_derivatives<D>(edges, gradients, m, threads);
  parallel_chunks(edges.e, kEdges, threads, [&](Index, Index begin, Index end) {
    Slopes<D> mean(m, d);
    Eigen::VectorXd missing(m);
    Eigen::VectorXd products(pairs);
    for (Index e = begin; e < end; ++e) {
      const Index i = edges.i[e], j = edges.j[e];
      const Vector<D> step = Eigen::Map<const Vector<D>>(edges.steps + e * d, d);
      mean = 0.5 * (slopes_at<D>(gradients, i, m, d) + slopes_at<D>(gradients, j, m, d));
      missing =
          Eigen::Map<const Eigen::VectorXd>(points + j * m, m) - Eigen::Map<const Eigen::VectorXd>(points + i * m, m);
      missing.noalias() -= mean * step;
      for (Index k = 0, pair = 0; k < d; ++k) {
        for (Index l = k; l < d; ++l) products[pair++] = step[k] * step[l] / 12.0;
      }
      const double* at_i = second.data() + i * m * pairs;
      const double* at_j = second.data() + j * m * pairs;
      for (Index a = 0; a < m; ++a) {
        for (Index pair = 0; pair < pairs; ++pair) {
          missing[a] -= (at_i[a * pairs + pair] - at_j[a * pairs + pair]) * products[pair];
        }
      }
      Square<D> normal = mean.transpose() * mean;
      normal.diagonal().array() += kRidge * normal.trace() + kTiny;
      const Vector<D> right = mean.transpose() * missing;
      const double length = (step + Vector<D>(normal.ldlt().solve(right))).norm();
      corrected[e] = std::abs(length - lengths[e]) <= believable * lengths[e] ? length : lengths[e];
    }
  });
}

}  // namespace

void local_frames(const LaidEdges& edges, const double* points, const double* whitening, Index m, int rounds,
                  double* frames, int threads) {
  switch (edges.d) {
    case 1:
      return frames_of<1>(edges, points, whitening, m, rounds, frames, threads);
    case 2:
      return frames_of<2>(edges, points, whitening, m, rounds, frames, threads);
    case 3:
      return frames_of<3>(edges, points, whitening, m, rounds, frames, threads);
    default:
      return frames_of<-1>(edges, points, whitening, m, rounds, frames, threads);
  }
}

void extend_layout(const LaidEdges& edges, const double* points, const double* whitening, Index m,
                   const std::uint8_t* known, double* layout, double* frames, int threads) {
  std::vector<std::uint8_t> placed(known, known + edges.incident->size()), next = placed;
  const auto layer = [&] {
    switch (edges.d) {
      case 1:
        return place_layer<1>(edges, points, whitening, m, placed, next, layout, frames, threads);
      case 2:
        return place_layer<2>(edges, points, whitening, m, placed, next, layout, frames, threads);
      case 3:
        return place_layer<3>(edges, points, whitening, m, placed, next, layout, frames, threads);
      default:
        return place_layer<-1>(edges, points, whitening, m, placed, next, layout, frames, threads);
    }
  };
  while (layer() > 0) placed = next;
}

void corrected_lengths(const LaidEdges& edges, const double* points, const double* gradients, Index m,
                       const double* lengths, double believable, double* corrected, int threads) {
  switch (edges.d) {
    case 1:
      return lengths_of<1>(edges, points, gradients, m, lengths, believable, corrected, threads);
    case 2:
      return lengths_of<2>(edges, points, gradients, m, lengths, believable, corrected, threads);
    case 3:
      return lengths_of<3>(edges, points, gradients, m, lengths, believable, corrected, threads);
    default:
      return lengths_of<-1>(edges, points, gradients, m, lengths, believable, corrected, threads);
  }
}

}  // namespace diffeo
