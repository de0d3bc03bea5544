// Aliases shared by the whole core: index types, row-major blocks (matrix.hpp), and uninitialised arrays (buffer.hpp).
#pragma once

#include "diffeo/buffer.hpp"
#include "diffeo/index.hpp"
#include "diffeo/matrix.hpp"
