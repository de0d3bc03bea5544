// Local polynomial fits to pairs.
#include "bindings.hpp"
#include "diffeo/pair_fits.hpp"

namespace diffeo::bindings {
namespace {

using Derivatives = std::optional<Array<double>>;

py::tuple fits(const Array<double>& points, const Array<double>& whitening, const Array<double>& stretches,
               const Array<double>& values, const Derivatives& jacobians, const Derivatives& slopes,
               const Array<double>& queries, const Array<Index>& neighbors, const Array<Index>& degrees, Index tested,
               Index hidden, int threads) {
  expect_ndim(points, 2, "points");
  expect_ndim(whitening, 3, "whitening");
  expect_ndim(stretches, 2, "stretches");
  expect_ndim(values, 2, "values");
  expect_ndim(queries, 2, "queries");
  expect_ndim(neighbors, 2, "neighbors");
  expect_ndim(degrees, 1, "degrees");
  const Index n = points.shape(0), m = points.shape(1), d = whitening.shape(1), v = values.shape(1);
  expect(whitening.shape(0) == n && whitening.shape(2) == m && d >= 1, "whitening must have shape (n, d, m)");
  expect(stretches.shape(0) == n && stretches.shape(1) == d, "stretches must have shape (n, d)");
  expect(values.shape(0) == n, "values must have shape (n, v)");
  expect(jacobians.has_value() == slopes.has_value(), "jacobians and slopes are given together or not at all");
  Index p = 0;
  if (jacobians.has_value()) {
    expect_ndim(*jacobians, 3, "jacobians");
    expect_ndim(*slopes, 3, "slopes");
    p = jacobians->shape(1);
    expect(jacobians->shape(0) == n && jacobians->shape(2) == m && p >= d, "jacobians must have shape (n, p, m)");
    expect(slopes->shape(0) == n && slopes->shape(1) == v && slopes->shape(2) == p, "slopes must have shape (n, v, p)");
  }
  const Index q = queries.shape(0), k = neighbors.shape(1), g = degrees.shape(0);
  expect(queries.shape(1) == m, "queries must have shape (q, m)");
  expect(neighbors.shape(0) == q && k >= 1, "neighbors must have shape (q, k)");
  expect(tested >= 1 && tested <= v && hidden >= 0 && hidden < v, "tested and hidden values must be among the v");
  py::array_t<double> result({q, g, v - hidden}), doubt({q, g});
  double* result_data = result.mutable_data();
  double* doubt_data = doubt.mutable_data();
  const PairedSamples samples{points.data(),
                              whitening.data(),
                              stretches.data(),
                              values.data(),
                              jacobians.has_value() ? jacobians->data() : nullptr,
                              slopes.has_value() ? slopes->data() : nullptr,
                              n,
                              m,
                              d,
                              v,
                              p,
                              tested,
                              hidden};
  {
    const py::gil_scoped_release release;  // safe: only these arrays are touched, which this call keeps alive
    pair_fits(samples, queries.data(), q, neighbors.data(), k, degrees.data(), g, result_data, doubt_data, threads);
  }
  return py::make_tuple(result, doubt);
}

}  // namespace

void bind_pair_fits(py::module_& m) {
  m.def("pair_fits", &fits, py::arg("points").noconvert(), py::arg("whitening").noconvert(),
        py::arg("stretches").noconvert(), py::arg("values").noconvert(), py::arg("jacobians").noconvert().none(true),
        py::arg("slopes").noconvert().none(true), py::arg("queries").noconvert(), py::arg("neighbors").noconvert(),
        py::arg("degrees").noconvert(), py::arg("tested"), py::arg("hidden"), py::arg("threads"),
        "Values (q, degrees, v - hidden) of local polynomials of several degrees, and their standard errors (q, "
        "degrees).");
  m.def("pairs_of_fit", &pairs_of_fit, py::arg("d"), py::arg("degree"), py::arg("with_slopes"),
        "How many pairs a local polynomial is fitted to.");
}

}  // namespace diffeo::bindings
