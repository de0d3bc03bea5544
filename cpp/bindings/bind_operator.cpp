// The normalised operator and its leading eigenpairs.
#include "bindings.hpp"
#include "diffeo/components.hpp"
#include "diffeo/eigenpairs.hpp"
#include "diffeo/kernel_levels.hpp"
#include "diffeo/operator.hpp"

namespace diffeo::bindings {
namespace {

py::tuple normalised(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values, double alpha,
                     int threads) {
  const SparseView kernel = view(indptr, indices, values);
  py::array_t<double> density(kernel.n), degree(kernel.n), scaling(kernel.n);
  double* density_data = density.mutable_data();
  double* degree_data = degree.mutable_data();
  double* scaling_data = scaling.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: only these arrays are touched, which this call keeps alive
    normalise(kernel, alpha, density_data, degree_data, scaling_data, threads);
  }
  return py::make_tuple(density, degree, scaling);
}

py::tuple eigenpairs(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values,
                     const Array<double>& scaling, const Array<double>& trivial, Index n_wanted, double tolerance,
                     Index max_iterations, std::uint64_t seed, int threads, const MetricTree* tree,
                     std::optional<double> epsilon, std::optional<double> truncation, std::optional<double> alpha) {
  const SparseView kernel = view(indptr, indices, values);
  expect(scaling.ndim() == 1 && scaling.shape(0) == kernel.n, "scaling must have shape (n,)");
  expect(trivial.ndim() == 1 && trivial.shape(0) == kernel.n, "trivial must have shape (n,)");
  const bool all = epsilon && truncation && alpha, any = epsilon || truncation || alpha;
  expect(tree != nullptr ? all : !any, "tree, epsilon, truncation and alpha must be given together or not at all");
  const KernelGeometry geometry{tree, {epsilon.value_or(0.0), truncation.value_or(0.0)}, alpha.value_or(0.0)};
  Eigenpairs pairs;
  {
    const py::gil_scoped_release release;  // safe: see normalised
    const DiffusionOperator op(kernel, scaling.data(), threads);
    pairs = leading_eigenpairs(op, trivial.data(), {n_wanted, tolerance, max_iterations, seed},
                               tree == nullptr ? nullptr : &geometry);
  }
  return py::make_tuple(to_array(pairs.values), to_array(pairs.vectors), to_array(pairs.residuals), pairs.iterations,
                        pairs.products, pairs.converged, to_array(pairs.levels));
}

py::array_t<Row> components(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values) {
  const SparseView kernel = view(indptr, indices, values);
  std::vector<Row> labels;
  {
    const py::gil_scoped_release release;  // safe: see normalised
    connected_components(kernel, labels);
  }
  return to_array(labels);
}

}  // namespace

void bind_operator(py::module_& m) {
  m.def("normalise", &normalised, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), py::arg("alpha"), py::arg("threads"), "(density, degree, scaling), each (n,).");
  m.def("connected_components", &components, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), "Label (n,) of the connected piece of each row, numbered by their first rows.");
  m.def("leading_eigenpairs", &eigenpairs, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), py::arg("scaling").noconvert(), py::arg("trivial").noconvert(),
        py::arg("n_wanted"), py::arg("tolerance"), py::arg("max_iterations"), py::arg("seed"), py::arg("threads"),
        py::arg("tree").none(true) = py::none(), py::arg("epsilon") = py::none(), py::arg("truncation") = py::none(),
        py::arg("alpha") = py::none(),
        "(values, vectors (n, n_wanted), residuals, iterations, products, converged, levels) of diag(s) K diag(s); the "
        "tree, epsilon, truncation and alpha that K was made from, all of them, allow multigrid.");
}

}  // namespace diffeo::bindings
