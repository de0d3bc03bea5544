// The tree, the kernel on it against all pairs, and the collection of its rows.
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
void compare_with_all_pairs(const diffeo::MetricTree& tree, diffeo::Bandwidth bandwidth, Index least_gated,
                            Index least_entries) {
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
  CHECK(kernel.rows.indices.size() == entry && entry >= least_entries);
  CHECK(kernel.is_finite);

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
  for (const int threads : {2, 3, 5}) check_same_kernel(diffeo::assemble_kernel(tree, bandwidth, threads), first);
}

/// Every size around the borders of lanes, blocks and leaves; samples far apart, near, and all in one place.
void test_sizes() {
  for (const Index n : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 65, 129, 257}) {
    const Sample sample(n, 5, 2, 0.3);
    for (const double epsilon : {1e-9, 1e-3, 10.0}) {
      compare_with_all_pairs(sample.tree(2), {epsilon, 1e-4}, 0, epsilon > 1.0 ? n : 0);
      const diffeo::MetricTree euclidean(sample.points.data(), nullptr, n, 5, 0, 2);
      compare_with_all_pairs(euclidean, {epsilon, 1e-4}, 0, epsilon > 1.0 ? n * n : 0);
    }
    RowMatrix points = sample.points, whitening = sample.whitening;
    points.rowwise() = RowMatrix(points.row(0)).row(0);
    whitening.rowwise() = RowMatrix(whitening.row(0)).row(0);
    const diffeo::MetricTree equal(points.data(), whitening.data(), n, 5, 2, 2);
    compare_with_all_pairs(equal, {1e-3, 1e-4}, 0, n * n);
    CHECK(diffeo::assemble_kernel(equal, {1e-3, 1e-4}, 2).n_ones == n * (n - 1));
  }
}

/// Ties everywhere: a lattice, each of its points several times.
void test_ties() {
  const Index side = 12, copies = 3, n = side * side * copies;
  RowMatrix points(n, 2);
  for (Index i = 0; i < n; ++i) {
    points.row(i) << static_cast<double>(i / copies % side), static_cast<double>(i / copies / side);
  }
  const diffeo::MetricTree tree(points.data(), nullptr, n, 2, 0, 2);
  // The radius lies between those of two shells of the lattice.
  compare_with_all_pairs(tree, {4.5 / (4.0 * std::log(1e4)), 1e-4}, 0, 9 * n);
  CHECK(diffeo::assemble_kernel(tree, {0.1, 1e-4}, 2).n_ones == n * (copies - 1));
}

/// Most samples in a small part of the domain, a few far away.
void test_uneven_density(Index d) {
  Sample sample(600, 6, d, 0.4);
  for (Index i = 0; i < 500; ++i) sample.points.row(i) = 1e-3 * sample.points.row(i);
  compare_with_all_pairs(sample.tree(2), {1e-6, 1e-4}, 0, 600);
  compare_with_all_pairs(sample.tree(2), {0.05, 1e-4}, 0, 601);
}

/// Above the size of one task of the sort.
void test_large_tree() {
  const Sample sample(30000, 3, 2, 0.3);
  const diffeo::MetricTree first = sample.tree(1);
  test_tree(sample);
  for (const int threads : {2, 5}) CHECK(sample.tree(threads).order() == first.order());
  const auto& leaves = first.leaves();
  for (const Index count : {1, 8, 64, 4096}) {
    for (Index leaf = 0; leaf < static_cast<Index>(leaves.size()); leaf += count) {
      const auto& node = first.nodes()[static_cast<std::size_t>(first.node_of_leaves(leaf, count))];
      CHECK(node.begin == leaf * diffeo::MetricTree::kLeafSize);
      CHECK(node.end == std::min(sample.n, (leaf + count) * diffeo::MetricTree::kLeafSize));
    }
  }
}

