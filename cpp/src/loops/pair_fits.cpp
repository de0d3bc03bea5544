// Local polynomials fitted to values and slopes of pairs, by reflections of the design beside its targets.
#include "diffeo/pair_fits.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"
#include "diffeo/simd.hpp"
#include "diffeo/small/powers.hpp"

namespace diffeo {
namespace {

constexpr Index kQueries = 16;
constexpr int kMostDegree = 8;

// Equations for each coefficient: fewer leave no misfit to see, more reach farther.
constexpr double kEquations = 1.7;
// Of the equations for each coefficient so many must remain where slopes do not count: a polynomial through all of its
// pairs is in no visible doubt.
constexpr double kRemaining = 1.3;
// Weights are 1 / (|u| + this)^2, with u in units of the farthest pair.
constexpr double kCore = 0.1;
// Columns of the design that the ones before explain to this share are open.
constexpr double kOpen = 1e-10;
// Slopes count where the frame of their sample, seen from the centre's, is not flattened by more than this (squared).
constexpr double kFlattened = 1e-3;

/// Coordinates u of a point, seen from sample c; returns the squared distance from its tangent plane. `step` (m) is
/// scratch.
double seen_from(const PairedSamples& s, Index c, const double* point, double* u, double* step) {
  const double* origin = s.points + c * s.m;
  for (Index k = 0; k < s.m; ++k) step[k] = point[k] - origin[k];
  double square = dot(step, step, s.m);
  for (Index a = 0; a < s.d; ++a) {
    u[a] = dot(s.whitening + (c * s.d + a) * s.m, step, s.m);
    const double along = u[a] * s.stretches[c * s.d + a];
    square -= along * along;
  }
  return std::max(square, 0.0);
}

double length(const double* u, Index d) {
  double square = 0.0;
  for (Index a = 0; a < d; ++a) square += u[a] * u[a];
  return std::sqrt(square);
}

/// Of a symmetric positive matrix (d, d), in place, its lower Cholesky factor; false where a pivot is below `least`.
bool factor(double* g, Index d, double least) {
  for (Index j = 0; j < d; ++j) {
    double pivot = g[j * d + j];
    for (Index k = 0; k < j; ++k) pivot -= g[j * d + k] * g[j * d + k];
    if (!(pivot > least)) return false;
    pivot = std::sqrt(pivot);
    g[j * d + j] = pivot;
    for (Index i = j + 1; i < d; ++i) {
      double sum = g[i * d + j];
      for (Index k = 0; k < j; ++k) sum -= g[i * d + k] * g[j * d + k];
      g[i * d + j] = sum / pivot;
    }
  }
  return true;
}

/// The fits at one query after the other: one object a thread.
class Fitter {
 public:
  Fitter(const PairedSamples& samples, Index k, const Index* degrees, Index n_degrees, const Powers& powers,
         Index most_pairs)
      : s_(samples), powers_(powers), degrees_(degrees, degrees + n_degrees),
        per_pair_(samples.jacobians == nullptr ? 1 : 1 + samples.d), coordinates_(k, samples.d),
        distance_(static_cast<std::size_t>(k)), order_(static_cast<std::size_t>(k)),
        counted_(static_cast<std::size_t>(most_pairs)), design_(most_pairs * per_pair_, powers.size()),
        targets_(most_pairs * per_pair_, samples.v), work_(most_pairs * per_pair_, powers.size() + samples.tested),
        product_(static_cast<std::size_t>(powers.size() + samples.tested)),
        weights_(static_cast<std::size_t>(most_pairs * per_pair_)),
        functional_(static_cast<std::size_t>(most_pairs * per_pair_)),
        reflected_(static_cast<std::size_t>(powers.size())), at_(static_cast<std::size_t>(samples.d)),
        step_(static_cast<std::size_t>(samples.m)), transport_(static_cast<std::size_t>(samples.d * samples.p)),
        gram_(static_cast<std::size_t>(samples.d * samples.d)) {}

