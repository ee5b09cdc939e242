// SPDX-License-Identifier: MIT
//
// Config: all settings of the operator, from a TOML file and the command line.
//
// A file is applied in full or not at all: an unknown key, a wrong type or an out-of-range value is
// an error that names file and line. The command line overrides the file.
#pragma once

#include <sys/types.h>

#include <chrono>
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

// Default connection limit per process. A QEMU process has one connection per device.
inline constexpr std::size_t kDefaultConnectionsPerProcess = 64;

// Default settings. Unlike Settings{}, they limit the connections per process.
inline Settings default_settings() {
    Settings settings;
    settings.max_connections_per_process = kDefaultConnectionsPerProcess;
    return settings;
}

// Group of the sockets' files, if it exists.
inline constexpr const char* kDefaultGroup = "vgpu";

// The old file protocol; see src/files.
struct FilesConfig {
    std::string directory;  // contains the folders vmN; empty: off
    std::chrono::milliseconds interval{1000};
    bool notify = true;
    std::chrono::milliseconds partial{1000};

    bool operator==(const FilesConfig&) const = default;
};

struct Config {
    std::vector<std::string> sockets{VGPU_DEFAULT_SOCKET};
    std::string socket_group = kDefaultGroup;  // of their files; empty: the process's own
    mode_t socket_mode = 0660;
    BackendChoice backend = BackendChoice::kAuto;
    int device = 0;                  // CUDA ordinal
    std::string log_level = "info";  // trace, debug, info, warn, error
    LogTarget log_target = LogTarget::kAuto;
    double log_lines_per_second = 10.0;       // per VM, on average
    unsigned log_burst = 50;                  // per VM, in a burst
    std::optional<std::string> admin_socket;  // none: see admin_socket_of()
    std::vector<uid_t> allowed_users;         // of the admin API; empty: the socket's mode decides
    std::string metrics_listen;               // loopback address and port; empty: none
    FilesConfig files;
    Settings mediator = default_settings();
    // Settings as written in the file, e.g. "limits.burst" -> "20", "vm 7.weight" -> "2.0".
    std::map<std::string, std::string> written;
};

// Returns the path of the admin API's socket; empty: no admin API. If not configured, it is
// kDefaultAdminSocket for a mediator that listens only at the default path, and none for others, so
// that two mediators on one host do not conflict.
inline constexpr const char* kDefaultAdminSocket = "/run/vgpu/admin.sock";
std::string admin_socket_of(const Config& config);

struct ConfigError {
    std::string message;                // names the file, and the line if there is one
    std::optional<std::uint64_t> line;  // in the file, from 1
};

// Reads a regular file of at most kMostConfigBytes over `config`. On an error `config` is
// unchanged.
inline constexpr std::size_t kMostConfigBytes = 4 << 20;
Result<void, ConfigError> load_config_file(const std::string& path, Config& config);

// Accepts "auto", "cpu" or "cuda".
Result<BackendChoice> parse_backend(const std::string& text);
const char* backend_name(BackendChoice choice);
bool is_log_level(const std::string& text);
// Accepts "auto", "journal" or "stderr".
Result<LogTarget> parse_log_target(const std::string& text);

// Parses pool ids as "A,B" or "AB": at least one letter, no duplicates.
Result<std::vector<PoolSettings>> parse_pools(const std::string& text);

}  // namespace vgpu
