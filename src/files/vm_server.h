// SPDX-License-Identifier: MIT
//
// VmServer: serves the request file of one VM, in a thread of its own, so that a slow file system
// or a long request delays no other VM. A request is taken once: the file is cleared before the
// request is sent to the mediator. A response that cannot be written is kept until it can be, or
// until the VM has written another request.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/fd.h"
#include "client/unix/socket_transport.h"
#include "client/unix/unix_link.h"
#include "files/reporter.h"
#include "files/vm_folder.h"
#include "ipc/file_line.h"
#include "sched/token_bucket.h"

namespace vgpu {

struct FileGatewaySettings {
    std::string directory;               // contains the folders vmN
    std::string socket;                  // the mediator's
    std::chrono::milliseconds interval;  // between two polls of a file
    bool notify = true;                  // wait for inotify where the file system supports it
    std::chrono::milliseconds partial;   // how long a request without a line break must not change
};

// Watches folders for changes. Thread-safe.
class FolderWatcher {
  public:
    FolderWatcher() = default;
    FolderWatcher(const FolderWatcher&) = delete;
    FolderWatcher& operator=(const FolderWatcher&) = delete;
    virtual ~FolderWatcher() = default;

    using Watch = std::uint64_t;  // 0: none

    // Calls `changed` after each change in the folder, from another thread, which it must not
    // block. Borrows the descriptor. Returns 0 if the folder cannot be watched. Each call needs its
    // own unwatch().
    virtual Watch watch(int folder, std::function<void()> changed) = 0;
    // No call follows. No effect for 0.
    virtual void unwatch(Watch watch) = 0;
};

class VmServer {
  public:
    // Starts the thread. Borrows settings, reporter and watcher.
    VmServer(const FileGatewaySettings& settings, std::uint32_t vm_id, Reporter& reporter,
             FolderWatcher& watcher);
    VmServer(const VmServer&) = delete;
    VmServer& operator=(const VmServer&) = delete;
    // Waits for the thread.
    ~VmServer();

    // The methods below are thread-safe.

    // The thread takes no further request, and ends once it has answered the current one.
    void stop();
    // True once the thread has ended: after stop(), or because the folder is gone.
    [[nodiscard]] bool ended() const { return ended_; }
    // Time since which the thread waits for the file system; none: it does not.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> blocked_since() const;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    using Steady = std::chrono::steady_clock;

    void run();
    // Sleeps until the next check is due.
    void sleep();
    // Looks for a request and serves it.
    void check();
    bool open_folder();
    void close_folder();
    // True if a request without a line break has not changed for long enough.
    bool settled(const std::string& content);
    // Returns the line for the response.
    std::string serve(const std::string& content);
    std::string serve_line(const std::string& content);
    // Has the mediator add. Returns the line for the response.
    std::string compute(const FileRequest& request);
    void write_response();
    // Reports a failure of the file system, unless it is likely to be over in a moment.
    void report_failure(const Error& error, const char* more = "");

    const FileGatewaySettings& settings_;
    std::uint32_t vm_id_;
    std::string name_;  // "vmN"
    std::string path_;
    VmReporter report_;
    FolderWatcher& watcher_;

    std::optional<VmFolder> folder_;
    FolderWatcher::Watch watch_ = 0;
    std::string partial_;
    Steady::time_point partial_since_;
    std::string response_;  // not written yet
    // The connection to the mediator. One for all pools and priorities.
    std::shared_ptr<client::UnixLink> link_;
    std::unique_ptr<client::SocketTransport> transport_;  // of link_
    Steady::time_point used_at_;                          // transport_
    // Of checks that a change caused, so that a VM that keeps changing its files costs little.
    TokenBucket checks_;
    // Pause until the next attempt at a file that another program holds a lease on; 0: none.
    std::chrono::milliseconds lease_pause_{0};
    Steady::time_point lease_since_;
    bool announced_ = false;  // the first request has been logged

    Fd wake_;
    std::atomic<bool> stopping_{false};
    std::atomic<bool> ended_{false};
    std::atomic<std::int64_t> blocked_since_{0};
    std::thread thread_;  // last
};

}  // namespace vgpu
