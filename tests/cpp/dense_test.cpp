// The kernel by tiles against the pair by pair definition, and the parts that tiles are made of.
#include "diffeo/dense.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "diffeo/exponential.hpp"
#include "diffeo/pair_metric.hpp"
#include "diffeo/panel_product.hpp"
#include "tests.hpp"

namespace testing {
namespace {

using diffeo::PairState;

void test_exponential() {
  std::mt19937_64 generator(5);
  for (const double most : {1e-9, 1.0, 40.0, 745.0}) {
    std::uniform_real_distribution<double> uniform(-most, 0.0);
    double worst = 0.0;
    for (int trial = 0; trial < 20000; ++trial) {
      double x = uniform(generator);
      const long double expected = std::exp(static_cast<long double>(x));
      const double nearest = static_cast<double>(expected);
      diffeo::exponentials(&x, 1);
      const double unit = std::nextafter(nearest, 2.0) - nearest;
      worst = std::max(worst, static_cast<double>(std::abs(x - expected)) / unit);
    }
    CHECK(worst <= 1.0);
  }
  double special[] = {0.0, -0.0, -746.0, -1e300, -std::numeric_limits<double>::infinity(), std::nan("")};
  diffeo::exponentials(special, 6);
  CHECK(special[0] == 1.0 && special[1] == 1.0);
  CHECK(special[2] == 0.0 && special[3] == 0.0 && special[4] == 0.0 && std::isnan(special[5]));
  const RowMatrix samples = -random_matrix(1, 37, 3).cwiseAbs();
  RowMatrix together = samples;
  diffeo::exponentials(together.data(), together.size());
  for (Index k = 0; k < samples.size(); ++k) {
    double alone = samples(0, k);
    diffeo::exponentials(&alone, 1);
    CHECK(alone == together(0, k));
  }
}

void test_panel_product() {
  for (const Index m : {1, 7, 191, 400}) {
    const RowMatrix a = random_matrix(40, m, 1), b = random_matrix(diffeo::kTile, m, 2),
                    centre = random_matrix(1, m, 3);
    const auto pack = [&](const RowMatrix& x, const double* origin, Index width) {
      const double* vectors[diffeo::kTile];
      for (Index i = 0; i < x.rows(); ++i) vectors[i] = x.data() + i * m;
      std::vector<double> panels(static_cast<std::size_t>(diffeo::kTile * m));
      diffeo::pack_panels(vectors, x.rows(), m, origin, width, panels.data());
      return panels;
    };
    diffeo::LiveBlocks live;
    for (Index r = 0; r < diffeo::kRowPanels; ++r) {
      for (Index c = 0; c < diffeo::kColumnPanels; ++c) {
        if ((r + c) % 2 == 0) live.set(r, c);
      }
    }
    RowMatrix found = RowMatrix::Constant(diffeo::kTile, diffeo::kTile, 7.0);
    diffeo::panel_product(pack(a, centre.data(), diffeo::kPanelRows).data(),
                          pack(b, nullptr, diffeo::kPanelColumns).data(), m, live, found.data());
    RowMatrix expected = RowMatrix::Zero(diffeo::kTile, diffeo::kTile);
    expected.topRows(40) = (a.rowwise() - centre.row(0)) * b.transpose();
    for (Index i = 0; i < diffeo::kTile; ++i) {
      for (Index j = 0; j < diffeo::kTile; ++j) {
        const bool alive = live.at[i / diffeo::kPanelRows][j / diffeo::kPanelColumns];
        const double error = std::abs(found(i, j) - (alive ? expected(i, j) : 7.0));
        CHECK(error < 1e-12 * static_cast<double>(m));
      }
    }
    std::vector<double> own(diffeo::kTile);
    const std::vector<double> packed = pack(b, nullptr, diffeo::kPanelRows);
    diffeo::paired_products(packed.data(), packed.data(), m, diffeo::kPanelRows, own.data());
    for (Index j = 0; j < diffeo::kTile; ++j) {
      CHECK(std::abs(own[static_cast<std::size_t>(j)] / b.row(j).squaredNorm() - 1.0) < 1e-13);
    }
  }
}

/// How many pairs of each kind, so that a test can tell that it saw any.
struct Seen {
  Index kept = 0, gated = 0, outside = 0, coincident = 0;
};

/// The tiles against PairMetric: the same pairs, values to rounding, symmetric bits, exact ones for twins.
Seen compare(const diffeo::MetricTree& tree, diffeo::Bandwidth bandwidth) {
  const Index n = tree.size();
  const diffeo::Kernel kernel = diffeo::assemble_dense(tree, bandwidth, 2);
  diffeo::PairMetric<-1, -1> metric(tree.n_measurements(), tree.dim(), bandwidth.squared_radius());
  const auto view = [&](Index t) {
    return diffeo::SampleView{tree.point(t), tree.whitening(t), tree.squared_stretches(t), tree.stretch(t)};
  };
  Seen seen;
  Index entry = 0;
  double worst = 0.0;
  RowMatrix values = RowMatrix::Zero(n, n);
  CHECK(kernel.rows.n_rows == n && kernel.rows.n_columns == n && kernel.rows.indptr[0] == 0);
  for (Index i = 0; i < n; ++i) {
    Row gated = 0;
    for (Index j = 0; j < n; ++j) {
      double q = 0.0;
      const PairState state = i == j ? PairState::kept : metric(view(i), view(j), q);
      seen.kept += state == PairState::kept && i != j;
      seen.outside += state == PairState::outside;
      gated += state == PairState::gated;
      if (state != PairState::kept) continue;
      const bool there = entry < kernel.rows.indices.size() && kernel.rows.indices[entry] == j;
      CHECK(there);
      if (!there) return seen;
      const double found = kernel.rows.values[entry++];
      values(i, j) = found;
      worst = std::max(worst, std::abs(found / std::exp(-q / (4.0 * bandwidth.epsilon)) - 1.0));
      if (q == 0.0) CHECK(found == 1.0);
      seen.coincident += q == 0.0 && i != j;
    }
    CHECK(kernel.rows.indptr[i + 1] == entry);
    CHECK(kernel.gated[i] == gated);
    seen.gated += gated;
  }
  CHECK(kernel.n_gated == seen.gated / 2);
  CHECK(worst < 1e-12);
  CHECK(values == values.transpose());
  return seen;
}

/// Probed rows against the rows of the kernel.
void compare_statistics(const diffeo::MetricTree& tree, diffeo::Bandwidth bandwidth, Index step) {
  const diffeo::Kernel kernel = diffeo::assemble_dense(tree, bandwidth, 1);
  std::vector<Row> rows;
  for (Index t = 0; t < tree.size(); t += step) rows.push_back(static_cast<Row>(t));
  const auto count = static_cast<Index>(rows.size());
  std::vector<double> sums(rows.size());
  std::vector<Index> entries(rows.size()), gated(rows.size());
  diffeo::dense_row_statistics(tree, bandwidth, rows.data(), count, sums.data(), entries.data(), gated.data(), 3);
  for (std::size_t s = 0; s < rows.size(); ++s) {
    const Index begin = kernel.rows.indptr[rows[s]], end = kernel.rows.indptr[rows[s] + 1];
    double sum = 0.0;
    for (Index e = begin; e < end; ++e) sum += kernel.rows.values[e];
    CHECK(entries[s] == end - begin);
    CHECK(gated[s] == kernel.gated[rows[s]]);
    CHECK(std::abs(sums[s] / sum - 1.0) < 1e-10);
  }
}

void test_shapes() {
  const std::pair<Index, Index> shapes[] = {{1, 1}, {3, 1}, {2, 2}, {5, 2}, {40, 2}, {6, 3}, {30, 3}, {7, 4}, {20, 5}};
  for (const auto& [m, d] : shapes) {
    const Seen sparse = compare(Sample(400, m, d, 0.2).tree(2), {d == 1 ? 1e-4 : 3e-3, 1e-4});
    CHECK(sparse.kept > 800 && sparse.outside > 10000);
    const Seen wide = compare(Sample(300, m, d, 0.1).tree(1), {10.0, 1e-4});
    CHECK(wide.kept > 60000);
    const Seen bent = compare(Sample(300, m, d, 2.5).tree(1), {0.5, 1e-4});
    if (m >= 5) CHECK(bent.gated > 200);
  }
  const RowMatrix cloud = random_matrix(500, 20, 77);
  for (const Index m : {1, 3, 20}) {
    RowMatrix points = cloud.leftCols(m);
    const diffeo::MetricTree euclidean(points.data(), nullptr, 500, m, 0, 2);
    CHECK(compare(euclidean, {0.02 * static_cast<double>(m), 1e-4}).kept > 1000);
  }
  for (const Index n : {1, 2, 47, 48, 49, 96, 97}) compare(Sample(n, 5, 2, 0.2).tree(1), {0.1, 1e-4});
}

/// Points far from the origin, tiny clusters far apart, and twins: where products of long rows lose digits.
void test_cancellation() {
  for (const Index d : {0, 1, 2, 3, 4}) {
    Sample sample(300, 6, std::max<Index>(d, 1), 0.2);
    const auto tree = [&](const RowMatrix& points) {
      return diffeo::MetricTree(points.data(), d == 0 ? nullptr : sample.whitening.data(), 300, 6, d, 1);
    };
    const double epsilon = d < 2 ? 1e-3 : 1e-2;
    CHECK(compare(tree(sample.points.array() + 1e8), {epsilon, 1e-4}).kept > 1000);
    RowMatrix twins = sample.points;
    for (Index i = 0; i < 100; ++i) twins.row(i + 100) = twins.row(i);
    for (Index k = 0; k < 6 * std::max<Index>(d, 1); ++k) {
      for (Index i = 0; i < 100; ++i) sample.whitening(i + 100, k) = sample.whitening(i, k);
    }
    CHECK(compare(tree(twins), {epsilon, 1e-4}).coincident == 200);
    CHECK(compare(tree(twins), {10.0, 1e-4}).coincident == 200);
    CHECK(compare(tree(twins.array() - 3e7), {epsilon, 1e-4}).coincident >= 200);
    // Six clusters a thousand apart: the decisions are clear, but the values would lose four digits.
    RowMatrix apart = sample.points;
    for (Index i = 0; i < 300; ++i) apart.row(i).array() += 1000.0 * static_cast<double>(i % 6);
    CHECK(compare(tree(apart), {epsilon, 1e-4}).kept > 100);
    // Six clusters shrunk by 1e-6, a thousand apart, with a kernel as wide as a cluster.
    RowMatrix clusters = 1e-6 * sample.points;
    for (Index i = 0; i < 300; ++i) clusters.row(i).array() += 1000.0 * static_cast<double>(i % 6);
    CHECK(compare(tree(clusters), {1e-12 * epsilon, 1e-4}).kept > 100);
    CHECK(compare(tree(clusters), {1e-12 * epsilon, 1e-14}).kept > 100);
    compare(tree(clusters), {1e4, 1e-4});
  }
  // Units that square beyond the range of doubles.
  for (const double unit : {1e-100, 1e100}) {
    const Sample sample(200, 5, 2, 0.2);
    const RowMatrix points = unit * sample.points, whitening = sample.whitening / unit;
    const diffeo::MetricTree tree(points.data(), whitening.data(), 200, 5, 2, 1);
    CHECK(compare(tree, {1e-2, 1e-4}).kept > 1000);
  }
  // Stretches that differ by 1e5 within a sample.
  Sample stretched(300, 5, 2, 0.2);
  for (Index i = 0; i < 300; ++i) {
    for (Index a = 0; a < 5; ++a) stretched.whitening(i, 2 * a + 1) *= 1e-5;
  }
  compare(stretched.tree(1), {1e-2, 1e-4});
}

void test_bits() {
  const Sample sample(1500, 20, 2, 0.4);
  const diffeo::MetricTree tree = sample.tree(2);
  for (const double epsilon : {1e-3, 1.0}) {
    const diffeo::Kernel first = diffeo::assemble_dense(tree, {epsilon, 1e-4}, 1);
    for (const int threads : {2, 3, 5}) {
      check_same_kernel(diffeo::assemble_dense(tree, {epsilon, 1e-4}, threads), first);
    }
  }
}

void test_statistics() {
  for (const Index d : {1, 2, 3}) {
    for (const Index step : {1, 7, 40}) {
      compare_statistics(Sample(500, 20, d, 0.3).tree(1), {d == 1 ? 1e-4 : 3e-3, 1e-4}, step);
      compare_statistics(Sample(300, 6, d, 2.0).tree(1), {1.0, 1e-4}, step);
    }
  }
}

void test_choice() {
  // Both ways give one kernel on either side of the choice.
  for (const Index m : {5, 12}) {
    const Sample sample(400, m, 2, 0.3);
    const diffeo::MetricTree tree = sample.tree(1);
    for (const double epsilon : {1e-4, 1.0}) {
      const diffeo::Kernel chosen = diffeo::assemble_kernel(tree, {epsilon, 1e-4}, 1);
      const diffeo::Kernel sparse = diffeo::assemble_sparse(tree, {epsilon, 1e-4}, 1);
      CHECK(chosen.rows.indices.size() == sparse.rows.indices.size());
      if (chosen.rows.indices.size() != sparse.rows.indices.size()) continue;
      CHECK(same_bits(chosen.rows.indices.data(), sparse.rows.indices.data(), sparse.rows.indices.size()));
      for (Index e = 0; e < sparse.rows.values.size(); ++e) {
        CHECK(std::abs(chosen.rows.values[e] / sparse.rows.values[e] - 1.0) < 1e-12);
      }
    }
  }
}

}  // namespace

void test_dense() {
  test_exponential();
  test_panel_product();
  test_shapes();
  test_cancellation();
  test_bits();
  test_statistics();
  test_choice();
}

}  // namespace testing
