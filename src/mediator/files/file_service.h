// SPDX-License-Identifier: MIT
//
// FileService: the process that serves the old file protocol (src/files), started again when it
// ends, and its messages for the log.
//
// Control loop only.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/child_process.h"
#include "base/result.h"
#include "mediator/events/events.h"

namespace vgpu {

class FileService {
  public:
    // Called with the process's id when it has started, and with 0 when it has ended.
    using OnProcess = std::function<void(pid_t)>;

    // Borrows io and events. `arguments`: see file_gateway_arguments().
    FileService(boost::asio::io_context& io, EventSink& events, std::vector<std::string> arguments,
                OnProcess on_process);
    FileService(const FileService&) = delete;
    FileService& operator=(const FileService&) = delete;
    // Disconnects from the process and waits for it as ~ChildProcess() does.
    ~FileService() = default;

    // Starts the process, and tries again if that fails. To be called once.
    void start();
    // Asks the process to take no further request, to answer the current ones, and to exit.
    void begin_shutdown();
    // Logs what the process still has to say, until it has ended, for up to 2 s. To be called after
    // begin_shutdown(), when the mediator has answered everything. Blocks.
    void finish();

  private:
    Result<void> try_to_start();
    void wait_for_message();
    // Logs the messages that have arrived, up to a limit. Returns false if the process has closed
    // its end.
    bool take_messages();
    void on_ended();
    void start_later();

    EventSink& events_;
    std::vector<std::string> arguments_;
    OnProcess on_process_;
    std::optional<ChildProcess> process_;
    boost::asio::posix::stream_descriptor socket_;
    boost::asio::steady_timer timer_;
    std::chrono::milliseconds pause_{0};  // before the next start
    std::optional<std::chrono::steady_clock::time_point> started_at_;
    bool stopping_ = false;
};

}  // namespace vgpu
