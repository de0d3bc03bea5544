// The tree and the kernels assembled on it.
#include <limits>
#include <optional>

#include "bindings.hpp"
#include "diffeo/mahalanobis.hpp"
#include "diffeo/neighbors.hpp"
#include "diffeo/tree.hpp"

namespace diffeo::bindings {
namespace {

using OptionalArray = std::optional<Array<double>>;

MetricTree make_tree(const Array<double>& points, const OptionalArray& whitening, int threads) {
  expect_ndim(points, 2, "points");
  const Index n = points.shape(0), m = points.shape(1);
  Index dim = 0;
  const double* w = nullptr;
  if (whitening) {
    expect_ndim(*whitening, 3, "whitening");
    expect(whitening->shape(0) == n && whitening->shape(1) == m, "whitening must have shape (n, m, dim)");
    dim = whitening->shape(2);
    w = whitening->data();
  }
  const py::gil_scoped_release release;  // safe: the constructor copies from arrays that this call keeps alive
  return MetricTree(points.data(), w, n, m, dim, threads);
}

/// (indptr, indices, values), each taken over by NumPy.
py::tuple to_tuple(SparseRows&& rows) {
  return py::make_tuple(take(std::move(rows.indptr)), take(std::move(rows.indices)), take(std::move(rows.values)));
}

py::tuple assemble(const MetricTree& tree, double epsilon, double truncation, int threads) {
  Kernel kernel;
  {
    const py::gil_scoped_release release;  // safe: the tree is immutable and the result is local
    kernel = assemble_kernel(tree, {epsilon, truncation}, threads);
  }
  return py::make_tuple(to_tuple(std::move(kernel.rows)), take(std::move(kernel.gated)), kernel.n_gated, kernel.n_ones,
                        kernel.is_finite);
}

template <class Int>
py::tuple permute(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values,
                  const Array<Index>& rows, Index n_rows, int threads) {
  PermutedRows<Int> result;
  {
    const py::gil_scoped_release release;  // safe: the arrays are kept alive here and the result is local
    result =
        permute_rows<Int>(indptr.data(), indices.data(), values.data(), rows.data(), rows.shape(0), n_rows, threads);
  }
  return py::make_tuple(take(std::move(result.indptr)), take(std::move(result.indices)),
                        take(std::move(result.values)));
}

/// In 32-bit numbers where they suffice, which is what SciPy prefers.
py::tuple permuted(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values,
                   const Array<Index>& rows, Index n_rows, int threads) {
  expect_ndim(rows, 1, "rows");
  expect_ndim(indices, 1, "indices");
  expect_ndim(values, 1, "values");
  const Index count = rows.shape(0);
  expect(indptr.ndim() == 1 && indptr.shape(0) == count + 1, "indptr must have one entry more than rows");
  expect(indices.shape(0) == indptr.at(count) && values.shape(0) == indptr.at(count),
         "indices and values must have as many entries as indptr says");
  const bool small = indices.shape(0) + n_rows < std::numeric_limits<Row>::max();
  return (small ? permute<Row> : permute<Index>)(indptr, indices, values, rows, n_rows, threads);
}

py::tuple statistics(const MetricTree& tree, double epsilon, double truncation, const Array<Row>& rows, int threads) {
  expect_ndim(rows, 1, "rows");
  const Index count = rows.shape(0);
  py::array_t<double> sums(count);
  py::array_t<Index> entries(count), gated(count);
  double* sums_data = sums.mutable_data();
  Index* entries_data = entries.mutable_data();
  Index* gated_data = gated.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: the tree is immutable, the arrays are kept alive here
    row_statistics(tree, {epsilon, truncation}, rows.data(), count, sums_data, entries_data, gated_data, threads);
  }
  return py::make_tuple(sums, entries, gated);
}

py::tuple cross(const MetricTree& tree, double epsilon, double truncation, const Array<double>& points,
                const OptionalArray& whitening, int threads) {
  expect_ndim(points, 2, "points");
  const Index count = points.shape(0), m = tree.n_measurements();
  expect(points.shape(1) == m, "points must have as many columns as the tree");
  const double* w = nullptr;
  if (whitening) {
    expect_ndim(*whitening, 3, "whitening");
    expect(whitening->shape(0) == count && whitening->shape(1) == m && whitening->shape(2) == tree.dim(),
           "whitening must have shape (count, m, dim)");
    w = whitening->data();
  }
  SparseRows rows;
  {
    const py::gil_scoped_release release;  // safe: the tree is immutable, the arrays are kept alive here
    rows = cross_kernel(tree, {epsilon, truncation}, points.data(), w, count, threads);
  }
  return to_tuple(std::move(rows));
}

py::tuple neighbors(const MetricTree& tree, Index k, int threads, double transport) {
  expect(k >= 1 && k < tree.size(), "k must lie between 1 and n - 1");
  expect(transport >= 1.0, "transport must be at least 1");
  py::array_t<Row> rows({tree.size(), k});
  py::array_t<double> squared({tree.size(), k});
  Row* rows_data = rows.mutable_data();
  double* squared_data = squared.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: the tree is immutable, the arrays are kept alive here
    nearest_neighbors(tree, k, transport, rows_data, squared_data, threads);
  }
  return py::make_tuple(rows, squared);
}

}  // namespace

void bind_kernel(py::module_& m) {
  m.attr("GATES") = py::make_tuple(Gates::kReach, Gates::kAsymmetry, Gates::kOffTangent, Gates::kTransport);
  m.def("permute_rows", &permuted, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), py::arg("rows").noconvert(), py::arg("n_rows"), py::arg("threads"),
        "(indptr, indices, values) of symmetric rows in another order; rows that nothing maps to get a unit diagonal.");
  py::class_<MetricTree>(m, "MetricTree", "Samples with their metrics, sorted by a k-d tree.")
      .def(py::init(&make_tree), py::arg("points").noconvert(), py::arg("whitening").noconvert().none(true),
           py::arg("threads"))
      .def_property_readonly("size", &MetricTree::size)
      .def_property_readonly("dim", &MetricTree::dim)
      .def_property_readonly(
          "order", [](const MetricTree& t) { return to_array(t.order()); },
          "Caller's row of each tree position, (n,) int32.")
      .def_property_readonly(
          "position", [](const MetricTree& t) { return to_array(t.position()); },
          "Tree position of each of the caller's rows, (n,) int32.")
      .def("assemble", &assemble, py::arg("epsilon"), py::arg("truncation"), py::arg("threads"),
           "((indptr, indices, values), gated (n,), n_gated, n_ones, is_finite) in tree order.")
      .def("row_statistics", &statistics, py::arg("epsilon"), py::arg("truncation"), py::arg("rows").noconvert(),
           py::arg("threads"), "(sums, entries, gated) of the rows at the given tree positions.")
      .def("cross", &cross, py::arg("epsilon"), py::arg("truncation"), py::arg("points").noconvert(),
           py::arg("whitening").noconvert().none(true), py::arg("threads"),
           "(indptr, indices, values) between new points and samples; columns are the caller's rows.")
      .def("nearest_neighbors", &neighbors, py::arg("k"), py::arg("threads"), py::arg("transport") = Gates::kTransport,
           "(neighbors (n, k), squared_distances (n, k)) in tree positions; missing ones are -1 and infinity.");
}

}  // namespace diffeo::bindings
