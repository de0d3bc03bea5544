// Frames, layouts and corrected lengths of linear maps; the gradient of the stress.
#include "diffeo/frames.hpp"

#include <stdexcept>
#include <vector>

#include "tests.hpp"

namespace testing {
namespace {

/// Samples seen by a linear map: their inputs, and edges to some others.
struct LinearCase {
  Index n, m, d, e;
  RowMatrix x, points, whitening, gradients;
  std::vector<Index> i, j;
  RowMatrix steps;

  LinearCase(Index n_, Index m_, Index d_) : n(n_), m(m_), d(d_), e(6 * n), x(random_matrix(n, d, 3)) {
    const RowMatrix map = random_matrix(m, d, 4);
    points = x * map.transpose();
    gradients = RowMatrix(n, m * d);
    for (Index s = 0; s < n; ++s) gradients.row(s) = Eigen::Map<const Eigen::RowVectorXd>(map.data(), m * d);
    std::vector<double> values(static_cast<std::size_t>(n * d));
    whitening = RowMatrix(n, m * d);
    diffeo::whitening_from_jacobians(gradients.data(), n, m, d, {values.data(), whitening.data(), d}, 1);
    // The sign of a column is free.
    for (Index s = 0; s < n; s += 2) whitening.row(s) *= -1.0;
    steps = RowMatrix(e, d);
    for (Index k = 0; k < e; ++k) {
      i.push_back(k % n);
      j.push_back((k + 1 + k / n) % n);
      steps.row(k) = x.row(j.back()) - x.row(i.back());
    }
  }
};

void test_linear_map(Index m, Index d) {
  const LinearCase c(203, m, d);
  const diffeo::IncidentEdges incident(c.n, c.i.data(), c.j.data(), c.e);
  const diffeo::LaidEdges edges{&incident, c.i.data(), c.j.data(), c.steps.data(), c.e, d};
  RowMatrix frames(c.n, d * d), other(c.n, d * d);
  diffeo::local_frames(edges, c.points.data(), c.whitening.data(), m, 2, frames.data(), 1);
  diffeo::local_frames(edges, c.points.data(), c.whitening.data(), m, 2, other.data(), 3);
  CHECK(same_bits(frames.data(), other.data(), frames.size()));
  double worst = 0.0;
  for (Index k = 0; k < c.e; ++k) {
    const Index i = c.i[static_cast<std::size_t>(k)], j = c.j[static_cast<std::size_t>(k)];
    const Eigen::Map<const RowMatrix> w(c.whitening.data() + i * m * d, m, d), q(frames.data() + i * d * d, d, d);
    const Eigen::VectorXd seen = w.transpose() * (c.points.row(j) - c.points.row(i)).transpose();
    worst = std::max(worst, (seen - q * c.steps.row(k).transpose()).norm());
  }
  CHECK(worst < 1e-9);
  // From one known sample the others are found exactly.
  std::vector<std::uint8_t> known(static_cast<std::size_t>(c.n), 0);
  known[5] = 1;
  RowMatrix layout = RowMatrix::Zero(c.n, d), turned = RowMatrix::Zero(c.n, d * d);
  layout.row(5) = c.x.row(5);
  turned.row(5) = frames.row(5);
  RowMatrix layout_too = layout, turned_too = turned;
  diffeo::extend_layout(edges, c.points.data(), c.whitening.data(), m, known.data(), layout.data(), turned.data(), 2);
  CHECK((layout - c.x).cwiseAbs().maxCoeff() < 1e-8);
  CHECK((turned - frames).cwiseAbs().maxCoeff() < 1e-8);
  diffeo::extend_layout(edges, c.points.data(), c.whitening.data(), m, known.data(), layout_too.data(),
                        turned_too.data(), 1);
  CHECK(same_bits(layout.data(), layout_too.data(), layout.size()));
  // Steps that are wrong by a few percent are corrected to the lengths of the inputs; beyond belief, they are left.
  const RowMatrix off = c.steps + 0.02 * random_matrix(c.e, d, 9);
  const Eigen::VectorXd lengths = c.steps.rowwise().norm();
  Eigen::VectorXd given = 1.05 * lengths, found(c.e), again(c.e);
  const diffeo::LaidEdges laid{&incident, c.i.data(), c.j.data(), off.data(), c.e, d};
  diffeo::corrected_lengths(laid, c.points.data(), c.gradients.data(), m, given.data(), 0.2, found.data(), 1);
  CHECK((found - lengths).cwiseAbs().maxCoeff() < 1e-9);
  diffeo::corrected_lengths(laid, c.points.data(), c.gradients.data(), m, given.data(), 0.2, again.data(), 3);
  CHECK(same_bits(found.data(), again.data(), c.e));
  given *= 1.5;
  diffeo::corrected_lengths(laid, c.points.data(), c.gradients.data(), m, given.data(), 0.2, found.data(), 1);
  CHECK(same_bits(found.data(), given.data(), c.e));
}

/// The gradient against differences of the stress, periods included; the same bits for any number of threads.
void test_stress(Index d, Index k) {
  const LinearCase c(150, d + 1, d);
  const RowMatrix windings = random_matrix(c.e, k, 12), layout = random_matrix(c.n + k, d, 13);
  const Eigen::VectorXd lengths = random_matrix(c.e, 1, 14).cwiseAbs(), weights = random_matrix(c.e, 1, 15).cwiseAbs();
  const diffeo::IncidentEdges incident(c.n, c.i.data(), c.j.data(), c.e);
  const diffeo::EdgeView edges{c.n, c.e, k, c.i.data(), c.j.data(), lengths.data(), weights.data(), windings.data()};
  RowMatrix gradient(c.n + k, d), other(c.n + k, d);
  const double stress = diffeo::stress_gradient(edges, incident, layout.data(), d, gradient.data(), 1);
  CHECK(stress == diffeo::stress_gradient(edges, incident, layout.data(), d, other.data(), 3));
  CHECK(same_bits(gradient.data(), other.data(), gradient.size()));
  const RowMatrix change = 1e-5 * random_matrix(c.n + k, d, 16);
  const RowMatrix ahead = layout + change, behind = layout - change;
  const double rise = diffeo::stress_gradient(edges, incident, ahead.data(), d, other.data(), 1) -
                      diffeo::stress_gradient(edges, incident, behind.data(), d, other.data(), 1);
  const double expected = 4.0 * gradient.cwiseProduct(change).sum();
  CHECK(std::abs(rise - expected) < 1e-5 * gradient.norm() * change.norm());
  // The stiffness against its definition, edge by edge.
  const RowMatrix unit = random_matrix(c.e, d, 17);
  RowMatrix product(c.n + k, d), expected_product = RowMatrix::Zero(c.n + k, d);
  diffeo::stress_stiffness(edges, incident, unit.data(), 0.3, change.data(), d, product.data(), 1);
  diffeo::stress_stiffness(edges, incident, unit.data(), 0.3, change.data(), d, other.data(), 3);
  CHECK(same_bits(product.data(), other.data(), product.size()));
  for (Index e = 0; e < c.e; ++e) {
    const Index i = c.i.data()[e], j = c.j.data()[e];
    const Eigen::RowVectorXd step = change.row(j) - change.row(i) + windings.row(e) * change.bottomRows(k);
    const Eigen::RowVectorXd pull = weights(e) * (step.dot(unit.row(e)) * unit.row(e) + 0.3 * step);
    expected_product.row(j) += pull;
    expected_product.row(i) -= pull;
    expected_product.bottomRows(k) += windings.row(e).transpose() * pull;
  }
  CHECK((product - expected_product).norm() <= 1e-12 * expected_product.norm());
  // All samples at one place have no direction to be pulled in.
  const RowMatrix nowhere = RowMatrix::Zero(c.n + k, d);
  diffeo::stress_gradient(edges, incident, nowhere.data(), d, other.data(), 2);
  CHECK(other.cwiseAbs().maxCoeff() == 0.0);
}

}  // namespace

void test_frames() {
  test_linear_map(3, 1);
  test_linear_map(5, 2);
  test_linear_map(3, 3);
  test_linear_map(6, 4);
  test_stress(1, 1);
  test_stress(2, 0);
  test_stress(3, 2);
  test_stress(5, 1);
  const Index outside = 3, inside = 0;
  CHECK(throws<std::invalid_argument>([&] { diffeo::IncidentEdges(3, &outside, &inside, 1); }));
}

}  // namespace testing
