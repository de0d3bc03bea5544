// Local polynomial interpolation.
#include "bindings.hpp"
#include "diffeo/interpolation.hpp"

namespace diffeo::bindings {
namespace {

py::array_t<double> polynomial_fit(const Array<double>& queries, const Array<double>& nodes,
                                   const Array<double>& values, const Array<Index>& neighbors, int degree,
                                   int threads) {
  expect_ndim(queries, 2, "queries");
  expect_ndim(nodes, 2, "nodes");
  expect_ndim(values, 2, "values");
  expect_ndim(neighbors, 2, "neighbors");
  const Index q = queries.shape(0), d = queries.shape(1), v = values.shape(1), k = neighbors.shape(1);
  expect(nodes.shape(1) == d && values.shape(0) == nodes.shape(0), "nodes, values and queries do not fit");
  expect(neighbors.shape(0) == q && k >= 1, "neighbors must have shape (n_queries, k)");
  py::array_t<double> result({q, v});
  double* result_data = result.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: only these arrays are touched, which this call keeps alive
    local_polynomial_fit(queries.data(), q, d, nodes.data(), nodes.shape(0), values.data(), v, neighbors.data(), k,
                         degree, result_data, threads);
  }
  return result;
}

py::tuple hermite_fit(const Array<double>& queries, const Array<double>& nodes, const Array<double>& values,
                      const Array<double>& gradients, const Array<Index>& neighbors, int degree, int threads) {
  expect_ndim(queries, 2, "queries");
  expect_ndim(nodes, 2, "nodes");
  expect_ndim(values, 2, "values");
  expect_ndim(gradients, 3, "gradients");
  expect_ndim(neighbors, 2, "neighbors");
  const Index q = queries.shape(0), d = queries.shape(1), v = values.shape(1), k = neighbors.shape(1);
  expect(nodes.shape(1) == d && values.shape(0) == nodes.shape(0), "nodes, values and queries do not fit");
  expect(gradients.shape(0) == nodes.shape(0) && gradients.shape(1) == v && gradients.shape(2) == d,
         "gradients must have shape (n, v, d)");
  expect(neighbors.shape(0) == q && k >= 1, "neighbors must have shape (n_queries, k)");
  py::array_t<double> result({q, v}), slopes({q, v, d});
  double* result_data = result.mutable_data();
  double* slopes_data = slopes.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: only these arrays are touched, which this call keeps alive
    local_hermite_fit(queries.data(), q, d, nodes.data(), nodes.shape(0), values.data(), gradients.data(), v,
                      neighbors.data(), k, degree, result_data, slopes_data, threads);
  }
  return py::make_tuple(result, slopes);
}

}  // namespace

void bind_interpolation(py::module_& m) {
  m.def("local_polynomial_fit", &polynomial_fit, py::arg("queries").noconvert(), py::arg("nodes").noconvert(),
        py::arg("values").noconvert(), py::arg("neighbors").noconvert(), py::arg("degree"), py::arg("threads"),
        "Values (n_queries, v) of weighted local polynomial fits at the queries.");
  m.def("local_hermite_fit", &hermite_fit, py::arg("queries").noconvert(), py::arg("nodes").noconvert(),
        py::arg("values").noconvert(), py::arg("gradients").noconvert(), py::arg("neighbors").noconvert(),
        py::arg("degree"), py::arg("threads"),
        "Values (n_queries, v) and gradients (n_queries, v, d) of local fits to values and gradients.");
}

}  // namespace diffeo::bindings
