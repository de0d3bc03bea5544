// Threads: the only file (with parallel.cpp) that names OpenMP.
//
// Work is cut into chunks whose borders do not depend on the number of threads, so that every result has the same bits
// for any number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <vector>

#include "diffeo/types.hpp"

namespace diffeo {

/// Thrown out of a parallel loop when the interrupt check (Ctrl-C) answered true.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

/// Called at most every 50 ms by the thread that started a parallel loop; true stops the loop.
using InterruptCheck = bool (*)();
void set_interrupt_check(InterruptCheck check);

/// Told at most every 50 ms, by the thread that started a loop, how much of it is done; false stops the loop.
using ProgressReport = bool (*)(Index done, Index total);

/// Sets or clears (nullptr) the report of the calling thread: work that other threads start does not speak to it.
void set_progress_report(ProgressReport report);

/// For iterations that run parallel loops: reports the iterations, and the loops inside fall silent until the next
/// set_progress_report. Throws Interrupted on Ctrl-C.
void report_progress(Index done, Index total);

/// For long work outside of parallel loops, every few milliseconds of it: throws Interrupted on Ctrl-C.
void check_interrupt();

/// Number of threads for a request: 0 means all that OpenMP gives; otherwise the request itself.
int resolve_threads(int requested);

namespace detail {
/// Runs task(k) for k in [0, count) on `threads` threads, in dynamic order.
void run_tasks(Index count, int threads, void (*task)(void*, Index), void* context);
}  // namespace detail

/// Runs body(chunk, begin, end) for [0, n) cut into chunks of `chunk_size`.
///
/// Chunks run in any order on any thread, so a body may write only to what belongs to its chunk. The first
/// exception of a body is rethrown here after all threads stopped. Throws Interrupted on Ctrl-C.
/// Thread safety: may be called from several threads at once.
template <class Body>
void parallel_chunks(Index n, Index chunk_size, int threads, Body&& body) {
  if (n <= 0) return;
  struct Context {
    Index n, chunk_size;
    Body* body;
  } context{n, chunk_size, &body};
  detail::run_tasks((n + chunk_size - 1) / chunk_size, threads,
                    [](void* raw, Index chunk) {
                      auto& c = *static_cast<Context*>(raw);
                      const Index begin = chunk * c.chunk_size;
                      (*c.body)(chunk, begin, std::min(c.n, begin + c.chunk_size));
                    },
                    &context);
}

}  // namespace diffeo
