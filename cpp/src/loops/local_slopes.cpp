// Local linear fits of functions on the samples.
#include "diffeo/local_slopes.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "diffeo/linear_algebra.hpp"
#include "diffeo/parallel.hpp"
#include "diffeo/row_checks.hpp"
#include "diffeo/small/trapezoid.hpp"

namespace diffeo {
namespace {

constexpr Index kRows = 512;
/// Multiplications of one task, about.
constexpr double kProducts = 3e7;
// Neighbours from which tangent directions are found: the cost grows with their cube where measurements are many.
constexpr Index kDirections = 24;

double to_power(double value, int power) { return power == 1 ? value : value * value; }

// Of points in space, a chord may leave the tangent space by this share of its square: more is no bend, but noise.
constexpr double kMostBent = 0.25;

/// u = W_i^T (y_j - y_i) with the length of the arc, W orthonormal: on an arc s of curvature c the square of the part
/// off the tangent is c^2 s^4 / 4, and the tangential part is short of s by c^2 s^3 / 6.
void place_on_surface(const double* from, const double* to, const double* frame, Index m, Index d, double* u) {
  std::fill_n(u, d, 0.0);
  double chord = 0.0;
  for (Index a = 0; a < m; ++a) {
    const double step = to[a] - from[a];
    chord += step * step;
    for (Index b = 0; b < d; ++b) u[b] += step * frame[a * d + b];
  }
  double tangential = 0.0;
  for (Index b = 0; b < d; ++b) tangential += u[b] * u[b];
  if (tangential <= 0.0) return;
  const double bent = std::clamp((chord - tangential) / tangential, 0.0, kMostBent);
  for (Index b = 0; b < d; ++b) u[b] *= 1.0 + 2.0 / 3.0 * bent;
}

/// Trapezoidal displacements of the entries of rows [begin, end), eight at a time.
template <int D>
void displacements_of_rows(const SparseView& kernel, const LocalFrames& at, double unit, float* steps, Index begin,
                           Index end) {
  Trapezoid<D> rule(at.m, at.d);
  const double inverse = 1.0 / unit;
  Index from[kLanes], to[kLanes], row = begin;
  const Index last = kernel.indptr[end];
  for (Index e = kernel.indptr[begin]; e < last; e += kLanes) {
    const Index valid = std::min(kLanes, last - e);
    for (Index l = 0; l < kLanes; ++l) {
      const Index entry = e + std::min(l, valid - 1);
      while (entry >= kernel.indptr[row + 1]) ++row;
      from[l] = row;
      to[l] = kernel.indices[entry];
    }
    Lanes off;
    rule(at.points, at.frames, from, to, off);
    for (Index k = 0; k < at.d; ++k) {
      const Lanes coordinate = rule.displacement(k) * inverse;
      for (Index l = 0; l < valid; ++l) steps[(e + l) * at.d + k] = static_cast<float>(coordinate[l]);
    }
  }
}

/// u of entry e, from i to j. D: d, or 0 for any.
template <int D>
void place(const LocalGeometry& g, Index e, Index i, Index j, double* u) {
  const Index d = D > 0 ? D : g.d;
  if (g.steps != nullptr) {
    for (Index a = 0; a < d; ++a) u[a] = g.unit * static_cast<double>(g.steps[e * d + a]);
    return;
  }
  const double* from = g.points + i * d;
  const double* to = g.points + j * d;
  for (Index a = 0; a < d; ++a) u[a] = to[a] - from[a];
}

/// The weights k^power / p_j before they are divided by their sum; entries of k^power below `least` have none.
struct Weights {
  const SparseView& kernel;
  int power;
  double least;
  std::vector<double> inverse;  ///< 1 / p

