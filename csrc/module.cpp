// lmaps_fast._C: the kernels on raw addresses, each called with a struct whose fields are given by name. The checks on
// tensors live in lmaps_fast/ops/.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "checks.h"
#include "cpu/kernels.h"
#include "cuda/emulated.h"
#ifdef LMAPS_CUDA
#include "cuda/kernels.h"
#endif

namespace py = pybind11;

namespace {

// A field's value of what Python gives: an address is an int, a network type its number, no codec None.
template <typename Value>
Value value_of(py::handle given) {
  if constexpr (std::is_pointer_v<Value>) {
    return reinterpret_cast<Value>(given.cast<uintptr_t>());
  } else if constexpr (std::is_same_v<Value, NetworkType>) {
    const int number = given.cast<int>();
    if (number < 0 || number > 2)
      throw std::invalid_argument("network_type is 0 (float32), 1 (bfloat16) or 2 (float16)");
    return NetworkType(number);
  } else if constexpr (std::is_same_v<Value, JpegCodec>) {
    return given.is_none() ? JpegCodec{} : given.cast<JpegCodec>();
  } else {
    return given.cast<Value>();
  }
}

// The fields of a struct by name, and how each is set.
template <typename Struct>
using Fields = std::map<std::string, std::function<void(Struct&, py::handle)>>;

template <typename Struct, typename Value>
typename Fields<Struct>::value_type field(const char* name, Value Struct::* member) {
  return {name, [member](Struct& into, py::handle given) { into.*member = value_of<Value>(given); }};
}

// The class module.<name>, built by keyword: a field that is not given is zero.
template <typename Struct>
py::class_<Struct> define_struct(py::module_& module, const char* name, const Fields<Struct>& fields,
                                 void (*end)(const Struct&) = nullptr) {
  return py::class_<Struct>(module, name).def(py::init([name, fields, end](const py::kwargs& given) {
    Struct made{};
    for (const std::pair<py::handle, py::handle> pair : given) {
      const auto key = pair.first.cast<std::string>();
      const auto found = fields.find(key);
      if (found == fields.end()) throw py::type_error(std::string(name) + " has no field " + key);
      try {
        found->second(made, pair.second);
      } catch (const py::cast_error&) {
        const auto value = py::repr(pair.second).cast<std::string>();
        throw py::type_error(std::string(name) + " cannot take " + value + " for " + key);
      }
    }
    if (end) end(made);
    return made;
  }));
}

// The colour matrices of a codec: 18 numbers, forward and then inverse, row by row.
void set_matrices(JpegCodec& codec, py::handle given) {
  const auto numbers = given.cast<std::vector<double>>();
  if (numbers.size() != 18)
    throw std::invalid_argument("matrices of a JpegCodec are 18 numbers: forward, then inverse");
  for (int i = 0; i < 9; ++i) {
    codec.forward[i / 3][i % 3] = numbers[i];
    codec.inverse[i / 3][i % 3] = numbers[9 + i];
  }
}

#define FIELD(name) field(#name, &Struct::name)

void define_structs(py::module_& m) {
  {
    using Struct = JpegCodec;
    define_struct<Struct>(m, "JpegCodec",
                          {FIELD(channels), FIELD(sub_h), FIELD(sub_w), FIELD(average), {"matrices", set_matrices}},
                          check);
  }
  {
    using Struct = PointwiseArguments;
    define_struct<Struct>(m, "PointwiseArguments",
                          {FIELD(name), FIELD(out), FIELD(D), FIELD(y), FIELD(s), FIELD(images), FIELD(rows_per_image),
                           FIELD(pixels), FIELD(s_images), FIELD(s_rows), FIELD(is_double), FIELD(weights),
                           FIELD(weight_rows), FIELD(parameters), FIELD(parameter_rows), FIELD(parameter_count)});
  }
  {
    using Struct = NormalArguments;
    define_struct<Struct>(m, "NormalArguments",
                          {FIELD(out), FIELD(x), FIELD(keys), FIELD(images), FIELD(pixels), FIELD(draws),
                           FIELD(draw_rows), FIELD(sigmas), FIELD(sigma_rows), FIELD(is_double)});
  }
  {
    using Struct = JpegArguments;
    define_struct<Struct>(m, "JpegArguments",
                          {FIELD(out), FIELD(D), FIELD(y), FIELD(batch), FIELD(height), FIELD(width), FIELD(is_double),
                           FIELD(weights), FIELD(weight_rows), FIELD(tables), FIELD(table_rows), FIELD(codec)});
  }
  {
    using Struct = StepArguments;
    define_struct<Struct>(m, "StepArguments",
                          {FIELD(name),
                           FIELD(x),
                           FIELD(x0),
                           FIELD(network_input),
                           FIELD(F),
                           FIELD(y),
                           FIELD(s),
                           FIELD(keys),
                           FIELD(batch),
                           FIELD(channels),
                           FIELD(height),
                           FIELD(width),
                           FIELD(s_images),
                           FIELD(s_channels),
                           FIELD(network_type),
                           FIELD(channels_last),
                           FIELD(levels),
                           FIELD(level_rows),
                           FIELD(parameters),
                           FIELD(parameter_rows),
                           FIELD(parameter_count),
                           FIELD(tables),
                           FIELD(table_rows),
                           FIELD(codec)});
  }
}

// module.<name>(arguments, last...) checks the arguments and runs the kernel without the interpreter's lock.
template <typename Arguments, typename... Last, typename Run>
void define(py::module_& module, const char* name, Run run) {
  module.def(name, [run](const Arguments& arguments, Last... last) {
    if (empty(arguments)) return;
    check(arguments);
    const py::gil_scoped_release release;
    run(arguments, last...);
  });
}

// A kernel of the CPU takes the number of threads last.
template <typename Arguments>
void define_cpu(py::module_& module, const char* name, void (*CpuKernels::*kernel)(const Arguments&, int)) {
  define<Arguments, int>(module, name,
                         [kernel](const Arguments& a, int threads) { (cpu_kernels().*kernel)(a, threads); });
}

template <typename Arguments>
void define_emulated(py::module_& module, const char* name, void (*kernel)(const Arguments&)) {
  define<Arguments>(module, name, kernel);
}

#ifdef LMAPS_CUDA
// One of CUDA takes its stream.
template <typename Arguments>
void define_cuda(py::module_& module, const char* name, int (*kernel)(const Arguments&, void*)) {
  define<Arguments, uintptr_t>(module, name, [kernel](const Arguments& a, uintptr_t stream) {
    if (const int code = kernel(a, reinterpret_cast<void*>(stream)))
      throw std::runtime_error(std::string("CUDA: ") + cuda_error(code));
  });
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m) {
  py::enum_<Pointwise> kinds(m, "Pointwise");
#define LMAPS_VALUE(name, Functor) kinds.value(#name, Pointwise::name);
  LMAPS_POINTWISE(LMAPS_VALUE)
#undef LMAPS_VALUE
  kinds.value("jpeg_map", Pointwise::jpeg_map);
  define_structs(m);

  define_cpu(m, "cpu_pointwise", &CpuKernels::pointwise);
  define_cpu(m, "cpu_jpeg_map", &CpuKernels::jpeg_map);
  define_cpu(m, "cpu_add_normal", &CpuKernels::add_normal);
  define_cpu(m, "cpu_step", &CpuKernels::step);
  m.def("isa", [] { return std::string(cpu_kernels().isa); });
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (const char* name : {"baseline", "avx2", "avx512"})
      if (find_isa(name)) names.emplace_back(name);
    return names;
  });
  m.def("thread_count", [](int threads) { return cpu_kernels().thread_count(threads); });

  define_emulated(m, "emulated_pointwise", emulated_pointwise);
  define_emulated(m, "emulated_jpeg_map", emulated_jpeg_map);
  define_emulated(m, "emulated_add_normal", emulated_add_normal);
  define_emulated(m, "emulated_step", emulated_step);

#ifdef LMAPS_CUDA
  m.attr("cuda_architectures") = LMAPS_CUDA;
  define_cuda(m, "cuda_pointwise", cuda_pointwise);
  define_cuda(m, "cuda_jpeg_map", cuda_jpeg_map);
  define_cuda(m, "cuda_add_normal", cuda_add_normal);
  define_cuda(m, "cuda_step", cuda_step);
#else
  m.attr("cuda_architectures") = "";
#endif
}