/// Chunks that come in any order into a result that starts too small.
void test_collector() {
  diffeo::RowCollector collector(40, 1000000, 1);
  for (const Index chunk : {3, 0, 2, 1, 7, 6, 5, 4}) {
    diffeo::RowChunk rows = collector.spare();
    for (Index r = 0; r < 5; ++r) {
      const Index length = (chunk * 5 + r) * 3000;
      rows.make_room(length);
      for (Index e = 0; e < length; ++e) {
        rows.columns[static_cast<std::size_t>(rows.count)] = static_cast<Row>(e);
        rows.values[static_cast<std::size_t>(rows.count++)] = static_cast<double>(chunk * 5 + r);
      }
      rows.lengths.push_back(static_cast<Row>(length));
    }
    collector.add(chunk, std::move(rows));
  }
  const diffeo::SparseRows rows = collector.take();
  CHECK(rows.n_rows == 40 && rows.indptr[0] == 0 && rows.indices.size() == rows.indptr[40]);
  bool right = rows.values.size() == rows.indptr[40];
  for (Index i = 0; i < 40; ++i) {
    CHECK(rows.indptr[i + 1] - rows.indptr[i] == i * 3000);
    for (Index e = rows.indptr[i]; right && e < rows.indptr[i + 1]; ++e) {
      right = rows.indices[e] == e - rows.indptr[i] && rows.values[e] == static_cast<double>(i);
    }
  }
  CHECK(right);
}

/// Small arrays from the heap, large ones from pages of their own.
void test_buffer() {
  for (const Index size : {0, 1, 1000, 3000000}) {
    diffeo::Buffer<double> buffer(size);
    for (Index k = 0; k < size; ++k) buffer[k] = static_cast<double>(k);
    buffer.grow(2 * size + 1, size);
    CHECK(buffer.size() == 2 * size + 1);
    buffer[2 * size] = -1.0;
    buffer.shrink(size);
    diffeo::Buffer<double> moved(std::move(buffer));
    CHECK(moved.size() == size && reinterpret_cast<std::size_t>(moved.data()) % 64 == 0);
    bool same = true;
    for (Index k = 0; k < size; ++k) same = same && moved[k] == static_cast<double>(k);
    CHECK(same);
  }
}

void test_permutation() {
  const Ring ring(50);
  const diffeo::SparseView view = ring.view();
  const Index n_rows = 60;
  std::vector<Index> target(50);
  // 7 and 53 have no common divisor, so no two rows meet; 10 rows of the 60 get nothing.
  for (Index k = 0; k < 50; ++k) target[static_cast<std::size_t>(k)] = (k * 7 + 3) % 53;
  RowMatrix expected = RowMatrix::Identity(n_rows, n_rows);
  for (Index k = 0; k < 50; ++k) {
    for (Index e = view.indptr[k]; e < view.indptr[k + 1]; ++e) {
      expected(target[static_cast<std::size_t>(k)], target[static_cast<std::size_t>(view.indices[e])]) = view.values[e];
    }
  }
  for (const int threads : {1, 3}) {
    const auto rows =
        diffeo::permute_rows<Row>(view.indptr, view.indices, view.values, target.data(), 50, n_rows, threads);
    RowMatrix found = RowMatrix::Zero(n_rows, n_rows);
    for (Index i = 0; i < n_rows; ++i) {
      for (Index e = rows.indptr[i]; e < rows.indptr[i + 1]; ++e) {
        CHECK(e == rows.indptr[i] || rows.indices[e] > rows.indices[e - 1]);
        found(i, rows.indices[e]) = rows.values[e];
      }
    }
    CHECK(found == expected);
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
  test_buffer();
  test_collector();
  test_permutation();
  test_sizes();
  test_ties();
  test_large_tree();
  for (const Index d : {1, 2, 3, 4}) test_uneven_density(d);
  const std::pair<Index, Index> shapes[] = {{1, 1},  {3, 1},  {2, 2}, {5, 2}, {7, 2}, {3, 2}, {20, 2},
                                            {40, 2}, {70, 3}, {6, 3}, {7, 3}, {7, 4}, {33, 4}};
  for (const auto& [m, d] : shapes) {
    const Sample flat(400, m, d, 0.2);
    test_tree(flat);
    compare_with_all_pairs(flat.tree(2), {d == 1 ? 1e-4 : 3e-3, 1e-4}, 0, 801);
    test_cross_kernel(flat, {5e-3, 1e-4});
    const Sample bent(300, m, d, 2.5);
    if (m > 1) compare_with_all_pairs(bent.tree(1), {0.5, 1e-4}, m >= 5 ? 100 : 0, 601);
    test_kernel_bits(Sample(900, m, d, 0.5).tree(2), {5e-3, 1e-4});
  }
  const RowMatrix cloud = random_matrix(500, 3, 77);
  const diffeo::MetricTree euclidean(cloud.data(), nullptr, 500, 3, 0, 2);
  compare_with_all_pairs(euclidean, {0.02, 1e-4}, 0, 1001);
  test_kernel_bits(euclidean, {0.02, 1e-4});
}

}  // namespace testing