  Weights(const SparseView& k, int exponent, double truncation, const double* sums)
      : kernel(k), power(exponent), least(truncation), inverse(static_cast<std::size_t>(k.n)) {
    for (Index i = 0; i < k.n; ++i) inverse[static_cast<std::size_t>(i)] = 1.0 / sums[i];
  }
  double value(Index e) const { return to_power(kernel.values[e], power); }
};

/// Inverse of a positive definite matrix (d, d), by its Cholesky factor; `factor` and `column` are room for it.
void invert(const double* matrix, Index d, double* factor, double* column, double* inverse) {
  for (Index a = 0; a < d; ++a) {
    for (Index b = 0; b <= a; ++b) {
      double sum = matrix[a * d + b];
      for (Index c = 0; c < b; ++c) sum -= factor[a * d + c] * factor[b * d + c];
      factor[a * d + b] = a == b ? std::sqrt(sum) : sum / factor[b * d + b];
    }
  }
  for (Index k = 0; k < d; ++k) {
    for (Index a = 0; a < d; ++a) {
      double sum = a == k ? 1.0 : 0.0;
      for (Index c = 0; c < a; ++c) sum -= factor[a * d + c] * column[c];
      column[a] = sum / factor[a * d + a];
    }
    for (Index a = d; a-- > 0;) {
      double sum = column[a];
      for (Index c = a + 1; c < d; ++c) sum -= factor[c * d + a] * column[c];
      column[a] = sum / factor[a * d + a];
      inverse[a * d + k] = column[a];
    }
  }
}

/// Leading principal directions (m, d) of the rows of `steps` (count, m) about 0, orthonormal.
void principal_directions(const RowMatrix& steps, Index d, double* frame) {
  const Index count = steps.rows(), m = steps.cols();
  const bool wide = m > count;  // then the small Gram matrix of the steps has the same eigenvalues
  const Index size = wide ? count : m;
  RowMatrix gram = RowMatrix::zero(size, size);
  for (Index a = 0; a < size; ++a) {
    for (Index b = 0; b <= a; ++b) {
      double sum = 0.0;
      if (wide) {
        for (Index c = 0; c < m; ++c) sum += steps(a, c) * steps(b, c);
      } else {
        for (Index c = 0; c < count; ++c) sum += steps(c, a) * steps(c, b);
      }
      gram(a, b) = gram(b, a) = sum;
    }
  }
  const SymmetricEigen eigen = symmetric_eigen(gram, "tangent_frames");
  for (Index k = 0; k < d; ++k) {
    const Index from = size - 1 - k;  // the largest come last
    for (Index a = 0; a < m; ++a) {
      double entry = 0.0;
      if (from < 0) {
        entry = 0.0;
      } else if (!wide) {
        entry = eigen.vectors(a, from);
      } else if (eigen.values[static_cast<std::size_t>(from)] > 0.0) {
        for (Index c = 0; c < count; ++c) entry += steps(c, a) * eigen.vectors(c, from);
        entry /= std::sqrt(eigen.values[static_cast<std::size_t>(from)]);
      }
      frame[a * d + k] = entry;
    }
  }
}

/// Adds w u u^T to the lower triangle of `matrix`.
void add_square(const double* u, double w, Index d, double* matrix) {
  for (Index a = 0; a < d; ++a) {
    for (Index b = 0; b <= a; ++b) matrix[a * d + b] += w * u[a] * u[b];
  }
}

/// Moments of rows [begin, end).
template <int D>
void moments_of_rows(const Weights& weights, const LocalGeometry& geometry, double ridge, const LocalMoments& out,
                     Index begin, Index end) {
  const SparseView& kernel = weights.kernel;
  const Index d = D > 0 ? D : geometry.d;
  const auto size = static_cast<std::size_t>(d * d);
  std::vector<double> u(static_cast<std::size_t>(d)), column(u), square(size), factor(size);
  for (Index i = begin; i < end; ++i) {
    double* shift = out.shift + i * d;
    double* mean = out.mean + i * d;
    std::fill_n(shift, d, 0.0);
    std::fill_n(mean, d, 0.0);
    std::fill(square.begin(), square.end(), 0.0);
    double plain = 0.0, total = 0.0, noise = 0.0, self = 0.0;
    for (Index e = kernel.indptr[i]; e < kernel.indptr[i + 1]; ++e) {
      const double value = weights.value(e);
      if (value < weights.least) continue;
      const Index j = kernel.indices[e];
      const double weight = value * weights.inverse[static_cast<std::size_t>(j)];
      place<D>(geometry, e, i, j, u.data());
      double length = 0.0;
      for (Index a = 0; a < d; ++a) {
        const double coordinate = u[static_cast<std::size_t>(a)];
        shift[a] += value * coordinate;
        mean[a] += weight * coordinate;
        length += coordinate * coordinate;
      }
      plain += value;
      total += weight;
      if (j == i) self = weight;
      noise += weight * weight * length;
      add_square(u.data(), weight, d, square.data());
    }
    for (Index a = 0; a < d; ++a) {
      shift[a] /= plain;
      mean[a] /= total;
    }
    out.noise[i] = noise / (total * total);
    out.self[i] = self / total;
    for (Index a = 0; a < d; ++a) {
      for (Index b = 0; b <= a; ++b) {
        double& entry = square[static_cast<std::size_t>(a * d + b)];
        entry = entry / total - mean[a] * mean[b] + (a == b ? ridge : 0.0);
      }
    }
    invert(square.data(), d, factor.data(), column.data(), out.precision + i * d * d);
  }
}

/// Rows of one task: they stay in cache, and take some hundredths of a second, after which Ctrl-C is heard.
Index rows_of_task(const SparseView& kernel, Index products) {
  const double entries =
      static_cast<double>(kernel.indptr[kernel.n]) / static_cast<double>(std::max(kernel.n, Index{1}));
  return std::clamp(static_cast<Index>(kProducts / ((entries + 1.0) * static_cast<double>(products))), Index{1}, kRows);
}

/// What a block of functions is fitted with.
struct Fit {
  const Weights& weights;
  const LocalGeometry& geometry;
  const LocalMoments& moments;
  const double* f;
  Index k;
  double* smoothed;
  double* slopes;
};

/// Fits of B functions from column `first` on for rows [begin, end), with the sums in registers.
template <int D, int B>
void fit_columns(const Fit& fit, Index first, Index begin, Index end) {
  const SparseView& kernel = fit.weights.kernel;
  const Index d = D > 0 ? D : fit.geometry.d;
  std::vector<double> room(static_cast<std::size_t>(2 * d * B + d));
  for (Index i = begin; i < end; ++i) {
    const double* v = fit.moments.mean + i * d;
    const double* precision = fit.moments.precision + i * d * d;
    double known[D > 0 ? D * B : 1] = {}, at[D > 0 ? D : 1], mean[B] = {};
    double* cross = D > 0 ? known : room.data();
    double* u = D > 0 ? at : room.data() + 2 * d * B;
    double* slope = room.data() + d * B;
    std::fill_n(cross, d * B, 0.0);
    double total = 0.0;
    for (Index e = kernel.indptr[i]; e < kernel.indptr[i + 1]; ++e) {
      const double value = fit.weights.value(e);
      if (value < fit.weights.least) continue;
      const Index j = kernel.indices[e];
      const double weight = value * fit.weights.inverse[static_cast<std::size_t>(j)];
      place<D>(fit.geometry, e, i, j, u);
      const double* row = fit.f + j * fit.k + first;
      total += weight;
      for (int c = 0; c < B; ++c) mean[c] += weight * row[c];
      for (Index a = 0; a < d; ++a) {
        const double factor = weight * (u[a] - v[a]);
        for (int c = 0; c < B; ++c) cross[a * B + c] += factor * row[c];
      }
    }
    for (Index a = 0; a < d; ++a) {
      for (int c = 0; c < B; ++c) {
        double sum = 0.0;
        for (Index b = 0; b < d; ++b) sum += precision[a * d + b] * cross[b * B + c];
        slope[a * B + c] = sum / total;
        fit.slopes[(i * d + a) * fit.k + first + c] = slope[a * B + c];
      }
    }
    for (int c = 0; c < B; ++c) {
      double value = mean[c] / total;
      for (Index a = 0; a < d; ++a) value -= v[a] * slope[a * B + c];
      fit.smoothed[i * fit.k + first + c] = value;
    }
  }
}

/// Fits of all functions, in groups of 8, 4 and 1: the rows of one task stay in cache.
template <int D>
void fit_rows(const Fit& fit, Index begin, Index end) {
  Index first = 0;
  for (; first + 8 <= fit.k; first += 8) fit_columns<D, 8>(fit, first, begin, end);
  for (; first + 4 <= fit.k; first += 4) fit_columns<D, 4>(fit, first, begin, end);
  for (; first < fit.k; ++first) fit_columns<D, 1>(fit, first, begin, end);
}

}  // namespace

void power_sums(const SparseView& kernel, double least, double* sums, int threads) {
  check_compressed("power_sums", kernel, threads);
  parallel_chunks(kernel.n, kRows, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      double first = 0.0, second = 0.0, fourth = 0.0;
      for (Index e = kernel.indptr[i]; e < kernel.indptr[i + 1]; ++e) {
        const double value = kernel.values[e], square = value * value;
        first += value;
        if (square >= least) second += square;
        fourth += square * square;
      }
      sums[i * 3] = first;
      sums[i * 3 + 1] = second;
      sums[i * 3 + 2] = fourth;
    }
  });
}

