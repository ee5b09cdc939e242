// SPDX-License-Identifier: MIT
//
// VmServer: serves the request file of one VM, in a thread of its own, so that a slow file system
// or a long request delays no other VM. A request is taken once: the file is cleared before the
// request is sent to the mediator. A response that cannot be written is kept until it can be.
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
#include "client/include/vgpu.h"
#include "files/reporter.h"
#include "files/vm_folder.h"

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

    // Calls `changed` after each change in the folder, from another thread, which it must not
    // block. Borrows the descriptor. Returns a number for unwatch(), -1 if the folder cannot be
    // watched.
    virtual int watch(int folder, std::function<void()> changed) = 0;
    // No call follows.
    virtual void unwatch(int number) = 0;
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
    void write_response();

    const FileGatewaySettings& settings_;
    std::uint32_t vm_id_;
    std::string name_;  // "vmN"
    std::string path_;
    VmReporter report_;
    FolderWatcher& watcher_;

    std::optional<VmFolder> folder_;
    int watch_ = -1;
    std::string partial_;
    Steady::time_point partial_since_;
    std::string response_;  // not written yet
    struct CloseDevice {
        void operator()(vgpu_device* device) const { vgpu_close(device); }
    };
    std::unique_ptr<vgpu_device, CloseDevice> device_;
    char pool_ = 0;               // of device_
    std::uint8_t priority_ = 0;   // of device_
    Steady::time_point used_at_;  // device_
    bool announced_ = false;      // the first request has been logged

    Fd wake_;
    std::atomic<bool> stopping_{false};
    std::atomic<bool> ended_{false};
    std::atomic<std::int64_t> blocked_since_{0};
    std::thread thread_;  // last
};

}  // namespace vgpu