  void fit(const double* query, const Index* neighbors, Index k, double* result, double* doubt) {
    const Index d = s_.d, shown = s_.v - s_.hidden;
    place(query, neighbors, k);
    Index pairs = 0;
    for (const Index degree : degrees_) {
      pairs = std::max(pairs, pairs_of_fit(d, static_cast<int>(degree), per_pair_ > 1));
    }
    // In units of the farthest pair, so that monomials are of one size.
    unit_ = 0.0;
    for (Index a = 0; a < pairs; ++a) unit_ = std::max(unit_, length(offset(a), d));
    if (!(unit_ > 0.0)) unit_ = 1.0;
    for (Index a = 0; a < pairs; ++a) fill(a, neighbors[order_[static_cast<std::size_t>(a)]]);
    for (std::size_t t = 0; t < degrees_.size(); ++t) {
      const auto row = static_cast<Index>(t);
      solve(static_cast<int>(degrees_[t]), result + row * shown, doubt + row);
      if (std::isfinite(doubt[row])) continue;
      std::copy_n(s_.values + neighbors[order_[0]] * s_.v + s_.hidden, shown, result + row * shown);
    }
  }

 private:
  double* offset(Index a) { return coordinates_.row(order_[static_cast<std::size_t>(a)]); }

  /// Chooses the centre, and puts the neighbours in order of their distance from the query as it sees them.
  void place(const double* query, const Index* neighbors, Index k) {
    const Index d = s_.d;
    double best = std::numeric_limits<double>::infinity();
    centre_ = neighbors[0];
    for (Index a = 0; a < k; ++a) {
      const Index c = neighbors[a];
      const double across = std::sqrt(seen_from(s_, c, query, at_.data(), step_.data()));
      const double far = length(at_.data(), d) + across / unit_of(c);
      if (far < best) best = far, centre_ = c;
    }
    seen_from(s_, centre_, query, at_.data(), step_.data());
    const double unit = unit_of(centre_);
    for (Index a = 0; a < k; ++a) {
      double* u = coordinates_.row(a);
      const double across = std::sqrt(seen_from(s_, centre_, s_.points + neighbors[a] * s_.m, u, step_.data()));
      for (Index b = 0; b < d; ++b) u[b] -= at_[static_cast<std::size_t>(b)];
      distance_[static_cast<std::size_t>(a)] = length(u, d) + across / unit;
    }
    std::iota(order_.begin(), order_.end(), Index{0});
    std::sort(order_.begin(), order_.end(), [&](Index a, Index b) {
      const double one = distance_[static_cast<std::size_t>(a)], other = distance_[static_cast<std::size_t>(b)];
      return one < other || (one == other && a < b);
    });
  }

  double unit_of(Index c) const {
    double sum = 0.0;
    for (Index a = 0; a < s_.d; ++a) sum += s_.stretches[c * s_.d + a];
    return sum / static_cast<double>(s_.d);
  }

  /// Design and targets of the a-th nearest pair, without weights: its value, and its slopes times the unit.
  void fill(Index a, Index row) {
    const Index d = s_.d, v = s_.v, p = s_.p;
    double* u = offset(a);
    for (Index b = 0; b < d; ++b) u[b] /= unit_;
    const Index first = a * per_pair_;
    double* values = design_.row(first);
    powers_.values(u, values);
    std::copy_n(s_.values + row * v, v, targets_.row(first));
    counted_[static_cast<std::size_t>(a)] = per_pair_;
    if (per_pair_ == 1) return;
    for (Index b = 0; b < d; ++b) powers_.derivatives(values, b, design_.row(first + 1 + b));
    // du/dx = M = W^T J, (d, p), and dz/du = J_z M^T (M M^T)^-1, the slopes along the source's tangents.
    const double* frame = s_.whitening + centre_ * d * s_.m;
    const double* jacobian = s_.jacobians + row * p * s_.m;
    for (Index b = 0; b < d; ++b) {
      for (Index e = 0; e < p; ++e) {
        transport_[static_cast<std::size_t>(b * p + e)] = dot(frame + b * s_.m, jacobian + e * s_.m, s_.m);
      }
    }
    for (Index b = 0; b < d; ++b) {
      for (Index e = 0; e < d; ++e) {
        gram_[static_cast<std::size_t>(b * d + e)] =
            dot(&transport_[static_cast<std::size_t>(b * p)], &transport_[static_cast<std::size_t>(e * p)], p);
      }
    }
    if (!factor(gram_.data(), d, kFlattened)) {
      counted_[static_cast<std::size_t>(a)] = 1;
      for (Index b = 0; b < d; ++b) {
        std::fill_n(design_.row(first + 1 + b), powers_.size(), 0.0);
        std::fill_n(targets_.row(first + 1 + b), v, 0.0);
      }
      return;
    }
    const double* slopes = s_.slopes + row * v * p;
    for (Index c = 0; c < v; ++c) {
      double* right = at_.data();
      for (Index b = 0; b < d; ++b) right[b] = dot(slopes + c * p, &transport_[static_cast<std::size_t>(b * p)], p);
      for (Index b = 0; b < d; ++b) {
        for (Index e = 0; e < b; ++e) right[b] -= gram_[static_cast<std::size_t>(b * d + e)] * right[e];
        right[b] /= gram_[static_cast<std::size_t>(b * d + b)];
      }
      for (Index b = d - 1; b >= 0; --b) {
        for (Index e = b + 1; e < d; ++e) right[b] -= gram_[static_cast<std::size_t>(e * d + b)] * right[e];
        right[b] /= gram_[static_cast<std::size_t>(b * d + b)];
      }
      for (Index b = 0; b < d; ++b) targets_(first + 1 + b, c) = unit_ * right[b];
    }
  }

