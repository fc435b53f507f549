// lmaps_fast._C: the kernels on raw addresses. The checks on tensors live in lmaps_fast/_ops.py.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cuda/emulated.h"
#ifdef LMAPS_CUDA
#include "cuda/kernels.h"
#endif

namespace py = pybind11;

namespace {

using Address = uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

PointwiseArguments pointwise_arguments(Pointwise name, Address out, Address D, Address y, Address s, int64_t rows,
                                       int64_t pixels, int64_t s_rows, int64_t s_repeat, bool is_double,
                                       const Weights& weights, const std::array<double, 3>& parameters) {
  return {name,   at<void>(out), at<void>(D), at<void>(y), at<void>(s), rows,
          pixels, s_rows,        s_repeat,    is_double,   weights,     {parameters[0], parameters[1], parameters[2]}};
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

NormalArguments normal_arguments(Address out, Address x, Address keys, int64_t images, int64_t pixels, uint32_t draw,
                                 double sigma, bool is_double) {
  return {at<void>(out), at<void>(x), at<uint64_t>(keys), images, pixels, draw, sigma, is_double};
}

JpegArguments jpeg_arguments(Address out, Address D, Address y, int64_t batch, int64_t height, int64_t width,
                             bool is_double, const Weights& weights, const JpegTables& tables) {
  return {at<void>(out), at<void>(D), at<void>(y), batch, height, width, is_double, weights, tables};
}

Between between(Address x0, Address x_next, Address input, Address F, Address x, Address y, Address s, Address keys,
                int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t s_rows, int type,
                bool channels_last, uint32_t draw, const std::array<float, 5>& c) {
  if (type < 0 || type > 2)
    throw std::invalid_argument("the network's type is 0 (float32), 1 (bfloat16) or 2 (float16)");
  return {at<float>(x0),
          at<float>(x_next),
          at<void>(input),
          at<void>(F),
          at<float>(x),
          at<float>(y),
          at<float>(s),
          at<uint64_t>(keys),
          batch,
          channels,
          height,
          width,
          s_rows,
          NetworkType(type),
          channels_last,
          draw,
          c[0],
          c[1],
          c[2],
          c[3],
          c[4]};
}

StepArguments step_arguments(const Between& between, Pointwise name, const Weights& weights,
                             const std::array<double, 3>& parameters, const JpegTables* tables) {
  if (name == Pointwise::spectral_update || name == Pointwise::phase_projection)
    throw std::invalid_argument("a step has no spectral_update and no phase_projection");
  if (name == Pointwise::jpeg_map && !(tables && tables->channels == between.channels))
    throw std::invalid_argument("a step with jpeg_map needs JpegTables of its number of channels");
  return {between, name, weights, {parameters[0], parameters[1], parameters[2]}, tables};
}

// module.<name>(what `make` takes, last...) calls run(what `make` returns, last...) without the interpreter's lock.
template <typename... Last, typename Arguments, typename... Given, typename Run>
void define(py::module_& module, const char* name, Arguments (*make)(Given...), Run run) {
  module.def(name, [make, run](Given... given, Last... last) {
    const Arguments arguments = make(given...);
    py::gil_scoped_release release;
    run(arguments, last...);
  });
}

// A kernel of the CPU takes the number of threads last.
template <typename Arguments, typename Make>
void define_cpu(py::module_& module, const char* name, Make* make, void (*CpuKernels::*kernel)(const Arguments&, int)) {
  define<int>(module, name, make, [kernel](const Arguments& a, int threads) { (cpu_kernels().*kernel)(a, threads); });
}

#ifdef LMAPS_CUDA
// One of CUDA takes its stream.
template <typename Arguments, typename Make>
void define_cuda(py::module_& module, const char* name, Make* make, int (*kernel)(const Arguments&, void*)) {
  define<Address>(module, name, make, [kernel](const Arguments& a, Address stream) {
    if (const int code = kernel(a, at<void>(stream)))
      throw std::runtime_error(std::string("CUDA: ") + cuda_error(code));
  });
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m) {
  py::enum_<Pointwise>(m, "Pointwise")
      .value("diagonal_map", Pointwise::diagonal_map)
      .value("spectral_update", Pointwise::spectral_update)
      .value("clip_map", Pointwise::clip_map)
      .value("quantization_map", Pointwise::quantization_map)
      .value("phase_projection", Pointwise::phase_projection)
      .value("given", Pointwise::given)
      .value("jpeg_map", Pointwise::jpeg_map);
  py::class_<Weights>(m, "Weights").def(py::init([](double lam, double c, double lr, int steps) {
    return Weights{lam, c, lr, steps};
  }));
  py::class_<JpegTables>(m, "JpegTables").def(py::init(&jpeg_tables));
  py::class_<Between>(m, "Between").def(py::init(&between));

  define_cpu(m, "cpu_pointwise", pointwise_arguments, &CpuKernels::pointwise);
  define_cpu(m, "cpu_jpeg_map", jpeg_arguments, &CpuKernels::jpeg_map);
  define_cpu(m, "cpu_add_normal", normal_arguments, &CpuKernels::add_normal);
  define_cpu(m, "cpu_step", step_arguments, &CpuKernels::step);
  m.def("isa", [] { return std::string(cpu_kernels().isa); });
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (const char* name : {"baseline", "avx2", "avx512"})
      if (find_isa(name)) names.emplace_back(name);
    return names;
  });
  m.def("thread_count", [](int threads) { return cpu_kernels().thread_count(threads); });

  define(m, "emulated_jpeg_map", jpeg_arguments, emulated_jpeg_map);
  define(m, "emulated_add_normal", normal_arguments, emulated_add_normal);
  define(m, "emulated_step", step_arguments, emulated_step);

#ifdef LMAPS_CUDA
  m.attr("cuda_architectures") = LMAPS_CUDA;
  define_cuda(m, "cuda_pointwise", pointwise_arguments, cuda_pointwise);
  define_cuda(m, "cuda_jpeg_map", jpeg_arguments, cuda_jpeg_map);
  define_cuda(m, "cuda_add_normal", normal_arguments, cuda_add_normal);
  define_cuda(m, "cuda_step", step_arguments, cuda_step);
#else
  m.attr("cuda_architectures") = "";
#endif
}
