// Levels and cycle for the eigenproblem, and eigenpairs against the dense solver.
#include "diffeo/kernel_multigrid.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "diffeo/components.hpp"
#include "diffeo/eigenpairs.hpp"
#include "diffeo/mahalanobis.hpp"
#include "tests.hpp"

namespace testing {
namespace {

using Eigen::MatrixXd;

/// A kernel with its normalisation, and what leading_eigenpairs needs to know of it.
struct Problem {
  diffeo::MetricTree tree;
  diffeo::Bandwidth bandwidth;
  diffeo::Kernel kernel;
  std::vector<double> scaling, trivial;

  Problem(diffeo::MetricTree&& samples, double epsilon)
      : tree(std::move(samples)), bandwidth{epsilon, 1e-4}, kernel(diffeo::assemble_kernel(tree, bandwidth, 2)),
        scaling(static_cast<std::size_t>(tree.size())), trivial(scaling.size()) {
    std::vector<double> density(scaling.size());
    diffeo::normalise(view(), 1.0, density.data(), trivial.data(), scaling.data(), 1);
    for (double& degree : trivial) degree = std::sqrt(degree);
  }

  diffeo::SparseView view() const {
    return {tree.size(), kernel.rows.indptr.data(), kernel.rows.indices.data(), kernel.rows.values.data()};
  }
  diffeo::KernelGeometry geometry() const { return {&tree, bandwidth, 1.0}; }
  diffeo::DiffusionOperator operator_(int threads) const { return {view(), scaling.data(), threads}; }
};

diffeo::MetricTree cloud(Index n, Index m, double offset) {
  RowMatrix points(n, m);
  std::mt19937_64 generator(5);
  std::uniform_real_distribution<double> uniform;
  for (Index k = 0; k < points.size(); ++k) points.data()[k] = uniform(generator);
  // The second half moved away: two pieces, when far.
  points.bottomRows(n / 2).col(0).array() += offset;
  return {points.data(), nullptr, n, m, 0, 1};
}

void test_levels(const Problem& problem) {
  const diffeo::KernelGeometry geometry = problem.geometry();
  const std::vector<diffeo::KernelLevel> levels =
      diffeo::build_kernel_levels(problem.view(), problem.scaling.data(), problem.trivial.data(), &geometry, 2);
  CHECK(levels.size() >= 2);
  for (std::size_t l = 0; l + 1 < levels.size(); ++l) {
    const diffeo::KernelLevel& fine = levels[l];
    const diffeo::KernelLevel& coarse = levels[l + 1];
    CHECK(2 * coarse.size() <= fine.size() + 1);
    CHECK(coarse.epsilon > fine.epsilon);
    // Interpolation takes the trivial eigenvector of the coarse level to that of the fine one.
    const diffeo::SingleRows& p = fine.prolongation.rows;
    const diffeo::SingleRows& r = fine.restriction.rows;
    CHECK(p.n_rows == fine.size() && r.n_rows == coarse.size() && p.indptr[p.n_rows] == r.indptr[r.n_rows]);
    double worst = 0.0;
    for (Index i = 0; i < p.n_rows; ++i) {
      double sum = 0.0;
      for (Index e = p.indptr[i]; e < p.indptr[i + 1]; ++e) {
        sum += static_cast<double>(p.values[e]) * coarse.trivial[static_cast<std::size_t>(p.indices[e])];
      }
      if (p.indptr[i] < p.indptr[i + 1])
        worst = std::max(worst, std::abs(sum / fine.trivial[static_cast<std::size_t>(i)] - 1.0));
    }
    CHECK(worst < 1e-5);
    CHECK(fine.highest > 0.5 && fine.highest <= 2.0 + 1e-9);
  }
}

/// A cycle must reduce the error of (I - S) w = r outside of the leading eigenvectors at least threefold.
void test_cycle(const Problem& problem) {
  const diffeo::KernelGeometry geometry = problem.geometry();
  const std::vector<diffeo::KernelLevel> levels =
      diffeo::build_kernel_levels(problem.view(), problem.scaling.data(), problem.trivial.data(), &geometry, 1);
  diffeo::KernelMultigrid multigrid(levels, 1);
  CHECK(multigrid.complete());
  const MatrixXd s = eigen(problem.operator_(1).dense());
  const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(s);
  const Index n = problem.tree.size(), n_leading = 4;
  MatrixXd wanted = random_matrix(n, 8, 1);
  const MatrixXd leading = solver.eigenvectors().rightCols(n_leading);
  wanted -= leading * (leading.transpose() * wanted);
  const diffeo::SingleBlock r = block<float>(wanted - s * wanted);
  diffeo::SingleBlock w;
  multigrid.cycle(0, r, std::vector<float>(8, 0.0f), n_leading, w);
  MatrixXd error = eigen(w) - wanted;
  error -= leading * (leading.transpose() * error);
  CHECK(error.norm() < wanted.norm() / 3.0);
  CHECK(multigrid.products() > 0.0);
}

void test_against_the_dense_solver(const Problem& problem, Index n_wanted, Index n_pieces) {
  const diffeo::KernelGeometry geometry = problem.geometry();
  const diffeo::EigenOptions options{.n_wanted = n_wanted, .tolerance = 1e-9};
  const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(eigen(problem.operator_(1).dense()));
  std::vector<diffeo::Eigenpairs> runs;
  for (const int threads : {1, 3}) {
    runs.push_back(diffeo::leading_eigenpairs(problem.operator_(threads), problem.trivial.data(), options, &geometry));
  }
  runs.push_back(diffeo::leading_eigenpairs(problem.operator_(1), problem.trivial.data(), options, nullptr));
  CHECK(runs[0].levels.size() >= 2 && runs[2].levels.size() == 1);
  CHECK(same_bits(runs[0].vectors.data(), runs[1].vectors.data(), runs[0].vectors.size()));
  for (const diffeo::Eigenpairs& pairs : runs) {
    CHECK(pairs.converged);
    for (Index k = 0; k < n_wanted; ++k) {
      CHECK(std::abs(pairs.values[static_cast<std::size_t>(k)] - solver.eigenvalues().reverse()[k]) < 1e-12);
    }
    const RowMatrix vectors = eigen(pairs.vectors);
    CHECK((vectors.transpose() * vectors - MatrixXd::Identity(n_wanted, n_wanted)).norm() < 1e-12);
  }
  std::vector<Row> labels;
  CHECK(diffeo::connected_components(problem.view(), labels) == n_pieces);
  for (Index k = 0; k < n_pieces; ++k) CHECK(runs[0].values[static_cast<std::size_t>(k)] > 1.0 - 1e-13);
}

/// What the kernel was made from must be said whole: a tree of other samples, or without its epsilon, is refused.
void test_incomplete_geometry(const Problem& problem) {
  const diffeo::KernelGeometry whole = problem.geometry();
  const diffeo::MetricTree other = cloud(619, 2, 0.0);
  const auto solve = [&](const diffeo::KernelGeometry& geometry) {
    return diffeo::leading_eigenpairs(problem.operator_(1), problem.trivial.data(), {.n_wanted = 3}, &geometry);
  };
  CHECK(solve(whole).converged);
  for (const diffeo::KernelGeometry& broken :
       {diffeo::KernelGeometry{nullptr, whole.bandwidth, 1.0}, diffeo::KernelGeometry{&other, whole.bandwidth, 1.0},
        diffeo::KernelGeometry{whole.tree, {0.0, 1e-4}, 1.0}, diffeo::KernelGeometry{whole.tree, {1e-3, 0.0}, 1.0},
        diffeo::KernelGeometry{whole.tree, {1e-3, 1.0}, 1.0}, diffeo::KernelGeometry{whole.tree, {NAN, 1e-4}, 1.0},
        diffeo::KernelGeometry{whole.tree, whole.bandwidth, NAN}}) {
    CHECK(throws<std::invalid_argument>([&] { solve(broken); }));
  }
}

}  // namespace

void test_kernel_multigrid() {
  const Problem square(cloud(620, 2, 0.0), 9e-4);
  test_levels(square);
  test_cycle(square);
  test_incomplete_geometry(square);
  test_against_the_dense_solver(square, 9, 1);
  test_against_the_dense_solver(Problem(cloud(640, 2, 9.0), 9e-4), 7, 2);
  test_against_the_dense_solver(Problem(cloud(640, 3, 0.0), 7e-3), 8, 1);
  const Problem line(cloud(620, 1, 0.0), 1.1e-5);
  test_levels(line);
  test_against_the_dense_solver(line, 6, 1);
  const Sample units(630, 5, 2, 0.5);
  const Problem bent(units.tree(1), 1.3e-3);
  test_levels(bent);
  test_against_the_dense_solver(bent, 8, 1);
  // More pieces than pairs: all eigenvalues are 1, and the span holds sqrt(D).
  const Problem dust(cloud(900, 2, 0.0), 1e-9);
  const diffeo::Eigenpairs pairs =
      diffeo::leading_eigenpairs(dust.operator_(1), dust.trivial.data(), {.n_wanted = 5}, nullptr);
  CHECK(pairs.converged && pairs.values == std::vector<double>(5, 1.0));
  Eigen::VectorXd root = Eigen::Map<const Eigen::VectorXd>(dust.trivial.data(), 900).normalized();
  const RowMatrix found = eigen(pairs.vectors);
  CHECK((root - found * (found.transpose() * root)).norm() < 1e-12);
  // A row that keeps its place in two pieces' order: labels are numbered by first rows.
  std::vector<Row> labels;
  CHECK(diffeo::connected_components(dust.view(), labels) > 5);
  CHECK(labels[0] == 0);
}

}  // namespace testing
