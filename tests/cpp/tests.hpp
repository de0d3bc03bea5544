// The tests of the core, one function a file <concept>_test.cpp.
#pragma once

#include "samples.hpp"

namespace testing {

void test_covariance();
void test_kernel();
void test_dense();
void test_edge_lengths();
void test_eigenpairs();
void test_kernel_multigrid();
void test_interpolation();
void test_local_fits_to_pairs();
void test_graph_multigrid();
void test_frames();
void test_parallel();
void test_row_checks();
void test_gates();
void test_linear_algebra();
void test_local_slopes();

}  // namespace testing
