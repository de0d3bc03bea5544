// Row numbers checked once, where they enter the core: inside of it they are trusted.
//
// All functions throw std::invalid_argument, which names the first number that is wrong, where it stands and what is
// allowed. Thread-safe; nothing is allocated.
#pragma once

#include "diffeo/operator.hpp"
#include "diffeo/types.hpp"

namespace diffeo {

/// Row numbers (count) as an argument brings them; (count / width, width) where a row of them belongs to a sample.
template <class Int>
struct RowNumbers {
  const char* name;
  const Int* rows;
  Index count;
  Index width = 1;
};

/// Whether all of them are at least 0 and below `n`, which messages call `bound`; `caller` is the function asked.
template <class Int>
void check_rows(const char* caller, const RowNumbers<Int>& numbers, const char* bound, Index n, int threads);

/// The ends `i` and `j` of e edges between n samples.
void check_edges(const char* caller, const Index* i, const Index* j, Index e, Index n, int threads);

/// Square compressed rows: indptr starts at 0 and never falls, columns are rows that exist.
void check_compressed(const char* caller, const SparseView& matrix, int threads);

}  // namespace diffeo
