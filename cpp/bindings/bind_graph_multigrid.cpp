// Solutions with the Laplacian of a weighted graph.
#include "bindings.hpp"
#include "diffeo/graph_multigrid.hpp"

namespace diffeo::bindings {
namespace {

std::unique_ptr<LaplacianSolver> make_solver(Index n, const Array<Index>& i, const Array<Index>& j,
                                             const Array<double>& weights, const std::optional<Array<double>>& anchors,
                                             int threads) {
  expect_ndim(i, 1, "i");
  const Index e = i.shape(0);
  expect(n >= 0 && n < Index{1} << 31, "n must be below 2^31");
  expect(j.ndim() == 1 && j.shape(0) == e && weights.ndim() == 1 && weights.shape(0) == e,
         "i, j and weights must have the same shape (e,)");
  expect(!anchors || (anchors->ndim() == 1 && anchors->shape(0) == n), "anchors must have shape (n,)");
  const py::gil_scoped_release release;  // safe: all arrays are kept alive by this call
  return std::make_unique<LaplacianSolver>(n, i.data(), j.data(), weights.data(), e,
                                           anchors ? anchors->data() : nullptr, threads);
}

void expect_block(const LaplacianSolver& solver, const Array<double>& block, const char* name) {
  expect_ndim(block, 2, name);
  expect(block.shape(0) == solver.size(), "right sides must have shape (n, b)");
}

py::array_t<double> cycle(const LaplacianSolver& solver, const Array<double>& right) {
  expect_block(solver, right, "right");
  const Index b = right.shape(1);
  py::array_t<double> result({solver.size(), b});
  double* data = result.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: both arrays are kept alive by this call, the solver is not changed
    solver.cycle(right.data(), b, data);
  }
  return result;
}

py::tuple solve(const LaplacianSolver& solver, const Array<double>& right, double tolerance, Index max_iterations) {
  expect_block(solver, right, "right");
  const Index b = right.shape(1);
  py::array_t<double> result({solver.size(), b});
  double* data = result.mutable_data();
  std::fill_n(data, result.size(), 0.0);
  double reduction = 0.0;
  Index iterations = 0;
  {
    const py::gil_scoped_release release;  // safe: both arrays are kept alive by this call, the solver is not changed
    iterations = solver.solve(right.data(), b, tolerance, max_iterations, data, &reduction);
  }
  return py::make_tuple(result, iterations, reduction);
}

}  // namespace

void bind_graph_multigrid(py::module_& m) {
  py::class_<LaplacianSolver>(m, "LaplacianSolver", "Laplacian of a weighted graph, with a multigrid preconditioner.")
      .def(py::init(&make_solver), py::arg("n"), py::arg("i").noconvert(), py::arg("j").noconvert(),
           py::arg("weights").noconvert(), py::arg("anchors").noconvert().none(true), py::arg("threads"))
      .def_property_readonly("levels", &LaplacianSolver::levels, "Samples of each level, the finest first.")
      .def("cycle", &cycle, py::arg("right").noconvert(), "One multigrid cycle: (n, b) from right sides (n, b).")
      .def("solve", &solve, py::arg("right").noconvert(), py::arg("tolerance"), py::arg("max_iterations"),
           "(solution (n, b), iterations, largest relative residual) by conjugate gradients.");
}

}  // namespace diffeo::bindings
