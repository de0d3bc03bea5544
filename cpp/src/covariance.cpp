#include "diffeo/covariance.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

using ColMatrix = Eigen::MatrixXd;
using RowMap = Eigen::Map<const RowMatrix>;

// Samples per task: small enough to balance, large enough to hide the cost of scheduling.
constexpr Index kSamples = 64;

// Sweeps after which one-sided Jacobi has converged with a wide margin (it needs 5 to 10).
constexpr int kMaxSweeps = 40;

/// Thin left singular vectors and singular values of one factor, by one-sided Jacobi rotations (Hestenes),
/// which finds small singular values to high *relative* accuracy; a QR step first shrinks long factors.
class ThinDecomposition {
 public:
  const ColMatrix& left() const { return left_; }
  const Eigen::VectorXd& singular_values() const { return values_; }

  void compute(const ColMatrix& unscaled) {
    const Index m = unscaled.rows(), p = unscaled.cols();
    // Squares of extreme units would overflow or vanish: work at size 1, exactly, by a power of two.
    int exponent = 0;
    std::frexp(unscaled.cwiseAbs().maxCoeff(), &exponent);
    const double unit = std::ldexp(1.0, std::clamp(exponent, -1000, 1000));
    const ColMatrix factor = unscaled / unit;
    decompose(factor, m, p);
    values_ *= unit;
  }

 private:
  void decompose(const ColMatrix& factor, Index m, Index p) {
    if (p > m) {
      // A^T = Q R gives A = R^T Q^T, whose left vectors and singular values are those of R^T.
      qr_.compute(factor.transpose());
      work_ = qr_.matrixQR().topRows(m).triangularView<Eigen::Upper>().transpose();
      rotate_columns();
      left_ = work_;
    } else if (m > 2 * p && p > 2) {
      // A = Q R: the rotations then work on p rows instead of m.
      qr_.compute(factor);
      work_ = qr_.matrixQR().topRows(p).triangularView<Eigen::Upper>();
      rotate_columns();
      left_.setZero(m, p);
      left_.topRows(p) = work_;
      left_.applyOnTheLeft(qr_.householderQ());
    } else {
      work_ = factor;
      rotate_columns();
      left_ = work_;
    }
  }

  /// Rotates pairs of columns of work_ until all are orthogonal, then sorts and normalises them.
  void rotate_columns() {
    const Index p = work_.cols();
    for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
      bool rotated = false;
      for (Index a = 0; a + 1 < p; ++a) {
        for (Index b = a + 1; b < p; ++b) rotated |= rotate(a, b);
      }
      if (!rotated) break;
    }
    norms_ = work_.colwise().norm();
    order_.resize(static_cast<std::size_t>(p));
    std::iota(order_.begin(), order_.end(), Index{0});
    std::stable_sort(order_.begin(), order_.end(), [&](Index a, Index b) { return norms_[a] > norms_[b]; });
    sorted_.resize(work_.rows(), p);
    values_.resize(p);
    for (Index k = 0; k < p; ++k) {
      const Index from = order_[static_cast<std::size_t>(k)];
      values_[k] = norms_[from];
      sorted_.col(k) =
          values_[k] > 0 ? Eigen::VectorXd(work_.col(from) / values_[k]) : Eigen::VectorXd::Zero(work_.rows());
    }
    work_.swap(sorted_);
  }

  bool rotate(Index a, Index b) {
    // Columns count as orthogonal when their cosine is at rounding level.
    constexpr double kOrthogonal = 1e-15;
    const double aa = work_.col(a).squaredNorm(), bb = work_.col(b).squaredNorm();
    const double ab = work_.col(a).dot(work_.col(b));
    if (!(std::abs(ab) > kOrthogonal * std::sqrt(aa * bb))) return false;
    const double zeta = (bb - aa) / (2.0 * ab);
    const double t = std::copysign(1.0, zeta) / (std::abs(zeta) + std::sqrt(1.0 + zeta * zeta));
    const double c = 1.0 / std::sqrt(1.0 + t * t), s = c * t;
    for (Index i = 0; i < work_.rows(); ++i) {
      const double x = work_(i, a), y = work_(i, b);
      work_(i, a) = c * x - s * y;
      work_(i, b) = s * x + c * y;
    }
    return true;
  }

  Eigen::HouseholderQR<ColMatrix> qr_;
  ColMatrix work_, sorted_, left_;
  Eigen::VectorXd values_;
  Eigen::RowVectorXd norms_;
  std::vector<Index> order_;
};

