// The extension module diffeo._support._cpu: which instruction-set levels this processor and its operating system run.
//
// Compiled without any flag, since it runs before anything is known, and by Python's own C interface, which takes a
// moment to compile.
#include <Python.h>

namespace {

/// Whether the instructions run that the psABI adds with the level x86-64-v3, and with x86-64-v4.
///
/// __builtin_cpu_supports asks CPUID, and XGETBV for the registers that the operating system saves. Not every compiler
/// that compiles for a level knows it by name here, so these are the sets that tell: all processors that have them have
/// the small ones that came with them (F16C, LZCNT, MOVBE) as well.
#ifdef __x86_64__
bool runs_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}
bool runs_v4() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

PyObject* instruction_sets(PyObject*, PyObject*) {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (runs_v3() && runs_v4()) return Py_BuildValue("[sss]", "x86-64", "x86-64-v3", "x86-64-v4");
  if (runs_v3()) return Py_BuildValue("[ss]", "x86-64", "x86-64-v3");
  return Py_BuildValue("[s]", "x86-64");
#else
  return Py_BuildValue("[s]", "baseline");
#endif
}

PyMethodDef methods[] = {
    {"instruction_sets", &instruction_sets, METH_NOARGS,
     "instruction_sets() -> list[str]\n\nInstruction-set levels that this processor and its operating system run, "
     "ascending, under the names of the x86-64 psABI; \"baseline\" on other architectures."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_cpu", "What the processor offers.", 0, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): Python looks for this name
PyMODINIT_FUNC PyInit__cpu() { return PyModule_Create(&definition); }
