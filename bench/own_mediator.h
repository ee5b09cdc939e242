// SPDX-License-Identifier: MIT
//
// OwnMediator: a vgpu-mediator that a benchmark starts on its own sockets and that lives as long as
// the object.
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
    // `config`: additional content of its configuration file. Throws std::runtime_error, with the
    // mediator's output, if it does not become ready.
    OwnMediator(const std::string& program, const std::string& backend,
                const std::string& config = {});

    [[nodiscard]] const std::string& socket() const { return socket_; }
    [[nodiscard]] const std::string& admin_socket() const { return admin_socket_; }
    [[nodiscard]] pid_t pid() const { return process_->pid(); }
    [[nodiscard]] test::Process& process() { return *process_; }

    // Returns the sum of a metric over all its labels, read from the admin socket, or nothing if no
    // metric has this name. Throws std::system_error if the request fails.
    [[nodiscard]] std::optional<double> metric(const std::string& name) const;

    // Terminates it. Throws std::runtime_error if it does not exit with status 0.
    void stop();

  private:
    test::TempDir dir_;
    std::string socket_;
    std::string admin_socket_;
    std::optional<test::Process> process_;
};

// Returns the sum of the samples of `name` in Prometheus' text format, or nothing if there is none.
std::optional<double> sum_of_metric(const std::string& text, const std::string& name);

}  // namespace vgpu::bench
