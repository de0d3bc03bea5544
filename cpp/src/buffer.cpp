// Pages from the system, huge ones where it has them.
#include "diffeo/buffer.hpp"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace diffeo::detail {
namespace {

// The huge page of x86-64 and of most aarch64 systems.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
// Smaller arrays come from the heap: a huge page each would waste more than its faults save.
constexpr std::size_t kLarge = 2 * kHugePage;
constexpr std::size_t kCacheLine = 64;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

#if defined(__linux__)

void* allocate_pages(std::size_t bytes) {
  if (bytes < kLarge) {
    void* memory = std::aligned_alloc(kCacheLine, rounded_up(bytes + (bytes == 0), kCacheLine));
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }
  // One huge page more than needed, so that a piece with aligned borders can be cut out. Pages are not set aside
  // before they are written (MAP_NORESERVE): a result of unknown size may ask for more than it will use.
  const std::size_t size = rounded_up(bytes, kHugePage);
  void* mapped =
      mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  char* first = static_cast<char*>(mapped);
  const std::size_t before = (kHugePage - reinterpret_cast<std::size_t>(first) % kHugePage) % kHugePage;
  if (before > 0) munmap(first, before);
  if (before < kHugePage) munmap(first + before + size, kHugePage - before);
#if defined(MADV_HUGEPAGE)
  madvise(first + before, size, MADV_HUGEPAGE);
#endif
  return first + before;
}

void free_pages(void* memory, std::size_t bytes) noexcept {
  if (bytes < kLarge) {
    std::free(memory);
  } else {
    munmap(memory, rounded_up(bytes, kHugePage));
  }
}

std::size_t trim_pages(void* memory, std::size_t bytes, std::size_t kept) noexcept {
  const std::size_t least = kept < kLarge ? kLarge : rounded_up(kept, kHugePage);
  if (bytes < kLarge || least >= rounded_up(bytes, kHugePage)) return bytes;
  munmap(static_cast<char*>(memory) + least, rounded_up(bytes, kHugePage) - least);
  return least;
}

#else

void* allocate_pages(std::size_t bytes) {
  void* memory = std::aligned_alloc(kCacheLine, rounded_up(bytes + (bytes == 0), kCacheLine));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void free_pages(void* memory, std::size_t) noexcept { std::free(memory); }

std::size_t trim_pages(void*, std::size_t bytes, std::size_t) noexcept { return bytes; }

#endif

}  // namespace diffeo::detail
