// The extension module diffeo._support._cpu: which instruction-set levels this processor and its operating system run.
//
// Compiled without any flag, since it runs before anything is known.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

namespace {

/// Levels that run here, ascending, under the names of the x86-64 psABI; "baseline" on other architectures.
///
/// __builtin_cpu_supports asks CPUID, and XGETBV for the registers that the operating system saves.
std::vector<std::string> instruction_sets() {
#ifdef __x86_64__
  std::vector<std::string> levels{"x86-64"};
#ifdef DIFFEO_COMPILER_ASKS_FOR_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) levels.emplace_back("x86-64-v3");
  if (__builtin_cpu_supports("x86-64-v4")) levels.emplace_back("x86-64-v4");
#endif
  return levels;
#else
  return {"baseline"};
#endif
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "What the processor offers.";
  m.def("instruction_sets", &instruction_sets,
        "Instruction-set levels that this processor and its operating system run, ascending.");
}
