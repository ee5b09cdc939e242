// SPDX-License-Identifier: MIT
//
// EventReader: follows the event stream of a mediator's admin API on its own thread and passes each
// line to an OrderCheck. It stores no lines, so it can follow for hours.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/fd.h"
#include "vm/order_check.h"

namespace vgpu::test {

class EventReader {
  public:
    // Subscribes to the events that OrderCheck needs; returns once the mediator has accepted the
    // subscription, so that all later events are in the stream. Throws std::runtime_error if it
    // does not accept, std::system_error if the connection fails. Borrows `check`, which this
    // object's thread uses until stop().
    EventReader(const std::string& admin_socket, OrderCheck& check);
    EventReader(const EventReader&) = delete;
    EventReader& operator=(const EventReader&) = delete;
    ~EventReader() { stop(); }

    // Reads the available data and ends the thread. After that the caller may use the check.
    void stop();

  private:
    // Reads the response header; any rest in buffer_ belongs to the body.
    void read_head();
    void follow();
    // Removes complete chunks from buffer_ and processes their lines.
    void take_chunks();
    void take_lines(std::string_view piece);
    // Returns false at the end of the stream.
    bool receive();

    OrderCheck& check_;
    Fd socket_;
    std::string buffer_;
    std::string line_;  // an incomplete line
    std::atomic<bool> stopping_ = false;
    std::thread thread_;
};

}  // namespace vgpu::test
