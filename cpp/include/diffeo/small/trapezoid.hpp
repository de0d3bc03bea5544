// The trapezoidal rule on eight edges at a time: see edge_lengths.hpp.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "diffeo/small/decomposition.hpp"
#include "diffeo/small/lanes.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// The trapezoidal rule on eight edges at a time. D fixes the dimension at compile time; -1 leaves it open.
template <int D>
class Trapezoid {
 public:
  Trapezoid(Index m, Index d)
      : m_(m), d_(d), point_i_(at(m)), point_j_(at(m)), at_i_(at(m * d)), at_j_(at(m * d)), turn_(at(d * d)),
        normal_(at(d * d)), scratch_(at(2 * d * d)), inverse_i_(at(d)), inverse_j_(at(d)), scale_(at(d)),
        solved_(at(d)) {}

  /// Lengths of the edges between samples `i` and `j` of eight lanes; `off_tangent` gets the unexplained share.
  Lanes operator()(const double* points, const double* whitening, const Index* i, const Index* j, Lanes& off_tangent) {
    const Index d = dim();
    read(points, i, m_, point_i_.data());
    read(points, j, m_, point_j_.data());
    read(whitening, i, m_ * d, at_i_.data());
    read(whitening, j, m_ * d, at_j_.data());
    Lanes squared = 0.0;
    for (Index a = 0; a < m_; ++a) {
      point_j_[at(a)] -= point_i_[at(a)];
      squared += point_j_[at(a)] * point_j_[at(a)];
    }
    multiply_whitenings();
    orthogonal_part();
    mean_slopes();
    solve_normal_equations();
    Lanes rest = 0.0, length = 0.0;
    for (Index a = 0; a < m_; ++a) {
      Lanes left = point_j_[at(a)];
      for (Index k = 0; k < d; ++k) left -= at_i_[at(a * d + k)] * solved_[at(k)];
      rest += left * left;
    }
    for (Index k = 0; k < d; ++k) length += displacement(k) * displacement(k);
    const LaneMask apart = squared > 0.0;
    off_tangent = select(apart, sqrt(rest / squared), 0.0);
    return select(apart, sqrt(length), 0.0);
  }

  /// Coordinate k, in the frame of `i`, of the displacements that were found last.
  Lanes displacement(Index k) const { return solved_[at(k)] * scale_[at(k)]; }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  Index dim() const { return D > 0 ? D : d_; }

  static void read(const double* values, const Index* samples, Index count, Lanes* out) {
    LaneRows rows(values, 0, 1);
    for (Index l = 0; l < kLanes; ++l) rows.row[l] = values + samples[l] * count;
    interleave(rows, 0, count, out);
  }

  /// turn_ = W_i^T J_j + J_i^T W_j. J = U Sigma = W Sigma^2, and norm(w_k)^2 = 1 / sigma_k^2.
  void multiply_whitenings() {
    const Index d = dim();
    std::fill(turn_.begin(), turn_.end(), Lanes(0.0));
    std::fill(inverse_i_.begin(), inverse_i_.end(), Lanes(0.0));
    std::fill(inverse_j_.begin(), inverse_j_.end(), Lanes(0.0));
    for (Index a = 0; a < m_; ++a) {
      for (Index k = 0; k < d; ++k) {
        const Lanes x = at_i_[at(a * d + k)], y = at_j_[at(a * d + k)];
        inverse_i_[at(k)] += x * x;
        inverse_j_[at(k)] += y * y;
        for (Index l = 0; l < d; ++l) turn_[at(k * d + l)] += x * at_j_[at(a * d + l)];
      }
    }
    for (Index k = 0; k < d; ++k) {
      inverse_i_[at(k)] = 1.0 / inverse_i_[at(k)];
      inverse_j_[at(k)] = 1.0 / inverse_j_[at(k)];
    }
    for (Index k = 0; k < d; ++k) {
      for (Index l = 0; l < d; ++l) turn_[at(k * d + l)] *= inverse_i_[at(k)] + inverse_j_[at(l)];
    }
  }

  /// turn_ becomes the orthogonal matrix nearest to it: U V^T of its singular value decomposition.
  void orthogonal_part() {
    if constexpr (D == 1) {
      turn_[0] = select(turn_[0] < 0.0, -1.0, 1.0);
    } else if constexpr (D == 2) {
      // A rotation or a reflection by the sign of the determinant; of zero, the identity.
      const Lanes sign = select(turn_[0] * turn_[3] < turn_[1] * turn_[2], -1.0, 1.0);
      const Lanes x = turn_[0] + sign * turn_[3], y = turn_[2] - sign * turn_[1];
      const Lanes squared = x * x + y * y;
      const LaneMask some = squared > 0.0;
      const Lanes inverse = 1.0 / sqrt(squared);
      turn_[0] = select(some, x * inverse, 1.0);
      turn_[2] = select(some, y * inverse, 0.0);
      turn_[1] = -sign * turn_[2];
      turn_[3] = sign * turn_[0];
    } else if constexpr (D == 3) {
      orthogonal_part_by_newton();
    } else {
      orthogonal_factor(turn_.data(), dim(), scratch_.data());
    }
  }

