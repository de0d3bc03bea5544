// The extension module diffeo._support._loops_<level>: the hot loops of one instruction-set level, as a capsule.
//
// By Python's own C interface: pybind11 would take longer to compile than many a loop.
#include "diffeo/loops.hpp"

#include <Python.h>

namespace {

diffeo::LoopServices services{};

const diffeo::Loops& connect(const diffeo::LoopServices& core) {
  services = core;
  return diffeo::Loops::here();
}

const diffeo::LoopsModule entry{DIFFEO_LEVEL, sizeof(diffeo::Loops), &connect};

int add_entry(PyObject* module) {
  // Python takes an address that may be written to; nobody writes.
  PyObject* capsule = PyCapsule_New(const_cast<diffeo::LoopsModule*>(&entry), "diffeo.loops", nullptr);
  if (capsule == nullptr) return -1;
  const int status = PyModule_AddObjectRef(module, "LOOPS", capsule);
  Py_DECREF(capsule);
  return status;
}

PyModuleDef_Slot slots[] = {{Py_mod_exec, reinterpret_cast<void*>(&add_entry)}, {0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "loops",
                          "The hot loops of diffeo, compiled for one instruction-set level.",
                          0,
                          nullptr,
                          slots,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

namespace diffeo::detail {

void run_tasks(Index count, int threads, void (*task)(void*, Index), void* context) {
  services.run_tasks(count, threads, task, context);
}

}  // namespace diffeo::detail

// PyInit__loops_<level>, the name that Python looks for.
PyMODINIT_FUNC DIFFEO_INITIALISER() { return PyModuleDef_Init(&definition); }
