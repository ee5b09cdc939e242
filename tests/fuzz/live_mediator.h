// SPDX-License-Identifier: MIT
//
// LiveMediator: a mediator on a thread of this process, with a socket for devices and, if wanted,
// the admin API, and a well-behaved VM of its own whose requests have to be answered whatever the
// fuzzer does. Keeps nothing of what happens, so it can live for millions of inputs.
//
// The heavy headers are included by live_mediator.cpp alone.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace vgpu::fuzz {

class LiveMediator {
  public:
    // VM ids the mediator has special settings for, beside any others.
    static constexpr unsigned kMovedVm = 2;    // served in pool B with low priority
    static constexpr unsigned kLimitedVm = 3;  // rate, queue, memory and GPU time limited

    explicit LiveMediator(bool with_admin = false);
    LiveMediator(const LiveMediator&) = delete;
    LiveMediator& operator=(const LiveMediator&) = delete;
    ~LiveMediator();

    [[nodiscard]] std::string path() const;
    [[nodiscard]] std::string admin_path() const;

    // The well-behaved VM sends a NOP and a PING and has to get both answers.
    void check_alive();
    // A new connection has to be served. All connections to the same socket that were made before
    // have been accepted then.
    void check_new_connection() const;
    // Returns once all connections but the well-behaved VM's have gone, those of the admin API
    // included, and this process has as many descriptors open as before; or if it stops.
    void check_all_returned(std::size_t descriptors_before);
    // Whether the mediator has been told to stop (admin API). No check may be made then.
    [[nodiscard]] bool stopping();
    // The settings as they were at the beginning, no VM quarantined.
    void restore_settings();

  private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace vgpu::fuzz
