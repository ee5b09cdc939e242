// SPDX-License-Identifier: MIT
//
// EventReader: follows the event stream of a mediator's admin API on a thread of its own and gives
// each line to an OrderCheck. It keeps no lines, so that it can follow for hours.
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
    // Subscribes to the events that OrderCheck needs, and returns when the mediator has taken the
    // subscription: what happens after that is in the stream. Throws std::runtime_error if it does
    // not, std::system_error if nothing listens there. Borrows `check`, which is used by this
    // object's thread until stop().
    EventReader(const std::string& admin_socket, OrderCheck& check);
    EventReader(const EventReader&) = delete;
    EventReader& operator=(const EventReader&) = delete;
    ~EventReader() { stop(); }

    // Reads what has come and ends. Afterwards the caller may look at the check.
    void stop();

  private:
    // Takes the head of the answer; what is left in buffer_ is body.
    void read_head();
    void follow();
    // Takes whole chunks off buffer_, and their lines.
    void take_chunks();
    void take_lines(std::string_view piece);
    // False at the end of the stream.
    bool receive();

    OrderCheck& check_;
    Fd socket_;
    std::string buffer_;
    std::string line_;  // the part of one that has come
    std::atomic<bool> stopping_ = false;
    std::thread thread_;
};

}  // namespace vgpu::test
