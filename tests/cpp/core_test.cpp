// The C++ core without Python: small enough to run under ASan, UBSan and TSan. Exit code 1 and a line for each
// check that failed.
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <utility>
#include <vector>

#include "diffeo/block.hpp"
#include "diffeo/covariance.hpp"
#include "diffeo/edge_lengths.hpp"
#include "diffeo/eigenpairs.hpp"
#include "diffeo/interpolation.hpp"
#include "diffeo/mahalanobis.hpp"
#include "diffeo/operator.hpp"
#include "diffeo/pair_metric.hpp"
#include "diffeo/parallel.hpp"
#include "diffeo/tree.hpp"
#include "samples.hpp"

namespace {

using Eigen::MatrixXd;
using namespace testing;

// --- covariance --------------------------------------------------------------------------------------------------

void test_whitening_from_jacobians() {
  const std::pair<Index, Index> shapes[] = {{1, 1}, {2, 2}, {5, 2}, {2, 5}, {30, 3}, {3, 30}};
  for (const auto& [m, p] : shapes) {
    const Index n = 70, r = std::min(m, p);
    const RowMatrix jacobians = random_matrix(n, m * p, static_cast<std::uint64_t>(m + 7 * p));
    RowMatrix values(n, r), whitening(n, m * r), single(n, r);
    diffeo::whitening_from_jacobians(jacobians.data(), n, m, p, {values.data(), whitening.data(), r}, 2);
    diffeo::whitening_from_jacobians(jacobians.data(), n, m, p, {single.data(), nullptr, 0}, 1);
    CHECK(same_bits(values.data(), single.data(), values.size()));
    double worst = 0.0, trace_gap = 0.0;
    for (Index i = 0; i < n; ++i) {
      const Eigen::Map<const RowMatrix> j(jacobians.data() + i * m * p, m, p), w(whitening.data() + i * m * r, m, r);
      worst = std::max(worst, (w.transpose() * j * j.transpose() * w - MatrixXd::Identity(r, r)).norm());
      trace_gap = std::max(trace_gap, std::abs(values.row(i).squaredNorm() / j.squaredNorm() - 1.0));
      for (Index k = 1; k < r; ++k) CHECK(values(i, k - 1) >= values(i, k));
    }
    CHECK(worst < 1e-8);
    CHECK(trace_gap < 1e-13);
  }
  const RowMatrix one = random_matrix(1, 6, 0);
  double values[2], whitening[9];
  CHECK(throws<std::invalid_argument>(
      [&] { diffeo::whitening_from_jacobians(one.data(), 1, 3, 2, {values, whitening, 3}, 1); }));
}

void test_whitening_of_small_singular_values() {
  // Orthogonal columns of lengths 1 and 1e-12: the second must come with all its digits.
  const double jacobian[] = {0.6, -0.8e-12, 0.8, 0.6e-12, 0.0, 0.0};
  double values[2], whitening[6];
  diffeo::whitening_from_jacobians(jacobian, 1, 3, 2, {values, whitening, 2}, 1);
  CHECK(std::abs(values[0] - 1.0) < 1e-14);
  CHECK(std::abs(values[1] / 1e-12 - 1.0) < 1e-12);
}

void test_whitening_from_bursts_and_covariances() {
  const Index n = 40, m = 4, d = 2, size = 9;
  const double scale = 0.25;
  const RowMatrix jacobian = random_matrix(m, d, 3);
  RowMatrix bursts(n, size * m), covariances(n, m * m);
  for (Index i = 0; i < n; ++i) {
    const RowMatrix inputs = scale * random_matrix(size, d, static_cast<std::uint64_t>(50 + i));
    const RowMatrix burst = (inputs * jacobian.transpose()).rowwise() + Eigen::RowVectorXd::Constant(m, 5.0);
    Eigen::Map<RowMatrix>(bursts.data() + i * size * m, size, m) = burst;
    const RowMatrix centred = burst.rowwise() - Eigen::RowVectorXd(burst.colwise().mean());
    Eigen::Map<RowMatrix>(covariances.data() + i * m * m, m, m) =
        centred.transpose() * centred / (static_cast<double>(size - 1) * scale * scale);
  }
  RowMatrix values(n, m), whitening(n, m * d), other_values(n, m), other(n, m * d);
  diffeo::whitening_from_bursts(bursts.data(), n, size, m, scale, {values.data(), whitening.data(), d}, 2);
  diffeo::whitening_from_covariances(covariances.data(), n, m, {other_values.data(), other.data(), d}, 2);
  const double gain = static_cast<double>(size - d - 2) / static_cast<double>(size - 1);
  double worst = 0.0, spread = 0.0;
  for (Index i = 0; i < n; ++i) {
    const Eigen::Map<const RowMatrix> w(whitening.data() + i * m * d, m, d), v(other.data() + i * m * d, m, d);
    const RowMatrix expected = gain * v * v.transpose();
    worst = std::max(worst, (w * w.transpose() - expected).norm() / expected.norm());
    spread = std::max(spread, (values.row(i).head(d) - other_values.row(i).head(d)).norm());
  }
  CHECK(worst < 1e-9);
  CHECK(spread < 1e-10);
  CHECK(throws<std::invalid_argument>([&] {
    diffeo::whitening_from_bursts(bursts.data(), 1, d + 2, m, scale, {values.data(), whitening.data(), d}, 1);
  }));
}

void test_jacobians_from_neighbors() {
  const Index n = 60, m = 3, p = 2, k = 8;
  const RowMatrix x = random_matrix(n, p, 8), linear = random_matrix(m, p, 9);
  const RowMatrix y = (x * linear.transpose()).rowwise() + Eigen::RowVectorXd::Constant(m, 2.0);
  std::vector<Index> neighbors;
  for (Index i = 0; i < n; ++i) {
    for (Index a = 0; a < k; ++a) neighbors.push_back((i + 7 * a) % n);
  }
  RowMatrix jacobians(n, m * p);
  std::vector<double> conditions(static_cast<std::size_t>(n));
  diffeo::jacobians_from_neighbors(y.data(), n, m, x.data(), p, neighbors.data(), k, jacobians.data(),
                                   conditions.data(), 2);
  double worst = 0.0;
  for (Index i = 0; i < n; ++i) {
    worst = std::max(worst, (Eigen::Map<const RowMatrix>(jacobians.data() + i * m * p, m, p) - linear).norm());
  }
  CHECK(worst < 1e-11);
  CHECK(*std::min_element(conditions.begin(), conditions.end()) > 1e-3);
}

// --- tree and kernel ---------------------------------------------------------------------------------------------

void test_tree(const Sample& sample) {
  const diffeo::MetricTree tree = sample.tree(2);
  std::vector<Row> order = tree.order();
  for (Index t = 0; t < sample.n; ++t) {
    const Row i = order[static_cast<std::size_t>(t)];
    CHECK(tree.position()[static_cast<std::size_t>(i)] == t);
    CHECK(same_bits(tree.point(t), sample.points.data() + i * sample.m, sample.m));
  }
  std::sort(order.begin(), order.end());
  for (Index i = 0; i < sample.n; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
  Index next = 0;
  for (const Index leaf : tree.leaves()) {
    const auto& node = tree.nodes()[static_cast<std::size_t>(leaf)];
    CHECK(node.begin == next && node.end > node.begin && node.left < 0);
    next = node.end;
  }
  CHECK(next == sample.n);
  const double* points = sample.points.data();
  CHECK(throws<std::invalid_argument>([&] { diffeo::MetricTree(points, nullptr, sample.n, sample.m, 1, 1); }));
  CHECK(throws<std::invalid_argument>([&] { diffeo::MetricTree(points, nullptr, 0, sample.m, 0, 1); }));
}

/// Every pair by PairMetric itself, row by row, against the assembly on the tree.
void compare_with_all_pairs(const diffeo::MetricTree& tree, diffeo::Bandwidth bandwidth, Index least_gated) {
  const Index n = tree.size(), dim = tree.dim();
  const diffeo::Kernel kernel = diffeo::assemble_kernel(tree, bandwidth, 2);
  diffeo::PairMetric<-1, -1> metric(tree.n_measurements(), dim, bandwidth.squared_radius());
  const auto view = [&](Index t) {
    return diffeo::SampleView{tree.point(t), tree.whitening(t), tree.squared_stretches(t), tree.stretch(t)};
  };
  Index entry = 0, n_gated = 0;
  double worst = 0.0;
  for (Index i = 0; i < n; ++i) {
    Row gated = 0;
    CHECK(kernel.rows.indptr[i] == entry);
    for (Index j = 0; j < n; ++j) {
      double q = 0.0;
      const diffeo::PairState state = i == j ? diffeo::PairState::kept : metric(view(i), view(j), q);
      if (state == diffeo::PairState::gated) ++gated;
      if (state != diffeo::PairState::kept) continue;
      CHECK(entry < kernel.rows.indices.size() && kernel.rows.indices[entry] == j);
      if (entry >= kernel.rows.indices.size()) return;
      const double expected = i == j ? 1.0 : std::exp(-q / (4.0 * bandwidth.epsilon));
      worst = std::max(worst, std::abs(kernel.rows.values[entry] / expected - 1.0));
      ++entry;
    }
    CHECK(kernel.gated[i] == gated);
    n_gated += gated;
  }
  CHECK(entry == kernel.rows.indptr[n]);
  CHECK(worst < 1e-12);
  CHECK(kernel.n_gated == n_gated / 2);
  CHECK(kernel.n_gated >= least_gated);
  CHECK(kernel.rows.indices.size() > 2 * n);

  std::vector<Row> rows(static_cast<std::size_t>(n));
  for (Index t = 0; t < n; ++t) rows[static_cast<std::size_t>(t)] = static_cast<Row>(t);
  std::vector<double> sums(rows.size());
  std::vector<Index> entries(rows.size()), gated(rows.size());
  diffeo::row_statistics(tree, bandwidth, rows.data(), n, sums.data(), entries.data(), gated.data(), 2);
  for (Index i = 0; i < n; ++i) {
    double sum = 0.0;
    for (Index e = kernel.rows.indptr[i]; e < kernel.rows.indptr[i + 1]; ++e) sum += kernel.rows.values[e];
    const auto at = static_cast<std::size_t>(i);
    CHECK(entries[at] == kernel.rows.indptr[i + 1] - kernel.rows.indptr[i]);
    CHECK(gated[at] == kernel.gated[i]);
    CHECK(std::abs(sums[at] / sum - 1.0) < 1e-12);
  }
}

void test_kernel_bits(const diffeo::MetricTree& tree, diffeo::Bandwidth bandwidth) {
  const diffeo::Kernel first = diffeo::assemble_kernel(tree, bandwidth, 1);
  for (const int threads : {2, 3, 5}) {
    const diffeo::Kernel other = diffeo::assemble_kernel(tree, bandwidth, threads);
    CHECK(other.rows.indices.size() == first.rows.indices.size());
    CHECK(other.n_gated == first.n_gated);
    if (other.rows.indices.size() != first.rows.indices.size()) continue;
    CHECK(same_bits(other.rows.indptr.data(), first.rows.indptr.data(), tree.size() + 1));
    CHECK(same_bits(other.rows.indices.data(), first.rows.indices.data(), first.rows.indices.size()));
    CHECK(same_bits(other.rows.values.data(), first.rows.values.data(), first.rows.values.size()));
    CHECK(same_bits(other.gated.data(), first.gated.data(), tree.size()));
  }
}

void test_cross_kernel(const Sample& sample, diffeo::Bandwidth bandwidth) {
  const diffeo::MetricTree tree = sample.tree(1);
  const diffeo::Kernel kernel = diffeo::assemble_kernel(tree, bandwidth, 1);
  for (const int threads : {1, 3}) {
    const diffeo::SparseRows cross =
        diffeo::cross_kernel(tree, bandwidth, sample.points.data(), sample.whitening.data(), sample.n, threads);
    CHECK(cross.n_rows == sample.n && cross.n_columns == sample.n);
    for (Index i = 0; i < sample.n; ++i) {
      const Index t = tree.position()[static_cast<std::size_t>(i)];
      CHECK(cross.indptr[i + 1] - cross.indptr[i] == kernel.rows.indptr[t + 1] - kernel.rows.indptr[t]);
      double sum = 0.0, expected = 0.0;
      for (Index e = cross.indptr[i]; e < cross.indptr[i + 1]; ++e) sum += cross.values[e];
      for (Index e = kernel.rows.indptr[t]; e < kernel.rows.indptr[t + 1]; ++e) expected += kernel.rows.values[e];
      CHECK(std::abs(sum / expected - 1.0) < 1e-12);
    }
  }
  const diffeo::SparseRows one_sided = diffeo::cross_kernel(tree, bandwidth, sample.points.data(), nullptr, 5, 2);
  for (Index i = 0; i < 5; ++i) {
    bool itself = false;
    for (Index e = one_sided.indptr[i]; e < one_sided.indptr[i + 1]; ++e) {
      itself = itself || (one_sided.indices[e] == i && one_sided.values[e] == 1.0);
    }
    CHECK(itself);
  }
  const diffeo::SparseRows none = diffeo::cross_kernel(tree, bandwidth, sample.points.data(), nullptr, 0, 2);
  CHECK(none.n_rows == 0 && none.indptr[0] == 0);
}

// --- edge lengths ------------------------------------------------------------------------------------------------

/// Signed directions and either order of the ends change nothing; nor do threads, to the last bit.
void test_edge_lengths(const Sample& sample) {
  const Index n = sample.n, m = sample.m, d = sample.d, e = 5 * n;
  std::vector<Index> i, j;
  for (Index k = 0; k < e; ++k) {
    i.push_back(k % n);
    j.push_back((k + 1 + k / n) % n);
  }
  const auto size = static_cast<std::size_t>(e);
  const auto measure = [&](const RowMatrix& whitening, const std::vector<Index>& from, const std::vector<Index>& to,
                           std::vector<double>& lengths, std::vector<double>& off_tangent, int threads) {
    lengths.assign(size, -1.0);
    off_tangent.assign(size, -1.0);
    diffeo::edge_lengths(sample.points.data(), whitening.data(), n, m, d, from.data(), to.data(), e, lengths.data(),
                         off_tangent.data(), threads);
  };
  std::vector<double> lengths, off_tangent, other, other_off;
  measure(sample.whitening, i, j, lengths, off_tangent, 1);
  for (const int threads : {2, 3}) {
    measure(sample.whitening, i, j, other, other_off, threads);
    CHECK(same_bits(other.data(), lengths.data(), e) && same_bits(other_off.data(), off_tangent.data(), e));
  }
  RowMatrix turned = sample.whitening;
  for (Index row = 0; row < n; row += 2) turned.row(row) *= -1.0;
  double worst = 0.0;
  for (const bool back : {false, true}) {
    measure(turned, back ? j : i, back ? i : j, other, other_off, 2);
    for (std::size_t k = 0; k < size; ++k) {
      worst = std::max({worst, std::abs(other[k] / lengths[k] - 1.0), std::abs(other_off[k] - off_tangent[k])});
    }
  }
  CHECK(worst < 1e-9);
  for (std::size_t k = 0; k < size; ++k) {
    CHECK(lengths[k] > 0.0 && off_tangent[k] >= 0.0 && off_tangent[k] <= 1.0 + 1e-12);
    if (m == d) CHECK(off_tangent[k] < 1e-9);
  }
  const std::vector<Index> outside(size, n), same(size, 0);
  CHECK(throws<std::invalid_argument>([&] { measure(sample.whitening, outside, j, other, other_off, 1); }));
  CHECK(throws<std::invalid_argument>([&] { measure(sample.whitening, i, outside, other, other_off, 1); }));
  measure(sample.whitening, same, same, other, other_off, 2);
  CHECK(*std::max_element(other.begin(), other.end()) == 0.0);
  CHECK(*std::max_element(other_off.begin(), other_off.end()) == 0.0);
}

void test_edge_lengths_of_a_flat_map() {
  // The length of an edge is that of its input, whatever the linear map.
  const Index n = 40, m = 5, d = 3;
  const RowMatrix inputs = random_matrix(n, d, 8), linear = random_matrix(m, d, 9);
  const RowMatrix points = inputs * linear.transpose();
  RowMatrix jacobians(n, m * d), values(n, d), whitening(n, m * d);
  for (Index k = 0; k < n; ++k) jacobians.row(k) = Eigen::Map<const Eigen::RowVectorXd>(linear.data(), m * d);
  diffeo::whitening_from_jacobians(jacobians.data(), n, m, d, {values.data(), whitening.data(), d}, 1);
  std::vector<Index> i, j;
  for (Index k = 0; k < n; ++k) {
    i.push_back(k);
    j.push_back((7 * k + 1) % n);
  }
  std::vector<double> lengths(static_cast<std::size_t>(n)), off_tangent(static_cast<std::size_t>(n));
  diffeo::edge_lengths(points.data(), whitening.data(), n, m, d, i.data(), j.data(), n, lengths.data(),
                       off_tangent.data(), 2);
  double worst = 0.0;
  for (std::size_t k = 0; k < static_cast<std::size_t>(n); ++k) {
    worst = std::max({worst, std::abs(lengths[k] - (inputs.row(i[k]) - inputs.row(j[k])).norm()), off_tangent[k]});
  }
  CHECK(worst < 1e-10);
}

// --- operator and eigenpairs -------------------------------------------------------------------------------------

void test_eigenpairs(Index n, Index n_wanted, double tolerance) {
  const Ring ring(n);
  const auto size = static_cast<std::size_t>(n);
  std::vector<double> density(size), degree(size), scaling(size), trivial(size);
  diffeo::normalise(ring.view(), 1.0, density.data(), degree.data(), scaling.data(), 2);
  CHECK(std::abs(density[0] - 3.0) < 1e-14);
  CHECK(std::abs(degree[n > 3 ? 3 : 0] - 1.0 / 3.0) < 1e-14);
  for (std::size_t i = 0; i < size; ++i) trivial[i] = std::sqrt(degree[i]);
  std::vector<diffeo::Eigenpairs> runs;
  for (const int threads : {1, 2, 3}) {
    const diffeo::DiffusionOperator op(ring.view(), scaling.data(), threads);
    runs.push_back(diffeo::leading_eigenpairs(op, trivial.data(), {.n_wanted = n_wanted, .tolerance = tolerance}));
  }
  const diffeo::Eigenpairs& first = runs[0];
  CHECK(first.converged);
  CHECK(static_cast<Index>(first.values.size()) == n_wanted && first.vectors.cols() == n_wanted);
  // Every frequency but 0 comes twice.
  for (Index k = 0; k < n_wanted; ++k) {
    CHECK(std::abs(first.values[static_cast<std::size_t>(k)] - ring.eigenvalue((k + 1) / 2)) < 1e-10);
    CHECK(first.residuals[static_cast<std::size_t>(k)] <= tolerance);
  }
  CHECK((first.vectors.transpose() * first.vectors - MatrixXd::Identity(n_wanted, n_wanted)).norm() < 1e-10);
  const diffeo::DiffusionOperator op(ring.view(), scaling.data(), 1);
  RowMatrix image;
  op.apply(first.vectors, image);
  const RowMatrix theta = RowMatrix(Eigen::Map<const Eigen::VectorXd>(first.values.data(), n_wanted).asDiagonal());
  CHECK((image - first.vectors * theta).colwise().norm().maxCoeff() <= 1.01 * tolerance + 1e-14);
  for (const diffeo::Eigenpairs& other : runs) {
    CHECK(same_bits(other.values.data(), first.values.data(), n_wanted));
    CHECK(same_bits(other.vectors.data(), first.vectors.data(), first.vectors.size()));
    CHECK(other.iterations == first.iterations);
  }
  CHECK(throws<std::invalid_argument>([&] { diffeo::leading_eigenpairs(op, trivial.data(), {.n_wanted = n + 1}); }));
  CHECK(throws<std::invalid_argument>([&] { diffeo::leading_eigenpairs(op, trivial.data(), {.n_wanted = 0}); }));
}

/// A block that converged must stay converged, also where the last wanted pair has a twin beyond the border.
void test_border_of_the_block(std::uint64_t seed) {
  const Ring ring(900);
  std::vector<double> density(900), degree(900), scaling(900);
  diffeo::normalise(ring.view(), 1.0, density.data(), degree.data(), scaling.data(), 1);
  const diffeo::DiffusionOperator op(ring.view(), scaling.data(), 1);
  for (const Index n_wanted : {4, 8, 10}) {
    const diffeo::Eigenpairs pairs =
        diffeo::leading_eigenpairs(op, degree.data(), {.n_wanted = n_wanted, .tolerance = 1e-8, .seed = seed});
    CHECK(pairs.converged);
    for (const double residual : pairs.residuals) CHECK(residual <= 1e-8);
  }
}

void test_unfinished_iteration_says_so() {
  const Ring ring(600);
  std::vector<double> density(600), degree(600), scaling(600);
  diffeo::normalise(ring.view(), 1.0, density.data(), degree.data(), scaling.data(), 1);
  const diffeo::DiffusionOperator op(ring.view(), scaling.data(), 1);
  const diffeo::Eigenpairs pairs =
      diffeo::leading_eigenpairs(op, degree.data(), {.n_wanted = 9, .tolerance = 1e-10, .max_iterations = 1});
  CHECK(!pairs.converged);
  CHECK(*std::max_element(pairs.residuals.begin(), pairs.residuals.end()) > 1e-10);
}

void test_operator_products() {
  const Ring ring(50);
  std::vector<double> density(50), degree(50), scaling(50);
  diffeo::normalise(ring.view(), 0.5, density.data(), degree.data(), scaling.data(), 2);
  const diffeo::DiffusionOperator op(ring.view(), scaling.data(), 2);
  const MatrixXd dense = op.dense();
  CHECK((dense - dense.transpose()).norm() == 0.0);
  for (const Index columns : {1, 3, 4, 7, 8, 13}) {
    const RowMatrix x = random_matrix(50, columns, 4);
    RowMatrix y;
    op.apply(x, y);
    CHECK((y - dense * x).norm() < 1e-13 * x.norm());
  }
}

// --- interpolation and threads -----------------------------------------------------------------------------------

void test_local_polynomial_fit() {
  const Index n = 80, q = 130, d = 2, v = 2, k = 14;
  const RowMatrix nodes = random_matrix(n, d, 5), queries = 0.5 * random_matrix(q, d, 6);
  const auto quadratic = [](double s, double t) { return 1.0 + 2.0 * s - t + 0.5 * s * s - 3.0 * s * t + t * t; };
  RowMatrix values(n, v), affine(n, v);
  for (Index i = 0; i < n; ++i) {
    values.row(i) << quadratic(nodes(i, 0), nodes(i, 1)), -quadratic(nodes(i, 1), nodes(i, 0));
    affine.row(i) << 3.0 - nodes(i, 0), nodes(i, 0) + 2.0 * nodes(i, 1);
  }
  std::vector<Index> neighbors;
  for (Index i = 0; i < q; ++i) {
    std::vector<std::pair<double, Index>> near;
    for (Index j = 0; j < n; ++j) near.emplace_back((nodes.row(j) - queries.row(i)).norm(), j);
    std::sort(near.begin(), near.end());
    for (Index a = 0; a < k; ++a) neighbors.push_back(near[static_cast<std::size_t>(a)].second);
  }
  RowMatrix second(q, v), first(q, v), again(q, v);
  const auto fit = [&](const RowMatrix& data, int degree, RowMatrix& result, int threads) {
    diffeo::local_polynomial_fit(queries.data(), q, d, nodes.data(), data.data(), v, neighbors.data(), k, degree,
                                 result.data(), threads);
  };
  fit(values, 2, second, 2);
  fit(affine, 1, first, 1);
  double worst = 0.0;
  for (Index i = 0; i < q; ++i) {
    const double s = queries(i, 0), t = queries(i, 1);
    worst = std::max({worst, std::abs(second(i, 0) - quadratic(s, t)), std::abs(second(i, 1) + quadratic(t, s)),
                      std::abs(first(i, 0) - 3.0 + s), std::abs(first(i, 1) - s - 2.0 * t)});
  }
  CHECK(worst < 1e-9);
  fit(values, 2, again, 3);
  CHECK(same_bits(again.data(), second.data(), second.size()));
  fit(values, 1, again, 1);
  CHECK((again - second).norm() > 1e-3);  // degree 1 cannot follow a quadratic
  CHECK(throws<std::invalid_argument>([&] { fit(values, 3, again, 1); }));
}

void test_parallel_chunks() {
  std::vector<int> seen(1003, 0);
  diffeo::parallel_chunks(1003, 10, 3, [&](Index chunk, Index begin, Index end) {
    CHECK(begin == 10 * chunk && end == std::min<Index>(1003, begin + 10));
    for (Index i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
  });
  CHECK(std::all_of(seen.begin(), seen.end(), [](int count) { return count == 1; }));
  diffeo::parallel_chunks(0, 10, 3, [&](Index, Index, Index) { CHECK(false); });
  CHECK(throws<std::runtime_error>([] {
    diffeo::parallel_chunks(100, 1, 3, [](Index chunk, Index, Index) {
      if (chunk == 7) throw std::runtime_error("seven");
    });
  }));
  const RowMatrix x = random_matrix(5000, 3, 1), y = random_matrix(5000, 4, 2);
  const RowMatrix one = diffeo::gram(x, y, 1), three = diffeo::gram(x, y, 3);
  CHECK(same_bits(one.data(), three.data(), one.size()));
  CHECK((one - x.transpose() * y).norm() < 1e-11);
}

}  // namespace

int main() {
  test_whitening_from_jacobians();
  test_whitening_of_small_singular_values();
  test_whitening_from_bursts_and_covariances();
  test_jacobians_from_neighbors();
  const std::pair<Index, Index> shapes[] = {{1, 1}, {3, 1}, {2, 2}, {5, 2}, {7, 2}, {20, 2}, {6, 3}, {7, 4}};
  for (const auto& [m, d] : shapes) {
    const Sample flat(400, m, d, 0.2);
    test_tree(flat);
    compare_with_all_pairs(flat.tree(2), {d == 1 ? 1e-4 : 3e-3, 1e-4}, 0);
    test_cross_kernel(flat, {5e-3, 1e-4});
    test_edge_lengths(flat);
    const Sample bent(300, m, d, 2.5);
    if (m > 1) compare_with_all_pairs(bent.tree(1), {0.5, 1e-4}, m >= 5 ? 100 : 0);
    test_kernel_bits(Sample(900, m, d, 0.5).tree(2), {5e-3, 1e-4});
  }
  const RowMatrix cloud = random_matrix(500, 3, 77);
  const diffeo::MetricTree euclidean(cloud.data(), nullptr, 500, 3, 0, 2);
  compare_with_all_pairs(euclidean, {0.02, 1e-4}, 0);
  test_kernel_bits(euclidean, {0.02, 1e-4});
  test_edge_lengths_of_a_flat_map();
  test_eigenpairs(60, 7, 1e-10);     // dense solver
  test_eigenpairs(700, 7, 1e-9);     // block solver
  test_eigenpairs(700, 8, 1e-8);     // the border cuts a double eigenvalue
  for (std::uint64_t seed = 0; seed < 8; ++seed) test_border_of_the_block(seed);
  test_unfinished_iteration_says_so();
  test_operator_products();
  test_local_polynomial_fit();
  test_parallel_chunks();
  const int failed = failures.load();
  std::printf("core: %d checks failed\n", failed);
  return failed == 0 ? 0 : 1;
}
