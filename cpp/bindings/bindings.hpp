// What the bindings share: checked array arguments, and arrays that take over a buffer without a copy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "diffeo/operator.hpp"
#include "diffeo/types.hpp"

namespace diffeo::bindings {

namespace py = pybind11;

/// C-contiguous arrays of exactly this dtype; arguments are marked noconvert, so nothing is cast or copied.
template <class T>
using Array = py::array_t<T, py::array::c_style>;

/// Throws ValueError unless the array has `ndim` axes; the Python layer has already said it more kindly.
inline void expect_ndim(const py::array& array, int ndim, const char* name) {
  if (array.ndim() != ndim) {
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(ndim) + " axes");
  }
}

inline void expect(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

/// Hands a buffer to NumPy, which frees it.
template <class T>
py::array_t<T> take(Buffer<T>&& buffer) {
  const Index size = buffer.size();
  auto owned = std::make_unique<Buffer<T>>(std::move(buffer));
  const py::capsule owner(owned.get(), [](void* p) { delete static_cast<Buffer<T>*>(p); });
  T* data = owned.release()->data();
  return py::array_t<T>({size}, {static_cast<Index>(sizeof(T))}, data, owner);
}

inline py::array_t<double> to_array(const RowMatrix& m) {
  py::array_t<double> out({m.rows(), m.cols()});
  std::copy_n(m.data(), m.size(), out.mutable_data());
  return out;
}

template <class T>
py::array_t<T> to_array(const std::vector<T>& v) {
  return py::array_t<T>(static_cast<py::ssize_t>(v.size()), v.data());
}

/// Compressed rows as the core sees them; what the columns are is for the core to check.
inline SparseView view(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values) {
  expect_ndim(indptr, 1, "indptr");
  expect_ndim(indices, 1, "indices");
  expect_ndim(values, 1, "values");
  const Index n = indptr.shape(0) - 1;
  expect(n >= 1 && indptr.data()[0] == 0, "indptr must start at 0 and have n + 1 entries");
  expect(indices.shape(0) == values.shape(0) && indptr.data()[n] == indices.shape(0),
         "indptr, indices and values do not fit each other");
  return {n, indptr.data(), indices.data(), values.data()};
}

void bind_loops(py::module_& m);
void bind_parallel(py::module_& m);
void bind_covariance(py::module_& m);
void bind_kernel(py::module_& m);
void bind_edge_lengths(py::module_& m);
void bind_operator(py::module_& m);
void bind_local_slopes(py::module_& m);
void bind_interpolation(py::module_& m);
void bind_pair_fits(py::module_& m);
void bind_frames(py::module_& m);
void bind_graph_multigrid(py::module_& m);
void bind_stress(py::module_& m);

}  // namespace diffeo::bindings
