// Row numbers that do not exist are refused by every function that takes some, and named.
#include "diffeo/row_checks.hpp"

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "diffeo/components.hpp"
#include "diffeo/covariance.hpp"
#include "diffeo/edge_lengths.hpp"
#include "diffeo/eigenpairs.hpp"
#include "diffeo/graph_laplacian.hpp"
#include "diffeo/interpolation.hpp"
#include "diffeo/stress.hpp"
#include "tests.hpp"

namespace testing {
namespace {

/// Whether the call is refused with a message that holds all of `words`.
template <class Call>
bool refused(const std::vector<std::string>& words, Call&& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    const std::string message = error.what();
    for (const std::string& word : words) {
      if (message.find(word) == std::string::npos) return false;
    }
    return true;
  }
  return false;
}

/// The first of several wrong numbers, also in the last of many tasks, at any number of threads.
void test_positions() {
  const Index count = 300'000;
  std::vector<Index> rows(static_cast<std::size_t>(count));
  for (Index k = 0; k < count; ++k) rows[static_cast<std::size_t>(k)] = k;
  const auto check = [&](Index n, Index width, int threads) {
    diffeo::check_rows<Index>("caller", {"rows", rows.data(), count, width}, "n", n, threads);
  };
  for (const int threads : {1, 3}) {
    check(count, 1, threads);
    CHECK(refused({"caller", "rows[299999] = 299999", "below n = 299999"}, [&] { check(count - 1, 1, threads); }));
    CHECK(refused({"rows[70001] = 70001"}, [&] { check(70'001, 1, threads); }));
    CHECK(refused({"rows[23333, 2] = 70001"}, [&] { check(70'001, 3, threads); }));
    rows[5] = -1;
    CHECK(refused({"rows[5] = -1"}, [&] { check(70'001, 1, threads); }));
    rows[5] = 5;
  }
  const std::vector<Row> few{0, -3};
  CHECK(refused({"rows[1] = -3", "n_rows = 8"},
                [&] { diffeo::check_rows<Row>("caller", {"rows", few.data(), 2}, "n_rows", 8, 1); }));
  diffeo::check_rows<Row>("caller", {"rows", few.data(), 0}, "n", 0, 1);
}

void test_edges() {
  const std::vector<Index> good{0, 1}, high{0, 4}, low{-1, 1};
  const std::vector<double> ones(24, 1.0);
  std::vector<double> lengths(2), off(2);
  for (const auto& [i, j, words] : {std::tuple(&high, &good, "i[1] = 4"), std::tuple(&good, &low, "j[0] = -1")}) {
    const Index* from = i->data();
    const Index* to = j->data();
    CHECK(refused({"graph_laplacian", words}, [&] { diffeo::graph_laplacian(4, from, to, ones.data(), 2, nullptr); }));
    CHECK(refused({"IncidentEdges", words}, [&] { diffeo::IncidentEdges(4, from, to, 2); }));
    CHECK(refused({"edge_lengths", words}, [&] {
      diffeo::edge_lengths(ones.data(), ones.data(), 4, 2, 1, from, to, 2, lengths.data(), off.data(), 1);
    }));
  }
  CHECK(throws<std::invalid_argument>([&] { diffeo::IncidentEdges(-1, good.data(), good.data(), 0); }));
}

void test_compressed_rows() {
  const std::vector<Index> good{0, 1, 2}, late{1, 1, 2}, falling{0, 3, 2}, same{0, 0}, beyond{0, 2}, rows{0, 1};
  const std::vector<Row> columns{0, 1}, high{0, 2}, low{-1, 1};
  const std::vector<double> ones(2, 1.0);
  std::vector<double> a(2), b(2), c(2);
  std::vector<Row> labels;
  const auto everywhere = [&](const std::vector<Index>& indptr, const std::vector<Row>& indices, const char* words) {
    const diffeo::SparseView view{2, indptr.data(), indices.data(), ones.data()};
    CHECK(refused({"normalise", words}, [&] { diffeo::normalise(view, 1.0, a.data(), b.data(), c.data(), 1); }));
    CHECK(refused({"connected_components", words}, [&] { diffeo::connected_components(view, labels); }));
    CHECK(refused({"leading_eigenpairs", words},
                  [&] { diffeo::leading_eigenpairs({view, ones.data(), 1}, ones.data(), {.n_wanted = 1}, nullptr); }));
    CHECK(refused({"permute_rows", words}, [&] {
      diffeo::permute_rows<Row>(indptr.data(), indices.data(), ones.data(), rows.data(), 2, 2, 1);
    }));
  };
  everywhere(late, columns, "indptr[0] = 1");
  everywhere(falling, columns, "indptr[2] = 2 is below the 3");
  everywhere(good, high, "indices[1] = 2");
  everywhere(good, low, "indices[0] = -1");
  const auto permute = [&](const std::vector<Index>& to, Index n_rows) {
    diffeo::permute_rows<Index>(good.data(), columns.data(), ones.data(), to.data(), 2, n_rows, 1);
  };
  permute(rows, 2);
  CHECK(refused({"rows[1] = 1", "below n_rows = 1"}, [&] { permute(rows, 1); }));
  CHECK(refused({"rows[1] = 2"}, [&] { permute(beyond, 2); }));
  CHECK(refused({"rows[1] = 0 is rows[0] as well"}, [&] { permute(same, 2); }));
}

void test_neighbors() {
  const std::vector<double> ones(32, 1.0);
  std::vector<double> result(32), conditions(4);
  const std::vector<Index> high{0, 1, 2, 3, 4, 1}, low{0, 1, 2, -7, 3, 1};
  for (const auto& [rows, words] : {std::pair(&high, "neighbors[1, 1] = 4"), std::pair(&low, "neighbors[1, 0] = -7")}) {
    CHECK(refused({"local_polynomial_fit", words}, [&] {
      diffeo::local_polynomial_fit(ones.data(), 2, 1, ones.data(), 4, ones.data(), 1, rows->data(), 3, 1, result.data(),
                                   1);
    }));
    CHECK(refused({"local_hermite_fit", words}, [&] {
      diffeo::local_hermite_fit(ones.data(), 2, 1, ones.data(), 4, ones.data(), ones.data(), 1, rows->data(), 3, 1,
                                result.data(), nullptr, 1);
    }));
    CHECK(refused({"jacobians_from_neighbors"}, [&] {
      diffeo::jacobians_from_neighbors(ones.data(), 2, 1, ones.data(), 1, rows->data(), 3, result.data(),
                                       conditions.data(), 1);
    }));
  }
  const diffeo::MetricTree tree = Sample(40, 3, 2, 0.1).tree(1);
  std::vector<double> sums(2);
  std::vector<Index> entries(2), gated(2);
  for (const std::vector<Row>& rows : {std::vector<Row>{3, 40}, std::vector<Row>{3, -1}}) {
    CHECK(refused({"row_statistics", "rows[1]", "n = 40"}, [&] {
      diffeo::row_statistics(tree, {1e-2, 1e-4}, rows.data(), 2, sums.data(), entries.data(), gated.data(), 1);
    }));
  }
}

}  // namespace

void test_row_checks() {
  test_positions();
  test_edges();
  test_compressed_rows();
  test_neighbors();
}

}  // namespace testing
