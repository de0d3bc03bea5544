// The instruction-set level whose loops this process uses.
#include "bindings.hpp"
#include "diffeo/loops.hpp"

namespace diffeo::bindings {
namespace {

const char* use(const py::object& capsule) {
  const void* module = PyCapsule_GetPointer(capsule.ptr(), "diffeo.loops");
  if (module == nullptr) throw py::error_already_set();
  use_loops(*static_cast<const LoopsModule*>(module));
  return level_in_use();
}

}  // namespace

void bind_loops(py::module_& m) {
  m.def("use_loops", &use, py::arg("loops"),
        "Have this process use the loops of a level, given by the attribute LOOPS of its module; its name.");
}

}  // namespace diffeo::bindings