  /// Weighted least squares by Householder reflections of the design beside the tested targets, whose rest is the
  /// misfit. The constant is the last column: its coefficient is q . target / pivot, with q what the reflections make
  /// of the last unit vector, and its standard error that of the misfit over the pivot.
  void solve(int degree, double* value, double* doubt) {
    const Index d = s_.d, tested = s_.tested, terms = terms_of(d, degree), skipped = powers_.size() - terms;
    const Index pairs = pairs_of_fit(d, degree, per_pair_ > 1), rows = pairs * per_pair_, width = terms + tested;
    *doubt = std::numeric_limits<double>::infinity();
    const Index counted = std::accumulate(counted_.begin(), counted_.begin() + pairs, Index{0});
    if (static_cast<double>(counted) < kRemaining * static_cast<double>(terms)) return;
    weigh(pairs, width, terms, skipped);
    Index top = 0;
    double pivot = 0.0;
    for (Index t = 0; t < terms; ++t) {
      double all = 0.0, below = 0.0;
      for (Index r = 0; r < rows; ++r) {
        const double x = work_.data()[r * width + t];
        all += x * x;
        if (r >= top) below += x * x;
      }
      pivot = 0.0;
      if (!(below > kOpen * kOpen * all) || top == rows) continue;
      double* head = work_.data() + top * width + t;
      const double norm = std::sqrt(below);
      pivot = *head > 0.0 ? -norm : norm;
      // v = x - pivot e, beta = 1 / (pivot (pivot - head)): H = 1 - beta v v^T takes x to pivot e.
      const double beta = 1.0 / (pivot * (pivot - *head));
      *head -= pivot;
      reflected_[static_cast<std::size_t>(top)] = {t, beta};
      reflect(top, rows, t, width, beta);
      ++top;
    }
    if (pivot == 0.0 || top >= rows) return;
    combine(top, rows, width, pivot, value);
    double misfit = 0.0;
    for (Index r = top; r < rows; ++r) {
      const double* rest = work_.data() + r * width + terms;
      for (Index c = 0; c < tested; ++c) misfit += rest[c] * rest[c];
    }
    *doubt = std::sqrt(misfit / static_cast<double>(counted - top)) / std::abs(pivot);
  }

  /// The weighted design of the nearest pairs beside their weighted tested targets.
  void weigh(Index pairs, Index width, Index terms, Index skipped) {
    double reach = 0.0;
    for (Index a = 0; a < pairs; ++a) reach = std::max(reach, length(offset(a), s_.d));
    if (!(reach > 0.0)) reach = 1.0;
    for (Index a = 0; a < pairs; ++a) {
      const double near = length(offset(a), s_.d) / reach + kCore;
      const double weight = kCore * kCore / (near * near);
      for (Index b = 0; b < per_pair_; ++b) {
        const Index r = a * per_pair_ + b;
        // Slopes per reach of this fit rather than per unit of all.
        const double w = b == 0 ? weight : weight * reach;
        weights_[static_cast<std::size_t>(r)] = w;
        double* to = work_.data() + r * width;
        const double* from = design_.row(r) + skipped;
        for (Index t = 0; t < terms; ++t) to[t] = w * from[t];
        const double* target = targets_.row(r);
        for (Index c = 0; c < s_.tested; ++c) to[terms + c] = w * target[c];
      }
    }
  }

