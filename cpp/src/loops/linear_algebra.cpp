// Eigen behind functions that are no templates, so that each of its algorithms is compiled once a level.
#include "diffeo/linear_algebra.hpp"

#include <Eigen/Cholesky>
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

namespace {

// From so many terms on the normal equations are tried first: they are products of matrices, which take a tenth of the
// time of a pivoted decomposition; of fewer, little.
constexpr Index kManyTerms = 24;

// A column that keeps at least this share of its square beside those before it leaves the normal equations well enough
// conditioned for one step of refinement to make up for their squares (Bjorck 1987, corrected semi-normal equations).
constexpr double kIndependent = 1e-8;

}  // namespace

struct LeastNormFit::Solver {
  Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd> decomposition;
  Eigen::MatrixXd targets, coefficients;
  Eigen::MatrixXd gram;
  Eigen::LLT<Eigen::MatrixXd> factor;

  /// Whether the normal equations tell the coefficients: not where directions are open, or nearly so.
  bool by_normal_equations(const ConstStrided& design, const ConstStrided& given) {
    if (design.rows() < design.cols()) return false;
    gram.setZero(design.cols(), design.cols());
    gram.selfadjointView<Eigen::Lower>().rankUpdate(design.transpose());
    factor.compute(gram);
    if (factor.info() != Eigen::Success) return false;
    const Eigen::ArrayXd left = factor.matrixLLT().diagonal().array().square();
    if (!(left > kIndependent * gram.diagonal().array()).all()) return false;
    // Columns of very different size would hide directions that count as open.
    if (!(left.minCoeff() > kIndependent * left.maxCoeff())) return false;
    coefficients.noalias() = design.transpose() * given;
    factor.solveInPlace(coefficients);
    targets = given;
    targets.noalias() -= design * coefficients;
    coefficients += factor.solve(design.transpose() * targets);
    return coefficients.allFinite();
  }
};

LeastNormFit::LeastNormFit(Index rows, Index terms, double threshold)
    : solver_(new Solver{Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd>(rows, terms), {}, {}, {}, {}}) {
  solver_->decomposition.setThreshold(threshold);
}

LeastNormFit::~LeastNormFit() = default;

const RowMatrix& LeastNormFit::solve(const RowMatrix& design, const RowMatrix& targets) {
  if (design.cols() < kManyTerms || !solver_->by_normal_equations(mapped(design), mapped(targets))) {
    solver_->decomposition.compute(mapped(design));
    solver_->targets = mapped(targets);
    solver_->coefficients = solver_->decomposition.solve(solver_->targets);
  }
  coefficients_.resize(design.cols(), targets.cols());
  Strided(coefficients_.data(), design.cols(), targets.cols(), Eigen::OuterStride<>(targets.cols())) =
      solver_->coefficients;
  return coefficients_;
}

}  // namespace diffeo
