// A stand-in for NVIDIA's driver, libcuda.so.1, for tests: it loads nothing and runs a kernel, by its name, on the CPU with
// the library that LAUNCHES_WITH names (built by cuda_on_cpu.py). So the Python side of a launch, from compiled code to
// packed parameters, runs through NVIDIA's bindings as it does before a GPU.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

static int context_in_place = 0;
static void* the_context = (void*)0x1000;
static char names[64][64];
static int named = 0;

extern "C" {
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { *version = 13000; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal == 0 ? 0 : 101; }
int cuDevicePrimaryCtxRetain(void** context, int) { *context = the_context; return 0; }
int cuCtxGetCurrent(void** context) { *context = context_in_place ? the_context : nullptr; return 0; }
int cuCtxSetCurrent(void* context) { context_in_place = context == the_context; return context_in_place ? 0 : 201; }

int cuModuleLoadData(void** module, const void* image) {
  if (!context_in_place) return 201;                                // CUDA_ERROR_INVALID_CONTEXT
  if (memcmp(image, "\177ELF", 4)) return 200;                     // CUDA_ERROR_INVALID_IMAGE
  *module = (void*)image;
  return 0;
}

int cuModuleGetFunction(void** function, void*, const char* name) {
  strncpy(names[named], name, 63);
  *function = names[named++];
  return 0;
}

int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned,
                   void* stream, void** parameters, void** extra) {
  if (!context_in_place || y != 1 || z != 1 || tz != 1 || extra || stream != (void*)0x77) return 1;
  static void* library = dlopen(getenv("LAUNCHES_WITH"), RTLD_NOW);
  typedef int (*Launch)(const char*, long long, int, int, const void*, int);
  return ((Launch)dlsym(library, "launch"))((const char*)function, x, tx, ty, parameters[0], 0);
}

int cuGetErrorName(int, const char** name) { *name = "CUDA_ERROR_OF_THE_FAKE"; return 0; }

int cuGetProcAddress_v2(const char* name, void** address, int, unsigned long long, int* status) {
  *address = dlsym(RTLD_DEFAULT, name);
  if (!*address) { char path[4096]; Dl_info here; dladdr((void*)&cuInit, &here); snprintf(path, sizeof path, "%s", here.dli_fname);
    *address = dlsym(dlopen(path, RTLD_NOW | RTLD_NOLOAD), name); }
  if (status) *status = *address ? 0 : 1;
  return *address ? 0 : 500;
}
int cuGetProcAddress(const char* name, void** address, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(name, address, version, flags, nullptr);
}
}
