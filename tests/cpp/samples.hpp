// What the core tests share: CHECK, random matrices, and two samples whose answers are known.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "diffeo/covariance.hpp"
#include "diffeo/mahalanobis.hpp"
#include "diffeo/operator.hpp"
#include "diffeo/tree.hpp"

namespace testing {

using diffeo::Index;
using diffeo::Row;

/// The tests calculate with Eigen, which the core keeps behind linear_algebra.hpp.
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A block of the core as a matrix of Eigen, and the other way round.
template <class T>
RowMatrix eigen(const diffeo::Matrix<T>& block) {
  using Block = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const Block>(block.data(), block.rows(), block.cols()).template cast<double>();
}
template <class T = double>
diffeo::Matrix<T> block(const RowMatrix& matrix) {
  diffeo::Matrix<T> result(matrix.rows(), matrix.cols());
  for (Index k = 0; k < matrix.size(); ++k) result.data()[k] = static_cast<T>(matrix.data()[k]);
  return result;
}

inline std::atomic<int> failures{0};

inline void check(bool passed, const char* what, const char* file, int line) {
  if (passed) return;
  ++failures;
  std::printf("%s:%d: failed: %s\n", file, line, what);
}

#define CHECK(condition) ::testing::check((condition), #condition, __FILE__, __LINE__)

template <class Error, class Call>
bool throws(Call&& call) {
  try {
    call();
  } catch (const Error&) {
    return true;
  }
  return false;
}

template <class T>
bool same_bits(const T* a, const T* b, Index count) {
  return std::memcmp(a, b, static_cast<std::size_t>(count) * sizeof(T)) == 0;
}

/// Both kernels have the same bits.
inline void check_same_kernel(const diffeo::Kernel& one, const diffeo::Kernel& other) {
  const Index n = one.rows.n_rows, nnz = one.rows.indices.size();
  CHECK(n == other.rows.n_rows && nnz == other.rows.indices.size());
  CHECK(one.n_gated == other.n_gated);
  if (n != other.rows.n_rows || nnz != other.rows.indices.size()) return;
  CHECK(same_bits(one.rows.indptr.data(), other.rows.indptr.data(), n + 1));
  CHECK(same_bits(one.rows.indices.data(), other.rows.indices.data(), nnz));
  CHECK(same_bits(one.rows.values.data(), other.rows.values.data(), nnz));
  CHECK(same_bits(one.gated.data(), other.gated.data(), n));
}

inline RowMatrix random_matrix(Index rows, Index columns, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  RowMatrix result(rows, columns);
  for (Index k = 0; k < result.size(); ++k) result.data()[k] = normal(generator);
  return result;
}

/// n samples of the unit cube in d dimensions seen by m measurements: linear waves plus a bend.
struct Sample {
  Index n, m, d;
  RowMatrix points, jacobians, whitening;  // (n, m), (n, m d), (n, m d)

  Sample(Index n_, Index m_, Index d_, double bend)
      : n(n_), m(m_), d(d_), points(n, m), jacobians(n, m * d), whitening(n, m * d) {
    std::mt19937_64 generator(static_cast<std::uint64_t>(100 * m + d));
    std::uniform_real_distribution<double> uniform;
    RowMatrix linear = random_matrix(m, d, 1), waves = random_matrix(m, d, 2);
    for (Index k = 0; k < std::min(m, d); ++k) linear(k, k) += 3.0;
    Eigen::VectorXd x(d);
    for (Index i = 0; i < n; ++i) {
      for (Index k = 0; k < d; ++k) x[k] = uniform(generator);
      for (Index a = 0; a < m; ++a) {
        const double angle = waves.row(a).dot(x) + static_cast<double>(a);
        points(i, a) = linear.row(a).dot(x) + bend * std::sin(angle);
        for (Index k = 0; k < d; ++k) jacobians(i, a * d + k) = linear(a, k) + bend * std::cos(angle) * waves(a, k);
      }
    }
    std::vector<double> values(static_cast<std::size_t>(n * std::min(m, d)));
    diffeo::whitening_from_jacobians(jacobians.data(), n, m, d, {values.data(), whitening.data(), d}, 2);
  }

  diffeo::MetricTree tree(int threads) const { return {points.data(), whitening.data(), n, m, d, threads}; }
};

/// A ring of n samples with the symmetric circulant weights 1, w, w^2 at distances 0, 1, 2.
struct Ring {
  std::vector<Index> indptr{0};
  std::vector<Row> indices;
  std::vector<double> values;
  std::vector<double> weights{1.0, 0.7, 0.3};

  explicit Ring(Index n) {
    for (Index i = 0; i < n; ++i) {
      std::vector<std::pair<Row, double>> row;
      for (Index step = -2; step <= 2; ++step) {
        row.emplace_back(static_cast<Row>((i + step + n) % n), weights[static_cast<std::size_t>(std::abs(step))]);
      }
      std::sort(row.begin(), row.end());
      for (const auto& [column, value] : row) {
        indices.push_back(column);
        values.push_back(value);
      }
      indptr.push_back(static_cast<Index>(indices.size()));
    }
  }

  diffeo::SparseView view() const {
    return {static_cast<Index>(indptr.size()) - 1, indptr.data(), indices.data(), values.data()};
  }
  double eigenvalue(Index frequency) const {
    const double angle = 2.0 * M_PI * static_cast<double>(frequency) / static_cast<double>(indptr.size() - 1);
    return (weights[0] + 2.0 * weights[1] * std::cos(angle) + 2.0 * weights[2] * std::cos(2.0 * angle)) /
           (weights[0] + 2.0 * weights[1] + 2.0 * weights[2]);
  }
};

}  // namespace testing
