// The stress of a layout of a neighbour graph.
#include "bindings.hpp"
#include "diffeo/stress.hpp"

namespace diffeo::bindings {
namespace {

/// A graph with the edges around each sample; keeps the arrays it was made from.
class Stress {
 public:
  Stress(Index n, Array<Index> i, Array<Index> j, Array<double> lengths, Array<double> weights, Array<double> windings)
      : n_(n), i_(std::move(i)), j_(std::move(j)), lengths_(std::move(lengths)), weights_(std::move(weights)),
        windings_(std::move(windings)), incident_(make_incident()) {}

  py::tuple gradient(const Array<double>& layout, int threads) const {
    expect_ndim(layout, 2, "layout");
    const Index k = windings_.shape(1), d = layout.shape(1);
    expect(layout.shape(0) == n_ + k, "layout must have shape (n + k, d)");
    py::array_t<double> result({n_ + k, d});
    double* data = result.mutable_data();
    const EdgeView edges = view();
    double stress = 0.0;
    {
      const py::gil_scoped_release release;  // safe: all arrays are kept alive by this call and this object
      stress = stress_gradient(edges, incident_, layout.data(), d, data, threads);
    }
    return py::make_tuple(result, stress);
  }

  py::array_t<double> stiffness(const Array<double>& unit, double damping, const Array<double>& move,
                                int threads) const {
    expect_ndim(unit, 2, "unit");
    expect_ndim(move, 2, "move");
    const Index d = move.shape(1);
    expect(move.shape(0) == n_ + windings_.shape(1), "move must have shape (n + k, d)");
    expect(unit.shape(0) == i_.shape(0) && unit.shape(1) == d, "unit must have shape (e, d)");
    py::array_t<double> result({move.shape(0), d});
    double* data = result.mutable_data();
    const EdgeView edges = view();
    {
      const py::gil_scoped_release release;  // safe: all arrays are kept alive by this call and this object
      stress_stiffness(edges, incident_, unit.data(), damping, move.data(), d, data, threads);
    }
    return result;
  }

 private:
  EdgeView view() const {
    return {n_,        i_.shape(0),     windings_.shape(1), i_.data(),
            j_.data(), lengths_.data(), weights_.data(),    windings_.data()};
  }

  IncidentEdges make_incident() const {
    expect_ndim(i_, 1, "i");
    expect_ndim(windings_, 2, "windings");
    const Index e = i_.shape(0);
    expect(j_.ndim() == 1 && j_.shape(0) == e && lengths_.ndim() == 1 && lengths_.shape(0) == e &&
               weights_.ndim() == 1 && weights_.shape(0) == e && windings_.shape(0) == e,
           "i, j, lengths, weights and windings must have the same first axis (e,)");
    return {n_, i_.data(), j_.data(), e};
  }

  Index n_;
  Array<Index> i_, j_;
  Array<double> lengths_, weights_, windings_;
  IncidentEdges incident_;
};

}  // namespace

void bind_stress(py::module_& m) {
  py::class_<Stress>(m, "Stress", "Edges with lengths, weights and windings, laid out.")
      .def(py::init<Index, Array<Index>, Array<Index>, Array<double>, Array<double>, Array<double>>(), py::arg("n"),
           py::arg("i").noconvert(), py::arg("j").noconvert(), py::arg("lengths").noconvert(),
           py::arg("weights").noconvert(), py::arg("windings").noconvert())
      .def("gradient", &Stress::gradient, py::arg("layout").noconvert(), py::arg("threads"),
           "(half the gradient (n + k, d), stress) of a layout (n + k, d).")
      .def("stiffness", &Stress::stiffness, py::arg("unit").noconvert(), py::arg("damping"),
           py::arg("move").noconvert(), py::arg("threads"),
           "B^T diag(w) (u u^T + damping) B times a move (n + k, d), for unit vectors u (e, d) along the edges.");
}

}  // namespace diffeo::bindings
