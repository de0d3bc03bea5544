#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "diffeo/mahalanobis.hpp"
#include "diffeo/pair_metric.hpp"
#include "diffeo/tree.hpp"
#include "tests.hpp"

namespace testing {
namespace {

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

}  // namespace

void test_kernel() {
  const std::pair<Index, Index> shapes[] = {{1, 1}, {3, 1}, {2, 2}, {5, 2}, {7, 2}, {20, 2}, {6, 3}, {7, 4}};
  for (const auto& [m, d] : shapes) {
    const Sample flat(400, m, d, 0.2);
    test_tree(flat);
    compare_with_all_pairs(flat.tree(2), {d == 1 ? 1e-4 : 3e-3, 1e-4}, 0);
    test_cross_kernel(flat, {5e-3, 1e-4});
    const Sample bent(300, m, d, 2.5);
    if (m > 1) compare_with_all_pairs(bent.tree(1), {0.5, 1e-4}, m >= 5 ? 100 : 0);
    test_kernel_bits(Sample(900, m, d, 0.5).tree(2), {5e-3, 1e-4});
  }
  const RowMatrix cloud = random_matrix(500, 3, 77);
  const diffeo::MetricTree euclidean(cloud.data(), nullptr, 500, 3, 0, 2);
  compare_with_all_pairs(euclidean, {0.02, 1e-4}, 0);
  test_kernel_bits(euclidean, {0.02, 1e-4});
}

}  // namespace testing
