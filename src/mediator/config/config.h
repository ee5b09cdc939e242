// SPDX-License-Identifier: MIT
//
// Config: everything the operator can set, from a TOML file and the command line.
//
// A file is taken as a whole or not at all: an unknown key, a wrong type or a value out of range is
// an error that names file and line. The command line is applied after the file and wins.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "mediator/config/settings.h"
#include "vgpu_protocol.h"

namespace vgpu {

enum class BackendChoice : std::uint8_t { kAuto, kCpu, kCuda };
// kAuto: the journal if standard error is connected to it, else standard error.
enum class LogTarget : std::uint8_t { kAuto, kJournal, kStderr };

// Without a configuration file, one process has so many connections at most. A QEMU has one for
// each of its devices.
inline constexpr std::size_t kDefaultConnectionsPerProcess = 64;

// What holds unless something else was said. Unlike Settings{}, for the processes of a host.
inline Settings default_settings() {
    Settings settings;
    settings.max_connections_per_process = kDefaultConnectionsPerProcess;
    return settings;
}

struct Config {
    std::vector<std::string> sockets{VGPU_DEFAULT_SOCKET};
    BackendChoice backend = BackendChoice::kAuto;
    int device = 0;                  // CUDA ordinal
    std::string log_level = "info";  // trace, debug, info, warn, error
    LogTarget log_target = LogTarget::kAuto;
    double log_lines_per_second = 10.0;       // that one VM can cause, on average
    unsigned log_burst = 50;                  // that one VM can cause at once
    std::optional<std::string> admin_socket;  // none: see admin_socket_of()
    std::vector<uid_t> allowed_users;  // of the admin API; empty: whom the socket's mode lets in
    std::string metrics_listen;        // loopback address and port; empty: none
    Settings mediator = default_settings();
    // What the file says, e.g. "limits.burst" -> "20", "vm 7.weight" -> "2.0".
    std::map<std::string, std::string> written;
};

// The path of the admin API's socket; empty: no admin API. Where nothing was said it is
// kDefaultAdminSocket for a mediator that listens at its own default path, and none for others:
// two mediators on one host would be in each other's way.
inline constexpr const char* kDefaultAdminSocket = "/run/vgpu/admin.sock";
std::string admin_socket_of(const Config& config);

// Reads the file, a regular one of at most kMostConfigBytes, over `config`. On an error `config` is
// as it was.
inline constexpr std::size_t kMostConfigBytes = 4 << 20;
Result<void> load_config_file(const std::string& path, Config& config);

// "auto", "cpu" or "cuda".
Result<BackendChoice> parse_backend(const std::string& text);
const char* backend_name(BackendChoice choice);
bool is_log_level(const std::string& text);
// "auto", "journal" or "stderr".
Result<LogTarget> parse_log_target(const std::string& text);

// Pool ids as "A,B" or "AB": letters, each once, at least one.
Result<std::vector<PoolSettings>> parse_pools(const std::string& text);

}  // namespace vgpu
