// Tasks on OpenMP threads, Ctrl-C and progress.
#include "diffeo/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <chrono>
#include <mutex>
#include <thread>

namespace diffeo {
namespace {

std::atomic<InterruptCheck> interrupt_check{nullptr};

// A forked child inherits an OpenMP runtime without its threads, which would wait for them for ever: it works alone.
std::atomic<bool> forked{false};
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });

// Checks and reports take the lock of the interpreter; at this interval they cost nothing and people see no delay.
constexpr std::chrono::milliseconds kInterval(50);

/// What a thread that starts loops remembers between two polls.
struct Poll {
  using Clock = std::chrono::steady_clock;
  Clock::time_point last = Clock::now();
  ProgressReport report = nullptr;
  bool iterating = false;
  Index done = 0, total = 0;  // of the iterations, while there are any

  /// Whether to stop; `loop_done` of `loop_total` is the state of the loop that asks.
  bool stop_requested(Index loop_done, Index loop_total) {
    const InterruptCheck check = interrupt_check.load(std::memory_order_relaxed);
    if (check == nullptr && report == nullptr) return false;
    const auto now = Clock::now();
    if (now - last < kInterval) return false;
    last = now;
    if (check != nullptr && check()) return true;
    if (report == nullptr) return false;
    if (iterating) return !report(done, total);
    return loop_total > 0 && !report(loop_done, loop_total);
  }
};

thread_local Poll poll;

}  // namespace

void set_progress_report(ProgressReport report) {
  poll.report = report;
  poll.iterating = false;
}

void report_progress(Index done, Index total) {
  poll.iterating = true;
  poll.done = done;
  poll.total = total;
  check_interrupt();
}

void check_interrupt() {
  if (poll.stop_requested(0, 0)) throw Interrupted();
}

void set_interrupt_check(InterruptCheck check) { interrupt_check.store(check); }

int resolve_threads(int requested) { return requested > 0 ? requested : omp_get_max_threads(); }

namespace detail {

void run_tasks(Index count, int threads, void (*task)(void*, Index), void* context) {
  std::atomic<bool> stop{false};
  std::atomic<bool> interrupted{false};
  std::atomic<Index> done{0};
  std::exception_ptr failure;
  std::mutex guard;
  const int team = forked.load() ? 1 : static_cast<int>(std::min<Index>(resolve_threads(threads), count));
  const auto run = [&](Index k, bool starter) {
    if (stop.load(std::memory_order_relaxed)) return;
    try {
      if (starter && poll.stop_requested(done.load(std::memory_order_relaxed), count)) {
        interrupted.store(true);
        stop.store(true);
        return;
      }
      task(context, k);
      done.fetch_add(1, std::memory_order_relaxed);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(guard);
      if (!failure) failure = std::current_exception();
      stop.store(true);
    }
  };
  if (team == 1) {
    for (Index k = 0; k < count; ++k) run(k, true);
  } else {
#ifdef __SANITIZE_THREAD__
    // ThreadSanitizer does not see the barriers of libgomp, which is built without it: plain threads instead.
    std::atomic<Index> next{0};
    const auto work = [&](bool starter) {
      for (Index k = next.fetch_add(1); k < count; k = next.fetch_add(1)) run(k, starter);
    };
    std::vector<std::jthread> others;
    for (int t = 1; t < team; ++t) others.emplace_back(work, false);
    work(true);
    others.clear();
#else
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (Index k = 0; k < count; ++k) run(k, omp_get_thread_num() == 0);
#endif
  }
  if (failure) std::rethrow_exception(failure);
  if (interrupted.load()) throw Interrupted();
}

}  // namespace detail

}  // namespace diffeo
