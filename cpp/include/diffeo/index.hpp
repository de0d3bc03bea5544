// Index types of the whole core.
#pragma once

#include <cstdint>

namespace diffeo {

/// Signed, so that differences and OpenMP loops are safe.
using Index = std::int64_t;

/// Row number of a sample; 32 bits halve the memory traffic of sparse rows (n < 2^31 is checked at entry).
using Row = std::int32_t;

}  // namespace diffeo
