// Lengths of the edges of a neighbour graph.
#include "bindings.hpp"
#include "diffeo/edge_lengths.hpp"

namespace diffeo::bindings {
namespace {

py::tuple lengths_of(const Array<double>& points, const Array<double>& whitening, const Array<Index>& i,
                     const Array<Index>& j, int threads) {
  expect_ndim(points, 2, "points");
  expect_ndim(whitening, 3, "whitening");
  expect_ndim(i, 1, "i");
  const Index n = points.shape(0), m = points.shape(1), d = whitening.shape(2), e = i.shape(0);
  expect(whitening.shape(0) == n && whitening.shape(1) == m, "whitening must have shape (n, m, dim)");
  expect(j.ndim() == 1 && j.shape(0) == e, "i and j must have the same shape (e,)");
  py::array_t<double> lengths(e), off_tangent(e);
  double* lengths_data = lengths.mutable_data();
  double* off_data = off_tangent.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: all arrays are kept alive by this call
    edge_lengths(points.data(), whitening.data(), n, m, d, i.data(), j.data(), e, lengths_data, off_data, threads);
  }
  return py::make_tuple(lengths, off_tangent);
}

}  // namespace

void bind_edge_lengths(py::module_& m) {
  m.def("edge_lengths", &lengths_of, py::arg("points").noconvert(), py::arg("whitening").noconvert(),
        py::arg("i").noconvert(), py::arg("j").noconvert(), py::arg("threads"),
        "(lengths (e,), off_tangent (e,)) by the trapezoidal rule.");
}

}  // namespace diffeo::bindings