/// Writes singular values and, if wanted, gain * U_d / Sigma_d of sample i.
void store(const ColMatrix& left, const Eigen::VectorXd& values, double gain, Index i, Index m, Index r,
           const WhiteningOutput& out) {
  for (Index k = 0; k < r; ++k) out.singular_values[i * r + k] = values[k];
  if (out.whitening == nullptr) return;
  double* whitening = out.whitening + i * m * out.dim;
  for (Index a = 0; a < m; ++a) {
    for (Index k = 0; k < out.dim; ++k) {
      whitening[a * out.dim + k] = values[k] > 0 ? gain * left(a, k) / values[k] : 0.0;
    }
  }
}

void check_dim(const WhiteningOutput& out, Index r) {
  if (out.whitening != nullptr && (out.dim < 1 || out.dim > r)) {
    throw std::invalid_argument("whitening: dim must lie between 1 and the number of singular values");
  }
}

}  // namespace

void whitening_from_jacobians(const double* jacobians, Index n, Index m, Index p, WhiteningOutput out, int threads) {
  const Index r = std::min(m, p);
  check_dim(out, r);
  parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
    ThinDecomposition decomposition;
    ColMatrix factor;
    for (Index i = begin; i < end; ++i) {
      factor = RowMap(jacobians + i * m * p, m, p);
      decomposition.compute(factor);
      store(decomposition.left(), decomposition.singular_values(), 1.0, i, m, r, out);
    }
  });
}

void whitening_from_bursts(const double* bursts, Index n, Index burst_size, Index m, double scale, WhiteningOutput out,
                           int threads) {
  const Index r = std::min(m, burst_size);
  check_dim(out, r);
  if (out.whitening != nullptr && burst_size < out.dim + 3) {
    throw std::invalid_argument("whitening_from_bursts: needs at least dim + 3 members a burst");
  }
  const double members = static_cast<double>(burst_size);
  const double gain =
      out.whitening == nullptr ? 1.0 : std::sqrt((members - static_cast<double>(out.dim) - 2.0) / (members - 1.0));
  const double unit = 1.0 / (scale * std::sqrt(members - 1.0));
  parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
    ThinDecomposition decomposition;
    ColMatrix factor;
    for (Index i = begin; i < end; ++i) {
      const RowMap burst(bursts + i * burst_size * m, burst_size, m);
      factor = burst.transpose();
      factor.colwise() -= Eigen::VectorXd(factor.rowwise().mean());
      factor *= unit;
      decomposition.compute(factor);
      store(decomposition.left(), decomposition.singular_values(), gain, i, m, r, out);
    }
  });
}

void whitening_from_covariances(const double* covariances, Index n, Index m, WhiteningOutput out, int threads) {
  check_dim(out, m);
  parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
    Eigen::SelfAdjointEigenSolver<ColMatrix> solver;
    ColMatrix left;
    Eigen::VectorXd values;
    for (Index i = begin; i < end; ++i) {
      solver.compute(RowMap(covariances + i * m * m, m, m));
      if (solver.info() != Eigen::Success) throw std::runtime_error("whitening_from_covariances: no convergence");
      left = solver.eigenvectors().rowwise().reverse();
      values =
          solver.eigenvalues().reverse().unaryExpr([](double v) { return std::copysign(std::sqrt(std::abs(v)), v); });
      store(left, values, 1.0, i, m, m, out);
    }
  });
}

void jacobians_from_neighbors(const double* points, Index n, Index m, const double* reference, Index p,
                              const Index* neighbors, Index k, double* jacobians, double* conditions, int threads) {
  if (k < p + 1) throw std::invalid_argument("jacobians_from_neighbors: needs at least p + 1 neighbours");
  const RowMap y(points, n, m), x(reference, n, p);
  parallel_chunks(n, kSamples, threads, [&](Index, Index begin, Index end) {
    ColMatrix positions(k, p), values(k, m);
    Eigen::ColPivHouseholderQR<ColMatrix> qr(k, p);
    for (Index i = begin; i < end; ++i) {
      for (Index a = 0; a < k; ++a) {
        positions.row(a) = x.row(neighbors[i * k + a]);
        values.row(a) = y.row(neighbors[i * k + a]);
      }
      positions.rowwise() -= Eigen::RowVectorXd(positions.colwise().mean());
      values.rowwise() -= Eigen::RowVectorXd(values.colwise().mean());
      qr.compute(positions);
      const auto diagonal = qr.matrixQR().diagonal().cwiseAbs();
      conditions[i] = diagonal[0] > 0 ? diagonal[p - 1] / diagonal[0] : 0.0;
      Eigen::Map<RowMatrix>(jacobians + i * m * p, m, p) = qr.solve(values).transpose();
    }
  });
}

}  // namespace diffeo
