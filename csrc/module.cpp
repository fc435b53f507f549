// lmaps_fast._C: the kernels on raw addresses. The checks on tensors live in lmaps_fast/_ops.py.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#ifdef LMAPS_CUDA
#include "cuda/kernels.h"
#endif

namespace py = pybind11;

namespace {

using Address = uintptr_t;

PointwiseArguments pointwise_arguments(Address out, Address D, Address y, Address s, int64_t rows, int64_t pixels,
                                       int64_t s_rows, int64_t s_repeat, bool is_double, const Weights& weights,
                                       const std::array<double, 3>& parameters) {
  return {reinterpret_cast<void*>(out),
          reinterpret_cast<const void*>(D),
          reinterpret_cast<const void*>(y),
          reinterpret_cast<const void*>(s),
          rows,
          pixels,
          s_rows,
          s_repeat,
          is_double,
          weights,
          {parameters[0], parameters[1], parameters[2]}};
}

JpegTables jpeg_tables(int channels, int sub_h, int sub_w, bool average, const std::vector<std::vector<float>>& tables,
                       const std::array<std::array<double, 3>, 3>& forward,
                       const std::array<std::array<double, 3>, 3>& inverse) {
  if (tables.size() != 2 || tables[0].size() != 64 || tables[1].size() != 64)
    throw std::invalid_argument("JPEG needs two quantization tables of 64 entries");
  if ((channels != 1 && channels != 3) || sub_h < 1 || sub_h > 2 || sub_w < 1 || sub_w > 2)
    throw std::invalid_argument("JPEG needs 1 or 3 channels and chroma subsampling by 1 or 2");
  JpegTables t{channels, sub_h, sub_w, average, {}, {}, {}};
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 64; ++j) t.table[i][j] = tables[i][j];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) t.forward[i][j] = forward[i][j], t.inverse[i][j] = inverse[i][j];
  return t;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  py::enum_<Pointwise>(m, "Pointwise")
      .value("diagonal_map", Pointwise::diagonal_map)
      .value("spectral_update", Pointwise::spectral_update)
      .value("clip_map", Pointwise::clip_map)
      .value("quantization_map", Pointwise::quantization_map)
      .value("phase_projection", Pointwise::phase_projection);
  py::class_<Weights>(m, "Weights").def(py::init([](double lam, double c, double lr, int steps) {
    return Weights{lam, c, lr, steps};
  }));
  py::class_<JpegTables>(m, "JpegTables").def(py::init(&jpeg_tables));

  m.def("cpu_pointwise", [](Pointwise name, Address out, Address D, Address y, Address s, int64_t rows, int64_t pixels,
                            int64_t s_rows, int64_t s_repeat, bool is_double, const Weights& weights,
                            const std::array<double, 3>& parameters, int threads) {
    py::gil_scoped_release release;
    cpu_kernels().pointwise(
        name, pointwise_arguments(out, D, y, s, rows, pixels, s_rows, s_repeat, is_double, weights, parameters),
        threads);
  });
  m.def("cpu_jpeg_map", [](Address out, Address D, Address y, int64_t batch, int64_t height, int64_t width,
                           bool is_double, const Weights& weights, const JpegTables& tables, int threads) {
    py::gil_scoped_release release;
    cpu_kernels().jpeg_map({reinterpret_cast<void*>(out), reinterpret_cast<const void*>(D),
                            reinterpret_cast<const void*>(y), batch, height, width, is_double, weights, tables},
                           threads);
  });
  m.def("cpu_add_normal", [](Address out, Address x, const std::vector<uint64_t>& keys, int64_t pixels, uint32_t draw,
                             double sigma, bool is_double, int threads) {
    py::gil_scoped_release release;
    cpu_kernels().add_normal({reinterpret_cast<void*>(out), reinterpret_cast<const void*>(x), keys.data(),
                              int64_t(keys.size()), pixels, draw, sigma, is_double},
                             threads);
  });
  m.def("isa", [] { return std::string(cpu_kernels().isa); });
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (const char* name : {"baseline", "avx2", "avx512"})
      if (find_isa(name)) names.emplace_back(name);
    return names;
  });
  m.def("thread_count", [](int threads) { return cpu_kernels().thread_count(threads); });

#ifdef LMAPS_CUDA
  m.attr("cuda_architectures") = LMAPS_CUDA;
  m.def("cuda_pointwise", [](Pointwise name, Address out, Address D, Address y, Address s, int64_t rows, int64_t pixels,
                             int64_t s_rows, int64_t s_repeat, bool is_double, const Weights& weights,
                             const std::array<double, 3>& parameters, Address stream) {
    const int code = cuda_pointwise(
        name, pointwise_arguments(out, D, y, s, rows, pixels, s_rows, s_repeat, is_double, weights, parameters),
        reinterpret_cast<void*>(stream));
    if (code) throw std::runtime_error(std::string("CUDA: ") + cuda_error(code));
  });
#else
  m.attr("cuda_architectures") = "";
#endif
}
