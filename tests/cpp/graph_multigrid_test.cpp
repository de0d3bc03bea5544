// Solutions with Laplacians against dense ones, and the cycle as a matrix.
#include "diffeo/graph_multigrid.hpp"

#include <Eigen/Eigenvalues>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "tests.hpp"

namespace testing {
namespace {

using diffeo::LaplacianSolver;

/// Samples of the unit square joined where they are near, with weights over `orders` powers of ten. `pieces` vertical
/// strips are not joined to one another.
struct Graph {
  Index n;
  std::vector<Index> i, j, piece;
  std::vector<double> weights;

  Graph(Index n_, double orders, Index pieces = 1) : n(n_) {
    std::mt19937_64 generator(7);
    std::uniform_real_distribution<double> uniform;
    RowMatrix x(n, 2);
    for (Index k = 0; k < x.size(); ++k) x.data()[k] = uniform(generator);
    for (Index a = 0; a < n; ++a) piece.push_back(static_cast<Index>(x(a, 0) * static_cast<double>(pieces)));
    const double radius = std::sqrt(16.0 / (M_PI * static_cast<double>(n)));
    for (Index a = 0; a < n; ++a) {
      for (Index b = a + 1; b < n; ++b) {
        if (piece[at(a)] != piece[at(b)] || (x.row(a) - x.row(b)).norm() > radius) continue;
        i.push_back(a);
        j.push_back(b);
        weights.push_back(std::pow(10.0, orders * (uniform(generator) - 1.0)));
      }
    }
  }

  static std::size_t at(Index k) { return static_cast<std::size_t>(k); }
  Index size() const { return static_cast<Index>(i.size()); }

  Eigen::MatrixXd dense(const double* anchors) const {
    Eigen::MatrixXd a = Eigen::MatrixXd::Zero(n, n);
    for (std::size_t e = 0; e < i.size(); ++e) {
      a(i[e], i[e]) += weights[e];
      a(j[e], j[e]) += weights[e];
      a(i[e], j[e]) -= weights[e];
      a(j[e], i[e]) -= weights[e];
    }
    for (Index k = 0; k < n && anchors != nullptr; ++k) a(k, k) += anchors[k];
    return a;
  }

