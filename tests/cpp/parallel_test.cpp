// Chunks, exceptions, Ctrl-C and progress of parallel loops.
#include "diffeo/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "diffeo/gram.hpp"
#include "tests.hpp"

namespace testing {
namespace {

void test_parallel_chunks() {
  std::vector<int> seen(1003, 0);
  diffeo::parallel_chunks(1003, 10, 3, [&](Index chunk, Index begin, Index end) {
    CHECK(begin == 10 * chunk && end == std::min<Index>(1003, begin + 10));
    for (Index i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
  });
  CHECK(std::all_of(seen.begin(), seen.end(), [](int count) { return count == 1; }));
  diffeo::parallel_chunks(0, 10, 3, [&](Index, Index, Index) { CHECK(false); });
  CHECK(throws<std::runtime_error>([] {
    diffeo::parallel_chunks(100, 1, 3, [](Index chunk, Index, Index) {
      if (chunk == 7) throw std::runtime_error("seven");
    });
  }));
  const RowMatrix x = random_matrix(5000, 3, 1), y = random_matrix(5000, 4, 2);
  const diffeo::RowMatrix one = diffeo::gram(block(x), block(y), 1), three = diffeo::gram(block(x), block(y), 3);
  CHECK(same_bits(one.data(), three.data(), one.size()));
  CHECK((eigen(one) - x.transpose() * y).norm() < 1e-11);
}

void wait(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

void test_interrupts() {
  static std::atomic<bool> pressed{false};
  diffeo::set_interrupt_check([] { return pressed.load(); });
  for (const int threads : {1, 3}) {
    pressed = false;
    std::atomic<int> ran{0};
    CHECK(throws<diffeo::Interrupted>([&] {
      diffeo::parallel_chunks(1000, 1, threads, [&](Index, Index, Index) {
        if (++ran == 5) pressed = true;
        wait(10);
      });
    }));
    CHECK(ran >= 5 && ran < 100);
    wait(60);
    CHECK(throws<diffeo::Interrupted>([] { diffeo::check_interrupt(); }));
    CHECK(throws<diffeo::Interrupted>([] {
      wait(60);
      diffeo::report_progress(1, 2);
    }));
    pressed = false;
    ran = 0;
    diffeo::parallel_chunks(20, 1, threads, [&](Index, Index, Index) { ++ran; });
    CHECK(ran == 20);
  }
  diffeo::set_interrupt_check(nullptr);
}

void test_progress() {
  static std::vector<std::pair<Index, Index>> reports;
  static bool go_on = true;
  const auto report = [](Index done, Index total) {
    reports.emplace_back(done, total);
    return go_on;
  };
  const auto work = [](int threads) { diffeo::parallel_chunks(30, 1, threads, [](Index, Index, Index) { wait(10); }); };
  for (const int threads : {1, 3}) {
    reports.clear();
    diffeo::set_progress_report(report);
    work(threads);
    CHECK(!reports.empty());
    CHECK(std::is_sorted(reports.begin(), reports.end()));
    CHECK(std::all_of(reports.begin(), reports.end(), [](auto r) { return r.first < 30 && r.second == 30; }));
    reports.clear();
    diffeo::report_progress(7, 9);
    work(threads);
    CHECK(!reports.empty());
    CHECK(std::all_of(reports.begin(), reports.end(), [](auto r) { return r == std::pair<Index, Index>(7, 9); }));
    go_on = false;
    CHECK(throws<diffeo::Interrupted>([&] { work(threads); }));
    go_on = true;
    diffeo::set_progress_report(nullptr);
    reports.clear();
    work(threads);
    std::jthread([&] { work(threads); }).join();
    CHECK(reports.empty());
  }
}

}  // namespace

void test_parallel() {
  test_parallel_chunks();
  test_interrupts();
  test_progress();
}

}  // namespace testing
