// Local frames of a layout, and lengths corrected by its derivatives.
#include "bindings.hpp"
#include "diffeo/frames.hpp"

namespace diffeo::bindings {
namespace {

struct Shapes {
  Index n, m, d, e;
};

/// Of `slopes` (n, m, d), which go with the points (n, m), and the edges (e) with steps (e, d).
Shapes shapes_of(const Array<double>& points, const Array<double>& slopes, const Array<Index>& i, const Array<Index>& j,
                 const Array<double>& steps) {
  expect_ndim(points, 2, "points");
  expect_ndim(slopes, 3, "whitening or gradients");
  expect_ndim(i, 1, "i");
  const Shapes s{points.shape(0), points.shape(1), slopes.shape(2), i.shape(0)};
  expect(slopes.shape(0) == s.n && slopes.shape(1) == s.m && s.d >= 1, "whitening or gradients must be (n, m, d)");
  expect(j.ndim() == 1 && j.shape(0) == s.e, "i and j must have the same shape (e,)");
  expect(steps.ndim() == 2 && steps.shape(0) == s.e && steps.shape(1) == s.d, "steps must have shape (e, d)");
  return s;
}

py::array_t<double> frames_of(const Array<double>& points, const Array<double>& whitening, const Array<Index>& i,
                              const Array<Index>& j, const Array<double>& steps, int rounds, int threads) {
  const Shapes s = shapes_of(points, whitening, i, j, steps);
  py::array_t<double> frames({s.n, s.d, s.d});
  double* data = frames.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: all arrays are kept alive by this call
    const IncidentEdges incident(s.n, i.data(), j.data(), s.e);
    local_frames({&incident, i.data(), j.data(), steps.data(), s.e, s.d}, points.data(), whitening.data(), s.m, rounds,
                 data, threads);
  }
  return frames;
}

/// Copies of the layout (n, d) and frames (n, d, d), completed.
py::tuple extended(const Array<double>& points, const Array<double>& whitening, const Array<Index>& i,
                   const Array<Index>& j, const Array<bool>& known, const Array<double>& layout,
                   const Array<double>& frames, int threads) {
  expect_ndim(layout, 2, "layout");
  expect_ndim(whitening, 3, "whitening");
  const Index n = points.shape(0), d = whitening.shape(2), e = i.size();
  expect(points.ndim() == 2 && whitening.shape(0) == n && whitening.shape(1) == points.shape(1) && d >= 1,
         "whitening must be (n, m, d)");
  expect(i.ndim() == 1 && j.ndim() == 1 && j.shape(0) == e, "i and j must have the same shape (e,)");
  expect(known.ndim() == 1 && known.shape(0) == n, "known must have shape (n,)");
  expect(layout.shape(0) == n && layout.shape(1) == d, "layout must have shape (n, d)");
  expect(frames.ndim() == 3 && frames.shape(0) == n && frames.shape(1) == d && frames.shape(2) == d,
         "frames must have shape (n, d, d)");
  py::array_t<double> placed({n, d}), turned({n, d, d});
  double* placed_data = placed.mutable_data();
  double* turned_data = turned.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: all arrays are kept alive by this call
    std::copy_n(layout.data(), n * d, placed_data);
    std::copy_n(frames.data(), n * d * d, turned_data);
    const IncidentEdges incident(n, i.data(), j.data(), e);
    const std::vector<std::uint8_t> given(known.data(), known.data() + n);
    extend_layout({&incident, i.data(), j.data(), nullptr, e, d}, points.data(), whitening.data(), points.shape(1),
                  given.data(), placed_data, turned_data, threads);
  }
  return py::make_tuple(placed, turned);
}

py::array_t<double> lengths_corrected(const Array<double>& points, const Array<double>& gradients,
                                      const Array<Index>& i, const Array<Index>& j, const Array<double>& steps,
                                      const Array<double>& lengths, double believable, int threads) {
  const Shapes s = shapes_of(points, gradients, i, j, steps);
  expect(lengths.ndim() == 1 && lengths.shape(0) == s.e, "lengths must have shape (e,)");
  py::array_t<double> corrected(s.e);
  double* data = corrected.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: all arrays are kept alive by this call
    const IncidentEdges incident(s.n, i.data(), j.data(), s.e);
    corrected_lengths({&incident, i.data(), j.data(), steps.data(), s.e, s.d}, points.data(), gradients.data(), s.m,
                      lengths.data(), believable, data, threads);
  }
  return corrected;
}

}  // namespace

void bind_frames(py::module_& m) {
  m.def("local_frames", &frames_of, py::arg("points").noconvert(), py::arg("whitening").noconvert(),
        py::arg("i").noconvert(), py::arg("j").noconvert(), py::arg("steps").noconvert(), py::arg("rounds"),
        py::arg("threads"), "Rotations (n, d, d) between local coordinates and a layout.");
  m.def("extend_layout", &extended, py::arg("points").noconvert(), py::arg("whitening").noconvert(),
        py::arg("i").noconvert(), py::arg("j").noconvert(), py::arg("known").noconvert(), py::arg("layout").noconvert(),
        py::arg("frames").noconvert(), py::arg("threads"),
        "(layout (n, d), frames (n, d, d)) completed from the samples that are known.");
  m.def("corrected_lengths", &lengths_corrected, py::arg("points").noconvert(), py::arg("gradients").noconvert(),
        py::arg("i").noconvert(), py::arg("j").noconvert(), py::arg("steps").noconvert(),
        py::arg("lengths").noconvert(), py::arg("believable"), py::arg("threads"),
        "Lengths (e,) corrected to the next order.");
}

}  // namespace diffeo::bindings
