// Table of contents of the extension module diffeo._core; each bind_<concept>.cpp holds one entry.
#include "bindings.hpp"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled core of diffeo. Arrays are checked by the Python layer; nothing is cast or copied here.";
  diffeo::bindings::bind_parallel(m);
  diffeo::bindings::bind_covariance(m);
  diffeo::bindings::bind_kernel(m);
  diffeo::bindings::bind_edge_lengths(m);
  diffeo::bindings::bind_operator(m);
  diffeo::bindings::bind_interpolation(m);
}