  LaplacianSolver solver(const double* anchors, int threads) const {
    return {n, i.data(), j.data(), weights.data(), size(), anchors, threads};
  }
};

/// Full solutions against x, whose image under the dense matrix is the right side.
void check_solutions(const Graph& graph, const std::vector<double>& anchors, Index most_iterations) {
  const double* given = anchors.empty() ? nullptr : anchors.data();
  const Eigen::MatrixXd a = graph.dense(given);
  const LaplacianSolver solver = graph.solver(given, 2);
  for (const Index b : {1, 3, 6}) {
    const RowMatrix x = random_matrix(graph.n, b, 5);
    const RowMatrix right = a * x;
    RowMatrix found = RowMatrix::Zero(graph.n, b);
    double reduction = 1.0;
    const Index iterations = solver.solve(right.data(), b, 1e-11, 200, found.data(), &reduction);
    CHECK(reduction <= 1e-11 && iterations <= most_iterations);
    CHECK((a * found - right).norm() <= 2e-11 * std::sqrt(static_cast<double>(b)) * right.norm());
    for (const int threads : {1, 3}) {
      RowMatrix again = RowMatrix::Zero(graph.n, b);
      graph.solver(given, threads).solve(right.data(), b, 1e-11, 200, again.data(), &reduction);
      CHECK(same_bits(again.data(), found.data(), found.size()));
    }
  }
}

/// The cycle as a matrix: symmetric, and M^-1 A between 0 and 1 but for a few percent.
void check_cycle(const Graph& graph, const std::vector<double>& anchors, double least) {
  const double* given = anchors.empty() ? nullptr : anchors.data();
  const LaplacianSolver solver = graph.solver(given, 2);
  const auto levels = solver.levels();
  CHECK(levels.size() >= 2 && levels[0] == graph.n && levels[1] * 3 < graph.n);
  const Index n = graph.n;
  // Columns of zero sum over each piece, as without anchors they must be.
  RowMatrix basis = RowMatrix::Identity(n, n);
  for (Index p = 0; anchors.empty() && p <= graph.piece.back() + n; ++p) {
    std::vector<Index> members;
    for (Index k = 0; k < n; ++k) {
      if (graph.piece[Graph::at(k)] == p) members.push_back(k);
    }
    for (const Index k : members) {
      for (const Index l : members) basis(k, l) -= 1.0 / static_cast<double>(members.size());
    }
  }
  RowMatrix inverse(n, n);
  solver.cycle(basis.data(), n, inverse.data());
  const Eigen::MatrixXd m = basis.transpose() * inverse;
  CHECK((m - m.transpose()).cwiseAbs().maxCoeff() < 1e-4 * m.cwiseAbs().maxCoeff());
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solved(graph.dense(given));
  const Eigen::MatrixXd root = solved.eigenvectors() * solved.eigenvalues().cwiseMax(0.0).cwiseSqrt().asDiagonal() *
                               solved.eigenvectors().transpose();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> spectrum(root * m * root);
  CHECK(spectrum.eigenvalues()[n - 1] < 1.05);
  Index pieces = 0;
  for (Index k = 0; k < n; ++k) pieces += spectrum.eigenvalues()[k] < least;
  CHECK(pieces == (anchors.empty() ? 1 + *std::max_element(graph.piece.begin(), graph.piece.end()) : 0));
}

void test_odd_graphs() {
  // Samples without edges, edges from a sample to itself, and none at all.
  const std::vector<Index> i{0, 1, 3}, j{1, 2, 3};
  const std::vector<double> weights{1.0, 2.0, 5.0};
  const LaplacianSolver few(5, i.data(), j.data(), weights.data(), 3, nullptr, 1);
  const std::vector<double> right{-1.0, 0.0, 1.0, 0.0, 0.0};
  std::vector<double> x(5, 0.0);
  double reduction = 1.0;
  few.solve(right.data(), 1, 1e-12, 50, x.data(), &reduction);
  CHECK(reduction <= 1e-12 && std::abs(x[1] - x[0] - 1.0) < 1e-12 && std::abs(x[2] - x[1] - 0.5) < 1e-12);
  const LaplacianSolver none(0, nullptr, nullptr, nullptr, 0, nullptr, 1);
  CHECK(none.size() == 0 && none.solve(nullptr, 2, 1e-12, 50, nullptr, &reduction) == 0);
  // A right side with a sum has no solution, and says so.
  const std::vector<double> one{1.0, 0.0, 0.0, 0.0, 0.0};
  std::fill(x.begin(), x.end(), 0.0);
  few.solve(one.data(), 1, 1e-12, 50, x.data(), &reduction);
  CHECK(reduction > 0.1);
  CHECK(throws<std::invalid_argument>([&] { LaplacianSolver(2, i.data(), j.data(), weights.data(), 3, nullptr, 1); }));
}

/// A grid of more rows than one task takes, at every level but the last: workspaces go from task to task.
void test_many_tasks() {
  const Index side = 150, n = side * side;
  std::vector<Index> i, j;
  std::vector<double> weights;
  for (Index k = 0; k < n; ++k) {
    for (const Index next : {k % side + 1 < side ? k + 1 : n, k + side}) {
      if (next >= n) continue;
      i.push_back(k);
      j.push_back(next);
      weights.push_back(1.0 + 0.25 * static_cast<double>(k % 5));
    }
  }
  RowMatrix right = random_matrix(n, 1, 3), one(n, 1), three(n, 1);
  right.array() -= right.mean();
  for (auto [threads, x] : {std::pair(1, &one), std::pair(3, &three)}) {
    const LaplacianSolver solver(n, i.data(), j.data(), weights.data(), static_cast<Index>(i.size()), nullptr, threads);
    CHECK(solver.levels().size() >= 4);
    x->setZero();
    double reduction = 1.0;
    CHECK(solver.solve(right.data(), 1, 1e-10, 100, x->data(), &reduction) <= 30);
    CHECK(reduction <= 1e-10);
  }
  CHECK(same_bits(one.data(), three.data(), n));
}

}  // namespace

void test_graph_multigrid() {
  test_many_tasks();
  for (const double orders : {0.0, 8.0}) {
    for (const Index pieces : {1, 3}) {
      const Graph graph(900, orders, pieces);
      std::vector<double> anchors(900, 0.0);
      for (std::size_t k = 0; k < anchors.size(); k += 10) anchors[k] = 2.0;
      check_solutions(graph, {}, orders > 0.0 ? 120 : 20);
      check_solutions(graph, anchors, orders > 0.0 ? 120 : 20);
      if (orders == 0.0) {
        check_cycle(graph, {}, 0.1);
        check_cycle(graph, anchors, 0.1);
      }
    }
  }
  test_odd_graphs();
}

}  // namespace testing
