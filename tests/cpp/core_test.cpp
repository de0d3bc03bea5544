// The C++ core without Python: small enough to run under ASan, UBSan and TSan.
//
// Exit code 1 and a line for each check that failed.
#include <cstdio>

#include "tests.hpp"

int main() {
  testing::test_covariance();
  testing::test_kernel();
  testing::test_dense();
  testing::test_edge_lengths();
  testing::test_eigenpairs();
  testing::test_kernel_multigrid();
  testing::test_interpolation();
  testing::test_local_fits_to_pairs();
  testing::test_graph_multigrid();
  testing::test_frames();
  testing::test_parallel();
  testing::test_row_checks();
  testing::test_gates();
  testing::test_linear_algebra();
  testing::test_local_slopes();
  const int failed = testing::failures.load();
  std::printf("core: %d checks failed\n", failed);
  return failed == 0 ? 0 : 1;
}