  /// X becomes (X + X^-T) / 2, which near orthogonal matrices converges quadratically (Higham 1986): between neighbours
  /// turn_ / 2 is one but for what tangents turn. Lanes that do not converge have their singular value decomposition.
  void orthogonal_part_by_newton() {
    constexpr int kIterations = 5;
    constexpr double kOrthogonal = 1e-13;
    Lanes x[9];
    for (int e = 0; e < 9; ++e) x[e] = 0.5 * turn_[at(e)];
    for (int iteration = 0; iteration < kIterations; ++iteration) {
      Lanes cofactor[9];
      for (int k = 0; k < 3; ++k) {
        const int k1 = (k + 1) % 3 * 3, k2 = (k + 2) % 3 * 3;
        for (int l = 0; l < 3; ++l) {
          const int l1 = (l + 1) % 3, l2 = (l + 2) % 3;
          cofactor[k * 3 + l] = x[k1 + l1] * x[k2 + l2] - x[k1 + l2] * x[k2 + l1];
        }
      }
      const Lanes half = 0.5 / (x[0] * cofactor[0] + x[1] * cofactor[1] + x[2] * cofactor[2]);
      for (int e = 0; e < 9; ++e) x[e] = 0.5 * x[e] + half * cofactor[e];
    }
    Lanes off = 0.0;
    for (int k = 0; k < 3; ++k) {
      for (int l = 0; l <= k; ++l) {
        const Lanes product = x[k] * x[l] + x[3 + k] * x[3 + l] + x[6 + k] * x[6 + l];
        off += abs(product - (k == l ? 1.0 : 0.0));
      }
    }
    const LaneMask found = off < kOrthogonal;  // false of what is not a number
    if ((!found).any()) orthogonal_factor(turn_.data(), 3, scratch_.data());
    for (int e = 0; e < 9; ++e) turn_[at(e)] = select(found, x[e], turn_[at(e)]);
  }

  /// at_i_ becomes (J_i + J_j O^T)/2 with columns of unit length, and scale_ the inverse lengths: the columns of
  /// U Sigma are orthogonal, so only their lengths could make the normal equations ill-posed. turn_ becomes O
  /// Sigma_j^2.
  void mean_slopes() {
    const Index d = dim();
    std::fill(scale_.begin(), scale_.end(), Lanes(0.0));
    for (Index l = 0; l < d; ++l) {
      for (Index k = 0; k < d; ++k) turn_[at(k * d + l)] *= inverse_j_[at(l)];
    }
    for (Index a = 0; a < m_; ++a) {
      for (Index k = 0; k < d; ++k) {
        Lanes slope = at_i_[at(a * d + k)] * inverse_i_[at(k)];
        for (Index l = 0; l < d; ++l) slope += at_j_[at(a * d + l)] * turn_[at(k * d + l)];
        slope *= 0.5;
        at_i_[at(a * d + k)] = slope;
        scale_[at(k)] += slope * slope;
      }
    }
    for (Index k = 0; k < d; ++k) scale_[at(k)] = 1.0 / max(std::numeric_limits<double>::min(), sqrt(scale_[at(k)]));
    for (Index a = 0; a < m_; ++a) {
      for (Index k = 0; k < d; ++k) at_i_[at(a * d + k)] *= scale_[at(k)];
    }
  }

  /// solved_ = argmin |step - at_i_ v|^2, by elimination in the normal equations.
  void solve_normal_equations() {
    const Index d = dim();
    std::fill(normal_.begin(), normal_.end(), Lanes(0.0));
    std::fill(solved_.begin(), solved_.end(), Lanes(0.0));
    for (Index a = 0; a < m_; ++a) {
      for (Index k = 0; k < d; ++k) {
        const Lanes x = at_i_[at(a * d + k)];
        solved_[at(k)] += x * point_j_[at(a)];
        for (Index l = 0; l < d; ++l) normal_[at(k * d + l)] += x * at_i_[at(a * d + l)];
      }
    }
    for (Index k = 0; k < d; ++k) normal_[at(k * d + k)] += 1e-14;
    for (Index k = 0; k < d; ++k) {
      const Lanes inverse = 1.0 / normal_[at(k * d + k)];
      for (Index l = k + 1; l < d; ++l) {
        const Lanes factor = normal_[at(l * d + k)] * inverse;
        for (Index c = k + 1; c < d; ++c) normal_[at(l * d + c)] -= factor * normal_[at(k * d + c)];
        solved_[at(l)] -= factor * solved_[at(k)];
      }
    }
    for (Index k = d; k-- > 0;) {
      for (Index c = k + 1; c < d; ++c) solved_[at(k)] -= normal_[at(k * d + c)] * solved_[at(c)];
      solved_[at(k)] /= normal_[at(k * d + k)];
    }
  }

  Index m_, d_;
  std::vector<Lanes> point_i_, point_j_, at_i_, at_j_, turn_, normal_, scratch_;
  std::vector<Lanes> inverse_i_, inverse_j_, scale_, solved_;
};

}  // namespace diffeo
