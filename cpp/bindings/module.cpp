// Table of contents of the extension module diffeo._support.core; each bind_<concept>.cpp holds one entry.
#include "bindings.hpp"

PYBIND11_MODULE(core, m) {
  m.doc() = "Compiled core of diffeo. Arrays are checked by the Python layer; nothing is cast or copied here.";
  diffeo::bindings::bind_loops(m);
  diffeo::bindings::bind_parallel(m);
  diffeo::bindings::bind_covariance(m);
  diffeo::bindings::bind_kernel(m);
  diffeo::bindings::bind_edge_lengths(m);
  diffeo::bindings::bind_operator(m);
  diffeo::bindings::bind_local_slopes(m);
  diffeo::bindings::bind_interpolation(m);
  diffeo::bindings::bind_pair_fits(m);
  diffeo::bindings::bind_frames(m);
  diffeo::bindings::bind_graph_multigrid(m);
  diffeo::bindings::bind_stress(m);
}
