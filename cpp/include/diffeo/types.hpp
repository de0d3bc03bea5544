// Aliases shared by the whole core: index type, row-major blocks and uninitialised arrays.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace diffeo {

/// Signed, so that differences and OpenMP loops are safe.
using Index = std::int64_t;

/// Row number of a sample; 32 bits halve the memory traffic of sparse rows (n < 2^31 is checked at entry).
using Row = std::int32_t;

/// Blocks of vectors: one row a sample, columns contiguous, as NumPy stores them.
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstBlock = Eigen::Ref<const RowMatrix>;

/// An owned array that is *not* zeroed on allocation: large results are written once, into fresh pages.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Index size)
      : data_(std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(size))), size_(size) {}

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  Index size() const { return size_; }
  T& operator[](Index i) { return data_[static_cast<std::size_t>(i)]; }
  const T& operator[](Index i) const { return data_[static_cast<std::size_t>(i)]; }
  T* release() {
    size_ = 0;
    return data_.release();
  }

 private:
  std::unique_ptr<T[]> data_;
  Index size_ = 0;
};

}  // namespace diffeo
