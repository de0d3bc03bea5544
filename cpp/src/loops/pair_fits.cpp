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

namespace diffeo {
namespace {

constexpr Index kQueries = 16;
constexpr int kMostDegree = 8;

// Equations for each coefficient: fewer leave no misfit to see, more reach farther.
constexpr double kEquations = 1.7;
// Weights are 1 / (|u| + this)^2, with u in units of the farthest pair.
constexpr double kCore = 0.1;
// Columns of the design that the ones before explain to this share are open.
constexpr double kOpen = 1e-10;
// Slopes count where the frame of their sample, seen from the centre's, is not flattened by more than this (squared).
constexpr double kFlattened = 1e-3;

Index binomial(Index n, Index k) {
  Index value = 1;
  for (Index i = 1; i <= k; ++i) value = value * (n - k + i) / i;
  return value;
}

Index terms_of(Index d, int degree) { return binomial(d + degree, d); }

/// Monomials of d variables up to a degree, the highest degree first and the constant last: those of a lower degree are
/// the last ones.
class Powers {
 public:
  Powers(Index d, int degree) : d_(d) {
    std::vector<int> exponents(static_cast<std::size_t>(d), 0);
    for (int total = degree; total >= 0; --total) list(0, total, exponents);
    // Each as a product of one of lower degree and a variable; and its derivatives as multiples of lower ones.
    const Index count = size();
    lowered_.assign(static_cast<std::size_t>(count * d), -1);
    for (Index t = 0; t < count; ++t) {
      for (Index a = 0; a < d; ++a) {
        auto wanted = exponents_[static_cast<std::size_t>(t)];
        if (wanted[static_cast<std::size_t>(a)] == 0) continue;
        --wanted[static_cast<std::size_t>(a)];
        for (Index s = t + 1; s < count; ++s) {
          if (exponents_[static_cast<std::size_t>(s)] == wanted) {
            lowered_[static_cast<std::size_t>(t * d + a)] = s;
            break;
          }
        }
      }
    }
  }

  Index size() const { return static_cast<Index>(exponents_.size()); }

  /// All monomials at x (d).
  void values(const double* x, double* row) const {
    const Index count = size();
    row[count - 1] = 1.0;
    for (Index t = count - 2; t >= 0; --t) {
      Index a = 0;
      while (lowered(t, a) < 0) ++a;
      row[t] = row[lowered(t, a)] * x[a];
    }
  }

  /// Their derivatives along axis a, from their values.
  void derivatives(const double* values, Index a, double* row) const {
    for (Index t = 0; t < size(); ++t) {
      const Index s = lowered(t, a);
      row[t] = s < 0 ? 0.0 : exponents_[static_cast<std::size_t>(t)][static_cast<std::size_t>(a)] * values[s];
    }
  }

 private:
  Index lowered(Index t, Index a) const { return lowered_[static_cast<std::size_t>(t * d_ + a)]; }

  void list(Index axis, int left, std::vector<int>& exponents) {
    auto& own = exponents[static_cast<std::size_t>(axis)];
    if (axis + 1 == d_) {
      own = left;
      exponents_.push_back(exponents);
      return;
    }
    for (own = left; own >= 0; --own) list(axis + 1, left - own, exponents);
    own = 0;
  }

