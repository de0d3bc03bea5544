// What the core uses of OpenMP, for compilers that come without a runtime: declarations are all that reading needs.
#pragma once
extern "C" {
int omp_get_max_threads(void);
int omp_get_thread_num(void);
}