void tangent_frames(const SparseView& kernel, const double* points, Index m, Index d, double* frames, int threads) {
  check_compressed("tangent_frames", kernel, threads);
  parallel_chunks(kernel.n, kRows / 8, threads, [&](Index, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index first = kernel.indptr[i], entries = kernel.indptr[i + 1] - first;
      const Index count = std::min(entries, std::max(kDirections, m <= kDirections ? entries : Index{0}));
      RowMatrix steps(count, m);
      for (Index c = 0; c < count; ++c) {
        const Index e = first + c * entries / count;
        const double weight = std::sqrt(kernel.values[e]);
        const double* to = points + static_cast<Index>(kernel.indices[e]) * m;
        for (Index a = 0; a < m; ++a) steps(c, a) = weight * (to[a] - points[i * m + a]);
      }
      principal_directions(steps, d, frames + i * m * d);
    }
  });
}

void local_steps(const SparseView& kernel, const LocalFrames& at, double unit, float* steps, int threads) {
  check_compressed("local_steps", kernel, threads);
  parallel_chunks(kernel.n, rows_of_task(kernel, at.m * at.d), threads, [&](Index, Index begin, Index end) {
    if (at.orthonormal) {
      std::vector<double> u(static_cast<std::size_t>(at.d));
      for (Index i = begin; i < end; ++i) {
        for (Index e = kernel.indptr[i]; e < kernel.indptr[i + 1]; ++e) {
          const double* to = at.points + static_cast<Index>(kernel.indices[e]) * at.m;
          place_on_surface(at.points + i * at.m, to, at.frames + i * at.m * at.d, at.m, at.d, u.data());
          for (Index a = 0; a < at.d; ++a)
            steps[e * at.d + a] = static_cast<float>(u[static_cast<std::size_t>(a)] / unit);
        }
      }
      return;
    }
    const auto find = at.d == 1   ? displacements_of_rows<1>
                      : at.d == 2 ? displacements_of_rows<2>
                      : at.d == 3 ? displacements_of_rows<3>
                                  : displacements_of_rows<-1>;
    find(kernel, at, unit, steps, begin, end);
  });
}

