// Owned arrays that are not zeroed on allocation: large results are written once, into fresh pages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "diffeo/index.hpp"

namespace diffeo {
namespace detail {

/// Uninitialised memory, aligned to cache lines; large pieces lie in huge pages where the system has them. Throws
/// std::bad_alloc.
void* allocate_pages(std::size_t bytes);
void free_pages(void* memory, std::size_t bytes) noexcept;
/// Gives back what lies behind the first `kept` of `bytes`; returns how many bytes remain allocated.
std::size_t trim_pages(void* memory, std::size_t bytes, std::size_t kept) noexcept;

}  // namespace detail

/// An owned array of numbers.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(Index size)
      : data_(static_cast<T*>(detail::allocate_pages(static_cast<std::size_t>(size) * sizeof(T)))), size_(size),
        bytes_(static_cast<std::size_t>(size) * sizeof(T)) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { detail::free_pages(data_, bytes_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  Index size() const { return size_; }
  T& operator[](Index i) { return data_[i]; }
  const T& operator[](Index i) const { return data_[i]; }

  /// Enlarges the array; the first `kept` elements stay.
  void grow(Index size, Index kept) {
    Buffer larger(size);
    std::copy_n(data_, kept, larger.data_);
    swap(larger);
  }

  /// Cuts the array to its first `size` elements and gives the rest of its memory back.
  void shrink(Index size) {
    size_ = size;
    bytes_ = detail::trim_pages(data_, bytes_, static_cast<std::size_t>(size) * sizeof(T));
  }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(bytes_, other.bytes_);
  }

  T* data_ = nullptr;
  Index size_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace diffeo
