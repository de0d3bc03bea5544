// Eigen behind functions that are no templates, so that each of its algorithms is compiled once a level.
#include "diffeo/linear_algebra.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <stdexcept>
#include <string>

namespace diffeo {
namespace {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Strided = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;
using ConstStrided = Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>;

ConstStrided mapped(const MatrixView& a) { return {a.data, a.rows, a.cols, Eigen::OuterStride<>(a.stride)}; }

}  // namespace

void multiply(const MatrixView& a, const MatrixView& b, double* out, Index stride) {
  Strided(out, a.rows, b.cols, Eigen::OuterStride<>(stride)).noalias() = mapped(a) * mapped(b);
}

void multiply_transposed(const MatrixView& a, const MatrixView& b, double* out, Index stride) {
  Strided(out, a.cols, b.cols, Eigen::OuterStride<>(stride)).noalias() = mapped(a).transpose() * mapped(b);
}

RowMatrix product(const MatrixView& a, const MatrixView& b) {
  RowMatrix result(a.rows, b.cols);
  multiply(a, b, result.data(), b.cols);
  return result;
}

RowMatrix transposed_product(const MatrixView& a, const MatrixView& b) {
  RowMatrix result(a.cols, b.cols);
  multiply_transposed(a, b, result.data(), b.cols);
  return result;
}

SymmetricEigen symmetric_eigen(const RowMatrix& matrix, const char* caller) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(Eigen::MatrixXd(mapped(matrix)));
  if (solver.info() != Eigen::Success) {
    throw std::runtime_error(std::string(caller) + ": a symmetric matrix has no eigendecomposition");
  }
  SymmetricEigen result;
  result.values.assign(solver.eigenvalues().data(), solver.eigenvalues().data() + matrix.rows());
  result.vectors.resize(matrix.rows(), matrix.cols());
  Strided(result.vectors.data(), matrix.rows(), matrix.cols(), Eigen::OuterStride<>(matrix.cols())) =
      solver.eigenvectors();
  return result;
}

struct LeastNormFit::Solver {
  Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd> decomposition;
  Eigen::MatrixXd targets, coefficients;
};

LeastNormFit::LeastNormFit(Index rows, Index terms, double threshold)
    : solver_(new Solver{Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd>(rows, terms), {}, {}}) {
  solver_->decomposition.setThreshold(threshold);
}

LeastNormFit::~LeastNormFit() = default;

const RowMatrix& LeastNormFit::solve(const RowMatrix& design, const RowMatrix& targets) {
  solver_->decomposition.compute(mapped(design));
  solver_->targets = mapped(targets);
  solver_->coefficients = solver_->decomposition.solve(solver_->targets);
  coefficients_.resize(design.cols(), targets.cols());
  Strided(coefficients_.data(), design.cols(), targets.cols(), Eigen::OuterStride<>(targets.cols())) =
      solver_->coefficients;
  return coefficients_;
}

}  // namespace diffeo