void local_moments(const SparseView& kernel, const KernelPower& power, const LocalGeometry& geometry, double ridge,
                   const LocalMoments& out, int threads) {
  check_compressed("local_moments", kernel, threads);
  const Weights weights(kernel, power.exponent, power.least, power.sums);
  parallel_chunks(kernel.n, rows_of_task(kernel, geometry.d), threads, [&](Index, Index begin, Index end) {
    switch (geometry.d) {
      case 1:
        return moments_of_rows<1>(weights, geometry, ridge, out, begin, end);
      case 2:
        return moments_of_rows<2>(weights, geometry, ridge, out, begin, end);
      case 3:
        return moments_of_rows<3>(weights, geometry, ridge, out, begin, end);
      default:
        return moments_of_rows<0>(weights, geometry, ridge, out, begin, end);
    }
  });
}

void local_slopes(const SparseView& kernel, const KernelPower& power, const LocalGeometry& geometry,
                  const LocalMoments& moments, const double* f, Index k, double* smoothed, double* slopes,
                  int threads) {
  check_compressed("local_slopes", kernel, threads);
  const Weights weights(kernel, power.exponent, power.least, power.sums);
  const Fit fit{weights, geometry, moments, f, k, smoothed, slopes};
  parallel_chunks(kernel.n, rows_of_task(kernel, geometry.d), threads, [&](Index, Index begin, Index end) {
    switch (geometry.d) {
      case 1:
        return fit_rows<1>(fit, begin, end);
      case 2:
        return fit_rows<2>(fit, begin, end);
      case 3:
        return fit_rows<3>(fit, begin, end);
      default:
        return fit_rows<0>(fit, begin, end);
    }
  });
}

}  // namespace diffeo
