// SPDX-License-Identifier: MIT
//
// Liar: a hostile mediator on its own thread, scripted by the input: accepts, receives, sends
// correct and wrong responses, floods, stores into the attached shared memory, closes, and fills
// its own backlog.
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

    // Starts a script. Precondition: stopped.
    void start(Input script);
    // Ends the script, closes everything and returns when done. Idempotent.
    void stop();
    // Returns when the script has ended or waits for the program (for a short time at most).
    void settle();

  private:
    enum class State : std::uint8_t { kIdle, kRunning, kQuiet, kEnd };

    void run();
    void step();
    [[nodiscard]] bool stopped() const;
    // Returns false on a short time-out, or if stopped.
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
