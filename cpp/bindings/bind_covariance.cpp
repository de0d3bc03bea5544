// Whitening and local Jacobians.
#include "bindings.hpp"
#include "diffeo/covariance.hpp"

namespace diffeo::bindings {
namespace {

/// Output arrays of a whitening call; dim = 0 asks for singular values only.
struct Output {
  py::array_t<double> singular_values, whitening;
  WhiteningOutput view;

  Output(Index n, Index m, Index r, Index dim)
      : singular_values({n, r}), whitening({dim > 0 ? n : 0, m, checked(dim, r)}),
        view{singular_values.mutable_data(), dim > 0 ? whitening.mutable_data() : nullptr, dim} {}

  static Index checked(Index dim, Index r) {
    expect(0 <= dim && dim <= r, "dim must lie between 0 and the number of singular values");
    return dim;
  }

  py::tuple result() { return py::make_tuple(singular_values, whitening); }
};

py::tuple from_jacobians(const Array<double>& jacobians, Index dim, int threads) {
  expect_ndim(jacobians, 3, "jacobians");
  const Index n = jacobians.shape(0), m = jacobians.shape(1), p = jacobians.shape(2);
  Output out(n, m, std::min(m, p), dim);
  {
    // Safe: the core reads and writes only these arrays, which this call keeps alive.
    const py::gil_scoped_release release;
    whitening_from_jacobians(jacobians.data(), n, m, p, out.view, threads);
  }
  return out.result();
}

py::tuple from_bursts(const Array<double>& bursts, double scale, Index dim, int threads) {
  expect_ndim(bursts, 3, "bursts");
  const Index n = bursts.shape(0), size = bursts.shape(1), m = bursts.shape(2);
  Output out(n, m, std::min(m, size), dim);
  {
    const py::gil_scoped_release release;  // safe: see from_jacobians
    whitening_from_bursts(bursts.data(), n, size, m, scale, out.view, threads);
  }
  return out.result();
}

py::tuple from_covariances(const Array<double>& covariances, Index dim, int threads) {
  expect_ndim(covariances, 3, "covariances");
  const Index n = covariances.shape(0), m = covariances.shape(1);
  expect(covariances.shape(2) == m, "covariances must be square");
  Output out(n, m, m, dim);
  {
    const py::gil_scoped_release release;  // safe: see from_jacobians
    whitening_from_covariances(covariances.data(), n, m, out.view, threads);
  }
  return out.result();
}

py::tuple neighbor_jacobians(const Array<double>& points, const Array<double>& reference, const Array<Index>& neighbors,
                             int threads) {
  expect_ndim(points, 2, "points");
  expect_ndim(reference, 2, "reference");
  expect_ndim(neighbors, 2, "neighbors");
  const Index n = points.shape(0), m = points.shape(1), p = reference.shape(1), k = neighbors.shape(1);
  expect(reference.shape(0) == n && neighbors.shape(0) == n, "points, reference and neighbors must have n rows");
  py::array_t<double> jacobians({n, m, p}), conditions(n);
  double* jacobians_data = jacobians.mutable_data();
  double* conditions_data = conditions.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: see from_jacobians
    jacobians_from_neighbors(points.data(), n, m, reference.data(), p, neighbors.data(), k, jacobians_data,
                             conditions_data, threads);
  }
  return py::make_tuple(jacobians, conditions);
}

}  // namespace

void bind_covariance(py::module_& m) {
  m.def("whitening_from_jacobians", &from_jacobians, py::arg("jacobians").noconvert(), py::arg("dim"),
        py::arg("threads"),
        "(singular_values (n, r), whitening (n, m, dim)) of Jacobians (n, m, p); dim = 0: values only.");
  m.def("whitening_from_bursts", &from_bursts, py::arg("bursts").noconvert(), py::arg("scale"), py::arg("dim"),
        py::arg("threads"),
        "(singular_values (n, r), whitening (n, m, dim)) of bursts (n, K, m); dim = 0: values only.");
  m.def("whitening_from_covariances", &from_covariances, py::arg("covariances").noconvert(), py::arg("dim"),
        py::arg("threads"),
        "(singular_values (n, m), whitening (n, m, dim)) of covariances (n, m, m); dim = 0: values only.");
  m.def("jacobians_from_neighbors", &neighbor_jacobians, py::arg("points").noconvert(),
        py::arg("reference").noconvert(), py::arg("neighbors").noconvert(), py::arg("threads"),
        "(jacobians (n, m, p), conditions (n,)) by local least squares on reference coordinates.");
}

}  // namespace diffeo::bindings
