// SPDX-License-Identifier: MIT
//
// Liar: a mediator that does what an input says, in a thread of its own: accepts, receives, answers
// rightly and wrongly, floods, stores into the shared memory it was given, closes, and fills its
// own backlog.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "fuzz/input.h"
#include "ring/layout.h"
#include "support/temp_dir.h"
#include "vgpu_protocol.h"

namespace vgpu::fuzz {

class Liar {
  public:
    static constexpr std::uint32_t kVmId = 7;

    Liar();
    Liar(const Liar&) = delete;
    Liar& operator=(const Liar&) = delete;
    ~Liar();

    [[nodiscard]] const std::string& path() const { return path_; }

    // Begins with a script. Precondition: stopped.
    void start(Input script);
    // Ends the script, closes all and returns once that is done. May be called again.
    void stop();
    // Returns once the script is at its end, or waits for the program (for a short time at most).
    void settle();

  private:
    enum class State : std::uint8_t { kIdle, kRunning, kQuiet, kEnd };

    void run();
    void step();
    [[nodiscard]] bool stopped() const;
    // False at the limit, a short time, or if stopped.
    [[nodiscard]] bool wait_readable(int fd) const;
    void accept();
    void receive();
    void send(std::span<const std::uint8_t> bytes) const;
    void send_message(std::uint32_t type, std::uint32_t id, std::span<const std::uint8_t> payload);
    void send_response();
    void send_any();
    void send_hello_reply();
    void flood();
    void take_memory(Fd memory);
    void poke();
    void serve();
    void write_reply();
    void fill_backlog();
    void close_all();

    test::TempDir dir_;
    std::string path_;
    Fd listener_;
    Fd stop_;  // an eventfd
    Input script_{nullptr, 0};
    Fd connection_;
    std::uint32_t last_id_ = 0;
    Fd memory_;
    Mapping mapping_;
    std::optional<ring::Layout> layout_;
    std::vector<Fd> events_;
    std::vector<Fd> crowd_;

    std::mutex mutex_;
    std::condition_variable changed_;
    State state_ = State::kIdle;
    std::thread thread_;
};

}  // namespace vgpu::fuzz
