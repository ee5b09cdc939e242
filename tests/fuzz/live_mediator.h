// SPDX-License-Identifier: MIT
//
// LiveMediator: a mediator on a thread of this process, with a socket for devices and, optionally,
// the admin API, and a well-behaved VM whose requests must be answered whatever the fuzzer does.
// Keeps no history, so it can serve millions of inputs.
//
// Only live_mediator.cpp includes the heavy headers.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace vgpu::fuzz {

class LiveMediator {
  public:
    // VM ids with special settings.
    static constexpr unsigned kMovedVm = 2;    // served in pool B with low priority
    static constexpr unsigned kLimitedVm = 3;  // limits on rate, queue, memory and GPU time

    explicit LiveMediator(bool with_admin = false);
    LiveMediator(const LiveMediator&) = delete;
    LiveMediator& operator=(const LiveMediator&) = delete;
    ~LiveMediator();

    [[nodiscard]] std::string path() const;
    [[nodiscard]] std::string admin_path() const;

    // Sends a NOP and a PING from the well-behaved VM and requires both replies.
    void check_alive();
    // Requires that a new connection is served, which implies that all earlier connections to the
    // socket have been accepted.
    void check_new_connection() const;
    // Returns once all connections but the well-behaved VM's are closed, including those of the
    // admin API, and this process has as many open descriptors as before; or if it is stopping.
    void check_all_returned(std::size_t descriptors_before);
    // Returns whether a stop was requested (admin API). No check may be made after that.
    [[nodiscard]] bool stopping();
    // Restores the initial settings and releases all VMs from quarantine.
    void restore_settings();

  private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace vgpu::fuzz
