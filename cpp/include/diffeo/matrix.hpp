// Blocks of numbers, row by row as NumPy stores them: all that crosses from one part of the core to another.
//
// No matrix of Eigen does: the alignment of its memory follows the instruction set of the file at hand.
#pragma once

#include <algorithm>
#include <utility>

#include "diffeo/buffer.hpp"
#include "diffeo/index.hpp"

namespace diffeo {

/// An owned block (rows, cols) without gaps: one row a sample, columns contiguous. Not zeroed when it is made.
template <class T>
class Matrix {
 public:
  Matrix() = default;
  Matrix(Index rows, Index cols) : rows_(rows), cols_(cols), values_(rows * cols) {}
  static Matrix zero(Index rows, Index cols) {
    Matrix matrix(rows, cols);
    std::fill_n(matrix.data(), matrix.size(), T{});
    return matrix;
  }
  Matrix(const Matrix& other) : Matrix(other.rows_, other.cols_) { std::copy_n(other.data(), size(), data()); }
  Matrix(Matrix&& other) noexcept { swap(other); }
  Matrix& operator=(Matrix other) noexcept {
    swap(other);
    return *this;
  }
  ~Matrix() = default;

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }
  T* data() { return values_.data(); }
  const T* data() const { return values_.data(); }
  T* row(Index i) { return data() + i * cols_; }
  const T* row(Index i) const { return data() + i * cols_; }
  T& operator()(Index i, Index k) { return data()[i * cols_ + k]; }
  const T& operator()(Index i, Index k) const { return data()[i * cols_ + k]; }

  /// What it held is lost, unless the shape is the same.
  void resize(Index rows, Index cols) {
    if (rows * cols != size()) {
      *this = Matrix(rows, cols);
    } else {
      rows_ = rows;
      cols_ = cols;
    }
  }
  void swap(Matrix& other) noexcept {
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
    std::swap(values_, other.values_);
  }

 private:
  Index rows_ = 0, cols_ = 0;
  Buffer<T> values_;
};

/// Blocks of vectors in double precision.
using RowMatrix = Matrix<double>;

/// Rows of numbers that somebody else owns, `stride` numbers from one to the next.
struct MatrixView {
  const double* data;
  Index rows, cols, stride;

  MatrixView(const double* first, Index n_rows, Index n_cols, Index row_stride)
      : data(first), rows(n_rows), cols(n_cols), stride(row_stride) {}
  MatrixView(const RowMatrix& matrix)  // NOLINT(google-explicit-constructor): a block is seen as it is
      : MatrixView(matrix.data(), matrix.rows(), matrix.cols(), matrix.cols()) {}
};

/// Columns [first, first + count) of a block, as a block of their own.
template <class T>
Matrix<T> columns(const Matrix<T>& from, Index first, Index count) {
  Matrix<T> result(from.rows(), count);
  for (Index i = 0; i < from.rows(); ++i) std::copy_n(from.row(i) + first, count, result.row(i));
  return result;
}

/// The columns in reverse order: a decomposition lists eigenvalues from the smallest, this library from the largest.
template <class T>
Matrix<T> reversed_columns(const Matrix<T>& from) {
  Matrix<T> result(from.rows(), from.cols());
  for (Index i = 0; i < from.rows(); ++i) std::reverse_copy(from.row(i), from.row(i) + from.cols(), result.row(i));
  return result;
}

}  // namespace diffeo