  /// Applies the reflection of column t, which begins at row `top`, to the columns after it.
  void reflect(Index top, Index rows, Index t, Index width, double beta) {
    const Index left = width - t - 1;
    double* sums = product_.data();
    std::fill_n(sums, left, 0.0);
    for (Index r = top; r < rows; ++r) {
      const double* row = work_.data() + r * width + t;
      const double x = row[0];
      for (Index c = 0; c < left; ++c) sums[c] += x * row[1 + c];
    }
    for (Index r = top; r < rows; ++r) {
      double* row = work_.data() + r * width + t;
      const double x = beta * row[0];
      for (Index c = 0; c < left; ++c) row[1 + c] -= x * sums[c];
    }
  }

  /// The constant's coefficients from the targets, by q = H_1 ... H_top e_top.
  void combine(Index top, Index rows, Index width, double pivot, double* value) {
    double* q = functional_.data();
    std::fill_n(q, rows, 0.0);
    q[top - 1] = 1.0;
    for (Index k = top - 1; k >= 0; --k) {
      const auto [t, beta] = reflected_[static_cast<std::size_t>(k)];
      const double* column = work_.data() + t;
      double sum = 0.0;
      for (Index r = k; r < rows; ++r) sum += column[r * width] * q[r];
      sum *= beta;
      for (Index r = k; r < rows; ++r) q[r] -= sum * column[r * width];
    }
    const Index shown = s_.v - s_.hidden;
    std::fill_n(value, shown, 0.0);
    for (Index r = 0; r < rows; ++r) {
      const double x = q[r] * weights_[static_cast<std::size_t>(r)] / pivot;
      const double* target = targets_.row(r) + s_.hidden;
      for (Index c = 0; c < shown; ++c) value[c] += x * target[c];
    }
  }

  struct Reflection {
    Index column;
    double beta;
  };

  const PairedSamples& s_;
  const Powers& powers_;
  std::vector<Index> degrees_;
  Index per_pair_, centre_ = 0;
  double unit_ = 1.0;
  RowMatrix coordinates_;
  std::vector<double> distance_;
  std::vector<Index> order_, counted_;
  RowMatrix design_, targets_, work_;
  std::vector<double> product_, weights_, functional_;
  std::vector<Reflection> reflected_;
  std::vector<double> at_, step_, transport_, gram_;
};

}  // namespace

Index pairs_of_fit(Index d, int degree, bool with_slopes) {
  const auto terms = static_cast<double>(terms_of(d, degree));
  return static_cast<Index>(std::ceil(kEquations * terms / static_cast<double>(with_slopes ? 1 + d : 1))) + 1;
}

void pair_fits(const PairedSamples& samples, const double* queries, Index n_queries, const Index* neighbors, Index k,
               const Index* degrees, Index n_degrees, double* result, double* doubt, int threads) {
  Index most = 0, pairs = 0;
  for (Index t = 0; t < n_degrees; ++t) {
    if (degrees[t] < 0 || degrees[t] > kMostDegree) throw std::invalid_argument("pair_fits: a degree is out of range");
    most = std::max(most, degrees[t]);
    pairs = std::max(pairs, pairs_of_fit(samples.d, static_cast<int>(degrees[t]), samples.jacobians != nullptr));
  }
  if (samples.tested < 1 || samples.tested > samples.v || samples.hidden < 0 || samples.hidden >= samples.v) {
    throw std::invalid_argument("pair_fits: tested or hidden values are more than there are");
  }
  if (n_degrees < 1 || k < pairs) throw std::invalid_argument("pair_fits: too few neighbors for the degrees");
  check_rows<Index>("pair_fits", {"neighbors", neighbors, n_queries * k, k}, "n", samples.n, threads);
  const Powers powers(samples.d, static_cast<int>(most), Powers::Order::constant_last);
  parallel_chunks(n_queries, kQueries, threads, [&](Index, Index begin, Index end) {
    Fitter fitter(samples, k, degrees, n_degrees, powers, pairs);
    for (Index i = begin; i < end; ++i) {
      fitter.fit(queries + i * samples.m, neighbors + i * k, k, result + i * n_degrees * (samples.v - samples.hidden),
                 doubt + i * n_degrees);
    }
  });
}

}  // namespace diffeo
