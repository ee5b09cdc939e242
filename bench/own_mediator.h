// SPDX-License-Identifier: MIT
//
// OwnMediator: a vgpu-mediator that a benchmark starts for itself, on sockets of its own, and that
// lives as long as the object.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::bench {

class OwnMediator {
  public:
    // `config`: what its configuration file says besides. Throws std::runtime_error, with what it
    // said, if it does not get ready.
    OwnMediator(const std::string& program, const std::string& backend,
                const std::string& config = {});

    [[nodiscard]] const std::string& socket() const { return socket_; }
    [[nodiscard]] const std::string& admin_socket() const { return admin_socket_; }
    [[nodiscard]] pid_t pid() const { return process_->pid(); }
    [[nodiscard]] test::Process& process() { return *process_; }

    // The sum of a metric over all its labels, as the admin socket tells it; nothing if there is
    // none of this name. Throws std::system_error if it cannot be asked.
    [[nodiscard]] std::optional<double> metric(const std::string& name) const;

    // Throws std::runtime_error unless it ends as it should.
    void stop();

  private:
    test::TempDir dir_;
    std::string socket_;
    std::string admin_socket_;
    std::optional<test::Process> process_;
};

// The sum of the samples of `name` in Prometheus' text format; nothing if there is none.
std::optional<double> sum_of_metric(const std::string& text, const std::string& name);

}  // namespace vgpu::bench
