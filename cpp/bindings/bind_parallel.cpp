// Threads, Ctrl-C and progress.
#include "bindings.hpp"
#include "diffeo/parallel.hpp"

namespace diffeo::bindings {
namespace {

/// Asks Python for pending signals. A thread other than the main one gets "none" from Python itself.
bool python_signal_pending() {
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

// Owned by the thread; a handle, because no destructor may run after the interpreter.
thread_local py::handle progress_callback;

/// Tells Python how much is done. An exception (Ctrl-C within the callback, say) stays set and stops the work.
bool report_to_python(Index done, Index total) {
  const py::gil_scoped_acquire gil;
  try {
    progress_callback(done, total);
    return true;
  } catch (py::error_already_set& error) {
    error.restore();
    return false;
  }
}

void set_progress(const py::object& callback) {
  progress_callback.dec_ref();
  progress_callback = callback.is_none() ? py::handle() : callback.inc_ref();
  set_progress_report(callback.is_none() ? nullptr : &report_to_python);
}

}  // namespace

void bind_parallel(py::module_& m) {
  set_interrupt_check(&python_signal_pending);
  // PyErr_CheckSignals or the callback has already set the exception; the C++ exception only unwinds the loops.
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Interrupted&) {
      if (PyErr_Occurred() == nullptr) PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
  });
  m.def("n_threads", &resolve_threads, py::arg("requested"), "Threads that a request for `requested` (0: all) gives.");
  m.def("set_progress", &set_progress, py::arg("callback").none(true),
        "Have callback(done, total) called at most every 50 ms by work that this thread starts; None ends it.");
}

}  // namespace diffeo::bindings
