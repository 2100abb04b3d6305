// The entry through which Python runs a kernel of the text before this one, block after block.
#pragma once

static ScanParameters launched;

#define KERNEL(name) if (!strcmp(kernel, #name)) fibers::body = [] { name(launched); }

extern "C" int launch(const char* kernel, long long blocks, int x, int y, const ScanParameters* parameters, int reverse) {
  launched = *parameters;
  fibers::body = nullptr;
  KERNEL(scan_summary);
  KERNEL(scan_finish);
  KERNEL(scan_combine);
  KERNEL(scan_back_summary);
  KERNEL(scan_back_finish);
  if (!fibers::body) return 1;
  for (long long block = 0; block < blocks; block++) fibers::run_block((int)block, x, y, reverse);
  return 0;
}

extern "C" long long parameter_bytes() { return sizeof(ScanParameters); }
