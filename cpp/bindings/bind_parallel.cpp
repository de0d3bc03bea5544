// Threads and Ctrl-C.
#include "bindings.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo::bindings {
namespace {

/// Asks Python for pending signals. A thread other than the main one gets "none" from Python itself.
bool python_signal_pending() {
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

}  // namespace

void bind_parallel(py::module_& m) {
  set_interrupt_check(&python_signal_pending);
  // PyErr_CheckSignals has already set KeyboardInterrupt; the C++ exception only unwinds the loops.
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Interrupted&) {
      if (PyErr_Occurred() == nullptr) PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
  });
  m.def("n_threads", &resolve_threads, py::arg("requested"), "Threads that a request for `requested` (0: all) gives.");
}

}  // namespace diffeo::bindings