  Index d_;
  std::vector<std::vector<int>> exponents_;
  std::vector<Index> lowered_;
};

/// Coordinates u of a point, seen from sample c; returns the squared distance from its tangent plane.
double seen_from(const PairedSamples& s, Index c, const double* point, double* u) {
  const double* origin = s.points + c * s.m;
  const double* frame = s.whitening + c * s.m * s.d;
  std::fill_n(u, s.d, 0.0);
  double square = 0.0;
  for (Index k = 0; k < s.m; ++k) {
    const double step = point[k] - origin[k];
    square += step * step;
    for (Index a = 0; a < s.d; ++a) u[a] += frame[k * s.d + a] * step;
  }
  for (Index a = 0; a < s.d; ++a) {
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
        design_(most_pairs * per_pair_, powers.size()), targets_(most_pairs * per_pair_, samples.v),
        work_(most_pairs * per_pair_, powers.size() + samples.v),
        product_(static_cast<std::size_t>(powers.size() + samples.v)), at_(static_cast<std::size_t>(samples.d)),
        transport_(static_cast<std::size_t>(samples.d * samples.p)),
        gram_(static_cast<std::size_t>(samples.d * samples.d)) {}

  void fit(const double* query, const Index* neighbors, Index k, double* result, double* doubt) {
    const Index d = s_.d, v = s_.v;
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
      solve(static_cast<int>(degrees_[t]), result + row * v, doubt + row);
      if (!std::isfinite(doubt[row])) std::copy_n(s_.values + neighbors[order_[0]] * v, v, result + row * v);
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
      const double across = std::sqrt(seen_from(s_, c, query, at_.data()));
      const double far = length(at_.data(), d) + across / unit_of(c);
      if (far < best) best = far, centre_ = c;
    }
    seen_from(s_, centre_, query, at_.data());
    const double unit = unit_of(centre_);
    for (Index a = 0; a < k; ++a) {
      double* u = coordinates_.row(a);
      const double across = std::sqrt(seen_from(s_, centre_, s_.points + neighbors[a] * s_.m, u));
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
    if (per_pair_ == 1) return;
    for (Index b = 0; b < d; ++b) powers_.derivatives(values, b, design_.row(first + 1 + b));
    // du/dx = M = W^T J, (d, p), and dz/du = J_z M^T (M M^T)^-1, the slopes along the source's tangents.
    const double* frame = s_.whitening + centre_ * s_.m * d;
    const double* jacobian = s_.jacobians + row * s_.m * p;
    std::fill(transport_.begin(), transport_.end(), 0.0);
    for (Index k = 0; k < s_.m; ++k) {
      for (Index b = 0; b < d; ++b) {
        for (Index e = 0; e < p; ++e)
          transport_[static_cast<std::size_t>(b * p + e)] += frame[k * d + b] * jacobian[k * p + e];
      }
    }
    for (Index b = 0; b < d; ++b) {
      for (Index e = 0; e < d; ++e) {
        gram_[static_cast<std::size_t>(b * d + e)] =
            dot(&transport_[static_cast<std::size_t>(b * p)], &transport_[static_cast<std::size_t>(e * p)], p);
      }
    }
    if (!factor(gram_.data(), d, kFlattened)) {
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

  /// Weighted least squares by Householder reflections of the design beside its targets. The constant is the last
  /// column, so that its coefficient is one division, and its standard error that of the misfit over the last pivot.
  void solve(int degree, double* value, double* doubt) {
    const Index d = s_.d, v = s_.v, terms = terms_of(d, degree), skipped = powers_.size() - terms;
    const Index pairs = pairs_of_fit(d, degree, per_pair_ > 1), rows = pairs * per_pair_, width = terms + v;
    double reach = 0.0;
    for (Index a = 0; a < pairs; ++a) reach = std::max(reach, length(offset(a), d));
    if (!(reach > 0.0)) reach = 1.0;
    for (Index a = 0; a < pairs; ++a) {
      const double near = length(offset(a), d) / reach + kCore;
      const double weight = kCore * kCore / (near * near);
      for (Index b = 0; b < per_pair_; ++b) {
        const Index r = a * per_pair_ + b;
        // Slopes per reach of this fit rather than per unit of all.
        const double w = b == 0 ? weight : weight * reach;
        double* to = work_.data() + r * width;
        const double* from = design_.row(r) + skipped;
        for (Index t = 0; t < terms; ++t) to[t] = w * from[t];
        const double* target = targets_.row(r);
        for (Index c = 0; c < v; ++c) to[terms + c] = w * target[c];
      }
    }
    *doubt = std::numeric_limits<double>::infinity();
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
      const double first = *head - pivot, beta = 1.0 / (pivot * (pivot - *head));
      *head = first;
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
      ++top;
    }
    if (pivot == 0.0 || top >= rows) return;
    const double* solved = work_.data() + (top - 1) * width + terms;
    for (Index c = 0; c < v; ++c) value[c] = solved[c] / pivot;
    double misfit = 0.0;
    for (Index r = top; r < rows; ++r) {
      const double* rest = work_.data() + r * width + terms;
      for (Index c = 0; c < v; ++c) misfit += rest[c] * rest[c];
    }
    *doubt = std::sqrt(misfit / static_cast<double>(rows - top)) / std::abs(pivot);
  }

  const PairedSamples& s_;
  const Powers& powers_;
  std::vector<Index> degrees_;
  Index per_pair_, centre_ = 0;
  double unit_ = 1.0;
  RowMatrix coordinates_;
  std::vector<double> distance_;
  std::vector<Index> order_;
  RowMatrix design_, targets_, work_;
  std::vector<double> product_, at_, transport_, gram_;
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
  if (n_degrees < 1 || k < pairs) throw std::invalid_argument("pair_fits: too few neighbors for the degrees");
  check_rows<Index>("pair_fits", {"neighbors", neighbors, n_queries * k, k}, "n", samples.n, threads);
  const Powers powers(samples.d, static_cast<int>(most));
  parallel_chunks(n_queries, kQueries, threads, [&](Index, Index begin, Index end) {
    Fitter fitter(samples, k, degrees, n_degrees, powers, pairs);
    for (Index i = begin; i < end; ++i) {
      fitter.fit(queries + i * samples.m, neighbors + i * k, k, result + i * n_degrees * samples.v,
                 doubt + i * n_degrees);
    }
  });
}

}  // namespace diffeo
