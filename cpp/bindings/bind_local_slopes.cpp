// Local linear fits of functions on the samples.
#include "bindings.hpp"
#include "diffeo/local_slopes.hpp"

namespace diffeo::bindings {
namespace {

Index columns_of(const SparseView& kernel, const Array<double>& points) {
  expect_ndim(points, 2, "points");
  expect(points.shape(0) == kernel.n, "points must have as many rows as the kernel");
  return points.shape(1);
}

LocalGeometry seen(const SparseView& kernel, const Array<double>& points, const std::optional<Array<float>>& steps,
                   double unit) {
  const Index m = columns_of(kernel, points);
  if (!steps) return {points.data(), nullptr, 1.0, m};
  expect_ndim(*steps, 2, "steps");
  expect(steps->shape(0) == kernel.indptr[kernel.n] && steps->shape(1) >= 1, "steps must have shape (entries, d)");
  return {points.data(), steps->data(), unit, steps->shape(1)};
}

KernelPower checked(const SparseView& kernel, int exponent, double least, const Array<double>& sums) {
  expect(exponent == 1 || exponent == 2, "power must be 1 or 2");
  expect(sums.ndim() == 1 && sums.shape(0) == kernel.n, "sums must have shape (n,)");
  return {exponent, least, sums.data()};
}

py::array_t<double> sums_of_powers(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values,
                                   double least, int threads) {
  const SparseView kernel = view(indptr, indices, values);
  py::array_t<double> sums({kernel.n, Index{3}});
  double* data = sums.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: only these arrays are touched, which this call keeps alive
    power_sums(kernel, least, data, threads);
  }
  return sums;
}

py::array_t<double> tangent_frames_of(const Array<Index>& indptr, const Array<Row>& indices,
                                      const Array<double>& values, const Array<double>& points, Index dim,
                                      int threads) {
  const SparseView kernel = view(indptr, indices, values);
  const Index m = columns_of(kernel, points);
  expect(dim >= 1 && dim <= m, "dim must lie between 1 and m");
  py::array_t<double> frames({kernel.n, m, dim});
  double* data = frames.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: see sums_of_powers
    tangent_frames(kernel, points.data(), m, dim, data, threads);
  }
  return frames;
}

py::array_t<float> steps_of(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values,
                            const Array<double>& points, const Array<double>& frames, bool orthonormal, double unit,
                            int threads) {
  const SparseView kernel = view(indptr, indices, values);
  const Index m = columns_of(kernel, points);
  expect_ndim(frames, 3, "frames");
  const Index d = frames.shape(2);
  expect(frames.shape(0) == kernel.n && frames.shape(1) == m && d >= 1 && d <= m, "frames must have shape (n, m, d)");
  expect(unit > 0.0, "unit must be positive");
  py::array_t<float> steps({kernel.indptr[kernel.n], d});
  float* data = steps.mutable_data();
  {
    const py::gil_scoped_release release;  // safe: see sums_of_powers
    local_steps(kernel, {points.data(), frames.data(), m, d, orthonormal}, unit, data, threads);
  }
  return steps;
}

py::tuple moments_of(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values, int exponent,
                     double least, const Array<double>& sums, const Array<double>& points,
                     const std::optional<Array<float>>& steps, double unit, double ridge, int threads) {
  const SparseView kernel = view(indptr, indices, values);
  const LocalGeometry geometry = seen(kernel, points, steps, unit);
  const KernelPower power = checked(kernel, exponent, least, sums);
  py::array_t<double> shift({kernel.n, geometry.d}), mean({kernel.n, geometry.d}), noise(kernel.n), self(kernel.n),
      precision({kernel.n, geometry.d, geometry.d});
  const LocalMoments out{shift.mutable_data(), mean.mutable_data(), noise.mutable_data(), self.mutable_data(),
                         precision.mutable_data()};
  {
    const py::gil_scoped_release release;  // safe: see sums_of_powers
    local_moments(kernel, power, geometry, ridge, out, threads);
  }
  return py::make_tuple(shift, mean, noise, self, precision);
}

py::tuple slopes_of(const Array<Index>& indptr, const Array<Row>& indices, const Array<double>& values, int exponent,
                    double least, const Array<double>& sums, const Array<double>& points,
                    const std::optional<Array<float>>& steps, double unit, Array<double> mean, Array<double> precision,
                    const Array<double>& functions, int threads) {
  const SparseView kernel = view(indptr, indices, values);
  const LocalGeometry geometry = seen(kernel, points, steps, unit);
  const KernelPower power = checked(kernel, exponent, least, sums);
  const Index n = kernel.n, d = geometry.d;
  expect(mean.ndim() == 2 && mean.shape(0) == n && mean.shape(1) == d, "mean must have shape (n, d)");
  expect(precision.ndim() == 3 && precision.shape(0) == n && precision.shape(1) == d && precision.shape(2) == d,
         "precision must have shape (n, d, d)");
  expect(functions.ndim() == 2 && functions.shape(0) == n && functions.shape(1) >= 1,
         "functions must have shape (n, k)");
  const Index k = functions.shape(1);
  py::array_t<double> smoothed({n, k}), slopes({n, d, k});
  double* smoothed_data = smoothed.mutable_data();
  double* slopes_data = slopes.mutable_data();
  const LocalMoments moments{nullptr, mean.mutable_data(), nullptr, nullptr, precision.mutable_data()};
  {
    const py::gil_scoped_release release;  // safe: see sums_of_powers
    local_slopes(kernel, power, geometry, moments, functions.data(), k, smoothed_data, slopes_data, threads);
  }
  return py::make_tuple(smoothed, slopes);
}

}  // namespace

void bind_local_slopes(py::module_& m) {
  m.def("power_sums", &sums_of_powers, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), py::arg("least"), py::arg("threads"),
        "Row sums (n, 3) of k, of k^2 where that is at least `least`, and of k^4.");
  m.def("tangent_frames", &tangent_frames_of, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), py::arg("points").noconvert(), py::arg("dim"), py::arg("threads"),
        "Orthonormal principal directions (n, m, dim) of the neighbours of each sample.");
  m.def("local_steps", &steps_of, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), py::arg("points").noconvert(), py::arg("frames").noconvert(),
        py::arg("orthonormal"), py::arg("unit"), py::arg("threads"),
        "Coordinates (entries, d) of each neighbour in the frame of its row, in the given unit.");
  m.def("local_moments", &moments_of, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), py::arg("power"), py::arg("least"), py::arg("sums").noconvert(),
        py::arg("points").noconvert(), py::arg("steps").noconvert().none(true), py::arg("unit"), py::arg("ridge"),
        py::arg("threads"),
        "(shift (n, d), mean (n, d), noise (n,), self (n,), precision (n, d, d)) of the local linear fits.");
  m.def("local_slopes", &slopes_of, py::arg("indptr").noconvert(), py::arg("indices").noconvert(),
        py::arg("values").noconvert(), py::arg("power"), py::arg("least"), py::arg("sums").noconvert(),
        py::arg("points").noconvert(), py::arg("steps").noconvert().none(true), py::arg("unit"),
        py::arg("mean").noconvert(), py::arg("precision").noconvert(), py::arg("functions").noconvert(),
        py::arg("threads"), "Smoothed values (n, k) and slopes (n, d, k) of functions (n, k) by local linear fits.");
}

}  // namespace diffeo::bindings
