#include "diffeo/edge_lengths.hpp"

#include <Eigen/Cholesky>
#include <Eigen/SVD>
#include <limits>
#include <stdexcept>

#include "diffeo/parallel.hpp"

namespace diffeo {
namespace {

constexpr Index kEdges = 1024;

template <int D>
class Trapezoid {
 public:
  using Square = Eigen::Matrix<double, D, D>;
  using Vector = Eigen::Matrix<double, D, 1>;
  using Slopes = Eigen::Matrix<double, Eigen::Dynamic, D, D == 1 ? Eigen::ColMajor : Eigen::RowMajor>;
  using ConstSlopes = Eigen::Map<const Slopes>;
  using ConstPoint = Eigen::Map<const Eigen::VectorXd>;

  Trapezoid(Index m, Index d) : slopes_(m, d), at_j_(m, d), step_(m) {}

  /// Length of the edge between two samples; `off_tangent` gets the unexplained share of the step.
  double operator()(const double* y_i, const double* w_i, const double* y_j, const double* w_j, double& off_tangent) {
    const Index m = slopes_.rows(), d = slopes_.cols();
    const ConstSlopes whitening_i(w_i, m, d), whitening_j(w_j, m, d);
    step_ = ConstPoint(y_j, m) - ConstPoint(y_i, m);
    const double size = step_.norm();
    off_tangent = 0.0;
    if (!(size > 0.0)) return 0.0;
    // J = U Sigma = W Sigma^2, and norm(w_k)^2 = 1 / sigma_k^2.
    slopes_ = whitening_i * whitening_i.colwise().squaredNorm().cwiseInverse().asDiagonal();
    at_j_ = whitening_j * whitening_j.colwise().squaredNorm().cwiseInverse().asDiagonal();
    const Square turn = orthogonal_part(whitening_i.transpose() * at_j_ + slopes_.transpose() * whitening_j);
    slopes_ = 0.5 * (slopes_ + at_j_ * turn.transpose());
    // Normal equations with columns of unit length: the columns of U Sigma are orthogonal, so only their lengths could
    // make the equations ill-posed.
    const Vector scale = slopes_.colwise().norm().cwiseMax(std::numeric_limits<double>::min()).cwiseInverse();
    slopes_ *= scale.asDiagonal();
    Square normal = slopes_.transpose() * slopes_;
    normal.diagonal().array() += 1e-14;
    const Vector solved = normal.ldlt().solve(slopes_.transpose() * step_);
    off_tangent = (step_ - slopes_ * solved).norm() / size;
    return solved.cwiseProduct(scale).norm();
  }

 private:
  static Square orthogonal_part(const Square& matrix) {
    if constexpr (D == 1) {
      return Square::Constant(matrix(0, 0) < 0.0 ? -1.0 : 1.0);
    } else {
      const Eigen::JacobiSVD<Square, Eigen::NoQRPreconditioner> svd(matrix, Eigen::ComputeFullU | Eigen::ComputeFullV);
      return svd.matrixU() * svd.matrixV().transpose();
    }
  }

  Slopes slopes_, at_j_;
  Eigen::VectorXd step_;
};

template <int D>
void run(const double* points, const double* whitening, Index m, Index d, const Index* i, const Index* j, Index e,
         double* lengths, double* off_tangent, int threads) {
  parallel_chunks(e, kEdges, threads, [&](Index, Index begin, Index end) {
    Trapezoid<D> rule(m, d);
    for (Index k = begin; k < end; ++k) {
      lengths[k] = rule(points + i[k] * m, whitening + i[k] * m * d, points + j[k] * m, whitening + j[k] * m * d,
                        off_tangent[k]);
    }
  });
}

}  // namespace

void edge_lengths(const double* points, const double* whitening, Index n, Index m, Index d, const Index* i,
                  const Index* j, Index e, double* lengths, double* off_tangent, int threads) {
  if (d < 1 || m < d) throw std::invalid_argument("edge_lengths: need 1 <= d <= m");
  for (Index k = 0; k < e; ++k) {
    if (i[k] < 0 || i[k] >= n || j[k] < 0 || j[k] >= n) {
      throw std::invalid_argument("edge_lengths: an edge names a sample that does not exist");
    }
  }
  switch (d) {
    case 1:
      return run<1>(points, whitening, m, d, i, j, e, lengths, off_tangent, threads);
    case 2:
      return run<2>(points, whitening, m, d, i, j, e, lengths, off_tangent, threads);
    case 3:
      return run<3>(points, whitening, m, d, i, j, e, lengths, off_tangent, threads);
    default:
      return run<Eigen::Dynamic>(points, whitening, m, d, i, j, e, lengths, off_tangent, threads);
  }
}

}  // namespace diffeo
