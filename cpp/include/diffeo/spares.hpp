// Workspaces that tasks hand on to one another, so that no more are made than tasks run at once.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

namespace diffeo {

/// For workspaces that cost more to make than a task may: as large as a matrix has columns, say. A task takes one, and
/// gives it back as it found it. Thread-safe.
template <class Workspace>
class Spares {
 public:
  /// One that was given back, or else make().
  template <class Make>
  Workspace take(Make&& make) {
    {
      const std::lock_guard<std::mutex> lock(guard_);
      if (!idle_.empty()) {
        Workspace workspace = std::move(idle_.back());
        idle_.pop_back();
        return workspace;
      }
    }
    return make();
  }

  void give_back(Workspace&& workspace) {
    const std::lock_guard<std::mutex> lock(guard_);
    idle_.push_back(std::move(workspace));
  }

 private:
  std::mutex guard_;
  std::vector<Workspace> idle_;
};

}  // namespace diffeo
